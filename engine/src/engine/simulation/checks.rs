//! What must hold of a world after each opening, and at its end.

use std::collections::BTreeSet;
use std::fs;

use forebay_storage::EntryKind;

use super::actors::FILE;
use super::twin::knowledge;
use super::watch::Fate;
use super::world::{World, lock};
use crate::deliver::backlog::Export;
use crate::deliver::queue::{OPEN_MAX, PAYLOAD_BYTES_MAX};
use crate::detect::Causes;
use crate::project::projection::DerivedExport;

impl World {
    /// After an opening: nothing acknowledged or sent is missing.
    pub(super) fn check_opened(&mut self) {
        let acknowledged = std::mem::take(&mut self.acknowledged.entries);
        self.acknowledged.entries.clear();
        let running = self.running.as_ref().expect("it was opened");
        let next = running.store.log().next_offset().as_u64();
        let count = acknowledged.len() as u64;
        assert!(next >= count, "{count} entries were acknowledged, {next} are there");
        let derived = running.store.outbox().derived_next().as_u64();
        assert!(derived <= next, "derived to {derived}, the log ends at {next}");
        let positions = running.line;
        for dataflow in running.store.outbox().dataflows() {
            let next = running.store.outbox().next_sequence(&dataflow);
            self.watch.recovered(&dataflow, next);
        }
        self.note_acknowledged();
        for (offset, (before, now)) in
            acknowledged.iter().zip(&self.acknowledged.entries).enumerate()
        {
            assert!(before == now, "entry {offset} is another one after opening");
        }
        self.check_rejects(positions);
        let config = self.config().clone();
        self.watch.configure(&config);
        self.note_exports();
        self.tell(|| format!("opened at {next}, derived {derived}, line {positions}"));
    }

    /// What a worker keeps in memory stays within its bounds.
    pub(super) fn check_bounds(&self, dataflow: &str) {
        let running = self.running.as_ref().expect("it runs");
        let hands = lock(&running.hands);
        let Some(dispatcher) = hands.dispatcher(dataflow) else { return };
        let queue = dispatcher.queue();
        let (open, bytes) = (queue.len(), queue.payload_bytes());
        assert!(open <= OPEN_MAX, "{dataflow}: {open} are open");
        assert!(bytes <= PAYLOAD_BYTES_MAX * 2, "{dataflow}: {bytes} of payloads");
        let (waiting, parked) = (queue.ready() + queue.parked(), queue.in_flight());
        assert!(waiting + parked <= open, "{dataflow}: more wait than are open");
    }

    /// Each line that was refused stands in the file once, and no other.
    fn check_rejects(&mut self, lines: usize) {
        let lines = &self.script.lines[..lines];
        let expected: Vec<&str> =
            lines.iter().filter(|line| !line.is_good).map(|line| line.text.as_str()).collect();
        let written = fs::read_to_string(self.disk.data().join("rejects.ndjson"));
        let written = written.unwrap_or_default();
        let inputs: Vec<String> = written
            .lines()
            .map(|line| {
                let reject: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
                assert_eq!(reject["source"], FILE);
                reject["input"].as_str().expect("a text").to_owned()
            })
            .collect();
        assert_eq!(inputs, expected, "rejects");
        let known: BTreeSet<&str> = inputs.iter().map(String::as_str).collect();
        for line in &self.acknowledged.rejects {
            assert!(known.contains(line.as_str()), "{line} was acknowledged as refused");
        }
    }

    /// At the end: what the engine knows and has delivered is what a run that never crashed leads to.
    pub(super) fn check_end(&mut self) {
        self.check_lines();
        let running = self.running.as_ref().expect("it runs");
        let config = self.config();
        let known = knowledge(&running.deriver.derivation.projection, config);
        let expected = knowledge(&self.twin.derivation.projection, config);
        for (line, other) in known.lines().zip(expected.lines()) {
            assert_eq!(line, other);
        }
        assert_eq!(known.lines().count(), expected.lines().count());
        self.check_exports();
        self.check_fates();
    }

    /// The log has each line of the file once, in order.
    fn check_lines(&self) {
        let good = self.script.lines.iter().filter(|line| line.is_good);
        let good: Vec<&str> = good.map(|line| line.text.as_str()).collect();
        let records = self.acknowledged.entries.iter();
        let records = records.filter(|(kind, _)| *kind == EntryKind::Record);
        let found: Vec<&str> =
            records.map(|(_, bytes)| str::from_utf8(bytes).expect("it is text")).collect();
        assert_eq!(found, good, "the lines in the log");
    }

    /// Every dataflow has stored the exports of the run that never crashed, in its order, but for those
    /// of profiles that were erased meanwhile.
    fn check_exports(&self) {
        for (dataflow, expected) in &self.twin.exports {
            let flow = self.watch.flows.get(dataflow);
            let rows = flow.into_iter().flat_map(|flow| flow.rows.values());
            let mut rows = rows.map(|row| &row.export).filter(|export| is_live(export)).peekable();
            for expected in expected {
                if rows.next_if(|export| is_as_expected(export, expected)).is_none() {
                    let gone = self.is_erased(expected);
                    assert!(gone, "{dataflow}: {expected:?}\n is not {:?}", rows.peek());
                }
            }
            assert_eq!(rows.next(), None, "exports of {dataflow}");
        }
    }

    fn is_erased(&self, export: &DerivedExport) -> bool {
        self.twin.erased.iter().any(|erased| {
            (erased.profile, erased.policy) == (export.profile, export.policy)
                && erased.offset >= export.offset
        })
    }

    /// Every export was delivered, is a dead letter, or its profile was erased.
    fn check_fates(&self) {
        let running = self.running.as_ref().expect("it runs");
        for (dataflow, flow) in &self.watch.flows {
            for (sequence, row) in &flow.rows {
                if matches!(row.fate, Fate::Delivered { .. }) {
                    continue;
                }
                let letter = running.store.dead_letters().get(dataflow, *sequence);
                let is_dead = letter.expect("it can be read").is_some();
                let is_erased = self.twin.erased.iter().any(|erased| {
                    erased.profile.as_u64() == row.export.profile.profile
                        && erased.policy == row.export.profile.policy
                        && erased.offset >= row.export.origin.offset
                });
                let is_over = is_dead || is_erased || row.may_be_purged;
                assert!(is_over, "{dataflow} {sequence} is lost: {:?}", row.fate);
            }
            let progress = running.backlog.progress(dataflow).expect("it can be read");
            let next = running.store.outbox().next_sequence(dataflow);
            let waiting = progress.waiting(next - 1, &running.backlog.withdrawn(dataflow, 0, next));
            assert_eq!(waiting, 0, "{dataflow} has exports waiting at the end");
        }
    }
}

fn is_live(export: &Export) -> bool {
    export.origin.causes & Causes::BACKFILL.to_bits() == 0
}

fn is_as_expected(export: &Export, expected: &DerivedExport) -> bool {
    let Export { profile, origin, payload, .. } = export;
    (profile.profile, profile.policy) == (expected.profile.as_u64(), expected.policy)
        && (origin.offset, origin.causes) == (expected.offset, expected.causes.to_bits())
        && **payload == *expected.payload.as_bytes()
}
