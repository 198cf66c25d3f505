//! Which records of the log hold data of erased profiles.
//!
//! Who a record was about is not stored anywhere: identities link later, profiles merge, and a record
//! that was passed over as a duplicate holds somebody's data all the same. So the whole log is routed
//! once more, as it was when it was derived, and each record noted with the profiles it belonged to at
//! its place. A profile's number is never given twice; so once all deletes are known, a record is to
//! be erased if one of its numbers was a profile that is gone, or was absorbed by one. That goes by the
//! policies in effect at the delete: what another one would have linked may be somebody else's.
//!
//! It takes eight bytes a record and merge policy while it runs, beside the identities.

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::catalog::Catalog;
use super::lookup::Lookups;
use super::route::{BatchTime, Routed, RoutedStep, RoutedView, Router};
use crate::clock::{ClockKind, Timestamp, millis};
use crate::definitions::{Definitions, MergePolicy};
use crate::identity::ProfileId;
use crate::identity::dedupe::Dedupe;
use crate::identity::graph::Graph;
use crate::identity::table::IdentityTable;
use crate::profile::path::PathTable;
use crate::record::{RecordBatch, RecordKind};

/// Stands for an entry that is about nobody.
const NOBODY: ProfileId = ProfileId::from_offset(u64::MAX);

/// What the log holds of erased profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Offsets of their records and of all delete records, ascending.
    pub offsets: Vec<u64>,
    /// The ids by which they were known, or named in a delete, whatever the namespace.
    pub ids: BTreeSet<String>,
}

/// Follows the log from its beginning.
pub struct Trace {
    kind: ClockKind,
    now: Timestamp,
    catalog: Catalog,
    identities: IdentityTable,
    paths: PathTable,
    views: Vec<TracedView>,
    /// How long events are remembered, in milliseconds.
    remember_ms: i64,
    deletes: Vec<u64>,
    ids: BTreeSet<String>,
}

/// Who each record was about, under one merge policy.
struct TracedView {
    policy: MergePolicy,
    graph: Graph,
    /// Events seen before, if it is the default one at some time.
    dedupe: Option<Dedupe>,
    /// By offset, as far as it is followed.
    about: Vec<ProfileId>,
    /// Duplicates, and whom they were about: those may be several.
    passed_over: Vec<(u64, ProfileId)>,
    /// Numbers of profiles that are gone, and of what they had absorbed.
    gone: HashSet<ProfileId, FixedState>,
}

impl Trace {
    /// At the beginning of a log that holds these definitions, in this order.
    pub fn new(kind: ClockKind, history: &[Definitions]) -> Self {
        let mut views: Vec<TracedView> = Vec::new();
        for definitions in history {
            // As the projection has them: the first default one stands first.
            let default = definitions.default_merge_policy();
            for policy in default.into_iter().chain(&definitions.merge_policies) {
                TracedView::of(policy, &mut views).note_default(policy);
            }
        }
        TracedView::first(&mut views).dedupe.get_or_insert_default();
        let window_ms = |definitions: &Definitions| definitions.settings.dedupe_window_ms;
        let before = Definitions::default();
        let windows = history.iter().chain([&before]).map(window_ms);
        Self {
            kind,
            now: Timestamp::EPOCH,
            catalog: Catalog::default(),
            identities: IdentityTable::default(),
            paths: PathTable::default(),
            views,
            remember_ms: millis(windows.max().expect("there is a window at least")),
            deletes: Vec::new(),
            ids: BTreeSet::new(),
        }
    }

    /// Follows records, the first at `first_offset`, appended at wall time `appended`.
    pub fn follow(&mut self, batch: &RecordBatch, first_offset: u64, appended: Timestamp) {
        let time = match self.kind {
            ClockKind::Wall => BatchTime::Appended(appended.max(self.now)),
            ClockKind::Event => BatchTime::Highest(self.now),
        };
        let policies = &self.catalog.definitions().merge_policies;
        let current = |view: &TracedView| policies.iter().find(|p| view.is_of(p));
        let in_effect: Vec<bool> = self.views.iter().map(|view| current(view).is_some()).collect();
        let is_default = |view| current(view).is_some_and(|policy| policy.default);
        let default = self.views.iter().position(is_default).unwrap_or(0);
        let mut pass = Router {
            identities: &mut self.identities,
            paths: &mut self.paths,
            catalog: &self.catalog,
            views: self.views.iter_mut().zip(&in_effect).map(TracedView::routed).collect(),
            default,
            remember_ms: self.remember_ms,
        };
        let lookups = Lookups::of(batch, pass.identities, pass.paths);
        let (routed, steps) = pass.route((batch, &lookups), first_offset, time);
        self.now = routed.end().unwrap_or(self.now);
        for (view, steps) in self.views.iter_mut().zip(steps) {
            view.note(&steps, batch, first_offset);
        }
        for (record, view, profile) in &routed.passed_over {
            self.views[*view].passed_over.push((first_offset + u64::from(*record), *profile));
        }
        self.note_deletes(batch, first_offset);
        self.forget(&routed, &in_effect);
    }

