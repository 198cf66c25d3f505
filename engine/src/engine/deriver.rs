//! The deriver: the one thread that owns the projection.
//!
//! It folds what the appender made durable, numbers and stores the exports, and tells delivery once
//! they are durable too. Questions are jobs like any other, so that each sees one consistent cut and
//! no lock guards the profiles. When nothing else waits it takes what was held back
//! ([`super::held_back`]): marked profiles, and backfill lanes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError, after, bounded, never};
use crossbeam::select;
use forebay_storage::{
    Derived, ExportRow, FlowExports, FlowMarks, LaneMark, MarkKey, Offset, ProgressRow, Store,
};

use super::budget::{Budgets, Divided, Freed};
use super::checkpoint::Known;
use super::checkpoint_policy::Occasion;
use super::checkpointer::{Checkpoints, Told};
use super::control::Control;
use super::deletes;
use super::derivation::Derivation;
use super::replay::Marks;
use super::shared::Shared;
use super::tally::Tally;
use super::transition::Transition;
use super::withdrawal::{Withdraw, Withdrawals};
use crate::clock::Timestamp;
use crate::definitions::Definitions;
use crate::error::EngineError;
use crate::input::Position;
use crate::project::projection::{Ahead, DerivedExport, Outcome, Share};
use crate::record::{RecordBatch, RecordKind, RejectsMark};

/// Exports stored without a sync at most, while more work waits.
const UNSYNCED_EXPORTS: u64 = 8192;

/// Jobs after which marked profiles get a turn although more jobs wait: records that never cease must
/// not keep them from being exported.
const JOBS_A_TURN: u32 = 16;

/// How long nothing must have come before a checkpoint is made because there is time for it.
const IDLE: Duration = Duration::from_millis(500);

/// A question to the projection.
pub(super) type Question = Box<dyn FnOnce(&mut Deriver) + Send>;

/// What the deriver is asked for, in the order of the log.
pub(super) enum Job {
    /// Records that are durable.
    Records {
        /// They themselves; none, if lines were read that are no records.
        batch: Box<RecordBatch>,
        /// Offset of the first.
        first_offset: u64,
        /// The offset after the last.
        next_offset: u64,
        /// Wall time of the append.
        appended: Timestamp,
        /// How far their input, and the file of rejects, are accepted with them.
        reached: Reached,
        /// How many lines were refused beside them.
        rejects: u64,
        /// Whom to tell.
        tally: Arc<Tally>,
    },
    /// A control entry that is durable.
    Control {
        /// It itself.
        control: Control,
        /// Its offset.
        offset: u64,
        /// Wall time of the append.
        appended: Timestamp,
        /// Told when it is derived.
        told: Sender<ControlDone>,
    },
    /// A control entry with other definitions, which is durable.
    Definitions {
        /// What it changes, and the projection that is to take the place of this one.
        transition: Box<Transition>,
        /// Its offset.
        offset: u64,
        /// Wall time of the append.
        appended: Timestamp,
    },
    /// Told when everything before is derived and stored.
    Barrier(Sender<()>),
    /// Something to look up.
    Question(Question),
}

/// What the log tells with records: the same stands in their chunks.
pub(super) struct Reached {
    /// Where their input goes on; `None` for one that is always read whole.
    pub position: Option<Position>,
    /// How far `rejects.ndjson` goes.
    pub rejects: RejectsMark,
}

/// A control entry that is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ControlDone {
    /// Its offset.
    pub offset: u64,
    /// How many members left, if it ended an import.
    pub exited: Option<u64>,
}

/// Is told which exports are durable.
pub(super) type Notify = Box<dyn Fn(&str, u64) + Send>;

