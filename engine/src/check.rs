//! `forebay check`: a configuration with its rules understood, and what each of them will cost.
//!
//! The configuration does not know the audience language and the language does not know files; here
//! they meet. Whoever starts an engine loads its configuration through [`load`], so that what `check`
//! accepts is exactly what `run` starts with.

use std::path::Path;

use jiff::tz::TimeZone;

use crate::config::{Config, Diagnostics, KindOf, PqlFacts, PqlFault};
use crate::definitions::{Audience, AudienceKind, Definitions};
use crate::pql::{CompileContext, QuerySet, Rule, SegmentKind};
use crate::profile::path::PathTable;
use crate::project::plan::segment_kind;

/// Loads the configuration at `path` and compiles every rule. `environment` looks variables up. The
/// error holds every fault that one run can find.
pub fn load(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Diagnostics> {
    Config::load_with(path, &environment, &check_rule)
}

/// Each audience with the lines of its [`plan`].
pub fn plans(config: &Config) -> Vec<(String, Vec<String>)> {
    let definitions = &config.definitions;
    let audiences = definitions.audiences.iter();
    audiences.map(|audience| (audience.id.clone(), plan(definitions, audience))).collect()
}

/// Lines that say what an audience's rule reads, asks of events, and waits for.
pub fn plan(definitions: &Definitions, audience: &Audience) -> Vec<String> {
    let pql = match &audience.kind {
        AudienceKind::Rule { pql } => pql,
        AudienceKind::Upload { ttl_ms } => {
            let ttl = days(*ttl_ms);
            return vec![format!("an uploaded list; a member without refresh leaves after {ttl}")];
        }
    };
    let zone = TimeZone::get(&definitions.settings.time_zone).unwrap_or(TimeZone::UTC);
    let (mut queries, mut paths) = (QuerySet::new(), PathTable::default());
    let segment = |id: &str| segment_kind(definitions, &audience.merge_policy, id);
    let context = CompileContext { zone: &zone, segment: &segment };
    match Rule::compile(pql, &mut queries, &mut paths, &context) {
        Ok(rule) => rule.describe(&queries, &paths),
        Err(error) => vec![error.to_string()],
    }
}

/// What the configuration asks of the language: does the rule compile, and which audiences does it
/// name? Whether those exist is the configuration's question, so an unknown one passes here.
fn check_rule(text: &str, kind_of: &KindOf<'_>) -> Result<PqlFacts, PqlFault> {
    let segment = |id: &str| {
        Some(match kind_of(id) {
            Some(AudienceKind::Upload { .. }) => SegmentKind::Upload,
            Some(AudienceKind::Rule { .. }) | None => SegmentKind::Rule,
        })
    };
    let context = CompileContext { zone: &TimeZone::UTC, segment: &segment };
    let rule = Rule::compile(text, &mut QuerySet::new(), &mut PathTable::default(), &context)
        .map_err(|error| PqlFault { span: error.span, message: error.message, help: error.help })?;
    let reads = rule.reads();
    let named = reads.segments.iter();
    Ok(PqlFacts {
        segments: named.map(|s| (s.id.clone(), s.span.clone())).collect(),
        chain_steps: reads.chain_steps,
    })
}

fn days(ms: u64) -> String {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    if ms.is_multiple_of(DAY_MS) { format!("{} days", ms / DAY_MS) } else { format!("{ms} ms") }
}