    /// Follows a change of the definitions, appended at wall time `appended`.
    pub fn define(&mut self, definitions: &Definitions, appended: Timestamp) {
        self.pass_entry(appended);
        self.catalog.apply(definitions, appended);
    }

    /// Follows an entry that says nothing of time but when it was appended.
    pub fn pass_entry(&mut self, appended: Timestamp) {
        if self.kind == ClockKind::Wall {
            self.pass_time(appended);
        }
    }

    /// Follows an entry that moved the clock to `to`.
    pub fn pass_time(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
    }

    /// What is to be erased, now that all deletes are known.
    pub fn finish(self) -> Traces {
        let mut offsets: BTreeSet<u64> = self.deletes.into_iter().collect();
        for view in &self.views {
            let is_gone = |profile: &ProfileId| view.gone.contains(profile);
            let followed = (0..).zip(&view.about).filter(|(_, about)| is_gone(about));
            offsets.extend(followed.map(|(offset, _)| offset));
            let passed_over = view.passed_over.iter().filter(|(_, about)| is_gone(about));
            offsets.extend(passed_over.map(|(offset, _)| *offset));
        }
        Traces { offsets: offsets.into_iter().collect(), ids: self.ids }
    }

    fn note_deletes(&mut self, batch: &RecordBatch, first_offset: u64) {
        for (offset, record) in (first_offset..).zip(batch.iter()) {
            if record.kind() == RecordKind::Delete {
                self.deletes.push(offset);
                self.ids.extend(record.identities().map(|named| named.id.into_owned()));
            }
        }
    }

    fn forget(&mut self, routed: &Routed, in_effect: &[bool]) {
        for erasure in &routed.erasures {
            for erased in erasure.profiles.iter().filter(|erased| in_effect[erased.view]) {
                let numbers =
                    std::iter::once(erased.profile).chain(erased.absorbed.iter().copied());
                self.views[erased.view].gone.extend(numbers);
            }
            for identity in &erasure.identities {
                self.ids.insert(self.identities.name(*identity).1.to_owned());
                self.identities.blank(*identity);
            }
        }
    }
}

impl TracedView {
    fn new(policy: MergePolicy) -> Self {
        Self {
            graph: Graph::new(policy.identity_graph),
            dedupe: None,
            policy,
            about: Vec::new(),
            passed_over: Vec::new(),
            gone: HashSet::default(),
        }
    }

