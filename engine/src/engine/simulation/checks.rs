//! What must hold of a world after each opening, and at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use forebay_storage::{EntryKind, Offset};

use super::actors::FILE;
use super::twin::knowledge;
use super::watch::{Fate, Row};
use super::world::{World, lock};
use crate::config::Config;
use crate::deliver::backlog::{Export, ProfileKey};
use crate::deliver::queue::{OPEN_MAX, PAYLOAD_BYTES_MAX};
use crate::deliver::settings::{Sending, Waiting};
use crate::detect::Causes;
use crate::identity::ProfileId;
use crate::project::projection::DerivedExport;

impl World {
    /// After an opening: nothing acknowledged or sent is missing.
    pub(super) fn check_opened(&mut self) {
        let running = self.running.as_ref().expect("it was opened");
        let next = running.store.log().next_offset().as_u64();
        let count = self.acknowledged.entries.len() as u64;
        assert!(next >= count, "{count} entries were acknowledged, {next} are there");
        let derived = running.store.outbox().derived_next().as_u64();
        assert!(derived <= next, "derived to {derived}, the log ends at {next}");
        let positions = running.line;
        // Of one that lost all it had, the outbox knows nothing.
        let known: Vec<String> = self.watch.flows.keys().cloned().collect();
        for dataflow in known {
            let next = running.store.outbox().next_sequence(&dataflow);
            let stored = running.backlog.read(&dataflow, 0, usize::MAX);
            self.watch.recovered(&dataflow, next, &stored.expect("the backlog can be read"));
        }
        self.check_acknowledged();
        self.note_acknowledged();
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

    /// What was acknowledged is what it was, but for what was erased.
    fn check_acknowledged(&self) {
        let running = self.running.as_ref().expect("it was opened");
        let mut known = self.acknowledged.entries.iter();
        for chunk in running.store.log().read(Offset::START) {
            let chunk = chunk.expect("the log can be read");
            for ((offset, kind, bytes), before) in chunk.iter().zip(&mut known) {
                let is_same = (kind, bytes) == (before.0, &*before.1) || kind == EntryKind::Stub;
                assert!(is_same, "entry {offset} is another one after opening");
            }
        }
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
        if !self.script.is_tight {
            self.check_exports();
        }
        self.check_last_exports();
        self.check_backfill();
        self.check_fates();
    }

    /// The log has each line of the file once, in order.
    fn check_lines(&self) {
        let good = self.script.lines.iter().filter(|line| line.is_good);
        let good: Vec<&str> = good.map(|line| line.text.as_str()).collect();
        let records = self.acknowledged.entries.iter();
        let records = records.filter(|(kind, _)| *kind == EntryKind::Record);
        let records = records.map(|(_, bytes)| str::from_utf8(bytes).expect("it is text"));
        // Members of an import are no lines of the file.
        let found: Vec<&str> = records.filter(|text| text.contains("\"line\":")).collect();
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
                    let gone = self.is_erased(expected) || self.was_removed(dataflow);
                    assert!(gone, "{dataflow}: {expected:?}\n is not {:?}", rows.peek());
                }
            }
            assert_eq!(rows.next(), None, "exports of {dataflow}");
        }
    }

    /// What the receiver got last of each profile is from when the log last caused an export of it, or
    /// later, however much was only marked or collapsed meanwhile.
    fn check_last_exports(&self) {
        // With other mappings, what was only marked may have nothing to show any more.
        if self.config > 0 {
            return;
        }
        for (dataflow, expected) in &self.twin.exports {
            let Some(flow) = self.watch.flows.get(dataflow) else { continue };
            let settings = self.config().dataflow(dataflow);
            if settings.is_none_or(|settings| settings.sending == Sending::Paused) {
                // It may be full for ever.
                continue;
            }
            let mut last = BTreeMap::new();
            for export in expected {
                last.insert((export.policy, export.profile.as_u64()), export);
            }
            for ((policy, profile), expected) in last {
                let mut rows = flow.rows.values().rev();
                let found = rows.find(|row| {
                    let of = row.export.profile;
                    (of.policy, of.profile) == (policy, profile)
                });
                let is_new = found.is_some_and(|row| shows(&row.export) >= expected.offset);
                let may_miss = self.is_erased(expected) || self.is_gone(dataflow, expected);
                let last = found.map(|row| (row.export.sequence, row.export.origin));
                assert!(
                    is_new || may_miss,
                    "{dataflow}: {expected:?} was never stored, the last of its profile is {last:?}"
                );
            }
        }
    }

    /// Whether the profile of an export became a part of another, or its dataflow is no more.
    fn is_gone(&self, dataflow: &str, export: &DerivedExport) -> bool {
        let projection = &self.twin.derivation.projection;
        let views = self.config().definitions.merge_policies.iter();
        let absorbed = views.filter_map(|policy| projection.view(Some(&policy.id))).any(|view| {
            view.number == Some(export.policy)
                && view.graph.current(export.profile) != export.profile
        });
        absorbed || self.config().dataflow(dataflow).is_none()
    }

    /// No profile is exported twice by one backfill, nor by one after a live export. One that absorbed
    /// another also takes over what that was owed.
    fn check_backfill(&self) {
        for (dataflow, flow) in &self.watch.flows {
            let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for row in flow.rows.values().filter(|row| !is_live(&row.export)) {
                let of_profile = seen.entry(row.export.profile).or_default();
                of_profile.push((row.export.sequence, row.export.origin));
            }
            let mappings = self.script.configs.len() - 1;
            let most = |profile: ProfileKey| mappings * (1 + self.absorbed_by(profile));
            let worst = seen.iter().find(|(profile, exports)| exports.len() > most(**profile));
            assert_eq!(worst, None, "{dataflow}: backfilled more often than mapped");
        }
    }

    /// How many profiles became part of this one.
    fn absorbed_by(&self, ProfileKey { policy, profile }: ProfileKey) -> usize {
        let projection = &self.twin.derivation.projection;
        let policies = self.config().definitions.merge_policies.iter();
        let mut views = policies.filter_map(|policy| projection.view(Some(&policy.id)));
        let view = views.find(|view| view.number == Some(policy));
        view.map_or(0, |view| view.graph.absorbed_by(ProfileId::from_offset(profile)).len())
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
            let Some(settings) = self.config().dataflow(dataflow) else { continue };
            if settings.sending == Sending::Paused {
                continue;
            }
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
                let is_over =
                    is_dead || is_erased || row.may_be_purged || self.may_be_dropped(dataflow, row);
                assert!(is_over, "{dataflow} {sequence} is lost: {:?}", row.fate);
            }
            let progress = running.backlog.progress(dataflow).expect("it can be read");
            let next = running.store.outbox().next_sequence(dataflow);
            let waiting = progress.waiting(next - 1, &running.backlog.withdrawn(dataflow, 0, next));
            assert_eq!(waiting, 0, "{dataflow} has exports waiting at the end");
        }
    }
}

impl World {
    /// Whether a newer export of the profile may have taken its place, or its dataflow was removed once.
    fn may_be_dropped(&self, dataflow: &str, row: &Row) -> bool {
        let flow = |config: &Config| config.dataflow(dataflow).map(|flow| flow.waiting);
        let collapses = self.configs().any(|config| flow(config) == Some(Waiting::Latest));
        let mut later = self.watch.flows[dataflow].rows.range(row.export.sequence + 1..);
        let is_followed = later.any(|(_, later)| later.export.profile == row.export.profile);
        self.was_removed(dataflow) || (collapses && is_followed)
    }

    /// Whether what waited for a dataflow was dropped, because a configuration did not name it.
    fn was_removed(&self, dataflow: &str) -> bool {
        self.configs().any(|config| config.dataflow(dataflow).is_none())
    }

    /// The configurations that were in effect.
    fn configs(&self) -> impl Iterator<Item = &Config> {
        self.script.configs[..=self.config].iter()
    }
}

/// The last entry of the log that an export may show.
fn shows(export: &Export) -> u64 {
    export.origin.offset.max(export.origin.rendered_after.unwrap_or(0))
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
