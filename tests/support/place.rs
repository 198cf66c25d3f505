//! A place to run the engine in: a directory, a configuration, a receiver.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_engine::check;
use forebay_engine::clock::{Clock, SystemClock, Timestamp};
use forebay_engine::config::Config;
use forebay_engine::engine::{
    CheckpointPolicy, Engine, Import, Mode, Notice, Options, Progress, Tuning, Waiting,
};
use forebay_engine::error::EngineError;
use forebay_engine::views::{DataflowView, ImportSummary, ProfileView, Summary};
use forebay_storage::StoreOptions;
use tempfile::TempDir;

use crate::clock::Deadline;
use crate::record::{ndjson, time_text};
use crate::request::short_time;
use crate::{PATIENCE, Receiver, Record, Request};

/// Hears progress and keeps it to itself.
pub struct Silent;

impl Progress for Silent {
    fn replay(&self, _done: u64, _total: u64) {}
    fn input(&self, _name: &str, _read: u64, _total: Option<u64>, _records: u64) {}
    fn delivering(&self, _waiting: u64) {}
}

/// A temporary directory with a configuration, a data directory, and a receiver beside it.
pub struct Place {
    root: TempDir,
    clock: Arc<dyn Clock>,
    /// When engines opened here make checkpoints.
    pub checkpoints: CheckpointPolicy,
    /// Where exports arrive.
    pub receiver: Receiver,
}

/// What came of one run.
#[derive(Debug)]
pub struct Ran {
    /// What the engine said at the end.
    pub summary: Summary,
    /// What destinations kept.
    pub waiting: Vec<Waiting>,
    /// What arrived in this run, in order of arrival.
    pub requests: Vec<Request>,
}

impl Ran {
    /// The [lines](Request::line) of what arrived, in order of sequence.
    pub fn lines(&self) -> Vec<String> {
        let mut requests: Vec<_> = self.requests.iter().collect();
        requests.sort_by_key(|request| (request.dataflow().to_owned(), request.sequence()));
        requests.into_iter().map(Request::line).collect()
    }

    /// The lines of one dataflow, in order of sequence.
    pub fn lines_of(&self, dataflow: &str) -> Vec<String> {
        let mut requests: Vec<_> =
            self.requests.iter().filter(|request| request.dataflow() == dataflow).collect();
        requests.sort_by_key(|request| request.sequence());
        requests.into_iter().map(Request::line).collect()
    }
}

impl Place {
    /// A new place with this configuration, where `{receiver}` is the receiver's address.
    pub fn new(configuration: &str) -> Self {
        Self::with_receiver(configuration, Receiver::start())
    }

    /// A new place with a receiver of its own kind.
    pub fn with_receiver(configuration: &str, receiver: Receiver) -> Self {
        let root = tempfile::tempdir().expect("there is room for a directory");
        let (clock, checkpoints) = (Arc::new(SystemClock::new()), CheckpointPolicy::default());
        let place = Self { root, clock, checkpoints, receiver };
        place.configure(configuration);
        place
    }

    /// A new place whose wall clock is `clock`.
    pub fn with_clock(configuration: &str, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..Self::new(configuration) }
    }

    /// Another place, with this configuration and the files of this data directory as they are now: what
    /// a process that is killed now would leave.
    #[must_use]
    pub fn copied(&self, configuration: &str) -> Self {
        let copy = Self { checkpoints: self.checkpoints, ..Self::new(configuration) };
        copy_tree(&self.data(), &copy.data());
        copy
    }

    /// Replaces the configuration.
    pub fn configure(&self, configuration: &str) {
        self.write("forebay.toml", configuration.replace("{receiver}", &self.receiver.url()));
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).expect("there is room for a file");
        path
    }

    /// The directory of the configuration.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Starts an engine that delivers.
    pub fn open(&self) -> Engine {
        self.try_open(Mode::Deliver).expect("the engine starts")
    }

    /// Starts an engine, if it will.
    pub fn try_open(&self, mode: Mode) -> Result<Engine, EngineError> {
        self.try_open_with(mode, StoreOptions::default())
    }

    /// Starts an engine whose store fails as `storage` says, if it will.
    pub fn try_open_with(&self, mode: Mode, storage: StoreOptions) -> Result<Engine, EngineError> {
        let config = (mode != Mode::Inspect).then(|| self.config());
        let clock = Arc::clone(&self.clock);
        let options = Options { data: self.data(), config, mode, clock };
        let tuning = Tuning { storage, checkpoints: self.checkpoints };
        Engine::open_with(options, tuning, &Silent)
    }

    /// Feeds `records` without sending anything, as `forebay ingest` does, and stops.
    pub fn ingest(&self, records: &[Record]) {
        let engine = self.try_open(Mode::Derive).expect("the engine starts");
        feed(&engine, &ndjson(records));
        engine.close().expect("the engine stops");
    }

    /// Feeds `records`, delivers everything, stops.
    pub fn run(&self, records: &[Record]) -> Ran {
        self.run_text(&ndjson(records))
    }

    /// Feeds these lines, delivers everything, stops.
    pub fn run_text(&self, lines: &str) -> Ran {
        self.run_with(|engine| feed(engine, lines))
    }

    /// Feeds `records`, moves the event clock to `to`, delivers everything, stops.
    pub fn run_until(&self, records: &[Record], to: &str) -> Ran {
        self.run_with(|engine| {
            feed(engine, &ndjson(records));
            advance(engine, to);
        })
    }

    /// Starts an engine, lets `work` use it, delivers everything, stops.
    pub fn run_with(&self, work: impl FnOnce(&Engine)) -> Ran {
        self.run_for(PATIENCE, work)
    }

    /// The same, with a time after which destinations that take nothing are not waited for.
    pub fn run_for(&self, drain_timeout: Duration, work: impl FnOnce(&Engine)) -> Ran {
        let before = self.receiver.requests().len();
        let engine = self.open();
        work(&engine);
        let waiting = engine.drain(drain_timeout, &Silent).expect("the engine drains");
        let summary = engine.summary().expect("the engine answers");
        engine.close().expect("the engine stops");
        let requests = self.receiver.requests().split_off(before);
        Ran { summary, waiting, requests }
    }

    /// Opens the directory to look, and answers with what `question` finds.
    pub fn ask<T>(&self, question: impl FnOnce(&Engine) -> T) -> T {
        let engine = self.try_open(Mode::Inspect).expect("the directory can be looked at");
        let answer = question(&engine);
        engine.close().expect("looking ends well");
        answer
    }

    /// What is in `rejects.ndjson`, a line each.
    pub fn rejects(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.data().join("rejects.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a reject is JSON")).collect()
    }

    /// Has a running engine take this configuration, and waits until it is in effect. What it says.
    ///
    /// # Panics
    ///
    /// Panics if the engine does not take it, or not in time.
    pub fn reload(&self, engine: &Engine, configuration: &str) -> Vec<Notice> {
        self.configure(configuration);
        reloaded(engine, self.config())
    }

    /// The configuration, as a command would load it.
    pub fn config(&self) -> Config {
        let loaded = check::load(&self.path().join("forebay.toml"), &|_| None);
        loaded.unwrap_or_else(|faults| panic!("the configuration has faults\n{faults}"))
    }
}

