//! Engine.

pub mod clock;
pub mod json;
