//! What stands after `occurs` and in `WHEN(…)`, to a window and the operands that it needs.

use super::ast::{Direction, TimeExpr, WhenExpr};
use super::calendar;
use super::compile::Compiler;
use super::error::PqlError;
use super::op::Op;
use super::window::{Instant, When};

impl Compiler<'_> {
    /// A window, and its anchors that are paths.
    pub(super) fn when(&mut self, when: &WhenExpr) -> Result<(When, Vec<Op>), PqlError> {
        let mut anchors = Vec::new();
        let mut instant = |time: &TimeExpr| self.instant(time, &mut anchors);
        let when = match when {
            WhenExpr::Distance(how, span, time) => When::Distance(*how, *span, instant(time)?),
            WhenExpr::Before(time) => When::Before(instant(time)?),
            WhenExpr::After(time) => When::After(instant(time)?),
            WhenExpr::On(time) => When::On(instant(time)?),
            WhenExpr::Between(first, last) => When::Between(instant(first)?, instant(last)?),
        };
        Ok((when, anchors))
    }

    fn instant(&mut self, time: &TimeExpr, anchors: &mut Vec<Op>) -> Result<Instant, PqlError> {
        Ok(match time {
            TimeExpr::Now => Instant::Now,
            TimeExpr::Period(unit, offset) => Instant::Start(*unit, *offset),
            TimeExpr::Date(day) => Instant::Fixed(calendar::start_of(*day, self.zone())),
            TimeExpr::Shifted(span, from) => {
                let backwards = span.direction == Direction::Before;
                let count = if backwards { -span.count } else { span.count };
                Instant::Shifted(count, span.unit, Box::new(self.instant(from, anchors)?))
            }
            TimeExpr::Path(path) => {
                let anchor = self.datable(path)?;
                anchors.push(anchor);
                Instant::Operand(anchors.len() - 1)
            }
        })
    }
}