/// Copies all files below `from`, as they are now.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("there is room");
    for entry in std::fs::read_dir(from).expect("the directory can be read") {
        let entry = entry.expect("an entry can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("there is room");
        }
    }
}

/// How a dataflow is.
pub fn flow_view(engine: &Engine, id: &str) -> DataflowView {
    let views = engine.dataflows().expect("the engine answers");
    views.into_iter().find(|view| view.id == id).expect("the dataflow is defined")
}

/// Has a running engine take this configuration, and waits until it did or refused to. What it says.
///
/// # Panics
///
/// Panics if the engine takes none, or not in time.
pub fn reloaded(engine: &Engine, config: Config) -> Vec<Notice> {
    engine.reload(config).expect("the engine takes a configuration");
    Deadline::new().until("the configuration is taken", || !engine.is_reloading());
    engine.notices()
}

/// Feeds these lines to a running engine.
pub fn feed(engine: &Engine, lines: &str) {
    engine.read_stream("-", &mut lines.as_bytes(), &Silent).expect("the records are read");
}

/// Makes these customers (`crmid`) the whole membership of an upload audience of a running engine.
///
/// # Panics
///
/// Panics if the import is not complete at the end.
pub fn imported(engine: &Engine, audience: &str, customers: &[&str]) -> ImportSummary {
    let rows = customers.iter().map(|id| format!("\"x,\",{id}"));
    let file = ["name,id".to_owned()].into_iter().chain(rows).collect::<Vec<_>>().join("\n");
    import(engine, audience, &mut file.as_bytes()).expect("the file is imported")
}

/// Imports a file with the column `id` of customers (`crmid`), called `list.csv`.
pub fn import(
    engine: &Engine,
    audience: &str,
    file: &mut dyn Read,
) -> Result<ImportSummary, EngineError> {
    let import = Import {
        audience: audience.to_owned(),
        column: "id".to_owned(),
        namespace: "CRMID".to_owned(),
        source: "list.csv".to_owned(),
    };
    engine.import_audience(&import, file, &Silent)
}

/// Moves the event clock of a running engine.
pub fn advance(engine: &Engine, to: &str) {
    let to = Timestamp::parse(&time_text(to)).expect("the time is RFC 3339");
    engine.advance_to(to).expect("the clock can be moved");
}

/// The profile of `crmid:{customer}` in one line, as [`Request::line`] has it.
pub fn profile_line(engine: &Engine, customer: &str) -> Option<String> {
    let profile = engine.profile("crmid", customer, None).expect("the engine answers");
    profile.map(|view| view_line(&view))
}

/// A profile in one line, as [`Request::line`] has it.
pub fn view_line(view: &ProfileView) -> String {
    let identities: Vec<String> =
        view.identities.iter().map(|i| format!("{}:{}", i.namespace, i.id)).collect();
    let mut words = vec![identities.join(" "), "|".to_owned()];
    for (audience, membership) in &view.memberships {
        let time = short_time(&membership.last_qualification_time);
        words.push(format!("{audience}={}@{time}", membership.status));
    }
    let attributes = view.attributes.get();
    if attributes != "{}" {
        words.push(format!("| {attributes}"));
    }
    words.join(" ")
}
