//! The keys at the top of the file.

use std::time::Duration;

use super::quantity::DURATION_MAX;
use super::table::Table;
use crate::clock::ClockKind;
use crate::definitions;

/// How long delivered exports are remembered, where the configuration is silent.
const DEFAULT_EXPORT_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Tables whose names are taken for what is not built yet.
const RESERVED: &[&str] = &["alert", "access_token", "http"];

const CLOCKS: &[(&str, ClockKind)] = &[("wall", ClockKind::Wall), ("event", ClockKind::Event)];

/// What the top of the file says.
#[derive(Clone, Debug)]
pub(super) struct TopSettings {
    pub(super) clock: ClockKind,
    pub(super) history: definitions::Settings,
    pub(super) state_memory: Option<u64>,
    pub(super) export_retention: Duration,
}

/// Reads the top of the file.
pub(super) fn settings(top: &mut Table<'_>) -> TopSettings {
    refuse_reserved(top);
    let clock = top.choice("clock", CLOCKS).unwrap_or_default();
    let mut history = definitions::Settings::default();
    if let Some(zone) = time_zone(top) {
        history.time_zone = zone;
    }
    if let Some(retention) = top.duration("exited_retention", Duration::ZERO..=DURATION_MAX) {
        history.exited_retention_ms = millis(retention);
    }
    if let Some(window) = top.duration("dedupe_window", Duration::ZERO..=DURATION_MAX) {
        history.dedupe_window_ms = millis(window);
    }
    let jump = top.duration("max_clock_jump", Duration::from_millis(1)..=DURATION_MAX);
    history.max_clock_jump_ms = jump.map(millis);
    if let (ClockKind::Wall, Some(place)) = (clock, top.key_place("max_clock_jump")) {
        let help = Some("it is for `clock = \"event\"`".to_owned());
        top.report().warn(&place, "`max_clock_jump` does nothing under the wall clock", help);
    }
    let state_memory = top.size("state_memory");
    let retention = top.duration("export_retention", Duration::ZERO..=DURATION_MAX);
    let export_retention = retention.unwrap_or(DEFAULT_EXPORT_RETENTION);
    TopSettings { clock, history, state_memory, export_retention }
}

fn refuse_reserved(top: &mut Table<'_>) {
    for key in RESERVED {
        if let (Some(place), Some(_)) = (top.key_place(key), top.get(key)) {
            let help = Some("leave it out; the name is kept for later".to_owned());
            top.report().error_with_help(&place, format!("`{key}` is not built yet"), help);
        }
    }
}

fn time_zone(top: &mut Table<'_>) -> Option<String> {
    let text = top.text("time_zone")?;
    // An unknown zone would make every date in a rule wrong, so the name must be one.
    if let Ok(zone) = jiff::tz::TimeZone::get(&text.value) {
        return Some(zone.iana_name().unwrap_or(&text.value).to_owned());
    }
    let help = Some("write its IANA name, as in `Europe/Paris`".to_owned());
    let message = format!("there is no time zone `{}`", text.value);
    top.report().error_with_help(&text.place, message, help);
    None
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
