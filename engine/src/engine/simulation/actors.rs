//! What can happen next in a world, and which of it does.

use std::collections::BTreeMap;

use super::super::appender::{Append, Block};
use super::super::tally::Tally;
use super::super::{APPEND_QUEUE, DERIVE_QUEUE};
use super::mutants::Mutant;
use super::receivers::Flight;
use super::world::{World, lock};
use crate::clock::{Clock, ClockKind, Moment};
use crate::deliver::by_hand::Sent;
use crate::deliver::outcome::Outcome;
use crate::deliver::state::DrainState;
use crate::input::{LastLine, LineReader, Pace, Position};
use crate::record::parse_lines;

/// The input that is read.
pub(super) const FILE: &str = "/input.ndjson";

/// Lines that are read together, at most.
const LINES_MAX: u64 = 6;

/// How late a worker may be, in milliseconds: with the time between two writings of progress, that is
/// less than what may be repeated after a crash.
const LATE_MAX_MS: u64 = 20;

/// How long nothing may happen at all.
const REST_MAX_MS: u64 = 40 * 60_000;

/// Steps within which a world without trouble must have come to rest.
const STEPS_TO_REST: usize = 30_000;

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Action {
    Read,
    Append,
    Derive,
    Checkpoint,
    Work(usize),
    End(usize),
    Pass,
    ReplayLetters,
    PurgeLetters,
    Import,
    Compact,
    Reload,
    EndReload,
    Arm,
    Kill,
    Restart,
    SetWall,
}

impl World {
    /// Lets something happen.
    pub(super) fn step(&mut self) {
        let actions = self.actions();
        let action = self.random.weighed(&actions);
        self.act(action);
    }

