//! Engine.

pub mod backfill;
pub mod check;
pub mod clock;
pub mod config;
pub mod definitions;
pub mod deliver;
pub mod detect;
pub mod engine;
pub mod error;
pub mod identity;
pub mod input;
pub mod json;
pub mod payload;
pub mod pql;
pub mod profile;
pub mod project;
pub mod record;
pub mod secret;
pub mod views;
