//! The real binary, as a user starts it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::Place;
use crate::clock::Deadline;

/// The binary in a directory: every command gets the configuration and the data directory there.
#[derive(Clone, Debug)]
pub struct Program {
    root: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    /// The exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it told.
    pub stderr: String,
}

impl Run {
    /// The last line on stdout as JSON.
    pub fn json(&self) -> Value {
        self.json_lines().pop().unwrap_or_else(|| panic!("nothing was printed: {self:?}"))
    }

    /// Every line on stdout as JSON.
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line);
        let lines: Result<Vec<Value>, _> = self.stdout.lines().map(parse).collect();
        lines.unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Itself, if it ended with `status`.
    ///
    /// # Panics
    ///
    /// Panics with everything that was printed if it did not.
    #[must_use]
    pub fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that all `parts` stand in what it told on stderr.
    ///
    /// # Panics
    ///
    /// Panics with what is missing.
    pub fn tells(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not told:\n{}", self.stderr);
        }
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }
}

impl Program {
    /// The program in `root`, where `forebay.toml` and `data` are.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A command with `arguments`, separated by spaces, not yet started.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments.split_whitespace()).current_dir(&self.root);
        command.env("FOREBAY_CONFIG", "forebay.toml").env("FOREBAY_DATA", "data");
        command.env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &str) -> Run {
        self.command(arguments).output().expect("the binary starts").into()
    }

    /// Runs a command to its end with `input` on its stdin.
    pub fn run_with(&self, arguments: &str, input: &[u8]) -> Run {
        let mut child = self.start(self.command(arguments).stdin(Stdio::piped()));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A program that refuses its input closes it early; its exit status tells.
        stdin.write_all(input).ok();
        drop(stdin);
        finish(child)
    }

    /// Starts a command.
    pub fn start(&self, command: &mut Command) -> Child {
        command.spawn().expect("the binary starts")
    }
}

/// Starts `run` in `place`, and waits until somebody listens on its socket.
pub fn running(place: &Place) -> Child {
    let program = Program::at(place.path());
    let child = program.start(program.command("run").stdout(Stdio::piped()));
    let socket = place.data().join("engine.sock");
    Deadline::new().until("the engine listens", || UnixStream::connect(&socket).is_ok());
    child
}

/// Stops what [`running`] started; it must end well.
pub fn stopped(child: Child) {
    signal(&child, "TERM");
    let run: Run = finish(child);
    assert_eq!(run.status, Some(0), "{run:?}");
}

/// Waits for a command to end by itself.
pub fn finish(child: Child) -> Run {
    child.wait_with_output().expect("the child can be waited for").into()
}

/// Sends a signal to a child that this test started.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("there is a kill command").success(), "the child is there to be told");
}

/// The binary of this workspace, of the same profile as this test, built if it was not.
///
/// Tests of one package cannot name the binary of another, so cargo is asked; with `--workspace` the
/// dependencies are the ones that are built already.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its path");
    let profile_directory = test.ancestors().nth(2).expect("a test lies in PROFILE/deps");
    let profile = match profile_directory.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--bin", "forebay", "--locked", "--profile", profile]);
    command.arg("--target-dir").arg(profile_directory.parent().expect("PROFILE lies in a target"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo says of this package would make build scripts of others run again.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy().into_owned();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let built = command.output().expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    profile_directory.join("forebay")
}
