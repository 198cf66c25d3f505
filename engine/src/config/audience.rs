//! `[[audience]]`: a rule, or a list that is uploaded.

use std::time::Duration;

use super::identifier::Identifiers;
use super::merge_policy::MergePolicies;
use super::quantity::DURATION_MAX;
use super::source::Place;
use super::table::{Located, Table};
use crate::definitions::{Audience, AudienceKind};

/// How long an uploaded membership lasts without refresh, where the configuration is silent.
const DEFAULT_TTL: Duration = Duration::from_hours(30 * 24);

/// An audience that was read, with what later checks need.
#[derive(Clone, Debug)]
pub(super) struct AudienceDraft {
    /// As far as it could be read.
    pub(super) audience: Audience,
    /// Where its id stands, or the table where it has none.
    pub(super) place: Place,
    /// The rule's text, where it is a rule that has one.
    pub(super) rule: Option<Located<String>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Rule,
    Upload,
}

const KINDS: &[(&str, Kind)] = &[("rule", Kind::Rule), ("upload", Kind::Upload)];

/// Reads the audiences of the configuration itself.
pub(super) fn audiences(
    top: &mut Table<'_>,
    ids: &mut Identifiers,
    policies: &MergePolicies,
) -> Vec<AudienceDraft> {
    let mut audiences = Vec::new();
    for mut table in top.tables("audience", "`[[audience]]`") {
        let id = ids.define(&mut table);
        let place = id.as_ref().map_or_else(|| table.place.clone(), |id| id.place.clone());
        let id = id.map_or_else(String::new, |id| id.value);
        let name = table.text("name").map_or_else(|| id.clone(), |name| name.value);
        let description = table.text("description").map_or_else(String::new, |text| text.value);
        let merge_policy = match table.text("merge_policy") {
            Some(policy) if policies.ids.check(&policy, table.report()) => policy.value,
            _ => policies.default_id(),
        };
        let (kind, rule) = kind(&mut table);
        let audience = Audience { id, name, description, merge_policy, kind };
        audiences.push(AudienceDraft { audience, place, rule });
        table.finish();
    }
    audiences
}

fn kind(table: &mut Table<'_>) -> (AudienceKind, Option<Located<String>>) {
    let ttl =
        |table: &mut Table<'_>, key| table.duration(key, Duration::from_millis(1)..=DURATION_MAX);
    match table.choice("type", KINDS) {
        Some(Kind::Upload) => {
            let ttl = ttl(table, "ttl").unwrap_or(DEFAULT_TTL);
            belongs_to(table, "pql", "a rule");
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            (AudienceKind::Upload { ttl_ms }, None)
        }
        None if table.has("type") => {
            // Neither key is unknown, whatever the type was meant to be.
            let rule = table.text("pql");
            ttl(table, "ttl");
            (AudienceKind::Rule { pql: String::new() }, rule)
        }
        Some(Kind::Rule) | None => {
            let rule = table.required("pql", Table::text);
            belongs_to(table, "ttl", "an upload");
            let pql = rule.as_ref().map_or_else(String::new, |rule| rule.value.clone());
            (AudienceKind::Rule { pql }, rule)
        }
    }
}

/// Reports a key that the other type of audience has.
fn belongs_to(table: &mut Table<'_>, key: &'static str, owner: &str) {
    if let (Some(place), Some(_)) = (table.key_place(key), table.get(key)) {
        let help = Some("an audience is a rule unless it says `type = \"upload\"`".to_owned());
        let message = format!("`{key}` belongs to {owner}");
        table.report().error_with_help(&place, message, help);
    }
}
