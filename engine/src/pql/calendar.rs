//! Days, months and years of a time zone, as instants.
//!
//! Everything here is exact to the millisecond, daylight saving included, and total: past the years
//! that the calendar knows, instants are clamped.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};

use crate::clock::Timestamp;

use super::ast::{CalendarDay, DatePart, Unit};

/// Milliseconds of a day of fixed length.
pub(super) const DAY_MS: i64 = 86_400_000;

/// More months than the calendar has.
const MONTHS_MAX: i64 = 12 * 19_998;

/// The length of a unit that has a fixed one; months and years have none.
pub(super) const fn fixed_length(unit: Unit) -> Option<i64> {
    match unit {
        Unit::Millisecond => Some(1),
        Unit::Second => Some(1_000),
        Unit::Minute => Some(60_000),
        Unit::Hour => Some(3_600_000),
        Unit::Day => Some(DAY_MS),
        Unit::Week => Some(7 * DAY_MS),
        Unit::Month | Unit::Year => None,
    }
}

/// How many months a unit of variable length has.
const fn months_of(unit: Unit) -> i64 {
    if matches!(unit, Unit::Year) { 12 } else { 1 }
}

/// The local date and time of an instant.
fn local(at: Timestamp, zone: &TimeZone) -> DateTime {
    zone.to_datetime(at.to_jiff())
}

/// The instant of a local date and time: the first of two, and past a gap as far as it was in it.
fn instant(local: DateTime, zone: &TimeZone) -> Timestamp {
    match zone.to_ambiguous_timestamp(local).compatible() {
        Ok(at) => Timestamp::from_millis(at.as_millisecond()),
        Err(_) if local.year() < 0 => Timestamp::MIN,
        Err(_) => Timestamp::MAX,
    }
}

/// Midnight at which `date` begins, or the first instant after a gap over midnight.
fn start_of_date(date: Date, zone: &TimeZone) -> Timestamp {
    instant(date.to_datetime(jiff::civil::Time::midnight()), zone)
}

/// The beginning of a day.
pub(super) fn start_of(day: CalendarDay, zone: &TimeZone) -> Timestamp {
    match Date::new(day.year, day.month, day.day) {
        Ok(date) => start_of_date(date, zone),
        Err(_) => Timestamp::MAX,
    }
}

/// The instant `count` units later (earlier if negative); months and years by the calendar, the day
/// clamped to the month's length.
pub(super) fn shifted(at: Timestamp, count: i64, unit: Unit, zone: &TimeZone) -> Timestamp {
    if let Some(length) = fixed_length(unit) {
        return at.plus_millis(count.saturating_mul(length));
    }
    let months = count.saturating_mul(months_of(unit)).clamp(-MONTHS_MAX, MONTHS_MAX);
    if months == 0 {
        return at;
    }
    match local(at, zone).checked_add(Span::new().months(months)) {
        Ok(local) => instant(local, zone),
        Err(_) if months < 0 => Timestamp::MIN,
        Err(_) => Timestamp::MAX,
    }
}

/// The beginning of the period `offset` units after the one that contains `at`.
///
/// Hours and shorter are cut off in local time, without looking at the calendar.
pub(super) fn period_start(at: Timestamp, unit: Unit, offset: i64, zone: &TimeZone) -> Timestamp {
    if matches!(unit, Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour) {
        let length = fixed_length(unit).unwrap_or(1);
        let shift = i64::from(zone.to_offset(at.to_jiff()).seconds()) * 1_000;
        let into = (at.as_millis().saturating_add(shift)).rem_euclid(length);
        return at.plus_millis(-into).plus_millis(offset.saturating_mul(length));
    }
    let date = local(at, zone).date();
    let offset = offset.clamp(-MONTHS_MAX, MONTHS_MAX);
    let moved = match unit {
        Unit::Week => {
            let into = i64::from(date.weekday().to_sunday_zero_offset());
            date.checked_add((offset * 7 - into).days())
        }
        Unit::Month => date.first_of_month().checked_add(offset.months()),
        Unit::Year => date.first_of_year().checked_add(offset.clamp(-19_998, 19_998).years()),
        _ => date.checked_add(offset.days()),
    };
    match moved {
        Ok(date) => start_of_date(date, zone),
        Err(_) if offset < 0 => Timestamp::MIN,
        Err(_) => Timestamp::MAX,
    }
}

/// A part of the local date of `at`.
pub(super) fn part_of(at: Timestamp, part: DatePart, zone: &TimeZone) -> i16 {
    let date = local(at, zone).date();
    match part {
        DatePart::Year => date.year(),
        DatePart::Month => i16::from(date.month()),
        DatePart::DayOfMonth => i16::from(date.day()),
    }
}

/// The next instant after `at` at which the offset from UTC changes.
pub(super) fn next_transition(at: Timestamp, zone: &TimeZone) -> Timestamp {
    let next = zone.following(at.to_jiff()).next();
    next.map_or(Timestamp::MAX, |next| {
        let at = next.timestamp().as_nanosecond().div_euclid(1_000_000);
        Timestamp::from_millis(i64::try_from(at).unwrap_or(i64::MAX))
    })
}

/// Whether the offset from UTC is the same for two days before and after `at`, so that local time
/// there has neither gaps nor repetitions. No change of offset moves a clock by more than a day.
pub(super) fn is_steady(at: Timestamp, zone: &TimeZone) -> bool {
    let from = at.plus_millis(-2 * DAY_MS);
    next_transition(from, zone) > at.plus_millis(2 * DAY_MS)
}

/// What a string says as a date or a time: RFC 3339, or `YYYY-MM-DD` for that day's midnight.
pub(super) fn read(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if text.len() == 10 {
        let bytes = text.as_bytes();
        let is_date = bytes[4] == b'-' && bytes[7] == b'-';
        return text.parse::<Date>().ok().filter(|_| is_date).map(|d| start_of_date(d, zone));
    }
    Timestamp::parse(text)
}
