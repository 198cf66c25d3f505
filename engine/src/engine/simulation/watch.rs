//! What a receiver sees, and what it may never see (`SPEC.md` §8).
//!
//! It remembers over crashes, as a receiver does, and knows what was stored before anything was sent.
//! A life is the time between two starts of the engine.

use std::collections::{BTreeMap, VecDeque};

use crate::config::Config;
use crate::deliver::backlog::Export;
use crate::deliver::health::Role;
use crate::deliver::outcome::Outcome;
use crate::deliver::settings::{Sending, Waiting};

/// What had ended so long before a crash is not repeated after it.
const UNWRITTEN_MS: u64 = 100;

/// The second in "requests a second".
const SECOND_MS: u64 = 1_000;

/// All that was seen.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) flows: BTreeMap<String, FlowWatch>,
    /// When each life ended, and whether by a crash.
    deaths: Vec<Death>,
    /// When the wall clock was last set forward.
    set_forward_ms: u64,
    /// What was seen at all, for a test that wants to have seen it.
    pub(super) seen: BTreeMap<&'static str, u64>,
}

/// The life of a worker that is no more, though its process is.
const NO_LIFE: usize = usize::MAX;

#[derive(Clone, Copy)]
struct Death {
    at_ms: u64,
    was_crash: bool,
}

/// One dataflow.
#[derive(Default)]
pub(super) struct FlowWatch {
    /// Every export stored, by sequence.
    pub(super) rows: BTreeMap<u64, Row>,
    /// When requests started.
    starts: VecDeque<u64>,
    held_until: u64,
    limits: Limits,
    last_sent: u64,
}

#[derive(Clone, Default)]
struct Limits {
    destination: String,
    per_second: usize,
    in_flight: usize,
    first_backoff_ms: u64,
    attempts: u32,
    is_paused: bool,
    /// Whether a newer export may take the place of one that waits.
    collapses: bool,
}

/// A stored export and what became of it.
pub(super) struct Row {
    pub(super) export: Export,
    pub(super) fate: Fate,
    /// The life that sent it last, and its attempts that counted.
    life: usize,
    attempts: u32,
    /// Its id, once it was sent.
    message: Option<String>,
    is_purged: bool,
    /// Whether a purge of it was begun.
    pub(super) may_be_purged: bool,
}

/// What became of an export, as far as the receiver knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Waiting,
    Flying { life: usize, role: Role },
    Failed { life: usize, at_ms: u64 },
    Delivered { life: usize, at_ms: u64 },
}

