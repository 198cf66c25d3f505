//! `[[dataflow]]`: which audiences and attributes go to which destination.

use super::destination::Destination;
use super::identifier::Identifiers;
use super::table::{Located, Table};
use crate::definitions::{Dataflow, Memberships, SameValueWrites, Triggers};
use crate::deliver::settings::{DataflowSettings, Sending, Waiting};

/// Audiences that one dataflow should not exceed, as Experience Platform's guardrails have it.
const AUDIENCES_ADVISED: usize = 250;
/// Attributes that one dataflow should not exceed, as Experience Platform's guardrails have it.
const ATTRIBUTES_ADVISED: usize = 50;

/// Parts of a payload that are there without being mapped, and are no attributes.
const ALWAYS_EXPORTED: &[&str] = &["identityMap", "segmentMembership"];

const SAME_VALUE_WRITES: &[(&str, SameValueWrites)] =
    &[("export", SameValueWrites::Export), ("ignore", SameValueWrites::Ignore)];

const MEMBERSHIPS: &[(&str, Memberships)] =
    &[("all", Memberships::All), ("mapped", Memberships::Mapped)];

const BACKLOGS: &[(&str, Waiting)] = &[("all", Waiting::All), ("latest", Waiting::Latest)];

const SEGMENT: Triggers = Triggers { segment: true, attribute: false, identity: false };
const ATTRIBUTE: Triggers = Triggers { segment: false, attribute: true, identity: false };
const IDENTITY: Triggers = Triggers { segment: false, attribute: false, identity: true };

const TRIGGERS: &[(&str, Triggers)] =
    &[("segment", SEGMENT), ("attribute", ATTRIBUTE), ("identity", IDENTITY)];

/// What dataflows may refer to.
pub(super) struct Referable<'a> {
    /// Ids of audiences.
    pub(super) audiences: &'a Identifiers,
    /// Ids of destinations.
    pub(super) destination_ids: &'a Identifiers,
    /// The destinations without fault.
    pub(super) destinations: &'a [Destination],
}

/// Reads all dataflows: the part that is history, and the part that is delivery's.
pub(super) fn dataflows(
    top: &mut Table<'_>,
    referable: &Referable<'_>,
) -> Vec<(Dataflow, DataflowSettings)> {
    let mut ids = Identifiers::of("dataflow");
    let mut dataflows = Vec::new();
    for mut table in top.tables("dataflow", "`[[dataflow]]`") {
        let id = ids.define(&mut table).map_or_else(String::new, |id| id.value);
        let destination = table.required("destination", Table::text);
        let destination =
            destination.filter(|id| referable.destination_ids.check(id, table.report()));
        let destination = destination.map_or_else(String::new, |id| id.value);
        let dataflow = history(&mut table, (id.clone(), destination.clone()), referable);
        let settings = delivery(&mut table, DataflowSettings::new(id, destination));
        dataflows.push((dataflow, settings));
        table.finish();
    }
    dataflows
}

fn history(
    table: &mut Table<'_>,
    (id, destination): (String, String),
    referable: &Referable<'_>,
) -> Dataflow {
    let is_destination = |d: &&Destination| d.settings.id == destination;
    let found = referable.destinations.iter().find(is_destination);
    let include_segment_names = found.is_some_and(|d| d.include_segment_names);
    let include_segment_timestamps = found.is_some_and(|d| d.include_segment_timestamps);
    Dataflow {
        audiences: audiences(table, referable.audiences),
        attributes: attributes(table),
        triggers: triggers(table),
        same_value_writes: table
            .choice("same_value_writes", SAME_VALUE_WRITES)
            .unwrap_or(SameValueWrites::Export),
        memberships: table.choice("memberships", MEMBERSHIPS).unwrap_or(Memberships::All),
        include_segment_names,
        include_segment_timestamps,
        id,
        destination,
    }
}

fn delivery(table: &mut Table<'_>, mut settings: DataflowSettings) -> DataflowSettings {
    if table.flag("paused").unwrap_or(false) {
        settings.sending = Sending::Paused;
    }
    settings.waiting = table.choice("backlog", BACKLOGS).unwrap_or(Waiting::All);
    settings
}

fn audiences(table: &mut Table<'_>, ids: &Identifiers) -> Vec<String> {
    let listed = table.required("audiences", Table::distinct_texts);
    let Some(listed) = listed else { return Vec::new() };
    let known = listed.iter().filter(|id| ids.check(id, table.report()));
    let known: Vec<String> = known.map(|id| id.value.clone()).collect();
    if listed.is_empty() {
        warn(table, "audiences", "no audience is mapped, so nothing is ever exported");
    }
    if listed.len() > AUDIENCES_ADVISED {
        let message = format!(
            "{} audiences are mapped, more than the {AUDIENCES_ADVISED} advised",
            listed.len()
        );
        warn(table, "audiences", &message);
    }
    known
}

fn attributes(table: &mut Table<'_>) -> Vec<String> {
    let listed = table.distinct_texts("attributes").unwrap_or_default();
    let mapped: Vec<String> = listed.iter().filter_map(|path| attribute(table, path)).collect();
    if mapped.is_empty() {
        let message = "no attribute is mapped, so payloads have identities and memberships only";
        warn(table, "attributes", message);
    }
    if listed.len() > ATTRIBUTES_ADVISED {
        let message = format!(
            "{} attributes are mapped, more than the {ATTRIBUTES_ADVISED} advised",
            listed.len()
        );
        warn(table, "attributes", &message);
    }
    mapped
}

/// The path, if it can be mapped.
fn attribute(table: &Table<'_>, path: &Located<String>) -> Option<String> {
    if path.value.split('.').any(str::is_empty) {
        let help = Some("write keys with dots between them, as in `person.name`".to_owned());
        let message = format!("`{}` is no attribute path", path.value);
        table.report().error_with_help(&path.place, message, help);
        return None;
    }
    let top = path.value.split('.').next().unwrap_or_default();
    if ALWAYS_EXPORTED.contains(&top) {
        let message =
            format!("`{top}` is no attribute and need not be mapped: every payload has it");
        table.report().warn(&path.place, message, None);
        return None;
    }
    Some(path.value.clone())
}

fn triggers(table: &mut Table<'_>) -> Triggers {
    let Some(listed) = table.choices("triggers", TRIGGERS) else { return Triggers::ALL };
    Triggers {
        segment: listed.contains(&SEGMENT),
        attribute: listed.contains(&ATTRIBUTE),
        identity: listed.contains(&IDENTITY),
    }
}

/// Warns at a key, or at the table if it has no such key.
fn warn(table: &Table<'_>, key: &str, message: &str) {
    let place = table.key_place(key).unwrap_or_else(|| table.place.clone());
    table.report().warn(&place, message, None);
}