    /// The view of `policy` among `views`, added if it is not there.
    fn of<'a>(policy: &MergePolicy, views: &'a mut Vec<Self>) -> &'a mut Self {
        let known = views.iter().position(|view| view.is_of(policy));
        let at = known.unwrap_or_else(|| {
            views.push(Self::new(policy.clone()));
            views.len() - 1
        });
        &mut views[at]
    }

    /// The view that serves while nothing is defined.
    fn first(views: &mut Vec<Self>) -> &mut Self {
        if views.is_empty() {
            views.push(Self::new(MergePolicy::implicit()));
        }
        &mut views[0]
    }

    fn routed<'a>((view, is_in_effect): (&'a mut Self, &bool)) -> RoutedView<'a> {
        let (graph, dedupe) = (&mut view.graph, view.dedupe.as_mut());
        RoutedView { graph, dedupe, is_in_effect: *is_in_effect }
    }

    fn is_of(&self, policy: &MergePolicy) -> bool {
        self.policy.makes_same_profiles(policy)
    }

    fn note_default(&mut self, policy: &MergePolicy) {
        if policy.default {
            self.dedupe.get_or_insert_default();
        }
    }

    fn note(&mut self, steps: &[RoutedStep], batch: &RecordBatch, first_offset: u64) {
        let place = |offset: u64| usize::try_from(offset).expect("as many as memory holds");
        self.about.resize(place(first_offset) + batch.len(), NOBODY);
        for step in steps {
            // A delete has a step for each profile that it removes; it is erased for itself.
            if batch.get(step.record as usize).kind() != RecordKind::Delete {
                self.about[place(first_offset + u64::from(step.record))] = step.profile;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::{AttributeMerge, IdentityGraph};

    /// A policy each, the first the default one.
    fn definitions(graphs: &[IdentityGraph]) -> Definitions {
        let policy = |(at, graph): (usize, &IdentityGraph)| MergePolicy {
            id: format!("p{at}"),
            default: at == 0,
            identity_graph: *graph,
            attribute_merge: AttributeMerge::TimestampOrdered,
        };
        let merge_policies = graphs.iter().enumerate().map(policy).collect();
        Definitions { merge_policies, ..Definitions::default() }
    }

    /// `p a b` a profile record of the crmids a and b, `e 1 a` an event with id 1, `d a` a delete.
    fn line(word: &str) -> String {
        let mut words = word.split(' ');
        let kind = words.next().unwrap();
        let id = if kind == "e" { words.next() } else { None };
        let ids: Vec<String> = words.map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
        let map = format!("\"identityMap\":{{\"CRMID\":[{}]}}", ids.join(","));
        match (kind, id) {
            ("p", _) => format!("{{\"profile\":{{{map}}}}}"),
            ("d", _) => format!("{{\"delete\":{{{map}}}}}"),
            (_, id) => format!(
                "{{\"event\":{{\"_id\":\"{}\",\"timestamp\":\"2026-01-01T00:00:00Z\",{map}}}}}",
                id.unwrap()
            ),
        }
    }

    fn traces(graphs: &[IdentityGraph], words: &[&str], together: usize) -> Traces {
        let now = definitions(graphs);
        // Linked by a policy that is not in effect.
        let later = definitions(&[graphs, &[IdentityGraph::Pdg]].concat());
        let mut trace = Trace::new(ClockKind::Event, &[now.clone(), later]);
        trace.define(&now, Timestamp::EPOCH);
        let mut offset = 0;
        for words in words.chunks(together) {
            let mut text = String::new();
            let mut ranges = Vec::new();
            for word in words {
                let start = u32::try_from(text.len()).unwrap();
                text.push_str(&line(word));
                ranges.push(start..u32::try_from(text.len()).unwrap());
            }
            let batch = RecordBatch::from_log(text, &ranges).unwrap();
            trace.follow(&batch, offset, Timestamp::EPOCH);
            offset += batch.len() as u64;
        }
        trace.finish()
    }

    #[test]
    fn every_record_of_an_erased_profile_is_found_and_no_other() {
        use IdentityGraph::{None, Pdg};
        // (what it shows, graphs, the log, offsets to erase, ids they were known by)
        type Case<'a> = (&'a str, &'a [IdentityGraph], &'a [&'a str], &'a [u64], &'a [&'a str]);
        let cases: [Case<'_>; 10] = [
            ("nothing deleted", &[Pdg], &["p a", "e 1 b"], &[], &[]),
            ("a profile", &[Pdg], &["p a", "p b", "p a", "d a"], &[0, 2, 3], &["a"]),
            ("by any identity", &[Pdg], &["p a", "p b", "p a c", "d c"], &[0, 2, 3], &["a", "c"]),
            (
                "what it had absorbed",
                &[Pdg],
                &["p a", "p b", "p b", "p x", "p b a", "p b", "d a"],
                &[0, 1, 2, 4, 5, 6],
                &["a", "b"],
            ),
            ("later records start anew", &[Pdg], &["p a", "d a", "p a", "p b"], &[0, 1], &["a"]),
            ("twice", &[Pdg], &["p a", "d a", "p a", "d a", "p a"], &[0, 1, 2, 3], &["a"]),
            ("nobody", &[Pdg], &["p a", "d z"], &[1], &["z"]),
            (
                "duplicates that named it",
                &[Pdg],
                &["e 1 a", "p b", "e 1 a b", "e 2 b", "e 2 b", "d a"],
                &[0, 2, 5],
                &["a"],
            ),
            ("each primary alone", &[None], &["p a b", "p b a", "p a", "d a"], &[0, 2, 3], &["a"]),
            (
                "under every policy",
                &[None, Pdg],
                &["p a b", "p b", "p c", "d a"],
                &[0, 1, 3],
                &["a", "b"],
            ),
        ];
        for (name, graphs, words, offsets, ids) in cases {
            let ids = ids.iter().map(|id| (*id).to_owned()).collect();
            let expected = Traces { offsets: offsets.to_vec(), ids };
            for together in [1, 2, 100] {
                assert_eq!(traces(graphs, words, together), expected, "{name}, {together} a batch");
            }
        }
    }

    #[test]
    fn a_log_that_was_erased_from_has_nothing_more_to_erase() {
        let mut trace = Trace::new(ClockKind::Event, &[definitions(&[IdentityGraph::Pdg])]);
        let text = line("p b");
        let whole = 0..u32::try_from(text.len()).unwrap();
        let late = Timestamp::from_millis(7_000);
        let batch = RecordBatch::from_log(text, &[whole]).unwrap();
        trace.follow(&batch.with_stubs(&[(0, Some(late)), (2, None)]), 0, Timestamp::EPOCH);
        assert_eq!(trace.now, late, "a stub moves the clock as its record did");
        assert_eq!(trace.finish(), Traces::default());
    }
}
