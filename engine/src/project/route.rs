//! The one pass over a batch that is not parallel: who each record is about.
//!
//! Linking, erasing, duplicates and the numbers of new paths and identities depend on order, so they
//! are settled here, record after record, and the fold that follows may run on any number of threads.

use smallvec::SmallVec;

use super::catalog::Catalog;
use super::erase::{self, Erasure};
use super::lookup::{self, Lookups, RecordLookup};
use crate::clock::{Timestamp, millis};
use crate::identity::ProfileId;
use crate::identity::dedupe::{Dedupe, EventKey};
use crate::identity::graph::{Graph, Named};
use crate::identity::table::{IdentityId, IdentityTable};
use crate::profile::membership::AudienceNo;
use crate::profile::path::{PathId, PathTable};
use crate::record::{RecordBatch, RecordKind, RecordRef};

/// How `now` follows from a batch (`SPEC.md` §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchTime {
    /// The wall clock: every record of the batch was appended at this instant.
    Appended(Timestamp),
    /// The event clock: the highest timestamp so far, from this one on.
    Highest(Timestamp),
}

/// One leaf of a profile record.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Where.
    pub path: PathId,
    /// The value's node.
    pub node: u32,
}

/// What resolving identities says of one record in one view. A step of a delete record erases its
/// profile.
#[derive(Clone, Debug)]
pub struct RoutedStep {
    /// Place of the record in the batch.
    pub record: u32,
    /// The profile that it belongs to.
    pub profile: ProfileId,
    /// Whether it is the first to name it.
    pub is_new: bool,
    /// Profiles that it ends.
    pub absorbed: SmallVec<[ProfileId; 1]>,
    /// Identities that joined.
    pub joined: SmallVec<[IdentityId; 2]>,
    /// Identities that were dropped.
    pub dropped: SmallVec<[IdentityId; 1]>,
}

/// What the pass found out about each record of a batch.
#[derive(Debug, Default)]
pub struct Routed {
    nows: Vec<Timestamp>,
    leaves: Vec<Leaf>,
    leaf_ends: Vec<usize>,
    audiences: Vec<Option<AudienceNo>>,
    /// Events that were seen before.
    pub duplicates: u64,
    /// Whom those were about, though they did nothing: the record, the view, the profile.
    pub passed_over: Vec<(u32, usize, ProfileId)>,
    /// What each delete record removed, if anything; in order.
    pub erasures: Vec<Erasure>,
}

impl RoutedStep {
    /// The step that erases `profile`.
    pub fn erase(record: u32, profile: ProfileId) -> Self {
        Self {
            record,
            profile,
            is_new: false,
            absorbed: SmallVec::new(),
            joined: SmallVec::new(),
            dropped: SmallVec::new(),
        }
    }
}

/// Everything that the pass reads and changes.
pub struct Router<'a> {
    /// All identities.
    pub identities: &'a mut IdentityTable,
    /// All attribute paths.
    pub paths: &'a mut PathTable,
    /// For the numbers of upload audiences.
    pub catalog: &'a Catalog,
    /// All views.
    pub views: Vec<RoutedView<'a>>,
    /// Place of the default policy's view among them.
    pub default: usize,
    /// How long events are remembered, in milliseconds: at least the window in effect.
    pub remember_ms: i64,
}

/// The part of a view that the pass changes.
pub struct RoutedView<'a> {
    /// Which identities form which profile.
    pub graph: &'a mut Graph,
    /// Events seen before, where its policy is the default one now or will be.
    pub dedupe: Option<&'a mut Dedupe>,
    /// Whether its policy is in effect.
    pub is_in_effect: bool,
}

impl Routed {
    /// The clock when the record was applied.
    pub fn now(&self, record: u32) -> Timestamp {
        self.nows[record as usize]
    }

    /// The clock at the end of the batch; `None` if it is empty.
    pub fn end(&self) -> Option<Timestamp> {
        self.nows.last().copied()
    }

    /// The record that moved the clock to `boundary` or past it.
    pub fn mover(&self, boundary: Timestamp) -> u32 {
        let at = self.nows.partition_point(|now| *now < boundary);
        u32::try_from(at).expect("a batch has fewer than 2^32 records")
    }

    /// The leaves of a profile record, in order of appearance.
    pub fn leaves(&self, record: u32) -> &[Leaf] {
        let start = if record == 0 { 0 } else { self.leaf_ends[record as usize - 1] };
        &self.leaves[start..self.leaf_ends[record as usize]]
    }

    /// The audience that a membership record names.
    pub fn audience(&self, record: u32) -> Option<AudienceNo> {
        self.audiences[record as usize]
    }
}

