//! Windows: for which instants `now` an event's timestamp lies within one, and when that changes.
//!
//! # How it is exact
//!
//! Every window comes down to comparisons of a fixed instant `c`, made from the timestamp alone,
//! with an instant `f(now)` that moves with the clock: `ts + 7 days` with `now`, or `ts` with the
//! start of today. [`Instant`] knows how it moves: it stands still until its next
//! [`Instant::breakpoint`], or runs along with the clock until then. So the next instant at which a
//! comparison can turn is computed, not searched for. Only months counted from a running clock are
//! approached in steps (a day; a minute around a change of daylight saving), since they repeat and
//! skip.
//!
//! [`Truth::changes_at`] may thus be early, never late.

use jiff::tz::TimeZone;

use crate::clock::Timestamp;

use super::ast::{Comparison, Direction, Span, Unit};
use super::calendar::{DAY_MS, fixed_length, is_steady, next_transition, period_start, shifted};

/// Whether something holds at an instant, and until when that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) holds: bool,
    /// No change before this instant; [`Timestamp::MAX`] if there is none at all.
    pub(super) changes_at: Timestamp,
}

impl Truth {
    /// True or false for good.
    pub(super) const fn always(holds: bool) -> Self {
        Self { holds, changes_at: Timestamp::MAX }
    }

    pub(super) fn and(self, other: Self) -> Self {
        let changes_at = match (self.holds, other.holds) {
            (true, true) => self.changes_at.min(other.changes_at),
            (false, true) => self.changes_at,
            (true, false) => other.changes_at,
            // Both must turn.
            (false, false) => self.changes_at.max(other.changes_at),
        };
        Self { holds: self.holds && other.holds, changes_at }
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    pub(super) const fn not(self) -> Self {
        Self { holds: !self.holds, changes_at: self.changes_at }
    }

    /// Whether it is false and stays so.
    pub(super) fn is_over(self) -> bool {
        !self.holds && self.changes_at == Timestamp::MAX
    }
}

/// An instant that may move with the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instant {
    /// One that does not move.
    Fixed(Timestamp),
    /// The value of the n-th operand, put in by [`When::bind`].
    Operand(usize),
    /// The clock.
    Now,
    /// The beginning of the period so many units from the clock's.
    Start(Unit, i64),
    /// So many units later, earlier if negative.
    Shifted(i64, Unit, Box<Instant>),
}

/// What stands after `occurs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// At a distance from an instant.
    Distance(Comparison, Span, Instant),
    /// Strictly before.
    Before(Instant),
    /// Strictly after.
    After(Instant),
    /// Within the period that starts there (a [`Instant::Start`]), else the local day around it.
    On(Instant),
    /// From the first to the second, both included.
    Between(Instant, Instant),
}

/// The clock and the zone in which calendars are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now<'a> {
    pub(super) at: Timestamp,
    pub(super) zone: &'a TimeZone,
}

impl When {
    /// Whether `ts` lies within, and when the clock may change that.
    pub(super) fn truth(&self, ts: Timestamp, now: Now<'_>) -> Truth {
        match self {
            Self::Distance(comparison, span, anchor) => {
                distance(ts, (*comparison, *span), anchor, now)
            }
            Self::Before(anchor) => anchor.is_after(ts, now),
            Self::After(anchor) => anchor.is_from(ts, now).not(),
            Self::Between(first, last) => first.is_after(ts, now).not().and(last.is_from(ts, now)),
            Self::On(Instant::Start(unit, offset)) => {
                let end = Instant::Start(*unit, offset.saturating_add(1));
                let begun = Instant::Start(*unit, *offset).is_after(ts, now).not();
                begun.and(end.is_after(ts, now))
            }
            Self::On(anchor) => {
                let begin = period_start(ts, Unit::Day, 0, now.zone);
                let end = period_start(ts, Unit::Day, 1, now.zone);
                anchor.is_from(begin, now).and(anchor.is_from(end, now).not())
            }
        }
    }

    /// The window with the operands' values in it.
    pub(super) fn bind(&self, operands: &[Timestamp]) -> Self {
        match self {
            Self::Distance(comparison, span, anchor) => {
                Self::Distance(*comparison, *span, anchor.bind(operands))
            }
            Self::Before(anchor) => Self::Before(anchor.bind(operands)),
            Self::After(anchor) => Self::After(anchor.bind(operands)),
            Self::On(anchor) => Self::On(anchor.bind(operands)),
            Self::Between(first, last) => Self::Between(first.bind(operands), last.bind(operands)),
        }
    }

    /// Whether the clock matters.
    pub(super) fn moves(&self) -> bool {
        self.anchors().any(Instant::moves)
    }

    /// Whether the time zone matters.
    pub(super) fn is_calendar(&self) -> bool {
        let calendar = |unit: Unit| fixed_length(unit).is_none();
        let counted = match self {
            Self::Distance(_, span, _) => calendar(span.unit),
            Self::On(_) => true,
            _ => false,
        };
        counted || self.anchors().any(Instant::is_calendar)
    }