/// Owns the projection and the writing side of the outbox.
pub(super) struct Deriver {
    /// What the log has led to so far.
    pub derivation: Derivation,
    /// Exports stored by this run, by dataflow.
    pub exported: BTreeMap<String, u64>,
    /// How much each dataflow may store.
    pub budgets: Budgets,
    /// What the log told beside its entries.
    pub marks: Marks,
    /// When checkpoints are made; set before it runs.
    pub checkpoints: Option<Checkpoints>,
    /// The store that exports go to.
    pub(super) store: Arc<Store>,
    /// The last marked profile taken, by dataflow.
    pub(super) marked_taken: BTreeMap<String, MarkKey>,
    /// Whether lanes and marks are taken: only where exports are delivered.
    pub(super) takes_held_back: bool,
    shared: Arc<Shared>,
    notify: Notify,
    /// Told when exports are done.
    pub(super) freed: Receiver<()>,
    /// Jobs done since marked profiles had a turn.
    jobs_done: u32,
    /// Sequences to tell once they are durable, by dataflow.
    unsynced: BTreeMap<String, u64>,
    unsynced_exports: u64,
    withdrawals: Withdrawals,
}

/// What becomes visible together.
#[derive(Default)]
pub(super) struct Commit {
    /// Exports to be numbered, by dataflow.
    pub(super) exports: Vec<(String, Vec<ExportRow>)>,
    /// Lanes that moved.
    pub(super) lanes: Vec<LaneMark>,
    /// Profiles that are marked, or are so no more.
    pub(super) marked: Vec<FlowMarks>,
}

/// What the deriver woke up for.
enum Wake {
    Job(Box<Job>),
    /// Exports are done: there may be room.
    Room,
    /// Nothing has come for a while.
    Nothing,
    /// There will be no more jobs.
    Closed,
}

impl Deriver {
    /// A deriver that goes on with a derivation.
    pub(super) fn new(derivation: Derivation, store: Arc<Store>, shared: Arc<Shared>) -> Self {
        let (told, freed) = Freed::new();
        Self {
            derivation,
            marks: Marks::START,
            checkpoints: None,
            exported: BTreeMap::new(),
            withdrawals: Withdrawals::new(Arc::clone(&store)),
            budgets: Budgets::new(Arc::clone(&store), told),
            marked_taken: BTreeMap::new(),
            takes_held_back: false,
            freed,
            jobs_done: 0,
            store,
            shared,
            notify: Box::new(|_, _| {}),
            unsynced: BTreeMap::new(),
            unsynced_exports: 0,
        }
    }

    /// From here on, tells `notify` and `withdraw`, and takes what was held back.
    pub(super) fn deliver_to(&mut self, notify: Notify, withdraw: Withdraw) {
        self.notify = notify;
        self.withdrawals.deliver_to(withdraw);
        self.takes_held_back = true;
    }

    /// The definitions in effect.
    pub(super) fn definitions(&self) -> &Definitions {
        self.derivation.definitions()
    }

    /// Tells `resume` all that is durable: delivery may have begun with a dataflow just now.
    pub(super) fn tell_all(&mut self, resume: &dyn Fn(&str, u64)) -> Result<(), EngineError> {
        self.settle()?;
        for dataflow in &self.derivation.definitions().dataflows {
            let stored = self.store.outbox().next_sequence(&dataflow.id) - 1;
            resume(&dataflow.id, stored);
        }
        Ok(())
    }

