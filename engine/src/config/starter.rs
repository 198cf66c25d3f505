//! The configuration that a new user begins with.

/// The commented `forebay.toml` that `forebay init` writes. It loads without errors or warnings, and
/// its destination is where `forebay receiver` listens.
pub const STARTER: &str = include_str!("starter.toml");
