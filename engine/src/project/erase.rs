//! Erasing: which profiles a delete record removes, under every merge policy (`SPEC.md` §3).
//!
//! A delete names identities. Every profile that has one of them goes, and the identities of a profile
//! that goes count as named too, under any policy, until nothing is added: what one policy keeps apart
//! another may hold together, and neither may keep what the other forgot.
//!
//! A policy that is not in effect, because it is configured later or no more, loses the profiles named
//! as well, but adds nobody: what the others show must not depend on what is configured later.
//!
//! Erasing is a step like any other: it stands at its place in the log, and what comes before or
//! after it in a batch does not depend on where the batch begins or ends. It goes by who owns which
//! identity at that place, so an identity that nobody owns is not even looked at: the same delete,
//! once what it erased is gone from the log, erases nothing and changes nothing.
//!
//! An erased profile has no heir. Its number is the offset of a record, and so is that of whoever
//! comes later with its identities; events remembered under the old number are nobody's, and are
//! forgotten with the window.

use super::route::{RoutedStep, RoutedView};
use crate::identity::ProfileId;
use crate::identity::table::{IdentityId, IdentityTable};
use crate::record::RecordRef;

/// What one delete record removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Place of the record in the batch.
    pub record: u32,
    /// Those identities that the record names and somebody has named before.
    pub named: Vec<IdentityId>,
    /// The profiles, by view.
    pub profiles: Vec<ErasedProfile>,
    /// Every identity that they had under the policies in effect, ascending; known by these numbers no
    /// more.
    pub identities: Vec<IdentityId>,
}

/// A profile that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedProfile {
    /// Place of the view among the views.
    pub view: usize,
    /// The profile.
    pub profile: ProfileId,
    /// The profiles that it had absorbed: what was exported before bears their numbers.
    pub absorbed: Vec<ProfileId>,
}

/// An identity that a profile lost with its erasure, or that the delete record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedIdentity {
    /// Offset of the delete record.
    pub offset: u64,
    /// In lower case.
    pub namespace: Box<str>,
    /// The id.
    pub id: Box<str>,
}

impl Erasure {
    /// What the identities are called, as long as they are not blanked, for the delete at `offset`.
    pub fn names(
        &self,
        offset: u64,
        identities: &IdentityTable,
    ) -> impl Iterator<Item = ErasedIdentity> {
        self.named.iter().chain(&self.identities).map(move |identity| {
            let (namespace, id) = identities.name(*identity);
            ErasedIdentity { offset, namespace: namespace.into(), id: id.into() }
        })
    }

    /// The steps of one view: one a profile.
    pub fn steps(&self, view: usize) -> impl Iterator<Item = RoutedStep> {
        let of_view = self.profiles.iter().filter(move |erased| erased.view == view);
        of_view.map(|erased| RoutedStep::erase(self.record, erased.profile))
    }
}

