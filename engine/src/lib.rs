//! Engine.

pub mod clock;
pub mod json;
pub mod profile;
