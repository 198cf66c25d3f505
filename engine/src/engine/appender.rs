//! The appender: the one thread that writes the log.
//!
//! It takes parsed blocks from every input, refuses what only the clock can refuse, writes rejects and
//! then the records with their source position, syncs once for all blocks that were waiting, and only
//! then acknowledges and passes them on. So many small appends share one sync, and nothing is derived
//! from a log that a power cut could take back (`DESIGN.md` §3).
//!
//! It is also where idle wall-clock time enters the log: when a boundary is due and no record moved
//! the clock, it appends a tick.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};
use forebay_storage::{Chunk, Entry, EntryKind, RejectsMark, SourceMark, Store};
use rayon::prelude::*;

use super::control::Control;
use super::deriver::{ControlDone, Job, Reached};
use super::outlines;
use super::shared::Shared;
use super::tally::Tally;
use super::transition::Transition;
use crate::clock::{Clock, ClockKind, Timestamp, millis};
use crate::definitions::{AudienceKind, Definitions};
use crate::error::EngineError;
use crate::input::Position;
use crate::record::{
    ParseRules, ParsedBlock, RecordBatch, RecordRef, Redaction, RejectsFile, checked_at,
    checked_jump,
};

/// Blocks that share one sync at most. More only delays the first of them.
const GROUP_BLOCKS: usize = 16;

/// Bytes of a stored chunk before compression: the log packs several at once on all cores.
const CHUNK_BYTES: usize = 256 << 10;

/// Wait for requests where time comes with the records only.
const IDLE: Duration = Duration::from_hours(1);

/// Parsed lines of one input, on their way to the log.
pub(super) struct Block {
    /// Records and rejects.
    pub parsed: ParsedBlock,
    /// What the lines were checked against.
    pub rules: Arc<ParseRules>,
    /// Where the input goes on once this is accepted; `None` for an input that is always read whole.
    pub position: Option<Position>,
    /// What rejects call the input.
    pub source: Arc<str>,
    /// Whom to tell.
    pub tally: Arc<Tally>,
}

/// What the appender is asked for.
pub(super) enum Append {
    /// Records.
    Block(Box<Block>),
    /// A control entry; the answer comes when it is derived.
    Control(Control, Sender<ControlDone>),
    /// Other definitions; the answer comes when they hold.
    Definitions(Box<Transition>),
    /// The answer comes when everything before is derived.
    Barrier(Sender<()>),
    /// Takes erased persons out of the file of rejects; the answer is how many lines.
    Redact(Arc<Redaction>, Sender<u64>),
}

/// Sets the limits that only the appender can check.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockRules {
    /// What `now` means.
    pub kind: ClockKind,
    /// How far a record may move a set event clock, in milliseconds.
    pub max_jump_ms: Option<i64>,
}

/// Owns the writing side of the log.
pub(super) struct Appender {
    /// Where the log is.
    pub store: Arc<Store>,
    /// Where refused lines go.
    pub rejects: RejectsFile,
    /// The machine's time.
    pub clock: Arc<dyn Clock>,
    /// What `now` means.
    pub rules: ClockRules,
    /// The highest `now` stored so far.
    pub appended: Timestamp,
    /// The event clock.
    pub event_now: Timestamp,
    /// Where derived work goes.
    pub deriver: Sender<Job>,
    /// Failure, stop, boundaries.
    pub shared: Arc<Shared>,
}

impl Appender {
    /// Works until `requests` is closed or something fails.
    pub(super) fn run(mut self, requests: &Receiver<Append>) {
        loop {
            let Some(group) = self.next_group(requests) else { return };
            if let Err(error) = self.append_group(group) {
                self.shared.fail(&error);
                return;
            }
        }
    }

    /// Waits for requests, or for a boundary (then the group is a tick). `None`: no more will come.
    ///
    /// An idle engine sleeps until the boundary: the deriver rings when it has moved.
    fn next_group(&mut self, requests: &Receiver<Append>) -> Option<Vec<Append>> {
        loop {
            if requests.is_empty()
                && let Some(tick) = self.due_tick()
            {
                return Some(tick);
            }
            let patience = self.patience();
            crossbeam::channel::select! {
                recv(requests) -> request => {
                    return Some(group_from(request.ok()?, requests));
                }
                recv(self.shared.boundary_bell()) -> rung => rung.expect("the sender is shared with the receiver"),
                default(patience) => {}
            }
        }
    }

    /// What to append if a boundary has passed that no entry of the log has reached yet.
    pub(super) fn due_tick(&self) -> Option<Vec<Append>> {
        let (told, _) = crossbeam::channel::bounded(1);
        self.is_boundary_due().then(|| vec![Append::Control(Control::Tick {}, told)])
    }