    /// Works until `jobs` is closed or something fails.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        if let Err(error) = self.work(jobs) {
            self.shared.fail(&error);
        }
    }

    fn work(&mut self, jobs: &Receiver<Job>) -> Result<(), EngineError> {
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => return self.close(),
                Err(TryRecvError::Empty) => {
                    if self.rest()? {
                        continue;
                    }
                    match self.sleep(jobs) {
                        Wake::Job(job) => *job,
                        Wake::Room => continue,
                        Wake::Nothing => {
                            self.checkpoint_if_due(Occasion::Idle)?;
                            continue;
                        }
                        Wake::Closed => return self.close(),
                    }
                }
            };
            self.work_on(job)?;
        }
    }

    /// What is done when no job waits; whether there may be more of that to do.
    pub(super) fn rest(&mut self) -> Result<bool, EngineError> {
        self.settle()?;
        if let Some(slice) = self.checkpoints.as_ref().map(Checkpoints::slice) {
            self.cut_on(slice)?;
        }
        Ok(self.take_held_back()? || self.is_cutting())
    }

    fn sleep(&mut self, jobs: &Receiver<Job>) -> Wake {
        let next = self.derivation.next();
        let waits = self.checkpoints.as_mut().is_some_and(|waiting| waiting.will_be_due(next));
        let freed = if self.is_holding_back() { &self.freed } else { &never() };
        let idle = if waits { after(IDLE) } else { never() };
        select! {
            recv(jobs) -> job => job.map_or(Wake::Closed, |job| Wake::Job(Box::new(job))),
            recv(freed) -> _ => Wake::Room,
            recv(idle) -> _ => Wake::Nothing,
        }
    }

    /// What is done when no more jobs will come.
    pub(super) fn close(&mut self) -> Result<(), EngineError> {
        self.settle()?;
        self.end_cut()?;
        self.checkpoint_if_due(Occasion::Closing)?;
        self.end_cut()
    }

    fn is_cutting(&self) -> bool {
        self.checkpoints.as_ref().is_some_and(Checkpoints::is_making)
    }

    /// Makes so much more of the cut, if one is being made.
    fn cut_on(&mut self, share: Share) -> Result<(), EngineError> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        checkpoints.go_on(&mut self.derivation.projection, &self.store, share)
    }

    /// Makes what is left of the cut, if one is being made.
    pub(super) fn end_cut(&mut self) -> Result<(), EngineError> {
        self.cut_on(Share::Rest)
    }

    fn is_checkpoint_due(&mut self, occasion: Occasion) -> bool {
        let next = self.derivation.next();
        self.checkpoints.as_mut().is_some_and(|checkpoints| checkpoints.is_due(next, occasion))
    }

    pub(super) fn checkpoint_if_due(&mut self, occasion: Occasion) -> Result<(), EngineError> {
        if self.is_checkpoint_due(occasion) { self.checkpoint(None) } else { Ok(()) }
    }

    /// Begins a checkpoint of this moment; `told` hears when it is durable, or that it is not.
    pub(super) fn checkpoint(&mut self, told: Option<Told>) -> Result<(), EngineError> {
        self.end_cut()?;
        // What follows from the entries below it must be durable before it is.
        self.mark_derived()?;
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        let kind = self.derivation.projection.clock_kind();
        let deletes = self.shared.pending_deletes();
        let known = Known { derivation: &mut self.derivation, kind, marks: &self.marks, deletes };
        checkpoints.begin_cut(known, &self.store, told)
    }

    /// Does one job, and what is due by it.
    pub(super) fn work_on(&mut self, job: Job) -> Result<(), EngineError> {
        let begun = self.checkpoints.as_ref().map(Checkpoints::begin);
        let before = self.derivation.next();
        self.take_on(job)?;
        let entries = self.derivation.next() - before;
        let mut earned = None;
        if let (Some(checkpoints), Some(begun)) = (&mut self.checkpoints, begun) {
            checkpoints.worked_since(begun);
            earned = checkpoints.earned(entries);
        }
        if let Some(earned) = earned {
            self.cut_on(earned)?;
        }
        self.checkpoint_if_due(Occasion::Busy)
    }

    fn take_on(&mut self, job: Job) -> Result<(), EngineError> {
        match job {
            Job::Records { batch, first_offset, next_offset, appended, reached, tally, .. } => {
                self.marks.reach(reached.position, reached.rejects);
                let duplicates =
                    self.derive_records(&batch, first_offset, next_offset, appended, None)?;
                // Whoever waits for the records may ask what is left to be delivered.
                if self.withdrawals.is_due() {
                    self.settle()?;
                }
                tally.derived(duplicates);
            }
            Job::Control { control, offset, appended, told } => {
                let exited = self.derive_control(&control, offset, appended)?;
                self.settle()?;
                // Whoever asked may have stopped waiting.
                told.send(ControlDone { offset, exited }).ok();
            }
            Job::Definitions { transition, offset, appended } => {
                let Transition { change, successor, told, .. } = *transition;
                let replaced = successor.map(|new| self.replace(new, offset)).transpose()?;
                if let (Some(_), Some(checkpoints)) = (&replaced, &mut self.checkpoints) {
                    // The one there is has not the history that is asked for from here on.
                    checkpoints.want();
                }
                let control = Control::Definitions(Box::new(change));
                self.derive_control(&control, offset, appended)?;
                self.settle()?;
                told.send(replaced).ok();
            }
            Job::Barrier(told) => {
                self.settle()?;
                self.take_what_fits()?;
                told.send(()).ok();
            }
            Job::Question(question) => question(self),
        }
        self.jobs_done += 1;
        if self.jobs_done >= JOBS_A_TURN && self.takes_held_back {
            self.jobs_done = 0;
            self.take_marked()?;
        }
        if self.unsynced_exports > UNSYNCED_EXPORTS {
            self.settle()?;
        }
        Ok(())
    }

    /// Folds records; how many of them were duplicates. What comes next is looked up meanwhile, if it is
    /// there.
    pub(super) fn derive_records(
        &mut self,
        batch: &RecordBatch,
        first_offset: u64,
        next_offset: u64,
        appended: Timestamp,
        ahead: Option<Ahead<'_>>,
    ) -> Result<u64, EngineError> {
        if batch.iter().any(|record| record.kind() == RecordKind::Delete) {
            self.end_cut()?;
            deletes::note(&self.store, &self.shared)?;
            self.shared.note_delete(next_offset - 1, appended);
        }
        self.marks.appended = self.marks.appended.max(appended);
        let outcome = self.derivation.records(batch, first_offset, next_offset, appended, ahead);
        self.store_outcome(outcome, appended)
    }

    /// Applies a control entry; how many members left, if it ended an import.
    pub(super) fn derive_control(
        &mut self,
        control: &Control,
        offset: u64,
        appended: Timestamp,
    ) -> Result<Option<u64>, EngineError> {
        if !control.only_passes_time() {
            self.end_cut()?;
        }
        self.marks.appended = self.marks.appended.max(appended);
        let is_new = offset >= self.store.outbox().derived_next().as_u64();
        if let (Control::Definitions(change), true) = (control, is_new) {
            // Before the exports of the entry: once those are stored, this is not done again.
            change
                .dataflows
                .removals
                .iter()
                .try_for_each(|dataflow| self.drop_waiting(dataflow))?;
        }
        let outbox = self.store.outbox();
        let mark_of = |lane: &str| outbox.lane(lane);
        let outcome = self.derivation.control(control, offset, appended, &mark_of)?;
        let exited = outcome.exited;
        self.store_outcome(outcome, appended)?;
        if is_new && matches!(control, Control::Definitions(_)) {
            self.forget_removed_dataflows()?;
        }
        Ok(exited)
    }

    /// Drops the waiting exports of a dataflow that is no more. Nobody sends them: its dispatcher has
    /// ended. If it is created again it goes on after them.
    fn drop_waiting(&self, dataflow: &str) -> Result<(), EngineError> {
        let next = self.store.outbox().next_sequence(dataflow);
        let progress = self.store.progress().read(dataflow)?;
        if progress.watermark < next {
            let done =
                ProgressRow { watermark: next, done: Vec::new(), attempts: Vec::new(), ..progress };
            self.store.progress().write(dataflow, &done, &[])?;
            self.store.sync_state()?;
            self.store.outbox().trim(dataflow, next)?;
        }
        Ok(())
    }

    /// Lets another derivation of the same log take the place of this one, at `offset`. Returns the
    /// one that was replaced.
    pub(super) fn replace(
        &mut self,
        mut successor: Box<Derivation>,
        offset: u64,
    ) -> Result<Box<Derivation>, EngineError> {
        self.end_cut()?;
        successor.follow(&self.store, offset, &|| true)?;
        let outbox = self.store.outbox();
        successor.projection.skip_lanes(&|lane| outbox.lane(lane));
        std::mem::swap(&mut self.derivation, &mut successor);
        Ok(successor)
    }

    /// Withdraws exports of erased profiles, makes the others durable, and tells delivery.
    pub(super) fn settle(&mut self) -> Result<(), EngineError> {
        let is_withdrawing = self.withdrawals.is_due();
        if is_withdrawing {
            self.withdrawals.carry_out(self.derivation.next())?;
        }
        if is_withdrawing || !self.unsynced.is_empty() {
            self.store.sync_state()?;
            for (dataflow, sequence) in std::mem::take(&mut self.unsynced) {
                (self.notify)(&dataflow, sequence);
            }
            self.unsynced_exports = 0;
        }
        self.shared.lanes.publish(self.derivation.projection.lane_progress());
        let next_boundary = self.derivation.projection.next_boundary();
        self.shared.publish(self.derivation.next(), next_boundary);
        Ok(())
    }

    /// Makes durable that everything so far is derived, exports or not; the next offset.
    pub(super) fn mark_derived(&mut self) -> Result<u64, EngineError> {
        self.settle()?;
        let derived = self.derivation.next();
        let next = Offset::from_u64(derived).max(self.store.outbox().derived_next());
        self.store.outbox().commit(&Derived { next, ..Derived::default() })?;
        self.store.sync_state()?;
        Ok(derived)
    }

    /// Stores exports, less those that an earlier run has stored.
    fn store_outcome(&mut self, outcome: Outcome, appended: Timestamp) -> Result<u64, EngineError> {
        let stored = self.store.outbox().derived_next().as_u64();
        self.withdrawals.note(&outcome, appended);
        let new: Vec<DerivedExport> =
            outcome.exports.into_iter().filter(|export| export.offset >= stored).collect();
        if !new.is_empty() {
            let commit = self.divided(new, appended)?;
            self.commit(commit)?;
        }
        Ok(outcome.duplicates)
    }

    /// The last entry derived: the one that an export without an entry of its own belongs to.
    pub(super) fn last_offset(&self) -> u64 {
        self.derivation.next().saturating_sub(1)
    }

    /// What of these exports is stored, and what is only marked.
    pub(super) fn divided(
        &mut self,
        exports: Vec<DerivedExport>,
        appended: Timestamp,
    ) -> Result<Commit, EngineError> {
        let mut by_dataflow: BTreeMap<String, Vec<ExportRow>> = BTreeMap::new();
        for export in exports {
            let row = ExportRow {
                profile: export.profile.as_u64(),
                policy: export.policy,
                causes: export.causes.to_bits(),
                offset: export.offset,
                boundary_ms: export.boundary.map(Timestamp::as_millis),
                rendered_after: export.rendered_after,
                accepted_ms: appended.as_millis(),
                payload: export.payload.into_bytes(),
            };
            by_dataflow.entry(export.dataflow).or_default().push(row);
        }
        let mut commit = Commit::default();
        for (dataflow, rows) in by_dataflow {
            let Divided { rows, marks } = self.budgets.divide(&dataflow, rows)?;
            if !marks.is_empty() {
                let dataflow = dataflow.clone();
                commit.marked.push(FlowMarks { dataflow, set: marks, ..FlowMarks::default() });
            }
            if !rows.is_empty() {
                commit.exports.push((dataflow, rows));
            }
        }
        Ok(commit)
    }

    /// Numbers and stores exports, together with all that becomes visible with them.
    pub(super) fn commit(&mut self, commit: Commit) -> Result<(), EngineError> {
        let Commit { exports, lanes, marked } = commit;
        let mut flows = Vec::with_capacity(exports.len());
        for (dataflow, rows) in exports {
            let first_sequence = self.store.outbox().next_sequence(&dataflow);
            let count = rows.len() as u64;
            self.unsynced.insert(dataflow.clone(), first_sequence + count - 1);
            self.unsynced_exports += count;
            *self.exported.entry(dataflow.clone()).or_default() += count;
            flows.push(FlowExports { dataflow, first_sequence, rows });
        }
        let next = Offset::from_u64(self.derivation.next()).max(self.store.outbox().derived_next());
        self.store.outbox().commit(&Derived { next, flows, lanes, marked })?;
        Ok(())
    }
}

/// Puts a question to the deriver, between two of its jobs; `None` if it has ended.
pub(super) fn ask<T: Send + 'static>(
    jobs: &Sender<Job>,
    shared: &Shared,
    question: impl FnOnce(&mut Deriver) -> T + Send + 'static,
) -> Option<T> {
    let (told, answer) = bounded(1);
    let ask = Box::new(move |deriver: &mut Deriver| {
        // Whoever asked may have stopped waiting.
        told.send(question(deriver)).ok();
    });
    jobs.send(Job::Question(ask)).ok()?;
    shared.answer(&answer)
}
