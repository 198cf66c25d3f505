//! Backtests: who would have entered and left an audience, had its rule been there from the beginning
//! (`SPEC.md` §10).
//!
//! The log is derived in a projection that knows the definitions now in effect, as far as the rule needs
//! them, and the rule as one audience more; all of them see all history as if they had always been there.
//! Two dataflows that deliver nowhere listen: one hears each change of status, the other what a mapping
//! would have requested. So what counts as a change, and as a request, is decided where it always is.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::super::Progress;
use super::super::open::history_through;
use super::History;
use super::buckets::{By, edges};
use super::course::{Course, FLIPS, REQUESTS};
use crate::clock::Timestamp;
use crate::config::{PqlFault, fault_in};
use crate::definitions::{
    Audience, AudienceKind, Dataflow, Definitions, Memberships, MergePolicy, SameValueWrites,
    Triggers,
};
use crate::error::EngineError;
use crate::pql::{CompileContext, PqlError, QuerySet, Rule};
use crate::profile::path::PathTable;
use crate::project::plan::segment_kind;
use crate::views::BacktestView;

/// Most hours or days in one answer.
const BUCKETS_MAX: usize = 5_000;

/// What is asked of a backtest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backtest {
    /// The rule.
    pub pql: String,
    /// What the rule's file is called.
    pub source: String,
    /// Where changes begin to be counted.
    pub from: Timestamp,
    /// Where they cease to be; this instant is not counted any more.
    pub to: Timestamp,
    /// What they are counted by; if not given, what suits the span.
    pub by: Option<By>,
    /// The merge policy of the rule, if not the default one.
    pub policy: Option<String>,
    /// A dataflow whose attributes and triggers a mapping would have; without one, none and all.
    pub dataflow: Option<String>,
    /// How many of the changes are told one by one.
    pub flips_max: usize,
}

impl History {
    /// Who would have entered and left, by hour or day, and what a mapping would have requested.
    ///
    /// Cost: the log is derived up to `to`, with what the rule needs and nothing else.
    ///
    /// # Errors
    ///
    /// [`EngineError::Usage`] if the rule is not understood, or the span or what else was named is not
    /// there.
    pub fn backtest(
        &self,
        asked: &Backtest,
        progress: &dyn Progress,
    ) -> Result<BacktestView, EngineError> {
        if asked.from >= asked.to {
            let (from, to) = (asked.from, asked.to);
            return Err(EngineError::Usage(format!("--from {from} is not before --to {to}")));
        }
        let last = self.end.saturating_sub(1);
        let current = history_through(&self.store, last)?.pop().unwrap_or_default();
        let (definitions, audience) = tested(&current, asked)?;
        let zone = zone(&definitions);
        let by = asked.by.unwrap_or_else(|| By::suited(asked.from, asked.to));
        let edges = edges((asked.from, asked.to), by, &zone, BUCKETS_MAX).ok_or_else(|| {
            EngineError::Usage(format!(
                "the span has more than {BUCKETS_MAX} parts: take a shorter one, or --by day"
            ))
        })?;
        let course = Course::new(self, &definitions, (&audience, edges))?;
        let mut view = course.run(asked.flips_max, progress)?;
        view.by = match by {
            By::Hour => "hour".to_owned(),
            By::Day => "day".to_owned(),
        };
        let defined = definitions.audience(&audience).expect("it was put there");
        view.merge_policy.clone_from(&defined.merge_policy);
        Ok(view)
    }
}

fn zone(definitions: &Definitions) -> TimeZone {
    TimeZone::get(&definitions.settings.time_zone).unwrap_or(TimeZone::UTC)
}

