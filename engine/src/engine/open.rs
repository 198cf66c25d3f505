//! Opening a data directory: what the log says, once more, and what the configuration changes.
//!
//! A restart replays the whole log through the projection; exports that are stored already are not
//! stored again. All definitions that the log has ever held are known before the replay starts, and
//! those of the configuration too, so that rules added later find all history in place (`SPEC.md` §5).

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_storage::{Offset, Store, StoredChunk};

use super::control::Control;
use super::deriver::Deriver;
use super::playback::{Playback, Played, read_control};
use super::shared::Shared;
use super::{Options, Progress};
use crate::clock::{ClockKind, Timestamp};
use crate::config::Config;
use crate::definitions::{self, Definitions, MergePolicy};
use crate::error::EngineError;
use crate::input::Position;
use crate::project::projection::Projection;
use crate::record::RejectsMark;

/// Name of the stored clock kind.
const META_CLOCK: &str = "clock";

/// What the log told.
pub(super) struct Replayed {
    /// The projection at the end of the log.
    pub deriver: Deriver,
    /// How far each input was accepted.
    pub positions: BTreeMap<String, Position>,
    /// How far `rejects.ndjson` goes.
    pub rejects: RejectsMark,
    /// The highest `now` stored.
    pub appended: Timestamp,
    /// What `now` means in this directory.
    pub kind: ClockKind,
}

/// Replays the log of `store`.
pub(super) fn replay(
    store: &Arc<Store>,
    options: &Options,
    shared: &Arc<Shared>,
    progress: &dyn Progress,
) -> Result<Replayed, EngineError> {
    // What a killed process wrote may be visible and not durable: it must be, before anything is
    // derived from it or sent.
    store.log().sync()?;
    store.sync_state()?;
    let kind = clock_kind(store, options)?;
    let history = history(store)?;
    let configured = options.config.as_ref().map(|config| &config.definitions);
    let mut projection = Projection::new(kind, policies(&history, configured)?);
    for definitions in history.iter().chain(configured) {
        projection.foresee(definitions)?;
    }
    let mut deriver = Deriver::new(projection, Arc::clone(store), Arc::clone(shared));
    if let Some(config) = &options.config {
        deriver.budgets.configure(config);
    }
    let mut replay = Replay {
        replayed: Replayed {
            deriver,
            positions: BTreeMap::new(),
            rejects: RejectsMark::START,
            appended: Timestamp::EPOCH,
            kind,
        },
        playback: Playback::default(),
    };
    let total = store.log().next_offset().as_u64();
    for chunk in store.log().read(Offset::START) {
        let chunk = chunk?;
        progress.replay(chunk.next().as_u64(), total);
        replay.chunk(&chunk)?;
    }
    replay.finish()
}

/// The change that the configuration makes, to be appended as a control entry.
pub(super) fn change(deriver: &Deriver, config: &Config) -> Option<Control> {
    definitions::diff(deriver.definitions(), &config.definitions)
        .map(|change| Control::Definitions(Box::new(change)))
}

struct Replay {
    replayed: Replayed,
    playback: Playback,
}

impl Replay {
    fn chunk(&mut self, chunk: &StoredChunk) -> Result<(), EngineError> {
        let Replayed { deriver, positions, rejects, appended, .. } = &mut self.replayed;
        *appended = (*appended).max(Timestamp::from_millis(chunk.now_ms));
        self.playback.chunk(chunk, &mut |played| derive(deriver, &played))?;
        if let Some(mark) = &chunk.mark {
            let position = Position {
                source: mark.source.clone(),
                head_len: mark.head_len,
                head_hash: mark.head_hash,
                byte: mark.position,
                line: mark.line,
            };
            positions.insert(mark.source.clone(), position);
        }
        if let Some(mark) = chunk.rejects {
            *rejects = RejectsMark { generation: mark.generation, length: mark.length };
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Replayed, EngineError> {
        let deriver = &mut self.replayed.deriver;
        self.playback.flush(&mut |played| derive(deriver, &played))?;
        self.replayed.deriver.settle()?;
        Ok(self.replayed)
    }
}

fn derive(deriver: &mut Deriver, played: &Played) -> Result<(), EngineError> {
    match played {
        Played::Records { batch, first_offset, appended } => {
            let next_offset = first_offset + batch.len() as u64;
            deriver.derive_records(batch, *first_offset, next_offset, *appended)?;
            Ok(())
        }
        Played::Control { control, offset, appended } => {
            deriver.derive_control(control, *offset, *appended)?;
            Ok(())
        }
    }
}

/// Every state of the definitions that the log has held, in order.
fn history(store: &Store) -> Result<Vec<Definitions>, EngineError> {
    let mut current = Definitions::default();
    let mut history = Vec::new();
    for (offset, bytes) in store.log().controls()? {
        if let Control::Definitions(change) = read_control(offset.as_u64(), &bytes)? {
            current.apply(&change);
            history.push(current.clone());
        }
    }
    Ok(history)
}

/// All merge policies that are, were or will be in effect, the default one first.
fn policies(
    history: &[Definitions],
    configured: Option<&Definitions>,
) -> Result<Vec<MergePolicy>, EngineError> {
    let mut policies: Vec<MergePolicy> = Vec::new();
    for policy in history.iter().chain(configured).flat_map(|d| &d.merge_policies) {
        match policies.iter().find(|known| known.id == policy.id) {
            None => policies.push(policy.clone()),
            Some(known) if known == policy => {}
            Some(_) => {
                return Err(EngineError::Usage(format!(
                    "merge policy {:?} differs from the one this data directory was written with; \
                     changing a merge policy is not built yet: give the new one another id, or use \
                     another data directory",
                    policy.id
                )));
            }
        }
    }
    if policies.is_empty() {
        policies.push(MergePolicy::implicit());
    }
    if policies.iter().filter(|policy| policy.default).count() > 1 {
        return Err(EngineError::Usage(
            "another merge policy is the default than in this data directory; changing that is not \
             built yet: use another data directory"
                .to_owned(),
        ));
    }
    policies.sort_by_key(|policy| !policy.default);
    Ok(policies)
}

/// The clock of the directory, fixed at first use (`SPEC.md` §9).
fn clock_kind(store: &Store, options: &Options) -> Result<ClockKind, EngineError> {
    let stored = store.meta().get(META_CLOCK)?;
    let configured = options.config.as_ref().map(|config| config.clock);
    match (stored.as_deref(), configured) {
        (Some(stored), Some(kind)) if stored != kind.as_str().as_bytes() => {
            Err(EngineError::Usage(format!(
                "clock = {:?} is configured, but this data directory was first used with the other \
                 clock, and a directory keeps its clock: set it back, or use another data directory",
                kind.as_str()
            )))
        }
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
