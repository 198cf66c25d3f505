//! The operator of a world: dead letters are sent again, or purged; an audience is imported; what was
//! deleted is compacted.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use crossbeam::select;

use super::super::appender::{Append, Block};
use super::super::compaction::{Compactor, RejectsOwner};
use super::super::control::Control;
use super::super::deriver::ControlDone;
use super::super::tally::Tally;
use super::world::{Running, World, lock};
use crate::clock::Clock;
use crate::error::EngineError;
use crate::input::{LastLine, LineReader, Pace};
use crate::record::parse_lines;

/// Dead letters looked at.
const LETTERS: usize = 64;

impl World {
    /// Whether there are dead letters.
    pub(super) fn has_letters(&self) -> bool {
        let running = self.running.as_ref().expect("it runs");
        running.store.dead_letters().counts_by_dataflow().values().any(|count| *count > 0)
    }

    /// Some dead letters, all of one dataflow.
    fn letters(&mut self) -> Option<(String, Vec<u64>)> {
        let running = self.running.as_ref().expect("it runs");
        let listed = running.store.dead_letters().list(None, None, LETTERS);
        let listed = listed.expect("they can be read");
        if listed.is_empty() {
            return None;
        }
        let dataflow = self.random.pick(&listed).0.clone();
        let own = listed.into_iter().filter(|(of, ..)| *of == dataflow);
        let mut sequences: Vec<u64> = own.map(|(_, sequence, _)| sequence).collect();
        sequences.retain(|_| !self.random.one_in(3));
        (!sequences.is_empty()).then_some((dataflow, sequences))
    }

    /// Has dead letters sent again, as they are.
    pub(super) fn replay_letters(&mut self) {
        let Some((dataflow, sequences)) = self.letters() else { return };
        self.tell(|| format!("{dataflow}: dead letters {sequences:?} are to be sent again"));
        self.watch.replayed(&dataflow, &sequences);
        let running = self.running.as_ref().expect("it runs");
        let mark = || {
            for sequence in &sequences {
                running.store.dead_letters().mark_for_replay(&dataflow, *sequence)?;
            }
            running.store.sync_state()
        };
        let marked = mark().map_err(|error| error.to_string());
        if marked.is_ok() {
            lock(&running.hands).replay(&dataflow);
        }
        self.ended("operator", marked);
    }

    /// Forgets dead letters.
    pub(super) fn purge_letters(&mut self) {
        let Some((dataflow, sequences)) = self.letters() else { return };
        self.tell(|| format!("{dataflow}: dead letters {sequences:?} are purged"));
        let running = self.running.as_ref().expect("it runs");
        let purge = || -> Result<(), Box<dyn std::error::Error>> {
            lock(&running.hands).write_progress(&dataflow)?;
            for sequence in &sequences {
                running.store.dead_letters().remove(&dataflow, *sequence)?;
            }
            running.store.sync_state()?;
            // One whose replay failed in between was kept anew.
            lock(&running.hands).forget(&dataflow, &sequences);
            for sequence in &sequences {
                running.store.dead_letters().remove(&dataflow, *sequence)?;
            }
            Ok(running.store.sync_state()?)
        };
        let purged = purge().map_err(|error| error.to_string());
        self.watch.purged(&dataflow, &sequences, purged.is_ok());
        self.ended("operator", purged);
    }
}

/// The audience that is imported.
const UPLOAD: &str = "vip";

/// An import whose members follow once its beginning is derived.
pub(super) struct Importing {
    begun: Receiver<ControlDone>,
    members: Vec<String>,
}

impl World {
    /// Begins an import, unless one is going on.
    pub(super) fn import(&mut self) {
        let customers = self.random.within(0, 4);
        let member = |number: u64| {
            let map = format!(r#"{{"CRMID":[{{"id":"c{number}"}}]}}"#);
            format!(
                r#"{{"membership":{{"audience":"{UPLOAD}","identityMap":{map},"status":"realized"}}}}"#
            )
        };
        let members = (0..customers).map(member).collect();
        let running = self.running.as_mut().expect("it runs");
        if running.import.is_some() {
            return;
        }
        let (told, begun) = bounded(1);
        let entry = Control::ImportBegin { audience: UPLOAD.to_owned() };
        running.appends.push_back((Append::Control(entry, told), Vec::new()));
        running.import = Some(Importing { begun, members });
        self.watch.count("import");
        self.tell(|| "an import begins".to_owned());
    }

    /// Removes the bytes of what was deleted.
    pub(super) fn compact(&mut self) {
        let (data, clock) = (self.disk.data(), Arc::clone(&self.clock) as Arc<dyn Clock>);
        let running = self.running.as_mut().expect("it runs");
        if running.reload.is_some() {
            // It would wait for its turn with the log.
            return;
        }
        let compacted = running.compact(data, clock);
        self.watch.count("compaction");
        self.tell(|| format!("compact: {compacted:?}"));
        self.ended("compactor", compacted);
    }
}

impl Running {
    /// Hands in the members and the end of an import whose beginning is derived.
    pub(super) fn go_on_importing(&mut self) {
        let Some(importing) = &self.import else { return };
        let Ok(ControlDone { offset, .. }) = importing.begun.try_recv() else { return };
        let Importing { members, .. } = self.import.take().expect("it was there");
        let rules = self.shared.parse_rules();
        for member in members {
            let text = member + "\n";
            let mut reader = LineReader::new(text.as_bytes(), Pace::AsItComes, LastLine::Taken);
            let block = reader.next_block().expect("it is memory").expect("there is a line");
            let tally = Arc::new(Tally::default());
            tally.open();
            let (parsed, rules) = (parse_lines(block, &rules), Arc::clone(&rules));
            let block = Block { parsed, rules, position: None, source: "import".into(), tally };
            self.appends.push_back((Append::Block(Box::new(block)), Vec::new()));
        }
        let (told, _) = bounded(1);
        let entry = Control::ImportEnd { audience: UPLOAD.to_owned(), begin: offset };
        self.appends.push_back((Append::Control(entry, told), Vec::new()));
    }

    /// Compacts, on a thread as it does, which alone is at work: what it asks for is done here.
    fn compact(&mut self, data: PathBuf, clock: Arc<dyn Clock>) -> Result<(), String> {
        self.derive_all()?;
        let (appends, requests) = bounded(1);
        let compactor = Compactor {
            store: Arc::clone(&self.store),
            shared: Arc::clone(&self.shared),
            clock,
            kind: self.kind,
            data,
            deriver: self.appender.deriver.clone(),
            rejects: RejectsOwner::Appender(appends),
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("compactor".to_owned());
            let working = thread.spawn_scoped(scope, || compactor.compact());
            let working = working.expect("a thread can be started");
            let mut served = Ok(());
            while !working.is_finished() {
                served = served.and(self.serve(&requests));
            }
            let compacted = working.join().expect("it does not panic");
            served.and(compacted.map(drop)).map_err(|error| error.to_string())
        })
    }

    fn serve(&mut self, requests: &Receiver<Append>) -> Result<(), EngineError> {
        select! {
            recv(self.jobs) -> job => {
                self.deriver.work_on(job.expect("the appender keeps its end"))?;
                self.checkpointer.write_waiting()?;
            }
            recv(requests) -> request => {
                self.appender.append_group(request.into_iter().collect())?;
            }
            default(Duration::from_micros(200)) => {
                self.deriver.rest()?;
                self.checkpointer.write_waiting()?;
            }
        }
        Ok(())
    }
}
