//! Withdrawing what erased profiles still have to be delivered (`SPEC.md` §3).
//!
//! It goes by the numbers of the profiles, and by the identities erased: where a merge policy has
//! changed since the export, profiles are made otherwise now, and the number may be nobody's. A mark
//! holds no payload, only a number; it is rendered as that profile is today, or to nothing.
//!
//! A delete is in the log before anything follows from it, and the exports derived before it are
//! stored and numbered before they are withdrawn, so that a number never depends on what came in one
//! batch with a delete. In between a process may die. So a mark, kept as a lane is, says up to where
//! the deletes of the log have been carried out; it is written after them, into the same database,
//! which keeps its writes in order. A start replays the log, and carries out what lies behind the mark
//! before anything is sent.
//!
//! Each dataflow's dispatcher withdraws its own, between two requests: it is the only one who reads,
//! sends and buries exports of its dataflow, so nothing slips through between the backlog and what it
//! has in memory. For a dataflow that has none it is done here.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay_storage::{Derived, FlowMarks, LaneMark, MarkKey, Offset, Store};

use super::stored_backlog;
use crate::clock::Timestamp;
use crate::deliver::backlog::ProfileKey;
use crate::deliver::withdrawal::Withdrawal;
use crate::error::EngineError;
use crate::project::projection::Outcome;

/// Name of the mark: all deletes below that offset are carried out. No dataflow's lane is called so:
/// their names have three parts.
const DONE: &str = "withdrawn";

/// Has the dispatchers withdraw; returns the dataflows whose dispatcher did.
pub(super) type Withdraw = Box<dyn Fn(&Arc<Withdrawal>) -> BTreeSet<String> + Send>;

/// What was erased since the last withdrawal.
pub(super) struct Withdrawals {
    store: Arc<Store>,
    due: Withdrawal,
    withdraw: Withdraw,
}

impl Withdrawals {
    /// Nothing to withdraw, and no dispatchers yet.
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, due: Withdrawal::default(), withdraw: Box::new(|_| BTreeSet::new()) }
    }

    /// From here on there are dispatchers.
    pub(super) fn deliver_to(&mut self, withdraw: Withdraw) {
        self.withdraw = withdraw;
    }

    /// Takes note of what was erased, less what an earlier run has carried out.
    pub(super) fn note(&mut self, outcome: &Outcome, appended: Timestamp) {
        let (profiles, identities) = (&outcome.erased, &outcome.erased_identities);
        if profiles.is_empty() && identities.is_empty() {
            return;
        }
        self.due.note_time(appended);
        let done = self.store.outbox().lane(DONE).unwrap_or(0);
        for erased in profiles.iter().filter(|erased| erased.offset >= done) {
            let (policy, profile) = (erased.policy, erased.profile.as_u64());
            self.due.add_profile(ProfileKey { policy, profile });
        }
        for erased in identities.iter().filter(|erased| erased.offset >= done) {
            self.due.add_identity(&erased.namespace, &erased.id, erased.offset);
        }
    }

    /// Whether there is something to withdraw.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Withdraws, once everything below `next` is derived and stored. Visible on return: nothing of
    /// theirs is sent any more. Durable with the next sync of the state, which is the caller's.
    pub(super) fn carry_out(&mut self, next: u64) -> Result<(), EngineError> {
        let withdrawal = Arc::new(std::mem::take(&mut self.due));
        let done = (self.withdraw)(&withdrawal);
        let outbox = self.store.outbox();
        for dataflow in outbox.dataflows() {
            if !done.contains(&dataflow) {
                stored_backlog::withdraw(&self.store, &dataflow, &withdrawal)?;
            }
        }
        let mark = LaneMark { lane: DONE.to_owned(), through: next };
        let next = Offset::from_u64(next).max(outbox.derived_next());
        let marked = outbox.marked_dataflows().into_iter().map(|dataflow| {
            let keys = withdrawal.profiles();
            let keys = keys.map(|p| MarkKey { policy: p.policy, profile: p.profile });
            FlowMarks { dataflow, taken: keys.collect(), ..FlowMarks::default() }
        });
        let marked = marked.collect();
        outbox.commit(&Derived { next, flows: Vec::new(), lanes: vec![mark], marked })?;
        Ok(())
    }
}