    /// Steps until nothing is left to do.
    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..STEPS_TO_REST {
            if self.is_at_rest() {
                return;
            }
            self.step();
        }
        panic!("it does not come to rest: {:?}", self.states());
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read => {
                let count = self.random.within(1, LINES_MAX);
                self.read(count);
            }
            Action::Append => {
                let count = self.random.within(1, APPEND_QUEUE as u64);
                self.append(count);
            }
            Action::Derive => self.derive(),
            Action::Checkpoint => self.checkpoint(),
            Action::Work(index) => self.work(index),
            Action::End(index) => self.end(index),
            Action::Pass => self.pass(),
            Action::ReplayLetters => self.replay_letters(),
            Action::PurgeLetters => self.purge_letters(),
            Action::Import => self.import(),
            Action::Compact => self.compact(),
            Action::Reload => self.begin_reload(),
            Action::EndReload => self.end_reload(),
            Action::Arm => self.arm(),
            Action::Kill => self.kill(),
            Action::Restart => self.restart(),
            Action::SetWall => self.set_wall(),
        }
    }

    /// What can happen, with how likely it is.
    fn actions(&mut self) -> Vec<(u64, Action)> {
        let mut actions = vec![(6, Action::Pass)];
        if let Some(trouble) = self.trouble() {
            return vec![(1, trouble)];
        }
        if !self.is_calm && self.random.one_in(20) && self.has_letters() {
            return vec![(2, Action::ReplayLetters), (1, Action::PurgeLetters)];
        }
        if !self.is_calm && self.random.one_in(100) {
            return vec![(2, Action::Import), (1, Action::Compact), (1, Action::Reload)];
        }
        if self.can_end_reload() {
            actions.push((8, Action::EndReload));
        }
        let now = self.now_ms();
        let running = self.running.as_mut().expect("it runs between two steps");
        running.go_on_importing();
        if running.line < self.script.lines.len() && running.appends.len() < APPEND_QUEUE {
            actions.push((4, Action::Read));
        }
        let is_due = running.appends.is_empty() && running.appender.due_tick().is_some();
        if running.jobs.len() < DERIVE_QUEUE && (!running.appends.is_empty() || is_due) {
            actions.push((8, Action::Append));
        }
        running.is_deriving |= !running.jobs.is_empty()
            || (running.deriver.is_holding_back() && running.deriver.freed.try_recv().is_ok());
        if running.is_deriving {
            actions.push((12, Action::Derive));
        }
        if running.checkpointer.has_waiting() {
            actions.push((4, Action::Checkpoint));
        }
        let mut hands = lock(&running.hands);
        for (index, id) in hands.ids().iter().enumerate() {
            if hands.called_at(id).is_some() {
                actions.push((10, Action::Work(index)));
            }
        }
        let flights = self.flights.iter().enumerate();
        let over = flights.filter(|(_, flight)| flight.ends_ms <= now);
        actions.extend(over.map(|(index, _)| (10, Action::End(index))));
        actions
    }

    /// Trouble, now and then.
    fn trouble(&mut self) -> Option<Action> {
        let is_time = !self.is_calm && self.random.one_in(self.script.trouble_in);
        is_time.then(|| {
            use Action::{Arm, Kill, Restart, SetWall};
            self.random.weighed(&[(4, Arm), (2, Kill), (1, Restart), (1, SetWall)])
        })
    }

    /// Reads some lines of the file and hands them to the appender.
    pub(super) fn read(&mut self, count: u64) {
        let count = usize::try_from(count).expect("few");
        let running = self.running.as_mut().expect("it runs");
        if self.mutant == Some(Mutant::SkipsALine) && running.line + 1 < self.script.lines.len() {
            running.line += 1;
        }
        let lines = &self.script.lines[running.line..];
        let lines = &lines[..count.min(lines.len())];
        let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let text = text.join("\n") + "\n";
        let refused = lines.iter().filter(|line| !line.is_good).map(|line| line.text.clone());
        let refused = refused.collect();
        running.line += lines.len();
        let rules = running.shared.parse_rules();
        let mut reader = LineReader::new(text.as_bytes(), Pace::AsItComes, LastLine::Taken);
        let block = reader.next_block().expect("it is memory").expect("there are lines");
        let tally = std::sync::Arc::new(Tally::default());
        tally.open();
        let block = Block {
            parsed: parse_lines(block, &rules),
            rules,
            position: Some(position(running.line)),
            source: FILE.into(),
            tally,
        };
        running.appends.push_back((Append::Block(Box::new(block)), refused));
        let line = running.line;
        self.tell(|| format!("read to line {line}"));
    }

    /// The appender takes what waits, at most `count` requests, or a tick.
    pub(super) fn append(&mut self, count: u64) {
        let running = self.running.as_mut().expect("it runs");
        let count = count.min((DERIVE_QUEUE - running.jobs.len()) as u64);
        let (mut group, mut refused) = (Vec::new(), Vec::new());
        while (group.len() as u64) < count
            && !matches!(group.last(), Some(Append::Definitions(_)))
            && let Some((request, lines)) = running.appends.pop_front()
        {
            group.push(request);
            refused.extend(lines);
        }
        if group.is_empty() {
            let Some(tick) = running.appender.due_tick() else { return };
            group = tick;
            self.watch.count("tick");
        }
        let appended = running.appender.append_group(group).map_err(|error| error.to_string());
        if appended.is_ok() {
            self.acknowledged.rejects.extend(refused);
            self.note_acknowledged();
        }
        let next = self.acknowledged.entries.len();
        self.tell(|| format!("append to {next}: {appended:?}"));
        self.ended("appender", appended);
    }

    /// The deriver does one job, or looks for what it held back.
    fn derive(&mut self) {
        let running = self.running.as_mut().expect("it runs");
        let done = match running.jobs.try_recv() {
            Ok(job) => running.deriver.work_on(job).map(|()| true),
            Err(_) => running.deriver.rest(),
        };
        let done = done.map_err(|error| error.to_string());
        running.is_deriving = matches!(done, Ok(true));
        let next = running.deriver.derivation.next();
        self.tell(|| format!("derive to {next}: {done:?}"));
        self.ended("deriver", done.map(drop));
    }

    /// The checkpointer writes what was cut.
    fn checkpoint(&mut self) {
        let running = self.running.as_mut().expect("it runs");
        let written = running.checkpointer.write_waiting().map_err(|error| error.to_string());
        self.tell(|| format!("checkpoint: {written:?}"));
        self.ended("checkpointer", written.map(drop));
    }

    /// A worker takes in what it was told, sends, and writes what is due.
    fn work(&mut self, index: usize) {
        let running = self.running.as_ref().expect("it runs");
        let mut hands = lock(&running.hands);
        let id = hands.ids().swap_remove(index);
        let stepped = hands.step(&id);
        drop(hands);
        let worked = match stepped {
            Ok(sent) => {
                for sent in &sent {
                    self.sent(&id, sent);
                }
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        self.check_bounds(&id);
        self.tell(|| format!("{id} works: {worked:?}"));
        self.ended("worker", worked);
    }

    fn sent(&mut self, id: &str, sent: &Sent) {
        let now = self.now_ms();
        let (export, role) = (&sent.dispatch.export, sent.dispatch.role);
        let running = self.running.as_ref().expect("it runs");
        let is_done = |sequence: u64| {
            let letter = running.store.dead_letters().get(id, sequence);
            let rows = running.store.outbox().read(id, sequence, 1).expect("it can be read");
            let is_kept = rows.first().is_some_and(|(found, _)| *found == sequence);
            letter.expect("it can be read").is_some() || !is_kept
        };
        let message = sent.request.headers["webhook-id"].to_str().expect("it is text");
        assert!(*sent.request.body == *export.payload, "{message} says something else");
        self.watch.sent((id, now), (export, role, message), &is_done);
        let destination = self.watch.destination(id).to_owned();
        let (takes, outcome) = self.receivers.answer(&destination, now);
        let (dataflow, sequence) = (id.to_owned(), export.sequence);
        self.tell(|| format!("{id} {sequence} flies for {takes} ms: {outcome}"));
        if self.mutant == Some(Mutant::LeavesTheOrder) {
            let running = self.running.as_ref().expect("it runs");
            let delivered = Outcome::Status { code: 200, retry_after: None, answer: Vec::new() };
            lock(&running.hands).ended(&dataflow, sequence, delivered);
        }
        self.flights.push(Flight { dataflow, sequence, ends_ms: now + takes, outcome });
    }

    pub(super) fn end(&mut self, index: usize) {
        let Flight { dataflow, sequence, outcome, .. } = self.flights.swap_remove(index);
        self.watch.ended((&dataflow, self.now_ms()), sequence, &outcome);
        self.tell(|| format!("{dataflow} {sequence} ended: {outcome}"));
        let outcome = match self.mutant {
            Some(Mutant::LeavesTheOrder) => return,
            Some(Mutant::LosesAnExport) => {
                Outcome::Status { code: 200, retry_after: None, answer: Vec::new() }
            }
            _ => outcome,
        };
        let running = self.running.as_ref().expect("it runs");
        lock(&running.hands).ended(&dataflow, sequence, outcome);
    }

    /// Time passes: to what comes next, or a part of it, and no longer than a worker may be late.
    fn pass(&mut self) {
        let now = self.now_ms();
        let most = match self.lateness() {
            Some(_) if self.mutant == Some(Mutant::WritesTooLate) => 1_000,
            Some(late) => LATE_MAX_MS.saturating_sub(late),
            None => self.next_event().map_or(REST_MAX_MS, |next| next.saturating_sub(now)),
        };
        if most == 0 {
            return;
        }
        let ms = if self.random.one_in(2) { most } else { self.random.within(1, most) };
        self.clock.pass(std::time::Duration::from_millis(ms));
        self.tell(|| format!("{ms} ms passed"));
    }

    /// How late the latest worker is, if one has something to do.
    fn lateness(&mut self) -> Option<u64> {
        let now = self.clock.moment();
        let running = self.running.as_ref().expect("it runs");
        let mut hands = lock(&running.hands);
        let ids = hands.ids();
        let called = ids.iter().filter_map(|id| hands.called_at(id)).min()?;
        Some(u64::try_from(now.since(called).as_millis()).expect("it is short"))
    }

    /// When something happens by itself.
    fn next_event(&self) -> Option<u64> {
        let running = self.running.as_ref().expect("it runs");
        let wakes = lock(&running.hands).wakes_at().map(Moment::as_nanos);
        let wakes = wakes.map(|nanos| nanos.div_ceil(1_000_000));
        let ends = self.flights.iter().map(|flight| flight.ends_ms).min();
        wakes.into_iter().chain(ends).min()
    }

    fn is_at_rest(&mut self) -> bool {
        let has_input = {
            let running = self.running.as_ref().expect("it runs");
            running.line < self.script.lines.len()
                || !running.appends.is_empty()
                || !running.jobs.is_empty()
                || running.import.is_some()
                || running.reload.is_some()
                || running.is_deriving
                || running.checkpointer.has_waiting()
                || (running.deriver.is_holding_back() && !running.deriver.freed.is_empty())
        };
        let is_due = self.script.clock == ClockKind::Wall
            && self.running.as_ref().expect("it runs").appender.due_tick().is_some();
        !has_input
            && !is_due
            && self.flights.is_empty()
            && self.lateness().is_none()
            && self.next_event().is_none()
            && self
                .states()
                .values()
                .all(|state| matches!(state, Some(DrainState::Idle | DrainState::PausedByConfig)))
    }

    fn states(&self) -> BTreeMap<String, Option<DrainState>> {
        let running = self.running.as_ref().expect("it runs");
        let hands = lock(&running.hands);
        hands.ids().into_iter().map(|id| (id.clone(), hands.drained(&id))).collect()
    }
}

/// Where reading goes on behind so many lines.
fn position(lines: usize) -> Position {
    let line = lines as u64 + 1;
    Position { source: FILE.to_owned(), head_len: 0, head_hash: [0; 32], byte: line, line }
}
