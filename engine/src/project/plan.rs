//! What a record can affect: the compiled form of the definitions for one merge policy.
//!
//! A record touches a few attribute paths, matches a few event queries, or names identities. From
//! each of these the plan leads straight to the audiences that read it, and from an audience to those
//! that depend on it, so that the cost of a record does not grow with the number of audiences that it
//! cannot affect (`DESIGN.md` §4).
//!
//! Audiences are ranked so that each comes after those it depends on; evaluating ranks upwards
//! evaluates every audience once, with its dependencies settled.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::clock::millis;
use crate::definitions::{
    AttributeMerge, Audience, AudienceKind, Dataflow, Definitions, Memberships, MergePolicy,
};
use crate::detect::{Causes, Interest};
use crate::json;
use crate::payload::{AudienceLine, MembershipGroup, PayloadPlan};
use crate::pql::{CompileContext, PqlError, QueryId, QuerySet, Rule, SegmentKind};
use crate::profile::attributes::Rank;
use crate::profile::membership::AudienceNo;
use crate::profile::path::{PathId, PathTable};

use super::catalog::Catalog;

/// Place of an audience in the order of evaluation.
pub type AudienceRank = u32;

/// How an audience's membership comes about.
#[derive(Debug)]
pub enum Qualification {
    /// A rule decides.
    Rule(Box<Rule>),
    /// Membership records decide; a member without refresh leaves after `ttl_ms`.
    Upload {
        /// Milliseconds of clock time.
        ttl_ms: i64,
    },
}

/// One audience of the plan.
#[derive(Debug)]
pub struct PlannedAudience {
    /// Its number.
    pub number: AudienceNo,
    /// How it is qualified for.
    pub qualification: Qualification,
    /// The audiences to evaluate again when its membership changes; all have higher ranks.
    pub dependents: Vec<AudienceRank>,
}

/// One dataflow in this view.
#[derive(Debug)]
pub struct PlannedDataflow {
    /// Its place among all dataflows of the definitions.
    pub index: usize,
    /// What it reacts to.
    pub interest: Interest,
    /// What it shows.
    pub payload: PayloadPlan,
}

/// The definitions, compiled for one merge policy.
#[derive(Debug, Default)]
pub struct ViewPlan {
    /// By rank.
    pub audiences: Vec<PlannedAudience>,
    /// The dataflows that map an audience of this view.
    pub dataflows: Vec<PlannedDataflow>,
    /// Audiences that a profile may be in, or may enter by the clock alone, before any record says
    /// anything about it.
    pub at_birth: Vec<AudienceRank>,
    /// Audiences that read identities.
    pub on_identity: Vec<AudienceRank>,
    by_path: BTreeMap<PathId, Vec<AudienceRank>>,
    by_query: BTreeMap<QueryId, Vec<AudienceRank>>,
    ranks: BTreeMap<AudienceNo, AudienceRank>,
    datasets: Option<Vec<String>>,
}

/// What all plans share while they are compiled.
pub struct Compiler<'a> {
    /// Definitions and times.
    pub catalog: &'a Catalog,
    /// The event queries of all rules.
    pub queries: &'a mut QuerySet,
    /// The attribute paths of all rules and mappings.
    pub paths: &'a mut PathTable,
}

impl ViewPlan {
    /// The plan of a policy that is not in effect: its profiles take everything in and show nothing.
    pub fn idle(policy: &MergePolicy) -> Self {
        Self { datasets: datasets(policy), ..Self::default() }
    }

    /// Compiles what concerns `policy`.
    ///
    /// # Errors
    ///
    /// A rule that does not compile; definitions that were checked have none.
    pub fn compile(policy: &MergePolicy, compiler: &mut Compiler<'_>) -> Result<Self, PqlError> {
        let definitions = compiler.catalog.definitions().clone();
        let mut plan = Self::idle(policy);
        let mut rules = Vec::new();
        for audience in definitions.audiences.iter().filter(|a| a.merge_policy == policy.id) {
            rules.push((audience, compiler.compile(audience)?));
        }
        plan.add_audiences(rules, compiler.catalog);
        for (index, dataflow) in definitions.dataflows.iter().enumerate() {
            plan.add_dataflow(index, dataflow, &definitions, compiler);
        }
        Ok(plan)
    }

