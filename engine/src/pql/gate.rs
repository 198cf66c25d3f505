//! When an event counts: windows on its timestamp, joined with what is known of it for good.
//!
//! A condition such as `eventType = "a" or timestamp occurs < 3 hours before now` needs of an event
//! only its time and one bit: whether the first part holds. So a query keeps *flags* instead of the
//! event, and knows exactly when an event stops to count, or counts for good.

use super::op::Op;
use super::window::{Now, Truth, When};
use crate::clock::Timestamp;

/// Most flags of a query, the steps of a chain included: one bit each.
pub(super) const FLAGS_MAX: usize = 64;

/// A condition on an event's time and flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// The timestamp lies within.
    Window(When),
    /// The flag with this number is set.
    Flag(usize),
    Not(Box<Gate>),
    All(Vec<Gate>),
    Any(Vec<Gate>),
}

impl Gate {
    /// The gate that is always open.
    pub(super) fn open() -> Self {
        Self::All(Vec::new())
    }

    /// All of `gates`; a single one stands for itself.
    pub(super) fn all(mut gates: Vec<Self>) -> Self {
        match gates.pop() {
            Some(only) if gates.is_empty() => only,
            Some(last) => {
                gates.push(last);
                Self::All(gates)
            }
            None => Self::open(),
        }
    }

    /// Whether nothing is asked, so that the clock does not matter.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::All(gates) if gates.is_empty())
    }

    /// Whether an event of that time, with these flags, counts, and until when that is certain.
    pub(super) fn truth(&self, (ts, flags): (Timestamp, u64), now: Now<'_>) -> Truth {
        let each = |gate: &Self| gate.truth((ts, flags), now);
        match self {
            Self::Window(when) => when.truth(ts, now),
            Self::Flag(flag) => Truth::always(flags >> flag & 1 == 1),
            Self::Not(gate) => each(gate).not(),
            Self::All(gates) => gates.iter().map(each).fold(Truth::always(true), Truth::and),
            Self::Any(gates) => gates.iter().map(each).fold(Truth::always(false), Truth::or),
        }
    }

    /// The distances `now - ts` at which it is open, where it is one window of that kind
    /// ([`When::ages`]).
    pub(super) fn ages(&self) -> Option<(i64, i64)> {
        match self {
            Self::Window(when) => when.ages(),
            _ => None,
        }
    }

    /// Shows each window.
    pub(super) fn visit<'g>(&'g self, see: &mut dyn FnMut(&'g When)) {
        match self {
            Self::Window(when) => see(when),
            Self::Flag(_) => {}
            Self::Not(gate) => gate.visit(see),
            Self::All(gates) | Self::Any(gates) => gates.iter().for_each(|gate| gate.visit(see)),
        }
    }

    /// A condition that every event satisfies for which the gate can ever open; `None` if that is
    /// any event. `flags` are the conditions behind the flags, the first of them flag `first`.
    pub(super) fn possible(&self, flags: &[Op], first: usize) -> Option<Op> {
        match self {
            Self::Window(_) | Self::Not(_) => None,
            Self::Flag(flag) => flags.get(flag - first).cloned(),
            Self::All(gates) => {
                let needed: Vec<Op> =
                    gates.iter().filter_map(|gate| gate.possible(flags, first)).collect();
                (!needed.is_empty()).then(|| Op::all(needed))
            }
            Self::Any(gates) => {
                let each = gates.iter().map(|gate| gate.possible(flags, first));
                Some(Op::Or(each.collect::<Option<_>>()?))
            }
        }
    }
}

/// The conditions that a query's flags stand for, while it is compiled.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Bits that are taken by the steps of a chain.
    pub(super) first: usize,
    /// From flag `first` on. Frames are counted from the event.
    pub(super) ops: Vec<Op>,
}

impl Flags {
    /// The gate that a condition on the event in frame `base` makes; `None` if it needs more than
    /// the event and windows on its timestamp, or there is no flag left.
    pub(super) fn gate(&mut self, op: &Op, base: usize) -> Option<Gate> {
        let before = self.ops.len();
        let gate = self.parts(op, base);
        if gate.is_none() {
            self.ops.truncate(before);
        }
        gate
    }

    fn parts(&mut self, op: &Op, base: usize) -> Option<Gate> {
        if op.is_static(base) {
            return self.flag(op, base);
        }
        let each = |flags: &mut Self, all: &[Op]| {
            all.iter().map(|op| flags.parts(op, base)).collect::<Option<Vec<_>>>()
        };
        match op {
            Op::Occurs(when, _) if op.is_window(base) => Some(Gate::Window(when.clone())),
            Op::Not(op) => Some(Gate::Not(Box::new(self.parts(op, base)?))),
            Op::And(all) => each(self, all).map(Gate::All),
            Op::Or(all) => each(self, all).map(Gate::Any),
            Op::If(three) => {
                let [test, yes, no] = <[Gate; 3]>::try_from(each(self, three.as_slice())?).ok()?;
                let otherwise = Gate::Not(Box::new(test.clone()));
                let chosen = vec![test, yes];
                Some(Gate::Any(vec![Gate::All(chosen), Gate::All(vec![otherwise, no])]))
            }
            _ => None,
        }
    }

    fn flag(&mut self, op: &Op, base: usize) -> Option<Gate> {
        if self.first + self.ops.len() == FLAGS_MAX {
            return None;
        }
        let mut op = op.clone();
        op.lower_frames(base);
        self.ops.push(op);
        Some(Gate::Flag(self.first + self.ops.len() - 1))
    }
}
