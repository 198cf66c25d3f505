//! What the demo's receiver got: counted, checked, and written down on the side.
//!
//! One thread owns all of it and is fed through a bounded channel by the receiver's connections, so
//! that an export is answered as soon as it is handed over.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use forebay_engine::clock::{Clock, Moment};
use serde_json::value::RawValue;

use crate::receiver::Received;

/// Exports between the receiver and the tally: enough that no connection waits for the disk.
const QUEUE: usize = 4_096;

/// What arrived, by dataflow.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By dataflow.
    pub(super) dataflows: BTreeMap<String, Arrived>,
    /// Requests that are no export: without sequence, or with a body that is no JSON.
    pub(super) strange: u64,
}

/// What arrived of one dataflow.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Exports, repeats counted.
    pub(super) exports: u64,
    /// Exports that came before.
    pub(super) repeated: u64,
    /// The newest payload with the most to see.
    pub(super) sample: Option<Box<RawValue>>,
    sequences: HashSet<u64>,
    first: Option<Moment>,
    last: Moment,
}

impl Arrived {
    /// Whether every sequence from 1 on came, and came once.
    pub(super) fn exactly_once(&self) -> bool {
        let highest = self.sequences.iter().max().copied().unwrap_or(0);
        self.repeated == 0 && self.sequences.len() as u64 == highest
    }

    /// Requests a second, between the first and the last.
    pub(super) fn per_second(&self) -> f64 {
        let took: Duration = self.first.map_or(Duration::ZERO, |first| self.last.since(first));
        if took.is_zero() { 0.0 } else { self.exports as f64 / took.as_secs_f64() }
    }

    fn take(&mut self, sequence: u64, payload: Box<RawValue>, at: Moment) {
        self.exports += 1;
        self.repeated += u64::from(!self.sequences.insert(sequence));
        self.first.get_or_insert(at);
        self.last = at;
        if self.sample.as_ref().is_none_or(|sample| payload.get().len() >= sample.get().len()) {
            self.sample = Some(payload);
        }
    }
}

/// The thread that keeps a [`Tally`].
pub(super) struct Teller {
    thread: JoinHandle<io::Result<Tally>>,
}

impl Teller {
    /// Starts keeping a tally; what arrives goes into the sender, and to `file`, a payload a line.
    pub(super) fn start(
        file: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<(Self, Sender<Received>)> {
        let file = file.map(File::create).transpose()?.map(BufWriter::new);
        let (sender, arrivals) = channel::bounded(QUEUE);
        let thread = thread::Builder::new()
            .name("tally".into())
            .spawn(move || keep(&arrivals, file, &*clock))?;
        Ok((Self { thread }, sender))
    }

    /// The tally, once every sender is gone.
    pub(super) fn finish(self) -> io::Result<Tally> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the tally's thread panicked")))
    }
}

fn keep(
    arrivals: &Receiver<Received>,
    mut file: Option<BufWriter<File>>,
    clock: &dyn Clock,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for received in arrivals {
        let payload = serde_json::from_slice::<Box<RawValue>>(&received.body);
        let (Some(sequence), Ok(payload)) = (received.sequence, payload) else {
            tally.strange += 1;
            continue;
        };
        if let Some(file) = &mut file {
            writeln!(file, "{}", payload.get())?;
        }
        let arrived = tally.dataflows.entry(received.dataflow).or_default();
        arrived.take(sequence, payload, clock.moment());
    }
    if let Some(mut file) = file {
        file.flush()?;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_engine::clock::SystemClock;

    use super::Teller;
    use crate::receiver::Received;

    #[test]
    fn exports_count_as_delivered_once_only_if_each_sequence_came_once() {
        // (what it shows, sequences that came, whether that is exactly once)
        let cases: [(&str, &[u64], bool); 4] = [
            ("in any order", &[2, 1, 3], true),
            ("nothing at all", &[], true),
            ("a repeat", &[1, 2, 2], false),
            ("a gap", &[1, 3], false),
        ];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("exports.ndjson");
        for (name, sequences, expected) in cases {
            let (teller, sender) =
                Teller::start(Some(&path), Arc::new(SystemClock::new())).unwrap();
            for sequence in sequences {
                let export = Received {
                    dataflow: "d".to_owned(),
                    sequence: Some(*sequence),
                    id: String::new(),
                    target: "/".to_owned(),
                    body: b"{\"n\":1.50}".to_vec(),
                };
                sender.send(export).unwrap();
            }
            drop(sender);
            let tally = teller.finish().unwrap();
            let once = tally.dataflows.get("d").is_none_or(super::Arrived::exactly_once);
            assert_eq!(once, expected, "{name}");
            let written = std::fs::read_to_string(&path).unwrap();
            assert_eq!(written, "{\"n\":1.50}\n".repeat(sequences.len()), "{name}");
        }
    }
}
