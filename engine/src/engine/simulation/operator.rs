//! The operator of a world: dead letters are sent again, or purged.

use super::world::{World, lock};

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
        let purge = || {
            for sequence in &sequences {
                running.store.dead_letters().remove(&dataflow, *sequence)?;
            }
            running.store.sync_state()?;
            // One whose replay failed in between was kept anew.
            lock(&running.hands).forget(&dataflow, &sequences);
            for sequence in &sequences {
                running.store.dead_letters().remove(&dataflow, *sequence)?;
            }
            running.store.sync_state()
        };
        let purged = purge().map_err(|error| error.to_string());
        self.watch.purged(&dataflow, &sequences, purged.is_ok());
        self.ended("operator", purged);
    }
}