    fn patience(&self) -> Duration {
        match self.rules.kind {
            ClockKind::Event => IDLE,
            // Nothing is due before what was appended last is derived, and then the bell rings.
            ClockKind::Wall if !self.is_derived() => IDLE,
            ClockKind::Wall => {
                until(self.shared.next_boundary(), self.clock.now()).min(self.clock.reread_after())
            }
        }
    }

    /// Whether everything in the log is derived, so that the next boundary is known.
    fn is_derived(&self) -> bool {
        self.shared.derived_next() == self.store.log().next_offset().as_u64()
    }

    fn is_boundary_due(&self) -> bool {
        self.rules.kind == ClockKind::Wall
            && self.is_derived()
            && self.shared.next_boundary() <= self.clock.now()
    }

    /// Appends what was asked for, makes it durable, and hands it on.
    pub(super) fn append_group(&mut self, group: Vec<Append>) -> Result<(), EngineError> {
        self.appended = self.appended.max(self.clock.now());
        let mut jobs = Vec::with_capacity(group.len());
        for request in group {
            jobs.extend(self.append(request)?);
        }
        self.store.log().sync()?;
        for job in jobs {
            if let Job::Records { batch, first_offset, rejects, tally, .. } = &job {
                tally.accepted(*first_offset, batch.len() as u64, *rejects);
            }
            // The deriver ends early only when it has failed, and has said so.
            if self.deriver.send(job).is_err() {
                self.shared.check()?;
            }
        }
        Ok(())
    }

    /// Writes the rejects of a block, before the log entry that carries the file's new length; but not
    /// before the entries of earlier blocks, which may be all that is left after a crash.
    fn refuse_and_keep(&mut self, block: &mut Block) -> Result<(), EngineError> {
        let refused = self.refused(block);
        let late = block.parsed.batch.refuse(&refused);
        block.parsed.rejects.extend(late);
        block.parsed.rejects.sort_by_key(|reject| reject.line);
        if !block.parsed.rejects.is_empty() {
            self.rejects.append(&block.source, &block.parsed.rejects)?;
        }
        Ok(())
    }

    /// The records of a block that the clock, or other definitions than those they were read under,
    /// refuse. Moves the event clock by the others.
    fn refused(&mut self, block: &Block) -> Vec<(usize, String)> {
        let rules = self.shared.parse_rules();
        // Definitions may have changed since the lines were read.
        let other_rules = (!Arc::ptr_eq(&rules, &block.rules)).then_some(&*rules);
        let mut refused = Vec::new();
        for (index, record) in block.parsed.batch.iter().enumerate() {
            let again = other_rules.map_or(Ok(()), |rules| rules.check_again(record));
            if let Err(reason) = again.and_then(|()| self.checked(record)) {
                refused.push((index, reason));
            }
        }
        refused
    }

