//! The part of the grammar that stands after `occurs` and in `WHEN(…)`.

use jiff::civil::Date;

use super::ast::{CalendarDay, Comparison, Direction, Span, TimeExpr, Unit, WhenExpr};
use super::error::PqlError;
use super::lexer::TokenKind;
use super::parser::Parser;

const TIME: &str = "a time such as `now`, `today`, `last week`, `7 days before now`, \
                    `date(2020, 1, 31)` or a path";

impl Parser<'_> {
    pub(super) fn when(&mut self) -> Result<WhenExpr, PqlError> {
        if let Some(comparison) = self.take_comparison() {
            let span = self.span_of_time()?;
            return Ok(WhenExpr::Distance(comparison, span, self.time()?));
        }
        if matches!(self.peek().kind, TokenKind::Number(_)) {
            let span = self.span_of_time()?;
            return Ok(WhenExpr::Distance(Comparison::Equal, span, self.time()?));
        }
        if self.take_word("before") {
            return Ok(WhenExpr::Before(self.time()?));
        }
        if self.take_word("after") {
            return Ok(WhenExpr::After(self.time()?));
        }
        if self.take_word("between") {
            let first = self.time()?;
            self.expect_word("and")?;
            return Ok(WhenExpr::Between(first, self.time()?));
        }
        self.take_word("on");
        Ok(WhenExpr::On(self.time()?))
    }

    /// `7 days before`
    fn span_of_time(&mut self) -> Result<Span, PqlError> {
        let count = self.whole_number("a number of units")?;
        let unit = self.unit()?;
        let direction = if self.take_word("before") {
            Direction::Before
        } else if self.take_word("after") {
            Direction::After
        } else if self.take_word("from") {
            Direction::From
        } else {
            return Err(self.unexpected("`before`, `after` or `from`"));
        };
        Ok(Span { count, unit, direction })
    }

    fn unit(&mut self) -> Result<Unit, PqlError> {
        let found = Unit::ALL
            .iter()
            .find(|(word, _)| self.at_word(word) || self.at_word(&format!("{word}s")));
        let Some((word, unit)) = found else {
            let expected = "a unit (milliseconds, seconds, minutes, hours, days, weeks, months, \
                            years)";
            return Err(self.unexpected(expected));
        };
        if !self.take_word(word) {
            self.expect_word(&format!("{word}s"))?;
        }
        Ok(*unit)
    }

    fn time(&mut self) -> Result<TimeExpr, PqlError> {
        if self.take_word("now") {
            return Ok(TimeExpr::Now);
        }
        for (word, offset) in [("today", 0), ("yesterday", -1), ("tomorrow", 1)] {
            if self.take_word(word) {
                return Ok(TimeExpr::Period(Unit::Day, offset));
            }
        }
        for (word, offset) in [("this", 0), ("last", -1), ("next", 1)] {
            if self.take_word(word) {
                return Ok(TimeExpr::Period(self.unit()?, offset));
            }
        }
        if matches!(self.peek().kind, TokenKind::Number(_)) {
            let span = self.span_of_time()?;
            let from = self.nested(Self::time)?;
            return Ok(TimeExpr::Shifted(span, Box::new(from)));
        }
        if !matches!(self.peek().kind, TokenKind::Word { .. }) {
            return Err(self.unexpected(TIME));
        }
        let path = self.nested(Self::postfix)?;
        match path.kind {
            super::ast::ExprKind::Date(day) => Ok(TimeExpr::Date(day)),
            _ => Ok(TimeExpr::Path(path)),
        }
    }

    /// The parenthesis after `date`.
    pub(super) fn date_arguments(&mut self) -> Result<CalendarDay, PqlError> {
        self.expect_sign("(")?;
        let start = self.peek().span.start;
        let year = self.whole_number("a year")?;
        self.expect_sign(",")?;
        let month = self.whole_number("a month")?;
        self.expect_sign(",")?;
        let day = self.whole_number("a day")?;
        let span = start..self.end_of_last();
        self.expect_sign(")")?;
        let found = CalendarDay {
            year: i16::try_from(year).unwrap_or(i16::MAX),
            month: i8::try_from(month).unwrap_or(i8::MAX),
            day: i8::try_from(day).unwrap_or(i8::MAX),
        };
        if Date::new(found.year, found.month, found.day).is_err() {
            let message = format!("there is no day {year}-{month}-{day}");
            let help = "`date` takes year, month and day, such as `date(2020, 1, 31)`";
            return Err(PqlError::new(span, message).help(help));
        }
        Ok(found)
    }
}
