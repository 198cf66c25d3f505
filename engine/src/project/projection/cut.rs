//! Making a cut: the projection as it is at one moment is saved while it goes on.
//!
//! # How
//!
//! To save a million profiles takes seconds, and nobody is to wait for that. So what is small is copied
//! when the cut begins, and the rest is saved slice by slice between the batches that follow
//! ([`Projection::cut_on`]): remembered events, names of identities, profiles. Events and names that come
//! meanwhile are behind those that there were, and no event is forgotten before it is saved. A profile that
//! a batch names, or that a boundary reaches, is kept before it changes.
//!
//! # What it refuses
//!
//! Only records and time may pass meanwhile. Before a delete or another control entry is applied, the cut
//! must be complete: those reach too many profiles, and take names away that it would still tell.

use std::ops::Range;
use std::sync::Arc;

use forebay_storage::write_value;
use rayon::prelude::*;

use super::super::lookup::Lookups;
use super::super::shard::Shard;
use super::super::shard::cut::{Cut, WrittenPaths};
use super::super::view::{SHARDS, View};
use super::saved::{Head, SavedView};
use super::{Lane, Projection, Section};
use crate::identity::dedupe::Dedupe;
use crate::identity::table::{Extent, IdentityId, IdentityTable};
use crate::record::RecordBatch;

/// Identities in one block.
const NAMES: usize = 8192;

/// Remembered events in one block.
const EVENTS: u64 = 2048;

/// How many profiles take about as long as a block of names, or one of events: these look for their
/// profiles, in memory that is not at hand.
const BLOCK_COST: usize = 256;

/// Takes the bytes of a block.
pub(super) type Pack<'a, B> = &'a (dyn Fn(Section, Vec<u8>) -> B + Sync);

/// How much of a cut is made at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many profiles, or what takes about as long.
    Profiles(usize),
    /// All that is left.
    Rest,
}

/// What a slice of a cut gives.
pub struct Slice<B> {
    /// The blocks that became full.
    pub blocks: Vec<B>,
    /// Whether they are the last.
    pub is_complete: bool,
}

/// A cut on its way.
pub(super) struct Cutting {
    /// All that is small, but for the names of paths and namespaces.
    head: Head,
    cut: Cut,
    extent: Extent,
    /// How many identities are saved.
    names: usize,
    /// The serial numbers of the events that are not saved, by view.
    events: Vec<Range<u64>>,
}

impl Projection {
    /// Begins a cut: all of it as it is now, when everything below `next` is applied.
    ///
    /// Cost: a pass over what was absorbed and over the lanes; nothing for each profile.
    pub fn begin_cut(&mut self, next: u64) {
        self.expect_no_cut();
        self.last_cut = self.last_cut.next();
        let written = Arc::new(WrittenPaths::new(self.known.paths.len()));
        let cut = Cut { number: self.last_cut, next, written };
        let mut events = Vec::with_capacity(self.views.len());
        for view in &mut self.views {
            view.shards_and_graph().0.iter_mut().for_each(|shard| shard.begin_cut(&cut));
            let serials = view.dedupe.as_ref().map_or(0..0, Dedupe::serials);
            if let Some(dedupe) = &mut view.dedupe {
                dedupe.hold_from(Some(serials.start));
            }
            events.push(serials);
        }
        let (head, extent) = (self.head(), self.known.identities.extent());
        self.cutting = Some(Cutting { head, cut, extent, names: 0, events });
    }

    /// Saves a share more, on all cores, in blocks that `pack` takes.
    pub fn cut_on<B: Send>(&mut self, mut share: Share, pack: Pack<'_, B>) -> Slice<B> {
        let Some(mut cutting) = self.cutting.take() else {
            return Slice { blocks: Vec::new(), is_complete: true };
        };
        let mut blocks = Vec::new();
        for (index, view) in self.views.iter_mut().enumerate() {
            let serials = &mut cutting.events[index];
            blocks.extend(save_events(view, (index, serials), &mut share, pack));
        }
        blocks.extend(cutting.save_names(&self.known.identities, &mut share, pack));
        for (index, view) in self.views.iter_mut().enumerate() {
            keep_profiles(view, &mut share);
            blocks.extend(save_profiles(view, index, pack));
        }
        let mut shards = self.views.iter_mut().flat_map(|view| view.shards_and_graph().0);
        let is_complete = cutting.has_named_all() && shards.all(|shard| shard.has_kept_all());
        if is_complete {
            blocks.push(self.end_cut(cutting, pack));
        } else {
            self.cutting = Some(cutting);
        }
        Slice { blocks, is_complete }
    }

    /// Whether a cut is being made.
    pub fn is_cutting(&self) -> bool {
        self.cutting.is_some()
    }

    /// Keeps, for a cut that is being made, the profiles that `batch` is about to change.
    pub(super) fn keep_named(&mut self, batch: &RecordBatch, lookups: &Lookups) {
        if self.is_cutting() {
            let named = named(batch, lookups, &self.known.identities);
            self.views.iter_mut().for_each(|view| view.keep_owners(&named));
        }
    }

    /// # Panics
    ///
    /// If a cut is being made: it would tell of what comes now.
    pub(super) fn expect_no_cut(&self) {
        assert!(!self.is_cutting(), "a cut is complete before anything but records and time comes");
    }