    fn checked(&mut self, record: RecordRef<'_>) -> Result<(), String> {
        match self.rules.kind {
            ClockKind::Wall => {
                checked_at(record.timestamp(), self.appended)?;
            }
            ClockKind::Event => {
                if let Some(timestamp) = record.timestamp() {
                    let set = (self.event_now != Timestamp::EPOCH).then_some(self.event_now);
                    if let Some(max_ms) = self.rules.max_jump_ms {
                        checked_jump(timestamp, set, max_ms)?;
                    }
                    self.event_now = self.event_now.max(timestamp);
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, request: Append) -> Result<Option<Job>, EngineError> {
        Ok(Some(match request {
            Append::Redact(redaction, told) => {
                // Whoever asked may have stopped waiting.
                told.send(self.rejects.redact(&redaction)?).ok();
                return Ok(None);
            }
            Append::Barrier(told) => Job::Barrier(told),
            Append::Control(control, told) => {
                if let Control::Advance { to_ms } = control {
                    self.event_now = self.event_now.max(Timestamp::from_millis(to_ms));
                }
                let offset = self.append_control(&control, None)?;
                Job::Control { control, offset, appended: self.appended, told }
            }
            Append::Definitions(transition) => self.append_definitions(transition)?,
            Append::Block(mut block) => {
                self.refuse_and_keep(&mut block)?;
                self.append_block(*block)?
            }
        }))
    }

    /// What the appender itself checks holds from the entry on: a group ends with it.
    fn append_definitions(&mut self, transition: Box<Transition>) -> Result<Job, EngineError> {
        let control = Control::Definitions(Box::new(transition.change.clone()));
        let offset = self.append_control(&control, None)?;
        self.rules.max_jump_ms = transition.definitions.settings.max_clock_jump_ms.map(millis);
        self.shared.set_parse_rules(parse_rules(&transition.definitions));
        Ok(Job::Definitions { transition, offset, appended: self.appended })
    }

    fn append_control(
        &self,
        control: &Control,
        mark: Option<SourceMark>,
    ) -> Result<u64, EngineError> {
        let bytes = control.to_bytes();
        let entries = vec![Entry { kind: EntryKind::Control, bytes: &bytes }];
        let chunk = Chunk {
            now_ms: self.appended.as_millis(),
            mark,
            rejects: Some(self.rejects_mark()),
            outline: Some(outlines::of_control(control, self.rules.kind)),
            entries,
        };
        Ok(self.store.log().append(&[chunk])?.as_u64())
    }

    fn append_block(&self, block: Block) -> Result<Job, EngineError> {
        let Block { parsed, position, tally, .. } = block;
        let mark = position.clone().map(source_mark);
        let rejects = parsed.rejects.len() as u64;
        let first_offset = if parsed.batch.is_empty() {
            self.append_control(&Control::Read {}, mark)?
        } else {
            self.store.log().append(&self.chunks(&parsed, mark))?.as_u64()
        };
        let entries = parsed.batch.len().max(1) as u64;
        Ok(Job::Records {
            batch: Box::new(parsed.batch),
            first_offset,
            next_offset: first_offset + entries,
            appended: self.appended,
            reached: Reached { position, rejects: self.rejects.mark() },
            rejects,
            tally,
        })
    }

    /// The records of a block as chunks; the last one carries the position, and an append is atomic.
    fn chunks<'a>(&self, parsed: &'a ParsedBlock, mark: Option<SourceMark>) -> Vec<Chunk<'a>> {
        let batch = &parsed.batch;
        let now_ms = self.appended.as_millis();
        let chunk = |part: Range<usize>| Chunk {
            now_ms,
            mark: None,
            rejects: None,
            outline: Some(outlines::of_records(batch, part.clone())),
            entries: part.map(|index| record_entry(batch.get(index))).collect(),
        };
        let mut chunks: Vec<Chunk<'_>> = parts(batch).into_par_iter().map(chunk).collect();
        let last = chunks.last_mut().expect("a block with records has a chunk");
        last.mark = mark;
        last.rejects = Some(self.rejects_mark());
        chunks
    }

    fn rejects_mark(&self) -> RejectsMark {
        let mark = self.rejects.mark();
        RejectsMark { generation: mark.generation, length: mark.length }
    }
}

/// How long it is from `now` to `boundary`; nothing once it has passed.
fn until(boundary: Timestamp, now: Timestamp) -> Duration {
    let wait_ms = boundary.as_millis().saturating_sub(now.as_millis());
    Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))
}

/// What is waiting, as far as one sync is enough for it.
pub(super) fn group_from(first: Append, requests: &Receiver<Append>) -> Vec<Append> {
    let mut group = vec![first];
    while group.len() < GROUP_BLOCKS && !matches!(group.last(), Some(Append::Definitions(_))) {
        match requests.try_recv() {
            Ok(request) => group.push(request),
            Err(_) => break,
        }
    }
    group
}

/// What lines are checked against under these definitions.
pub(super) fn parse_rules(definitions: &Definitions) -> ParseRules {
    let uploads = definitions
        .audiences
        .iter()
        .filter(|audience| matches!(audience.kind, AudienceKind::Upload { .. }));
    ParseRules { upload_audiences: uploads.map(|audience| audience.id.as_str().into()).collect() }
}

/// The places of the records that make a chunk each.
fn parts(batch: &RecordBatch) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, record) in batch.iter().enumerate() {
        let length = record.raw_line().len();
        if bytes > 0 && bytes + length > CHUNK_BYTES {
            parts.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += length;
    }
    parts.push(start..batch.len());
    parts
}

fn record_entry(record: RecordRef<'_>) -> Entry<'_> {
    Entry { kind: EntryKind::Record, bytes: record.raw_line().as_bytes() }
}

fn source_mark(position: Position) -> SourceMark {
    SourceMark {
        source: position.source,
        head_len: position.head_len,
        head_hash: position.head_hash,
        position: position.byte,
        line: position.line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_ends_with_the_boundary() {
        let at = Timestamp::from_millis;
        // (boundary, now, milliseconds)
        for (boundary, now, wait) in [(1_500, 1_000, 500), (1_000, 1_000, 0), (900, 1_000, 0)] {
            assert_eq!(until(at(boundary), at(now)), Duration::from_millis(wait));
        }
        assert!(until(Timestamp::MAX, at(1)) > Duration::from_hours(1_000_000));
    }
}