impl Router<'_> {
    /// Routes all records, of which `lookups` are; the steps come by view, in the order of the views.
    pub fn route(
        &mut self,
        (batch, lookups): (&RecordBatch, &Lookups),
        first_offset: u64,
        time: BatchTime,
    ) -> (Routed, Vec<Vec<RoutedStep>>) {
        let window_ms = millis(self.catalog.definitions().settings.dedupe_window_ms);
        let mut routed = Routed::default();
        let mut steps: Vec<Vec<RoutedStep>> =
            self.views.iter().map(|_| Vec::with_capacity(batch.len())).collect();
        let mut now = match time {
            BatchTime::Appended(now) | BatchTime::Highest(now) => now,
        };
        for (index, record) in batch.iter().enumerate() {
            if let (BatchTime::Highest(_), Some(timestamp)) = (time, record.timestamp()) {
                now = now.max(timestamp);
            }
            routed.nows.push(now);
            let place = u32::try_from(index).expect("a batch has fewer than 2^32 records");
            let offset = first_offset + u64::from(place);
            routed.audiences.push(None);
            match record.kind() {
                RecordKind::Stub => {}
                RecordKind::Delete => self.erase(record, place, &mut routed, &mut steps),
                _ => {
                    let found = lookups.get(index);
                    let named = self.named(record, &found, lookups.hold(self.identities));
                    let id = record.event_id();
                    let event = id.as_deref().map(|id| EventKey { id, hash: found.event_hash });
                    if self.is_duplicate(event, &named, now, window_ms) {
                        self.pass_over(place, &named, &mut routed);
                    } else {
                        self.note(record, &found, &mut routed);
                        self.resolve(event, &named, (place, offset, now), &mut steps);
                    }
                }
            }
            routed.leaf_ends.push(routed.leaves.len());
        }
        for dedupe in self.views.iter_mut().filter_map(|view| view.dedupe.as_mut()) {
            dedupe.expire(now, self.remember_ms);
        }
        (routed, steps)
    }

    fn pass_over(&self, place: u32, named: &[Named], routed: &mut Routed) {
        routed.duplicates += 1;
        for (view, RoutedView { graph, .. }) in self.views.iter().enumerate() {
            let about = graph.profiles_of(named).into_iter();
            routed.passed_over.extend(about.map(|profile| (place, view, profile)));
        }
    }

    fn erase(
        &mut self,
        record: RecordRef<'_>,
        place: u32,
        routed: &mut Routed,
        steps: &mut [Vec<RoutedStep>],
    ) {
        let erasure = erase::erase(record, place, &mut self.views, self.identities);
        for (view, steps) in steps.iter_mut().enumerate() {
            steps.extend(erasure.steps(view));
        }
        if !erasure.named.is_empty() {
            routed.erasures.push(erasure);
        }
    }

    fn resolve(
        &mut self,
        event: Option<EventKey<'_>>,
        named: &[Named],
        (place, offset, now): (u32, u64, Timestamp),
        steps: &mut [Vec<RoutedStep>],
    ) {
        for (view, steps) in self.views.iter_mut().zip(steps) {
            let resolution = view.graph.resolve(named, offset);
            if let (Some(dedupe), Some(event)) = (&mut view.dedupe, event) {
                dedupe.insert(event, resolution.profile, now);
            }
            steps.push(RoutedStep {
                record: place,
                profile: resolution.profile,
                is_new: resolution.is_new,
                absorbed: resolution.absorbed,
                joined: resolution.joined,
                dropped: resolution.dropped,
            });
        }
    }

    /// The identities of a record, each once. Those found before are taken if they `hold`.
    fn named(
        &mut self,
        record: RecordRef<'_>,
        found: &RecordLookup<'_>,
        hold: bool,
    ) -> SmallVec<[Named; 4]> {
        let mut named: SmallVec<[Named; 4]> = SmallVec::new();
        for (place, looked_up) in found.identities.iter().enumerate() {
            let identity = match looked_up.identity.filter(|_| hold) {
                Some(known) => known,
                None => self.intern(record, place),
            };
            match named.iter_mut().find(|known| known.identity == identity) {
                Some(known) => known.primary |= looked_up.primary,
                None => named.push(Named { identity, primary: looked_up.primary }),
            }
        }
        named
    }

    fn intern(&mut self, record: RecordRef<'_>, place: usize) -> IdentityId {
        let identity = record.identities().nth(place).expect("it was looked up");
        self.identities.intern(identity.namespace, &identity.id)
    }

    fn is_duplicate(
        &self,
        event: Option<EventKey<'_>>,
        named: &[Named],
        now: Timestamp,
        window_ms: i64,
    ) -> bool {
        let Some(event) = event else { return false };
        let RoutedView { graph, dedupe, .. } = &self.views[self.default];
        dedupe.as_ref().is_some_and(|dedupe| {
            dedupe.contains(event, (now, window_ms), |profile| {
                graph.profiles_of(named).contains(&graph.current(profile))
            })
        })
    }

    fn note(&mut self, record: RecordRef<'_>, found: &RecordLookup<'_>, routed: &mut Routed) {
        if let Some((id, _)) = record.membership() {
            let audience = routed.audiences.last_mut().expect("each record has its place");
            *audience = self.catalog.number(&id);
        }
        if let Some(leaves) = found.leaves {
            routed.leaves.extend_from_slice(leaves);
        } else {
            let mut give = |parent, key: &str| Some(self.paths.child(parent, key));
            let is_listed = lookup::list_leaves(record, &mut give, &mut routed.leaves);
            debug_assert!(is_listed, "a path that is new is given a number");
        }
    }
}