    fn anchors(&self) -> impl Iterator<Item = &Instant> {
        let (first, second) = match self {
            Self::Distance(_, _, anchor)
            | Self::Before(anchor)
            | Self::After(anchor)
            | Self::On(anchor) => (anchor, None),
            Self::Between(first, last) => (first, Some(last)),
        };
        std::iter::once(first).chain(second)
    }

    /// The distances `now - ts`, in ms, both included, at which the window holds, if it depends on
    /// nothing else: `< 7 days before now` and its like.
    pub(super) fn ages(&self) -> Option<(i64, i64)> {
        let Self::Distance(comparison, span, Instant::Now) = self else { return None };
        if span.direction != Direction::Before {
            return None;
        }
        let length = fixed_length(span.unit)?;
        let at = span.count.saturating_mul(length);
        match comparison {
            Comparison::Less => Some((0, at.saturating_sub(1))),
            Comparison::AtMost => Some((0, at)),
            Comparison::Equal => Some((at, at.saturating_add(length - 1))),
            Comparison::AtLeast => Some((at, i64::MAX)),
            Comparison::Greater => Some((at.saturating_add(1), i64::MAX)),
            Comparison::NotEqual => None,
        }
    }
}

/// `ts occurs <comparison> <span> <anchor>`
fn distance(
    ts: Timestamp,
    (comparison, span): (Comparison, Span),
    anchor: &Instant,
    now: Now<'_>,
) -> Truth {
    let mirrored = |direction| (comparison, Span { direction, ..span });
    match span.direction {
        Direction::Before => {
            let compared = compare(comparison, |extra| {
                let count = span.count.saturating_add(extra);
                let reached = shifted(ts, count, span.unit, now.zone);
                // (the anchor is at least that far from ts, it is further)
                (anchor.is_from(reached, now), anchor.is_after(reached, now))
            });
            anchor.is_from(ts, now).and(compared)
        }
        Direction::After => {
            let compared = compare(comparison, |extra| {
                let count = span.count.saturating_add(extra);
                let reached = Instant::Shifted(count, span.unit, Box::new(anchor.clone()));
                (reached.is_after(ts, now).not(), reached.is_from(ts, now).not())
            });
            anchor.is_after(ts, now).not().and(compared)
        }
        Direction::From => {
            let before = distance(ts, mirrored(Direction::Before), anchor, now);
            let after = distance(ts, mirrored(Direction::After), anchor, now);
            before.or(after)
        }
    }
}

/// `reached(0)` says whether the distance is at least, and more than, the counted one; `reached(1)`
/// the same of one unit more.
fn compare(comparison: Comparison, reached: impl Fn(i64) -> (Truth, Truth)) -> Truth {
    let (at_least, further) = reached(0);
    match comparison {
        Comparison::Less => at_least.not(),
        Comparison::AtMost => further.not(),
        Comparison::Greater => further,
        Comparison::AtLeast => at_least,
        Comparison::Equal => at_least.and(reached(1).0.not()),
        Comparison::NotEqual => at_least.and(reached(1).0.not()).not(),
    }
}

/// How an instant goes on from here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Motion {
    Still,
    WithClock,
}

impl Instant {
    /// Whether this is at or after `c`.
    fn is_from(&self, c: Timestamp, now: Now<'_>) -> Truth {
        let value = self.value(now);
        let turns = if value < c { c } else { Timestamp::MAX };
        Truth { holds: value >= c, changes_at: self.next_change(value, c, turns, now) }
    }

    /// Whether this is after `c`.
    fn is_after(&self, c: Timestamp, now: Now<'_>) -> Truth {
        match c.as_millis().checked_add(1) {
            Some(next) => self.is_from(Timestamp::from_millis(next), now),
            None => Truth::always(false),
        }
    }

    /// When `value >= c` may turn. `turns` is the value at which it does while running with the
    /// clock, `MAX` if it never does.
    fn next_change(
        &self,
        value: Timestamp,
        c: Timestamp,
        turns: Timestamp,
        now: Now<'_>,
    ) -> Timestamp {
        if !self.moves() || c == Timestamp::MIN || c == Timestamp::MAX {
            return Timestamp::MAX;
        }
        if value >= c && self.only_rises(now) {
            return Timestamp::MAX;
        }
        let (least, most) = self.drift();
        if now.at.plus_millis(least) >= c {
            return Timestamp::MAX;
        }
        let (motion, breakpoint) = self.breakpoint(now);
        let run = match motion {
            Motion::WithClock if turns != Timestamp::MAX => {
                now.at.plus_millis(turns.as_millis().saturating_sub(value.as_millis()))
            }
            _ => Timestamp::MAX,
        };
        let next = breakpoint.min(run);
        // Below `c`, nothing happens before the clock comes near enough.
        if value < c { next.max(c.plus_millis(most.saturating_neg())) } else { next }
    }

    /// The instant when the clock stands at `now`.
    pub(super) fn value(&self, now: Now<'_>) -> Timestamp {
        match self {
            Self::Fixed(at) => *at,
            Self::Operand(_) => Timestamp::MAX,
            Self::Now => now.at,
            Self::Start(unit, offset) => period_start(now.at, *unit, *offset, now.zone),
            Self::Shifted(count, unit, from) => shifted(from.value(now), *count, *unit, now.zone),
        }
    }