    fn end_cut<B>(&mut self, cutting: Cutting, pack: Pack<'_, B>) -> B {
        let Cutting { mut head, cut, extent, .. } = cutting;
        head.paths = cut.written.named(&self.known.paths);
        head.namespaces = self.known.identities.namespaces(extent);
        for view in &mut head.views {
            view.links = std::mem::take(&mut view.links).sorted();
        }
        for view in &mut self.views {
            view.shards_and_graph().0.iter_mut().for_each(Shard::end_cut);
        }
        let mut body = Vec::new();
        write_value(&mut body, &head);
        pack(Section::HEAD, body)
    }

    fn head(&self) -> Head {
        let saved_view = |view: &View| SavedView {
            policy: view.policy.clone(),
            remembers_events: view.dedupe.is_some(),
            links: view.graph.links(),
        };
        Head {
            now: self.now,
            appended: self.appended,
            remember_ms: self.remember_ms,
            catalog: self.known.catalog.save(),
            queries: self.known.queries.keys().map(str::to_owned).collect(),
            paths: Vec::new(),
            namespaces: Vec::new(),
            identities: self.known.identities.len() as u64,
            views: self.views.iter().map(saved_view).collect(),
            lanes: self.lanes.iter().map(Lane::save).collect(),
            imports: self.imports.clone(),
        }
    }
}

impl Share {
    const fn is_spent(self) -> bool {
        matches!(self, Self::Profiles(0))
    }

    const fn spend(&mut self, profiles: usize) {
        if let Self::Profiles(left) = self {
            *left = left.saturating_sub(profiles);
        }
    }
}

impl Cutting {
    fn has_named_all(&self) -> bool {
        self.names == self.extent.identities() && self.events.iter().all(Range::is_empty)
    }

    fn save_names<B: Send>(
        &mut self,
        identities: &IdentityTable,
        share: &mut Share,
        pack: Pack<'_, B>,
    ) -> Vec<B> {
        let mut parts = Vec::new();
        while !share.is_spent() && self.names < self.extent.identities() {
            let count = NAMES.min(self.extent.identities() - self.names);
            parts.push((self.names, count));
            self.names += count;
            share.spend(BLOCK_COST);
        }
        let save = |(first, count)| {
            let mut body = Vec::new();
            write_value(&mut body, &identities.names(first, count));
            pack(Section::NAMES, body)
        };
        parts.into_par_iter().map(save).collect()
    }
}

fn save_events<B: Send>(
    view: &mut View,
    (index, serials): (usize, &mut Range<u64>),
    share: &mut Share,
    pack: Pack<'_, B>,
) -> Vec<B> {
    let Some(dedupe) = &mut view.dedupe else { return Vec::new() };
    let mut parts = Vec::new();
    while !share.is_spent() && !serials.is_empty() {
        let end = serials.end.min(serials.start + EVENTS);
        parts.push(serials.start..end);
        serials.start = end;
        share.spend(BLOCK_COST);
    }
    let save = |part| {
        let events: Vec<_> = dedupe.save(part, &view.graph).collect();
        let mut body = Vec::new();
        write_value(&mut body, &events);
        pack(Section::events(index), body)
    };
    let blocks = parts.into_par_iter().map(save).collect();
    dedupe.hold_from((!serials.is_empty()).then_some(serials.start));
    blocks
}

/// Keeps a share of the profiles: of few shards at a time, so that few have lists of their own.
fn keep_profiles(view: &mut View, share: &mut Share) {
    let (shards, graph) = view.shards_and_graph();
    let (at_once, count) = match *share {
        Share::Profiles(left) => (left.min(rayon::current_num_threads()), left),
        Share::Rest => (SHARDS, usize::MAX),
    };
    let unkept = shards.iter_mut().filter(|shard| !shard.has_kept_all());
    let mut unkept: Vec<_> = unkept.take(at_once).collect();
    if !unkept.is_empty() {
        let each = count.div_ceil(unkept.len());
        unkept.par_iter_mut().for_each(|shard| shard.keep_some(each, graph));
        share.spend(count);
    }
}

fn save_profiles<B: Send>(view: &mut View, index: usize, pack: Pack<'_, B>) -> Vec<B> {
    let shards = view.shards_and_graph().0.iter_mut();
    let full: Vec<Vec<u8>> = shards.flat_map(Shard::take_blocks).collect();
    full.into_par_iter().map(|body| pack(Section::profiles(index), body)).collect()
}

/// The identities that a batch names and that were named before.
fn named(batch: &RecordBatch, lookups: &Lookups, identities: &IdentityTable) -> Vec<IdentityId> {
    let hold = lookups.hold(identities);
    let mut named = Vec::with_capacity(batch.len());
    for (index, record) in batch.iter().enumerate() {
        let looked_up = lookups.get(index).identities.iter().map(|found| found.identity);
        for (place, known) in looked_up.enumerate() {
            // What was new when it was looked up may have been named since.
            let known = known.filter(|_| hold).or_else(|| {
                let identity = record.identities().nth(place).expect("it was looked up");
                identities.find(identity.namespace, &identity.id)
            });
            named.extend(known);
        }
    }
    named
}
