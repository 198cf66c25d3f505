//! Engine.

pub mod clock;
pub mod definitions;
pub mod json;
pub mod profile;
