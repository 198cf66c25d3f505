//! What is known of one customer under one merge policy (`SPEC.md` §3).

pub mod attributes;
pub mod membership;
pub mod path;
pub mod state;