    /// The place of an audience in the order of evaluation, if it is one of this view.
    pub fn rank(&self, audience: AudienceNo) -> Option<AudienceRank> {
        self.ranks.get(&audience).copied()
    }

    /// Adds the audiences that read what a write to `path` may change.
    pub fn affected_by_path(&self, path: PathId, paths: &PathTable, into: &mut Vec<AudienceRank>) {
        if self.by_path.is_empty() {
            return;
        }
        let mut at = path;
        loop {
            into.extend(self.by_path.get(&at).into_iter().flatten());
            if at == PathId::ROOT {
                break;
            }
            at = paths.parent(at);
        }
        // Down the tree of paths, not along the rules: these may be many.
        let mut below = paths.children(path).to_vec();
        while let Some(at) = below.pop() {
            into.extend(self.by_path.get(&at).into_iter().flatten());
            below.extend(paths.children(at));
        }
    }

    /// Adds the audiences that read an event query.
    pub fn affected_by_query(&self, query: QueryId, into: &mut Vec<AudienceRank>) {
        into.extend(self.by_query.get(&query).into_iter().flatten());
    }

    /// The layer that a dataset's attributes go to; `None`: they do not contribute.
    pub fn dataset_rank(&self, dataset: &str) -> Option<Rank> {
        match &self.datasets {
            None => Some(Rank(0)),
            Some(order) => {
                let at = order.iter().position(|known| known == dataset)?;
                Some(Rank(u16::try_from(at).expect("fewer than 65,536 datasets")))
            }
        }
    }

    fn add_audiences(&mut self, mut rules: Vec<(&Audience, Option<Rule>)>, catalog: &Catalog) {
        let depends = |rule: &Option<Rule>, on: &str| {
            rule.as_ref().is_some_and(|rule| rule.reads().segments.iter().any(|s| s.id == on))
        };
        // Kahn's order, smallest id first; cycles were refused with the configuration.
        while !rules.is_empty() {
            let ready = rules
                .iter()
                .position(|(_, rule)| !rules.iter().any(|(other, _)| depends(rule, &other.id)))
                .expect("audiences depend on one another without cycles");
            let (audience, rule) = rules.remove(ready);
            self.add_audience(audience, rule, catalog);
        }
    }

    fn add_audience(&mut self, audience: &Audience, rule: Option<Rule>, catalog: &Catalog) {
        let rank = AudienceRank::try_from(self.audiences.len()).expect("fewer than 2^32 audiences");
        let number = catalog.number(&audience.id).expect("defined audiences have numbers");
        self.ranks.insert(number, rank);
        let qualification = match (&audience.kind, rule) {
            (AudienceKind::Rule { .. }, Some(rule)) => {
                self.index_rule(rank, &rule, catalog);
                Qualification::Rule(Box::new(rule))
            }
            (AudienceKind::Upload { ttl_ms }, _) => {
                Qualification::Upload { ttl_ms: millis(*ttl_ms) }
            }
            (AudienceKind::Rule { .. }, None) => unreachable!("a rule audience was compiled"),
        };
        self.audiences.push(PlannedAudience { number, qualification, dependents: Vec::new() });
    }

    fn index_rule(&mut self, rank: AudienceRank, rule: &Rule, catalog: &Catalog) {
        let reads = rule.reads();
        for path in &reads.attributes {
            self.by_path.entry(*path).or_default().push(rank);
        }
        for query in &reads.queries {
            self.by_query.entry(*query).or_default().push(rank);
        }
        if reads.identities {
            self.on_identity.push(rank);
        }
        for segment in &reads.segments {
            let number = catalog.number(&segment.id).expect("references were checked");
            let dependency = self.ranks[&number];
            let dependents = &mut self.audiences[dependency as usize].dependents;
            if dependents.last() != Some(&rank) {
                dependents.push(rank);
            }
        }
    }

    fn add_dataflow(
        &mut self,
        index: usize,
        dataflow: &Dataflow,
        definitions: &Definitions,
        compiler: &mut Compiler<'_>,
    ) {
        let mut mapped: Vec<AudienceNo> = dataflow
            .audiences
            .iter()
            .filter_map(|id| compiler.catalog.number(id))
            .filter(|number| self.ranks.contains_key(number))
            .collect();
        if mapped.is_empty() {
            return;
        }
        mapped.sort_unstable();
        let attributes: Vec<PathId> =
            dataflow.attributes.iter().map(|path| compiler.paths.intern(path)).collect();
        let interest = Interest {
            audiences: mapped,
            attributes: attributes.clone(),
            triggers: Causes::from(dataflow.triggers),
            same_value_writes: dataflow.same_value_writes,
        };
        let audiences = self.payload_lines(dataflow, &interest, definitions, compiler.catalog);
        let payload = PayloadPlan { attributes, audiences };
        self.dataflows.push(PlannedDataflow { index, interest, payload });
    }

