//! What is known of one customer under one merge policy (`SPEC.md` §3).

pub mod path;