/// Erases what `record`, a delete in place `place` of its batch, names. The identities are retired in
/// `identities`, to be blanked once the batch is folded.
pub fn erase(
    record: RecordRef<'_>,
    place: u32,
    views: &mut [RoutedView<'_>],
    identities: &mut IdentityTable,
) -> Erasure {
    let mut erasure = Erasure { record: place, ..Erasure::default() };
    // Found, not taken in: a delete is no first sight of anybody.
    let mut named: Vec<IdentityId> = record
        .identities()
        .filter_map(|named| identities.find(named.namespace, &named.id))
        .collect();
    erasure.named.clone_from(&named);
    while let Some(identity) = named.pop() {
        for (at, view) in views.iter_mut().enumerate() {
            let Some(profile) = view.graph.owner(identity) else { continue };
            let removed = view.graph.remove(profile).expect("an owner is a profile");
            if view.is_in_effect {
                named.extend_from_slice(&removed.identities);
                erasure.identities.extend_from_slice(&removed.identities);
            }
            let absorbed = removed.absorbed;
            erasure.profiles.push(ErasedProfile { view: at, profile, absorbed });
        }
    }
    erasure.profiles.sort_unstable_by_key(|erased| (erased.view, erased.profile));
    erasure.identities.sort_unstable();
    erasure.identities.dedup();
    erasure.identities.iter().for_each(|identity| identities.retire(*identity));
    erasure
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Catalog;
    use super::super::lookup::Lookups;
    use super::super::route::{BatchTime, Router};
    use super::*;
    use crate::clock::Timestamp;
    use crate::definitions::IdentityGraph;
    use crate::identity::dedupe::Dedupe;
    use crate::identity::graph::Graph;
    use crate::profile::path::PathTable;
    use crate::record::RecordBatch;

    /// Everything a router keeps, under both graphs.
    struct Known {
        identities: IdentityTable,
        paths: PathTable,
        dedupe: Dedupe,
        graphs: [Graph; 2],
        in_effect: [bool; 2],
        next: u64,
    }

    impl Known {
        fn new() -> Self {
            Self {
                identities: IdentityTable::default(),
                paths: PathTable::default(),
                dedupe: Dedupe::default(),
                graphs: [IdentityGraph::Pdg, IdentityGraph::None].map(Graph::new),
                in_effect: [true; 2],
                next: 0,
            }
        }

        /// Routes one batch; each step of each view, and what was erased, as text.
        fn route(&mut self, records: &[&str]) -> Vec<String> {
            let batch = batch(records);
            let [pdg, none] = &mut self.graphs;
            let [is_first, is_second] = self.in_effect;
            let dedupe = Some(&mut self.dedupe);
            let mut router = Router {
                identities: &mut self.identities,
                paths: &mut self.paths,
                catalog: &Catalog::default(),
                views: vec![
                    RoutedView { graph: pdg, dedupe, is_in_effect: is_first },
                    RoutedView { graph: none, dedupe: None, is_in_effect: is_second },
                ],
                default: 0,
                remember_ms: 0,
            };
            let time = BatchTime::Highest(Timestamp::EPOCH);
            let lookups = Lookups::of(&batch, router.identities, router.paths);
            let (found, steps) = router.route((&batch, &lookups), self.next, time);
            let mut told = Vec::new();
            for (view, steps) in ["pdg", "none"].iter().zip(steps) {
                let line = |step: RoutedStep| {
                    let at = self.next + u64::from(step.record);
                    format!("{view} {at}: {} {:?}", step.profile, step.absorbed)
                };
                told.extend(steps.into_iter().map(line));
            }
            for erasure in &found.erasures {
                let at = self.next + u64::from(erasure.record);
                told.push(format!("erased {at}: {}", profiles(erasure)));
            }
            self.next += records.len() as u64;
            told
        }
    }

    /// `a b` is a profile record that names both, `-a` a delete.
    fn batch(records: &[&str]) -> RecordBatch {
        let line = |record: &&str| {
            let kind = if record.starts_with('-') { "delete" } else { "profile" };
            let ids = record.trim_start_matches('-').split(' ');
            let ids: Vec<String> = ids.map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
            format!("{{\"{kind}\":{{\"identityMap\":{{\"N\":[{}]}}}}}}", ids.join(","))
        };
        let lines: Vec<String> = records.iter().map(line).collect();
        let mut ranges = Vec::new();
        let mut start = 0;
        for line in &lines {
            let end = start + u32::try_from(line.len()).unwrap();
            ranges.push(start..end);
            start = end + 1;
        }
        RecordBatch::from_log(lines.join("\n"), &ranges).unwrap()
    }

    fn profiles(erasure: &Erasure) -> String {
        let told = |erased: &ErasedProfile| {
            let numbers = [&[erased.profile][..], &erased.absorbed].concat();
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            format!("{}{}", ["p", "n"][erased.view], numbers.join("+"))
        };
        erasure.profiles.iter().map(told).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_delete_takes_everybody_it_names_under_every_policy() {
        // (what it shows, records, whom the last one erases: p by the graph, n without it)
        let cases: &[(&str, &[&str], &str)] = &[
            ("nobody", &["a", "-x"], ""),
            ("one, and no other", &["a", "b", "-a"], "p0 n0"),
            ("several at once", &["a", "b", "c", "-a c"], "p0 p2 n0 n2"),
            ("one that is primary in no record", &["a b", "-b"], "p0 n0"),
            ("whoever a policy links to it", &["a b", "b", "-a"], "p0 n0 n1"),
            ("link after link", &["a b", "c d", "b c", "d", "-a"], "p0+1 n0 n1 n2 n3"),
            ("what it absorbed goes by its number too", &["a", "b", "a b", "-b"], "p0+1 n0 n1"),
            ("who was erased before is nobody", &["a", "-a", "-a"], ""),
            ("who came after it is somebody new", &["a", "-a", "a", "-a"], "p2 n2"),
            ("and has nothing of before", &["a b", "-a", "b", "-a"], ""),
        ];
        for (name, records, expected) in cases {
            let mut known = Known::new();
            let told = known.route(records).pop().expect("there are steps");
            let last = format!("erased {}: ", records.len() - 1);
            assert_eq!(told.strip_prefix(&last).unwrap_or_default(), *expected, "{name}");
        }
    }

    #[test]
    fn a_policy_that_is_not_in_effect_adds_nobody() {
        let records = ["a b", "b", "-a"];
        // (in effect, erased)
        let cases =
            [([true, true], "p0 n0 n1"), ([false, true], "p0 n0"), ([true, false], "p0 n0 n1")];
        for (in_effect, expected) in cases {
            let mut known = Known { in_effect, ..Known::new() };
            let told = known.route(&records).pop().expect("there are steps");
            assert_eq!(told, format!("erased 2: {expected}"), "{in_effect:?}");
            let stays = known.graphs[1].owner(known.identities.intern("n", "b")).is_some();
            assert_eq!(stays, !expected.contains("n1"), "{in_effect:?}");
        }
    }

    #[test]
    fn where_a_batch_ends_decides_nothing() {
        let records = ["a b", "c", "-b", "b c", "a", "a c", "-c", "c", "a b", "-x", "b"];
        let mut whole = Known::new().route(&records);
        whole.sort();
        for cut in 0..records.len() {
            let mut known = Known::new();
            let mut parts = known.route(&records[..cut]);
            parts.extend(known.route(&records[cut..]));
            parts.sort();
            assert_eq!(parts, whole, "cut at {cut}");
        }
    }

    #[test]
    fn who_comes_after_a_delete_is_seen_for_the_first_time() {
        let mut known = Known::new();
        known.route(&["a b", "-a x", "b a"]);
        let number = |id| known.identities.find("n", id).expect("it is named");
        assert!(number("b") < number("a"), "in the order of the new record");
        assert_eq!(known.identities.find("n", "x"), None, "a delete names nobody new");
    }
}
