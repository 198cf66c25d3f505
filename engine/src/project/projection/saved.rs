//! The projection as one consistent cut (`DESIGN.md` §3, checkpoints): its form in bytes, and the way back
//! from there. How a cut is made stands in [`super::cut`].
//!
//! # What is saved
//!
//! Everything that the records before the cut have left: identities, profiles with their histories and
//! memberships, events remembered, lanes, open imports, the catalog. Not saved is what follows from
//! that: plans, timers, counts and look-up tables are made anew. Nor is anything that an erased profile
//! alone has left: names of its attributes and namespaces, events nobody can look up any more.
//!
//! # What it is good for
//!
//! A cut can only go on with definitions whose history it has: each event query by its canonical form,
//! a view for each merge policy, a long enough memory of events. [`Projection::restore`] checks that
//! before it reads anything large. Queries that nobody asks any more are left out.
//!
//! # Form
//!
//! Blocks of some 256 KiB by section, so that all cores can work at it both ways. Names and events stand in
//! their order, profiles in any. Nothing in it depends on what maps are like inside: a projection that
//! nobody changes meanwhile gives the same bytes each time.

use std::collections::{BTreeSet, VecDeque};

use forebay_storage::{StorageError, StoredCheckpoint, read_value};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Catalog, Definitions, Imports, Known, Lane, MergePolicy, Projection, View};
use crate::backfill::SavedLane;
use crate::clock::{ClockKind, Timestamp, millis};
use crate::identity::ProfileId;
use crate::identity::dedupe::{AppliedEvent, Dedupe};
use crate::identity::graph::{Graph, Links, Member};
use crate::identity::table::{IdentityTable, NameBlock};
use crate::pql::{PqlError, QueryId};
use crate::profile::attributes::Attributes;
use crate::profile::membership::Memberships;
use crate::profile::path::{PathId, PathTable};
use crate::profile::state::{CutNo, History, Profile};
use crate::project::catalog::SavedCatalog;

const WHAT: &str = "a checkpoint";

/// A part of what is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section(u32);

impl Section {
    /// Kept for whoever saves the projection, for what it knows itself.
    pub const CALLER: Self = Self(0);
    pub(super) const HEAD: Self = Self(1);
    pub(super) const NAMES: Self = Self(2);

    pub(super) fn profiles(view: usize) -> Self {
        Self::of_view(view, 0)
    }

    pub(super) fn events(view: usize) -> Self {
        Self::of_view(view, 1)
    }

    fn of_view(view: usize, part: u32) -> Self {
        Self(16 + 2 * u32::try_from(view).expect("fewer than 2^31 views") + part)
    }