    fn bind(&self, operands: &[Timestamp]) -> Self {
        match self {
            Self::Operand(index) => Self::Fixed(operands[*index]),
            Self::Shifted(count, unit, from) => {
                Self::Shifted(*count, *unit, Box::new(from.bind(operands)))
            }
            other => other.clone(),
        }
    }

    /// Whether the clock matters.
    pub(super) fn moves(&self) -> bool {
        match self {
            Self::Fixed(_) | Self::Operand(_) => false,
            Self::Now | Self::Start(..) => true,
            Self::Shifted(_, _, from) => from.moves(),
        }
    }

    fn is_calendar(&self) -> bool {
        match self {
            Self::Fixed(_) | Self::Operand(_) | Self::Now => false,
            Self::Start(..) => true,
            Self::Shifted(_, unit, from) => fixed_length(*unit).is_none() || from.is_calendar(),
        }
    }

    /// Whether it stays at or after its present value, whatever the clock does.
    ///
    /// A period's start goes back only where a change of offset takes local time back over it, which
    /// is within a day of it.
    fn only_rises(&self, now: Now<'_>) -> bool {
        match self {
            Self::Fixed(_) | Self::Operand(_) | Self::Now => true,
            Self::Start(unit, _) => {
                let safe = period_start(now.at, *unit, 0, now.zone).plus_millis(2 * DAY_MS);
                now.at > safe || next_transition(now.at, now.zone) > safe
            }
            Self::Shifted(_, unit, from) => fixed_length(*unit).is_some() && from.only_rises(now),
        }
    }

    /// The least and the most, in ms, by which it can ever differ from the clock.
    fn drift(&self) -> (i64, i64) {
        // Three days cover time zones, their changes, and the days that months differ by from 30.4
        // on their first; each month is 28 to 31 days.
        const SLACK: i64 = 3 * DAY_MS;
        let lengths = |count: i64, unit: Unit| {
            let (short, long) = match unit {
                Unit::Month => (28 * DAY_MS, 31 * DAY_MS),
                Unit::Year => (365 * DAY_MS, 366 * DAY_MS),
                fixed => {
                    (fixed_length(fixed).unwrap_or(DAY_MS), fixed_length(fixed).unwrap_or(DAY_MS))
                }
            };
            let (one, other) = (count.saturating_mul(short), count.saturating_mul(long));
            (one.min(other), one.max(other))
        };
        match self {
            Self::Fixed(_) | Self::Operand(_) => (i64::MIN, i64::MAX),
            Self::Now => (0, 0),
            Self::Start(unit, offset) => {
                let (least, most) = lengths(*offset, *unit);
                let (_, whole) = lengths(1, *unit);
                // A period has begun when the clock is in it, and hours are only cut off.
                let exact = *offset == 0 || fixed_length(*unit).is_some_and(|ms| ms < DAY_MS);
                let slack = if exact { 0 } else { SLACK };
                (least.saturating_sub(whole).saturating_sub(SLACK), most.saturating_add(slack))
            }
            Self::Shifted(count, unit, from) => {
                let (least, most) = from.drift();
                let (short, long) = lengths(*count, *unit);
                let slack = if fixed_length(*unit).is_some() { 0 } else { SLACK };
                (
                    least.saturating_add(short).saturating_sub(slack),
                    most.saturating_add(long).saturating_add(slack),
                )
            }
        }
    }

    /// How it goes on, and the next instant at which it may go on differently.
    fn breakpoint(&self, now: Now<'_>) -> (Motion, Timestamp) {
        match self {
            Self::Fixed(_) | Self::Operand(_) => (Motion::Still, Timestamp::MAX),
            Self::Now => (Motion::WithClock, Timestamp::MAX),
            Self::Start(unit, _) => {
                let end = period_start(now.at, *unit, 1, now.zone);
                (Motion::Still, end.min(next_transition(now.at, now.zone)))
            }
            Self::Shifted(_, unit, from) => {
                let (motion, breakpoint) = from.breakpoint(now);
                if fixed_length(*unit).is_some() || motion == Motion::Still {
                    return (motion, breakpoint);
                }
                (motion, breakpoint.min(self.next_month_step(from, now)))
            }
        }
    }

    /// Months from a running instant: it runs with the clock within a local day, as long as neither
    /// end is near a change of daylight saving.
    fn next_month_step(&self, from: &Self, now: Now<'_>) -> Timestamp {
        const MINUTE_MS: i64 = 60_000;
        let base = from.value(now);
        if !is_steady(base, now.zone) || !is_steady(self.value(now), now.zone) {
            let into = now.at.as_millis().rem_euclid(MINUTE_MS);
            return now.at.plus_millis(MINUTE_MS - into);
        }
        let midnight = period_start(base, Unit::Day, 1, now.zone);
        now.at.plus_millis(midnight.as_millis().saturating_sub(base.as_millis()).max(1))
    }
}
