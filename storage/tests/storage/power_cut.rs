//! A power cut, as far as one machine can show it: a file system on a loop device, whose image is
//! copied while the writer is stopped. The copy holds what had reached the "disk" and nothing of the
//! kernel's memory, so what was acknowledged but not truly synced is missing from it.
//!
//! Needs root and `FOREBAY_POWER_CUT=1`; says so and passes otherwise.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{noise, seed};
use crate::writer::{Writer, check};

const CUTS: u64 = 20;
const IMAGE_BYTES: u64 = 768 << 20;

/// Polls until the writer is stopped, 5 ms apart.
const STOP_POLLS_MAX: u32 = 2_000;

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let seed = seed();
    let mut err = std::io::stderr();
    if let Some(reason) = reason_to_skip() {
        writeln!(err, "power cut: skipped, {reason}").unwrap();
        return;
    }
    writeln!(err, "power cut: FOREBAY_SEED={seed}").unwrap();
    for cut in 0..CUTS {
        let chance = noise(seed.wrapping_add(cut), 1)[0];
        let dir = tempfile::tempdir().unwrap();
        let (image, copy) = (dir.path().join("image"), dir.path().join("copy"));
        make_image(&image);
        let mounted = Mount::new(&image, dir.path().join("live"));
        let mut writer = Writer::start(&mounted.at.join("data"));
        writer.wait_for(20 + u64::from(chance));
        stop(writer.pid());
        run("cp", &["--sparse=always", text(&image), text(&copy)]);
        let acks = writer.kill();
        drop(mounted);
        let mounted = Mount::new(&copy, dir.path().join("after"));
        check(&mounted.at.join("data"), acks, 0);
        writeln!(err, "power cut: {acks:?} survived").unwrap();
    }
}

fn reason_to_skip() -> Option<String> {
    if std::env::var_os("FOREBAY_POWER_CUT").is_none_or(|value| value != "1") {
        return Some("FOREBAY_POWER_CUT is not 1".to_owned());
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let script =
        "truncate -s 16M $0 && mkfs.ext4 -q $0 && mkdir $1 && mount -o loop $0 $1 && umount $1";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(&image).arg(dir.path().join("mount"));
    let tried = shell.output().unwrap();
    (!tried.status.success()).then(|| String::from_utf8_lossy(&tried.stderr).trim().to_owned())
}

fn make_image(image: &Path) {
    fs::File::create(image).and_then(|file| file.set_len(IMAGE_BYTES)).unwrap();
    run("mkfs.ext4", &["-q", text(image)]);
}

/// A mounted image; unmounted when dropped, also by a failing test.
struct Mount {
    at: PathBuf,
}

impl Mount {
    fn new(image: &Path, at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        run("mount", &["-o", "loop", text(image), text(&at)]);
        Self { at }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.at).status();
        assert!(thread::panicking() || status.is_ok_and(|status| status.success()), "umount");
    }
}

/// Stops a process, and waits until each of its threads stands still.
fn stop(pid: u32) {
    run("kill", &["-STOP", &pid.to_string()]);
    for _ in 0..STOP_POLLS_MAX {
        if all_stopped(pid) {
            return;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    panic!("the writer does not stop");
}

fn all_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.into_iter().all(|task| {
        // A thread that has ended meanwhile stands still.
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    })
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
