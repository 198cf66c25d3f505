//! One audience's rule, compiled.

use std::ops::Range;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::profile::path::{PathId, PathTable};

use super::ast::Expr;
use super::compile::{Bare, Compiler};
use super::error::PqlError;
use super::facts::Facts;
use super::machine::Machine;
use super::op::Op;
use super::parser::parse;
use super::query::{QueryId, QuerySet};
use super::window::Now;

/// What a rule is compiled against besides its text.
#[derive(Clone, Copy)]
pub struct CompileContext<'a> {
    /// Where days, months and years begin. It becomes part of the rule.
    pub zone: &'a TimeZone,
    /// The kind of the audience with this id, if the rule may name it: there is one, of the same
    /// merge policy.
    pub segment: &'a dyn Fn(&str) -> Option<SegmentKind>,
}

/// How an audience gets its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// By a rule; it stands under `ups`.
    Rule,
    /// By import; it stands under `CustomerAudienceUpload`.
    Upload,
}

/// Another audience that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// The audience's id.
    pub id: String,
    /// Where the expression names it first.
    pub span: Range<usize>,
}

/// What can change a rule's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Attribute paths, ascending. A write at, above or below one may change the value.
    pub attributes: Vec<PathId>,
    /// Whether identities are read.
    pub identities: bool,
    /// Event queries, ascending.
    pub queries: Vec<QueryId>,
    /// Other audiences, in order of first appearance.
    pub segments: Vec<SegmentRef>,
    /// Whether the clock is read.
    pub clock: bool,
    /// Whether the time zone matters, so that another one makes another rule.
    pub calendar: bool,
    /// Steps of the longest chain; 0 without one.
    pub chain_steps: usize,
}

/// What an evaluation takes besides the profile's facts.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The engine's clock.
    pub now: Timestamp,
    /// The set that the rule was compiled into.
    pub queries: &'a QuerySet,
}

/// The value of a rule for one profile at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the profile belongs to the audience.
    pub holds: bool,
    /// The earliest instant after now at which the clock alone may change that;
    /// [`Timestamp::MAX`] if it never can. It may be too early, never too late.
    pub changes_at: Timestamp,
}

/// One audience's rule, compiled.
#[derive(Debug)]
pub struct Rule {
    op: Op,
    reads: Reads,
    zone: TimeZone,
    /// What it was compiled from, for people.
    text: Box<str>,
    expr: Expr,
}

impl Rule {
    /// Parses and checks `text`, and adds what it asks of events to `queries`.
    ///
    /// On an error `queries` and `paths` may have grown; that is harmless.
    pub fn compile(
        text: &str,
        queries: &mut QuerySet,
        paths: &mut PathTable,
        context: &CompileContext<'_>,
    ) -> Result<Self, PqlError> {
        let expr = parse(text)?;
        let mut compiler = Compiler {
            queries,
            paths,
            context,
            segments: Vec::new(),
            chain_steps: 0,
            variables: Vec::new(),
            depth: 0,
            bare: Bare::Profile,
        };
        let op = compiler.condition(&expr)?;
        let (segments, chain_steps) = (compiler.segments, compiler.chain_steps);
        let reads = reads_of(&op, queries, Reads { segments, chain_steps, ..Reads::default() });
        Ok(Self { op, reads, zone: context.zone.clone(), text: text.into(), expr })
    }

    /// What can change the rule's value.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The value for the profile that `facts` shows. Pure: the same facts at the same `now` give the
    /// same value.
    pub fn evaluate<F: Facts + ?Sized>(&self, facts: &F, scope: &Scope<'_>) -> Evaluation {
        let mut machine = self.machine(facts, scope);
        let holds = machine.holds(&self.op);
        Evaluation { holds, changes_at: machine.changes_at }
    }

    /// The expression, and what it was compiled to.
    pub(super) fn parts(&self) -> (&Expr, &Op) {
        (&self.expr, &self.op)
    }

    /// A part of the expression as it was written, in canonical form if that took several lines.
    pub(super) fn text_of(&self, expr: &Expr) -> String {
        match self.text.get(expr.span.clone()) {
            Some(text) if !text.contains('\n') => text.to_owned(),
            _ => expr.to_string(),
        }
    }

    /// The machine that evaluates the rule for the profile that `facts` shows.
    pub(super) fn machine<'a, F: Facts + ?Sized>(
        &'a self,
        facts: &'a F,
        scope: &Scope<'a>,
    ) -> Machine<'a, F> {
        Machine {
            facts,
            queries: scope.queries,
            segments: &self.reads.segments,
            now: Now { at: scope.now, zone: &self.zone },
            changes_at: Timestamp::MAX,
            frames: SmallVec::new(),
        }
    }
}

fn reads_of(op: &Op, queries: &QuerySet, mut reads: Reads) -> Reads {
    op.visit(&mut |op| match op {
        Op::Attribute(path, _) => reads.attributes.push(*path),
        Op::Identities | Op::Namespaces | Op::IdentitiesOf(_) => reads.identities = true,
        Op::Query(id) | Op::Events(id) | Op::Chain(id, _) => reads.queries.push(*id),
        _ => {}
    });
    reads.attributes.sort_unstable();
    reads.attributes.dedup();
    reads.queries.sort_unstable();
    reads.queries.dedup();
    let needs = op.needs(0);
    reads.clock = needs.clock;
    reads.calendar = needs.calendar;
    for id in &reads.queries {
        let query = queries.get(*id);
        reads.clock |= query.is_windowed();
        reads.calendar |= query.is_calendar();
    }
    reads
}
