//! The audience language: PQL text in, a plan that folds one event at a time out (`PQL.md`).
//!
//! # Why a plan
//!
//! A rule over `xEvent` reads a customer's whole history, and the engine cannot keep that in memory.
//! So [`Rule::compile`] splits a rule into *event queries* (a filter, a window, an aggregate), which
//! are shared by all rules in one [`QuerySet`], and an expression over their results. Each profile
//! holds a small [`QueryState`] for each query that ever matched; an event changes it in
//! [`QueryState::observe`], and [`Rule::evaluate`] reads states and attributes only. What does not
//! fit that form still works: such a query keeps the events themselves.
//!
//! # What stays true
//!
//! 1. [`Evaluation::changes_at`] is never later than the first instant at which the clock alone
//!    changes the result. It may be earlier; evaluating again then is harmless.
//! 2. No text makes the parser or the evaluation panic or recurse without bound.
//! 3. Two queries that read the same have one [`QueryId`], however many rules use them.
//! 4. Nothing here reads a clock or a machine's time zone.

mod ast;
mod calendar;
mod compile;
mod compile_call;
mod compile_events;
mod compile_time;
mod datum;
mod description;
mod error;
mod event_filter;
mod event_index;
mod explanation;
mod facts;
mod gate;
mod lexer;
mod machine;
mod marks;
mod op;
mod parse_time;
mod parser;
mod print;
mod query;
mod render;
mod rule;
mod state;
mod sum;
mod threshold;
mod window;

#[cfg(test)]
mod explanation_tests;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod grammar_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod subject;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;

pub use ast::Expr;
pub use error::PqlError;
pub use explanation::{Clause, ClauseKind, Compared, Shown, Turn, VALUE_BYTES_MAX};
pub use facts::{Attribute, Event, Facts, MembershipFact};
pub use marks::Mark;
pub use parser::parse;
pub use query::{EventQuery, QueryId, QuerySet};
pub use render::render;
pub use rule::{CompileContext, Evaluation, Reads, Rule, Scope, SegmentKind, SegmentRef};
pub use state::{FlaggedEvent, KeptEvent, QueryState};
pub use sum::Sum;
