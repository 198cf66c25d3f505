//! A disk that is full: the engine says so and stops; nothing accepted is lost (`SPEC.md` §2).
//!
//! The data directory stands on a small file system of its own, which only root can make; without it
//! the test says that it was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_tests::configuration::one_audience;
use forebay_tests::record::ndjson;
use forebay_tests::{Place, Program, Record, Seed};

/// Size of the file system: the whole input fits, if nothing else is there.
const DISK_MIB: usize = 80;

/// What is taken away at first, and given back.
const BALLAST_MIB: usize = 60;

const RECORDS: usize = 12_000;

const COMMAND: &str = "run --input in.ndjson --drain --output json";

/// A file system in memory, mounted until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `at`, or tells why that cannot be.
    fn mount(at: &Path) -> Result<Self, String> {
        std::fs::create_dir(at).map_err(|error| error.to_string())?;
        let options = format!("size={DISK_MIB}m,mode=0700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        let output = command.output().map_err(|error| format!("no mount command: {error}"))?;
        if output.status.success() {
            Ok(Self(at.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        let is_unmounted = unmounted.is_ok_and(|status| status.success());
        assert!(is_unmounted || std::thread::panicking(), "{} stays mounted", self.0.display());
    }
}

/// Records that hardly compress: each of a customer of its own, with 2 KiB of random digits.
fn input() -> String {
    let mut seed = Seed::new(7);
    let record = |n: usize| {
        let digits: Vec<String> = (0..128).map(|_| format!("{:016x}", seed.next_u64())).collect();
        let digits = digits.concat();
        let members = format!("\"n\":{},\"x\":\"{digits}\"", n % 10);
        Record::profile(&format!("c{n}")).at("01T00:00:00").with(&members)
    };
    ndjson((0..RECORDS).map(record).collect::<Vec<_>>())
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn a_full_disk_stops_the_engine_and_loses_nothing() {
    // Nobody is in the audience: this is about the log.
    let place = Place::new(&one_audience("n > 100"));
    let disk = match SmallDisk::mount(&place.data()) {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: a small file system cannot be mounted here: {why}");
            return;
        }
    };
    place.write("in.ndjson", input());
    let ballast = place.data().join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_MIB << 20]).unwrap();
    let program = Program::at(place.path());

    for attempt in ["first", "second"] {
        let run = program.run(COMMAND);
        assert_eq!(run.status, Some(1), "{attempt}: {run:?}");
        run.tells(&["No space left on device", "data"]);
        assert!(!run.stderr.contains("panicked"), "{attempt}: {}", run.stderr);
    }

    std::fs::remove_file(&ballast).unwrap();
    let kept = program.run("log stats --output json").expect_status(0).json();
    let kept = kept["records"].as_u64().unwrap();
    let run = program.run(COMMAND).expect_status(0);
    let summary = run.json();
    assert_eq!(summary["profiles"], RECORDS);
    assert_eq!(summary["records"]["accepted"].as_u64(), Some(RECORDS as u64 - kept));
    assert!(kept > 0, "the disk was full before anything was accepted");
    drop(disk);
}