    /// The number under which the store keeps it.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Why a projection that was saved cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    /// It has not kept what the definitions ask of the past.
    #[error("the definitions ask for history that it did not keep")]
    Missed,
    /// It cannot be read.
    #[error("{}", crate::error::with_sources(.0))]
    Unreadable(#[from] StorageError),
    /// A rule does not compile any more.
    #[error(transparent)]
    Rule(#[from] PqlError),
}

/// All that is small.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    pub now: Timestamp,
    pub appended: Timestamp,
    pub remember_ms: i64,
    pub catalog: SavedCatalog,
    /// Canonical forms of the event queries, by the numbers that histories name them with.
    pub queries: Vec<String>,
    /// Parent and last segment of each path but the root.
    pub paths: Vec<(PathId, String)>,
    pub namespaces: Vec<Box<str>>,
    pub identities: u64,
    pub views: Vec<SavedView>,
    pub lanes: Vec<SavedLane>,
    pub imports: Imports,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedView {
    pub policy: MergePolicy,
    pub remembers_events: bool,
    pub links: Links,
}

/// A profile as it lies in a block; its identities are those of its members.
type SavedProfile = (ProfileId, SmallVec<[Member; 2]>, Attributes, History, Memberships);

/// What a block of profiles gives: their members for the graph, and they themselves.
type Unpacked = (Vec<(ProfileId, SmallVec<[Member; 2]>)>, Vec<(ProfileId, Profile)>);

impl Projection {
    /// The projection that was saved, which `coming` may still befall: definitions that take effect
    /// later, in order.
    pub fn restore(
        kind: ClockKind,
        coming: Vec<Definitions>,
        from: &StoredCheckpoint,
    ) -> Result<Self, NotRestored> {
        let head: Head = only(from, Section::HEAD)?;
        let catalog = Catalog::restore(head.catalog)
            .map_err(|error| damaged(format!("its definitions cannot be read: {error}")))?;
        let mut projection = Self {
            kind,
            now: head.now,
            appended: head.appended,
            known: Known { catalog, paths: paths(&head.paths)?, ..Known::default() },
            views: head.views.iter().map(|saved| View::new(saved.policy.clone())).collect(),
            lanes: head.lanes.into_iter().map(Lane::restore).collect(),
            imports: head.imports,
            coming: VecDeque::new(),
            remember_ms: head.remember_ms,
            rendered_from: 0,
            ahead: None,
            cutting: None,
            last_cut: CutNo::default(),
        };
        for (view, saved) in projection.views.iter_mut().zip(&head.views) {
            view.dedupe = saved.remembers_events.then(Dedupe::default);
        }
        projection.go_on_with(coming, &head.queries)?;
        let numbers: Vec<Option<QueryId>> =
            head.queries.iter().map(|key| projection.known.queries.find(key)).collect();
        let identities = usize::try_from(head.identities).expect("addresses have 64 bits");
        let names = || names(from, head.namespaces, identities);
        let views = || {
            let all = projection.views.par_iter_mut();
            all.try_for_each(|view| {
                let at = head.views.iter().position(|saved| saved.policy == view.policy);
                let at = at.ok_or_else(|| damaged("a view has another policy"))?;
                let links = head.views[at].links.clone();
                restore_view(view, (from, at), links, (identities, &numbers))
            })
        };
        let (names, views) = rayon::join(names, views);
        views?;
        projection.known.identities = names?;
        Ok(projection)
    }

    /// Compiles the definitions in effect and those to come, if there is the history that they need,
    /// which that of `queries` is.
    fn go_on_with(
        &mut self,
        coming: Vec<Definitions>,
        queries: &[String],
    ) -> Result<(), NotRestored> {
        let (views, remember_ms) = (self.views.len(), self.remember_ms);
        let remembering: Vec<bool> = self.views.iter().map(|view| view.dedupe.is_some()).collect();
        let current = self.known.catalog.definitions().clone();
        let is_defined = !current.merge_policies.is_empty();
        for definitions in is_defined.then_some(&current).into_iter().chain(&coming) {
            self.foresee(definitions)?;
            if millis(definitions.settings.dedupe_window_ms) > remember_ms {
                return Err(NotRestored::Missed);
            }
        }
        let has_all_views = self.views.len() == views
            && self.views.iter().zip(remembering).all(|(view, was)| view.dedupe.is_some() == was);
        let known: BTreeSet<&str> = queries.iter().map(String::as_str).collect();
        let has_all_queries = self.known.queries.keys().all(|key| known.contains(key));
        if !has_all_views || !has_all_queries {
            return Err(NotRestored::Missed);
        }
        self.coming = coming.into();
        if is_defined {
            self.compile()?;
        }
        self.remember();
        Ok(())
    }
}

fn restore_view(
    view: &mut View,
    (from, at): (&StoredCheckpoint, usize),
    links: Links,
    (identities, numbers): (usize, &[Option<QueryId>]),
) -> Result<(), StorageError> {
    let blocks = from.section(Section::profiles(at).number());
    let unpacked: Vec<Unpacked> = blocks
        .par_iter()
        .map(|block| profiles(&from.read(block)?, numbers))
        .collect::<Result<_, _>>()?;
    let (members, profiles): (Vec<_>, Vec<_>) = unpacked.into_iter().unzip();
    let kind = view.policy.identity_graph;
    let members = members.into_iter().flatten().collect();
    let graph = || Graph::restore(kind, identities, members, links);
    let remembers_events = view.dedupe.is_some();
    let events = || remembers_events.then(|| events(from, Section::events(at))).transpose();
    let ((graph, events), ()) = rayon::join(|| (graph(), events()), || view.put_all(profiles));
    view.graph = graph.ok_or_else(|| damaged("an identity has two profiles"))?;
    view.dedupe = events?;
    Ok(())
}

fn profiles(mut body: &[u8], numbers: &[Option<QueryId>]) -> Result<Unpacked, StorageError> {
    let is_same =
        numbers.iter().enumerate().all(|(at, number)| number.map(QueryId::as_usize) == Some(at));
    let (mut all_members, mut all) = (Vec::new(), Vec::new());
    while !body.is_empty() {
        let saved: SavedProfile = read_value(WHAT, &mut body)?;
        let (id, members, attributes, mut history, memberships) = saved;
        if !is_same {
            history.renumber(numbers);
        }
        let identities = members.iter().map(Member::identity).collect();
        all.push((
            id,
            Profile { identities, attributes, history, memberships, ..Profile::default() },
        ));
        all_members.push((id, members));
    }
    Ok((all_members, all))
}

fn names(
    from: &StoredCheckpoint,
    namespaces: Vec<Box<str>>,
    count: usize,
) -> Result<IdentityTable, StorageError> {
    let blocks: Vec<NameBlock> = all(from, Section::NAMES)?;
    let table = IdentityTable::restore(namespaces, blocks).filter(|table| table.len() == count);
    table.ok_or_else(|| damaged("its identities contradict each other"))
}

fn events(from: &StoredCheckpoint, section: Section) -> Result<Dedupe, StorageError> {
    let blocks: Vec<Vec<AppliedEvent>> = all(from, section)?;
    Ok(Dedupe::restore(blocks))
}

fn paths(saved: &[(PathId, String)]) -> Result<PathTable, StorageError> {
    let mut paths = PathTable::default();
    for (parent, key) in saved {
        if parent.as_usize() >= paths.len() || paths.find_child(*parent, key).is_some() {
            return Err(damaged("its paths contradict each other"));
        }
        paths.child(*parent, key);
    }
    Ok(paths)
}

/// The values of a section, one a block, read on all cores.
fn all<T: DeserializeOwned + Send>(
    from: &StoredCheckpoint,
    section: Section,
) -> Result<Vec<T>, StorageError> {
    let blocks = from.section(section.number()).par_iter();
    blocks.map(|block| value(&from.read(block)?)).collect()
}

/// The value of a section that is one block.
fn only<T: DeserializeOwned>(from: &StoredCheckpoint, section: Section) -> Result<T, StorageError> {
    match from.section(section.number()) {
        [block] => value(&from.read(block)?),
        blocks => Err(damaged(format!("{} blocks where one is expected", blocks.len()))),
    }
}

fn value<T: DeserializeOwned>(mut body: &[u8]) -> Result<T, StorageError> {
    let value = read_value(WHAT, &mut body)?;
    if body.is_empty() { Ok(value) } else { Err(damaged("a block is longer than what is in it")) }
}

fn damaged(detail: impl Into<String>) -> StorageError {
    StorageError::Corrupt { what: WHAT, detail: detail.into() }
}
