//! Engine.

pub mod clock;
pub mod definitions;
pub mod input;
pub mod json;
pub mod profile;
pub mod record;