impl Watch {
    /// The number of this life.
    pub(super) fn life(&self) -> usize {
        self.deaths.len()
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// A life begins with this configuration, or goes on with it.
    pub(super) fn configure(&mut self, config: &Config) {
        for dataflow in &config.dataflows {
            let destination = config.destination(&dataflow.destination).expect("it was checked");
            let settings = &destination.settings;
            let backoff = settings.retry.backoff.first().copied().unwrap_or_default();
            let limits = Limits {
                destination: dataflow.destination.clone(),
                per_second: settings.max_requests_per_second as usize,
                in_flight: settings.max_in_flight,
                first_backoff_ms: u64::try_from(backoff.as_millis()).expect("it is short"),
                attempts: settings.retry.max_retries + 1,
                is_paused: dataflow.sending == Sending::Paused,
                collapses: dataflow.waiting == Waiting::Latest,
            };
            let flow = self.flows.entry(dataflow.id.clone()).or_default();
            let collapses = flow.limits.collapses;
            flow.limits = limits;
            flow.limits.collapses |= collapses;
        }
    }

    /// Another worker goes on with a dataflow, as after a restart: what failed is tried at once. But what
    /// its receiver asked to wait holds on if that `is_same`.
    pub(super) fn replaced(&mut self, dataflow: &str, is_same: bool) {
        let set_forward = self.set_forward_ms;
        let Some(flow) = self.flows.get_mut(dataflow) else { return };
        for row in flow.rows.values_mut() {
            row.attempts = 0;
            if let Fate::Failed { life, .. } = &mut row.fate {
                *life = NO_LIFE;
            }
        }
        if !is_same {
            flow.held_until = 0;
        }
        flow.starts.retain(|start| *start > set_forward);
    }

    /// The wall clock was set forward: whoever reads what is stored takes what started before for older than
    /// it is.
    pub(super) fn set_forward(&mut self, at_ms: u64) {
        self.set_forward_ms = at_ms;
    }

    /// A life ends.
    pub(super) fn died(&mut self, at_ms: u64, was_crash: bool) {
        self.deaths.push(Death { at_ms, was_crash });
        for flow in self.flows.values_mut() {
            flow.held_until = 0;
            let set_forward = self.set_forward_ms;
            flow.starts.retain(|start| *start > set_forward);
        }
        self.count(if was_crash { "crash" } else { "restart" });
    }

    /// After an opening these exports of `dataflow` are `stored`, and `next` is the sequence of the next.
    /// What was not durable is gone, or there are others instead; what was sent must be what it was.
    pub(super) fn recovered(&mut self, dataflow: &str, next: u64, stored: &[Export]) {
        let Some(flow) = self.flows.get_mut(dataflow) else { return };
        let is_other =
            |now: &&Export| flow.rows.get(&now.sequence).is_some_and(|row| row.export != **now);
        let kept = stored.iter().find(is_other).map_or(next, |other| other.sequence);
        let sent = flow.last_sent;
        assert!(sent < kept, "{dataflow} {sent} was sent; what is stored differs from {kept} on");
        flow.rows.split_off(&kept);
    }

    /// Exports were stored.
    pub(super) fn stored(&mut self, dataflow: &str, exports: Vec<Export>) {
        let flow = self.flows.entry(dataflow.to_owned()).or_default();
        for export in exports {
            let (fate, sequence) = (Fate::Waiting, export.sequence);
            let row = Row {
                export,
                fate,
                life: 0,
                attempts: 0,
                message: None,
                is_purged: false,
                may_be_purged: false,
            };
            let known = flow.rows.insert(sequence, row);
            assert!(known.is_none(), "{dataflow} {sequence} is stored twice");
        }
    }

    /// A request starts. `is_done` tells whether an export has a dead letter or was withdrawn.
    pub(super) fn sent(
        &mut self,
        (dataflow, now): (&str, u64),
        (export, role, message): (&Export, Role, &str),
        is_done: &dyn Fn(u64) -> bool,
    ) {
        let life = self.life();
        let sequence = export.sequence;
        let name = || format!("{dataflow} {sequence} at {now}");
        let flow = self.flows.get_mut(dataflow).expect("what is sent was stored");
        flow.check_limits(life, now, &name);
        flow.check_order(export, &name, is_done);
        let row = flow.rows.get_mut(&sequence).unwrap_or_else(|| panic!("{} unknown", name()));
        assert!(row.export == *export, "{} is not what was stored", name());
        assert!(!row.is_purged, "{} was purged", name());
        let known = row.message.get_or_insert_with(|| message.to_owned());
        assert_eq!(known, message, "{}: its id", name());
        let repeats = match row.fate {
            Fate::Waiting => None,
            Fate::Flying { life: before, .. } => {
                assert!(before < life, "{} is in flight already", name());
                Some("repeat of what was in flight")
            }
            Fate::Failed { life: before, at_ms } => {
                let wait = now - at_ms;
                let is_early = before == life && wait < flow.limits.first_backoff_ms;
                assert!(!is_early, "{} is tried again after {wait} ms", name());
                Some("retry")
            }
            Fate::Delivered { life: before, at_ms } => {
                let death = self.deaths.get(before).copied();
                let death = death.unwrap_or_else(|| panic!("{} was delivered", name()));
                let age = death.at_ms - at_ms;
                let may = death.was_crash && age <= UNWRITTEN_MS;
                assert!(may, "{} is repeated, delivered {age} ms before the end", name());
                Some("repeat of what was delivered")
            }
        };
        if row.life < life {
            // What was not on disk of the attempts before does not count.
            (row.life, row.attempts) = (life, 0);
        }
        row.fate = Fate::Flying { life, role };
        flow.last_sent = flow.last_sent.max(sequence);
        flow.starts.push_back(now);
        repeats.into_iter().chain(["request"]).for_each(|what| self.count(what));
    }

    /// A request ended.
    pub(super) fn ended(&mut self, (dataflow, now): (&str, u64), sequence: u64, outcome: &Outcome) {
        let life = self.life();
        let flow = self.flows.get_mut(dataflow).expect("it was sent");
        if let Outcome::Status { code: 429 | 503, retry_after: Some(wait), .. } = outcome {
            let wait = u64::try_from(wait.as_millis()).expect("it is short");
            flow.held_until = flow.held_until.max(now + wait);
        }
        let most = flow.limits.attempts;
        let Some(row) = flow.rows.get_mut(&sequence) else { return };
        let Fate::Flying { role, .. } = row.fate else { panic!("{dataflow} {sequence} flies not") };
        let is_delivered = matches!(outcome.status(), Some(200..=299));
        // A probe that fails is no attempt, nor is what pauses everything.
        let is_sign_of_life = matches!(outcome.status(), Some(400 | 413 | 422));
        let is_attempt = role == Role::Ordinary || is_sign_of_life;
        let counts = is_attempt && outcome.status() != Some(410);
        row.attempts += u32::from(counts);
        assert!(row.attempts <= most, "{dataflow} {sequence}: {} attempts", row.attempts);
        row.fate = match (is_delivered, counts) {
            (true, _) => Fate::Delivered { life, at_ms: now },
            (false, true) => Fate::Failed { life, at_ms: now },
            (false, false) => Fate::Waiting,
        };
    }

    /// Dead letters are to be sent again.
    pub(super) fn replayed(&mut self, dataflow: &str, sequences: &[u64]) {
        let flow = self.flows.get_mut(dataflow).expect("it has dead letters");
        for sequence in sequences {
            let Some(row) = flow.rows.get_mut(sequence) else { continue };
            if matches!(row.fate, Fate::Failed { .. }) {
                (row.fate, row.attempts) = (Fate::Waiting, 0);
            }
        }
        self.count("replay");
    }

    /// Dead letters were purged; for sure, if that came to its end.
    pub(super) fn purged(&mut self, dataflow: &str, sequences: &[u64], is_done: bool) {
        let flow = self.flows.get_mut(dataflow).expect("it has dead letters");
        for sequence in sequences {
            let Some(row) = flow.rows.get_mut(sequence) else { continue };
            (row.is_purged, row.may_be_purged) = (is_done, true);
        }
        self.count("purge");
    }

    /// The destination of `dataflow`.
    pub(super) fn destination(&self, dataflow: &str) -> &str {
        &self.flows[dataflow].limits.destination
    }
}

impl FlowWatch {
    fn check_limits(&mut self, life: usize, now: u64, name: &dyn Fn() -> String) {
        let Limits { per_second, in_flight, is_paused, .. } = self.limits;
        assert!(!is_paused, "{}: it is paused", name());
        assert!(now >= self.held_until, "{}: it is held until {}", name(), self.held_until);
        let flying = |row: &&Row| matches!(row.fate, Fate::Flying { life: of, .. } if of == life);
        let flying = self.rows.values().filter(flying).count();
        assert!(flying < in_flight, "{}: {flying} are in flight", name());
        self.starts.retain(|start| now - start < SECOND_MS);
        let recent = self.starts.len();
        assert!(recent < per_second, "{}: {recent} within a second", name());
    }

    /// Every earlier export of the profile must be done.
    fn check_order(
        &self,
        export: &Export,
        name: &dyn Fn() -> String,
        is_done: &dyn Fn(u64) -> bool,
    ) {
        let earlier = self.rows.range(..export.sequence);
        for (sequence, row) in earlier.filter(|(_, row)| row.export.profile == export.profile) {
            let is_over = self.limits.collapses
                || row.may_be_purged
                || matches!(row.fate, Fate::Delivered { .. });
            assert!(
                is_over || is_done(*sequence),
                "{} leaves before {sequence} of its profile is done: {:?}",
                name(),
                row.fate
            );
        }
    }
}
