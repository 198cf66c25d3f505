//! Why: the answers behind `forebay explain` (`SPEC.md` §10).
//!
//! What a profile's rules find now is asked of the live projection, between two jobs; what its exports
//! wait for, of the dispatcher. Nothing here changes anything, and nothing can send.

mod clauses;
mod findings;
mod open_exports;
mod standing;

pub use standing::StandingQuestion;