/// What the rule needs of `current`, with the rule as one audience more: its id.
fn tested(current: &Definitions, asked: &Backtest) -> Result<(Definitions, String), EngineError> {
    let mut definitions = current.clone();
    if definitions.merge_policies.is_empty() {
        definitions.merge_policies.push(MergePolicy::implicit());
    }
    let policy = match &asked.policy {
        None => definitions.default_merge_policy().expect("one of them is the default").id.clone(),
        Some(id) if definitions.merge_policy(id).is_some() => id.clone(),
        Some(id) => {
            let known = definitions.merge_policies.iter().map(|policy| policy.id.as_str());
            return Err(unknown("merge policy", id, known));
        }
    };
    let rule = Audience {
        id: unused(&definitions),
        name: "Backtest".to_owned(),
        description: String::new(),
        merge_policy: policy.clone(),
        kind: AudienceKind::Rule { pql: asked.pql.clone() },
    };
    let named = compiled(&definitions, &rule).map_err(|error| {
        let PqlError { span, message, help, .. } = error;
        let fault = PqlFault { span, message, help };
        EngineError::Usage(fault_in(Path::new(&asked.source), &asked.pql, fault).to_string())
    })?;
    let flows = vec![flips(&rule.id), requests(&definitions, &rule.id, asked.dataflow.as_deref())?];
    let needed = needed(&definitions, named)?;
    definitions.audiences.retain(|audience| needed.contains(&audience.id));
    definitions.merge_policies.retain(|kept| kept.default || kept.id == policy);
    definitions.dataflows = flows;
    let id = rule.id.clone();
    definitions.audiences.push(rule);
    Ok((definitions.sorted(), id))
}

/// An id that no audience has.
fn unused(definitions: &Definitions) -> String {
    let mut id = "backtest".to_owned();
    while definitions.audience(&id).is_some() {
        id.push('_');
    }
    id
}

/// The audiences that a rule names.
fn compiled(definitions: &Definitions, audience: &Audience) -> Result<Vec<String>, PqlError> {
    let AudienceKind::Rule { pql } = &audience.kind else { return Ok(Vec::new()) };
    let zone = zone(definitions);
    let segment = |id: &str| segment_kind(definitions, &audience.merge_policy, id);
    let context = CompileContext { zone: &zone, segment: &segment };
    let rule = Rule::compile(pql, &mut QuerySet::new(), &mut PathTable::default(), &context)?;
    Ok(rule.reads().segments.iter().map(|named| named.id.clone()).collect())
}

/// These audiences and all that they name in turn.
fn needed(definitions: &Definitions, named: Vec<String>) -> Result<BTreeSet<String>, PqlError> {
    let (mut needed, mut left) = (BTreeSet::new(), named);
    while let Some(id) = left.pop() {
        if let Some(audience) = definitions.audience(&id)
            && needed.insert(id)
        {
            left.extend(compiled(definitions, audience)?);
        }
    }
    Ok(needed)
}

/// Hears each change of status.
fn flips(audience: &str) -> Dataflow {
    Dataflow {
        id: FLIPS.to_owned(),
        destination: String::new(),
        audiences: vec![audience.to_owned()],
        attributes: Vec::new(),
        triggers: Triggers { segment: true, attribute: false, identity: false },
        same_value_writes: SameValueWrites::Export,
        memberships: Memberships::Mapped,
        include_segment_names: false,
        include_segment_timestamps: false,
    }
}

/// Hears what a mapping of the audience would have requested.
fn requests(
    definitions: &Definitions,
    audience: &str,
    like: Option<&str>,
) -> Result<Dataflow, EngineError> {
    let mut flow = Dataflow { triggers: Triggers::ALL, ..flips(audience) };
    if let Some(id) = like {
        let known = definitions.dataflows.iter().map(|flow| flow.id.as_str());
        let found = definitions.dataflow(id).ok_or_else(|| unknown("dataflow", id, known))?;
        flow = Dataflow { audiences: flow.audiences, ..found.clone() };
    }
    Ok(Dataflow { id: REQUESTS.to_owned(), ..flow })
}

fn unknown<'a>(what: &str, asked: &str, known: impl Iterator<Item = &'a str>) -> EngineError {
    let known: Vec<&str> = known.collect();
    let there = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    EngineError::Usage(format!("no {what} {asked:?}; there is {there}"))
}
