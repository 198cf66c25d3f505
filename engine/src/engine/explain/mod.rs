//! Why: the answers behind `forebay explain` (`SPEC.md` §10).
//!
//! What a profile's rules find now is asked of the live projection, between two jobs; what its exports
//! wait for, of the dispatcher. The step behind an export is derived once more from the log, beside the
//! live projection. Nothing here changes anything, and nothing can send.

mod causes;
mod clauses;
mod export;
mod findings;
mod open_exports;
mod seen;
mod source;
mod standing;
mod story;

pub use standing::StandingQuestion;
