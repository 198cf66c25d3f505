//! Opening a data directory: what the log says, once more, and what the configuration changes.
//!
//! A restart goes on with the newest checkpoint and replays what the log holds behind it; exports that
//! are stored already are not stored again. All definitions that are still to come there are known
//! before the replay starts, and those of the configuration too, so that rules and merge policies that
//! came later find all history in place (`SPEC.md` §5). Where the checkpoint has not kept that history,
//! or cannot be read, the whole log is replayed.

use std::ops::Range;
use std::sync::Arc;

use forebay_storage::{Chunk, Entry, EntryKind, Offset, Store, StoreOptions};

use super::appender::parse_rules;
use super::checkpoint::{self, Loaded};
use super::checkpointer::Found;
use super::control::{Control, read_control};
use super::derivation::Derivation;
use super::deriver::Deriver;
use super::notice::Notice;
use super::outlines;
use super::playback::Played;
use super::read_ahead::ReadAhead;
use super::replay::{Marks, Replay};
use super::shared::Shared;
use super::{Mode, Options, Progress};
use crate::clock::ClockKind;
use crate::config::Config;
use crate::definitions::{self, Change, Definitions};
use crate::error::{EngineError, with_sources};
use crate::project::projection::Projection;
use crate::record::RejectsFile;

/// Name of the stored clock kind.
const META_CLOCK: &str = "clock";

/// A data directory, opened: ready for threads to work on.
pub(super) struct Opened {
    /// Where everything durable is.
    pub store: Arc<Store>,
    /// What the threads will tell each other.
    pub shared: Arc<Shared>,
    /// What the log and the configuration have led to.
    pub replayed: Replayed,
    /// Where refused lines go.
    pub rejects: RejectsFile,
}

/// What the log told.
pub(super) struct Replayed {
    /// The projection at the end of the log.
    pub deriver: Deriver,
    /// What the log tells beside its entries.
    pub marks: Marks,
    /// What `now` means in this directory.
    pub kind: ClockKind,
    /// The checkpoint that it went on from.
    pub found: Found,
}

/// Opens the data directory, replays its log, and applies the configuration unless one only looks.
pub(super) fn open(
    options: &Options,
    storage: StoreOptions,
    progress: &dyn Progress,
) -> Result<Opened, EngineError> {
    let store = Arc::new(Store::open(&options.data, storage)?);
    let shared = Arc::new(Shared::default());
    let mut replayed = replay(&store, options, &shared, progress)?;
    let rejects = RejectsFile::open(&options.data, replayed.marks.rejects)?;
    if options.mode != Mode::Inspect {
        apply_configuration(&store, options, &mut replayed)?;
    }
    shared.set_parse_rules(parse_rules(replayed.deriver.definitions()));
    Ok(Opened { store, shared, replayed, rejects })
}

/// Replays the log of `store`.
fn replay(
    store: &Arc<Store>,
    options: &Options,
    shared: &Arc<Shared>,
    progress: &dyn Progress,
) -> Result<Replayed, EngineError> {
    // What a killed process wrote may be visible and not durable: it must be, before anything is
    // derived from it or sent.
    store.log().sync()?;
    store.sync_state()?;
    let kind = clock_kind(store, options.config.as_ref())?;
    let begun = options.clock.moment();
    let Loaded { mut derivation, marks, deletes } = begin(store, (options, kind), shared)?;
    derivation.projection.skip_lanes(&|lane| store.outbox().lane(lane));
    for (offset, appended) in deletes {
        shared.note_delete(offset, appended);
    }
    let (next, read) = (derivation.next(), options.clock.moment());
    let mut deriver = Deriver::new(derivation, Arc::clone(store), Arc::clone(shared));
    if let Some(config) = &options.config {
        deriver.budgets.configure(config);
    }
    let total = store.log().next_offset().as_u64();
    deriver.derivation.projection.omit_payloads_below(store.outbox().derived_next().as_u64());
    let mut replay = ReadAhead::start(Replay::resume(store, marks, total))?;
    while let Some(entry) = replay.next() {
        let (entry, next) = entry?;
        progress.replay(next, total);
        match entry {
            Played::Records { batch, first_offset, appended } => {
                let next_offset = first_offset + batch.len() as u64;
                let ahead = replay.ahead();
                deriver.derive_records(&batch, first_offset, next_offset, appended, ahead)?;
            }
            Played::Control { control, offset, appended } => {
                deriver.derive_control(&control, offset, appended)?;
            }
        }
    }
    deriver.settle()?;
    let marks = replay.into_marks();
    deriver.marks = marks.clone();
    let found =
        Found { next, loaded: read.since(begun), replayed: options.clock.moment().since(read) };
    Ok(Replayed { deriver, marks, kind, found })
}