    fn payload_lines(
        &self,
        dataflow: &Dataflow,
        interest: &Interest,
        definitions: &Definitions,
        catalog: &Catalog,
    ) -> Vec<AudienceLine> {
        let mut lines = Vec::new();
        for audience in &definitions.audiences {
            let number = catalog.number(&audience.id).expect("defined audiences have numbers");
            let is_mapped = interest.maps(number);
            let is_shown = is_mapped || dataflow.memberships == Memberships::All;
            if !self.ranks.contains_key(&number) || !is_shown {
                continue;
            }
            let group = match audience.kind {
                AudienceKind::Rule { .. } => MembershipGroup::Rules,
                AudienceKind::Upload { .. } => MembershipGroup::Uploads,
            };
            let extras =
                if is_mapped { extras(dataflow, audience, catalog) } else { String::new() };
            lines.push(AudienceLine {
                audience: number,
                group,
                quoted_id: json::quote(&audience.id).into(),
                extras: extras.into(),
            });
        }
        lines.sort_by_key(|line| (line.group, line.audience));
        lines
    }
}

impl Compiler<'_> {
    /// Compiles every rule of the definitions, to know the event queries that they ask.
    pub fn compile_all(&mut self) -> Result<(), PqlError> {
        let definitions = self.catalog.definitions().clone();
        definitions.audiences.iter().try_for_each(|audience| self.compile(audience).map(drop))
    }

    /// Compiles an audience's rule; `None` for an upload.
    fn compile(&mut self, audience: &Audience) -> Result<Option<Rule>, PqlError> {
        let AudienceKind::Rule { pql } = &audience.kind else { return Ok(None) };
        let definitions = self.catalog.definitions();
        // A zone that the machine does not know was refused with the configuration.
        let zone = TimeZone::get(&definitions.settings.time_zone).unwrap_or(TimeZone::UTC);
        let segment = |id: &str| segment_kind(definitions, &audience.merge_policy, id);
        let context = CompileContext { zone: &zone, segment: &segment };
        Rule::compile(pql, self.queries, self.paths, &context).map(Some)
    }
}

/// The kind of an audience that rules of `merge_policy` may name.
pub fn segment_kind(
    definitions: &Definitions,
    merge_policy: &str,
    id: &str,
) -> Option<SegmentKind> {
    let audience = definitions.audience(id).filter(|a| a.merge_policy == merge_policy)?;
    Some(match audience.kind {
        AudienceKind::Rule { .. } => SegmentKind::Rule,
        AudienceKind::Upload { .. } => SegmentKind::Upload,
    })
}

fn datasets(policy: &MergePolicy) -> Option<Vec<String>> {
    match &policy.attribute_merge {
        AttributeMerge::TimestampOrdered => None,
        AttributeMerge::DataSetPrecedence { order } => Some(order.clone()),
    }
}

/// The name and the four times of a mapped audience, as the destination asks for them.
fn extras(dataflow: &Dataflow, audience: &Audience, catalog: &Catalog) -> String {
    let mut out = String::new();
    if dataflow.include_segment_names {
        out.push_str(",\"name\":");
        out.push_str(&json::quote(&audience.name));
    }
    if dataflow.include_segment_timestamps {
        let audience_times = catalog.audience_times(&audience.id);
        let mapping_times = catalog.mapping_times(&dataflow.id, &audience.id);
        if let (Some(defined), Some(mapped)) = (audience_times, mapping_times) {
            for (name, at) in [
                ("createdAt", defined.created),
                ("updatedAt", defined.updated),
                ("mappingCreatedAt", mapped.created),
                ("mappingUpdatedAt", mapped.updated),
            ] {
                out.push_str(",\"");
                out.push_str(name);
                out.push_str("\":");
                out.push_str(&at.as_millis().to_string());
            }
        }
    }
    out
}
