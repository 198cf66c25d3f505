//! Builds Criterion once and runs each suite.

fn main() {}