/// What was derived at the newest checkpoint; nothing yet, where there is none that can be used.
fn begin(
    store: &Store,
    (options, kind): (&Options, ClockKind),
    shared: &Shared,
) -> Result<Loaded, EngineError> {
    if let Some(newest) = store.checkpoints().newest()? {
        let tail = changes_within(store, newest.next..store.log().next_offset())?;
        let coming = |before: &[Definitions]| {
            let current = before.last().cloned().unwrap_or_default();
            with_configured(options, &current, following(&current, &tail))
        };
        match checkpoint::load(store, kind, newest.next, coming) {
            Ok(loaded) => return Ok(loaded),
            Err(unused) => {
                let reason = with_sources(&unused);
                tracing::warn!(next = %newest.next, "the checkpoint is not used: {reason}");
                shared.notice(Notice::CheckpointUnused { reason });
            }
        }
    }
    let coming = with_configured(options, &Definitions::default(), history(store)?);
    let derivation = Derivation::new(Projection::new(kind, coming)?);
    Ok(Loaded { derivation, marks: Marks::START, deletes: Vec::new() })
}

/// `coming`, which follow `current`, and what the configuration makes of them.
fn with_configured(
    options: &Options,
    current: &Definitions,
    mut coming: Vec<Definitions>,
) -> Vec<Definitions> {
    if let (Some(config), true) = (&options.config, options.mode != Mode::Inspect)
        && coming.last().unwrap_or(current) != &config.definitions
    {
        coming.push(config.definitions.clone());
    }
    coming
}

/// Appends what the configuration changes, and applies it.
fn apply_configuration(
    store: &Arc<Store>,
    options: &Options,
    replayed: &mut Replayed,
) -> Result<(), EngineError> {
    let Some(config) = &options.config else { return Ok(()) };
    let Some(control) = change(&replayed.deriver, config) else { return Ok(()) };
    let appended = replayed.marks.appended.max(options.clock.now());
    replayed.marks.appended = appended;
    let bytes = control.to_bytes();
    let chunk = Chunk {
        now_ms: appended.as_millis(),
        mark: None,
        rejects: None,
        outline: Some(outlines::of_control(&control, replayed.kind)),
        entries: vec![Entry { kind: EntryKind::Control, bytes: &bytes }],
    };
    let offset = store.log().append(&[chunk])?.as_u64();
    store.log().sync()?;
    replayed.deriver.derive_control(&control, offset, appended)?;
    replayed.deriver.settle()
}

/// The change that the configuration makes, to be appended as a control entry.
fn change(deriver: &Deriver, config: &Config) -> Option<Control> {
    definitions::diff(deriver.definitions(), &config.definitions)
        .map(|change| Control::Definitions(Box::new(change)))
}

/// Every state of the definitions that the log has held, in order.
pub(super) fn history(store: &Store) -> Result<Vec<Definitions>, EngineError> {
    history_through(store, u64::MAX)
}

/// The same, as far as the entry at offset `last` has brought it.
pub(super) fn history_through(store: &Store, last: u64) -> Result<Vec<Definitions>, EngineError> {
    let all = Offset::START..Offset::from_u64(last.saturating_add(1));
    Ok(following(&Definitions::default(), &changes_within(store, all)?))
}

/// What becomes of `current` with each of `changes`.
fn following(current: &Definitions, changes: &[Change]) -> Vec<Definitions> {
    let mut current = current.clone();
    let apply = |change| {
        current.apply(change);
        current.clone()
    };
    changes.iter().map(apply).collect()
}

/// The changes of the definitions in a part of the log.
fn changes_within(store: &Store, part: Range<Offset>) -> Result<Vec<Change>, EngineError> {
    let mut changes = Vec::new();
    for (offset, bytes) in store.log().controls_from(part.start)? {
        if offset >= part.end {
            break;
        }
        if let Control::Definitions(change) = read_control(offset.as_u64(), &bytes)? {
            changes.push(*change);
        }
    }
    Ok(changes)
}

/// The clock of the directory, fixed at first use (`SPEC.md` §9).
pub(super) fn clock_kind(store: &Store, config: Option<&Config>) -> Result<ClockKind, EngineError> {
    let stored = store.meta().get(META_CLOCK)?;
    let configured = config.map(|config| config.clock);
    match (stored.as_deref(), configured) {
        (Some(stored), Some(kind)) if stored != kind.as_str().as_bytes() => Err(other_clock(kind)),
        (Some(b"event"), _) => Ok(ClockKind::Event),
        (Some(_), _) => Ok(ClockKind::Wall),
        (None, kind) => {
            let kind = kind.unwrap_or(ClockKind::Wall);
            if configured.is_some() {
                store.meta().put(META_CLOCK, kind.as_str().as_bytes())?;
                store.sync_state()?;
            }
            Ok(kind)
        }
    }
}

/// What is said where another clock than the directory's is configured.
pub(super) fn other_clock(kind: ClockKind) -> EngineError {
    EngineError::Usage(format!(
        "clock = {:?} is configured, but this data directory was first used with the other clock, \
         and a directory keeps its clock: set it back, or use another data directory",
        kind.as_str()
    ))
}
