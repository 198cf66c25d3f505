//! forebay's meaning: records in, profiles and audiences derived, relevant changes delivered.
//!
//! ```text
//!  lines ──► input ──► record          read and split; parse, check, refuse
//!                        │
//!                        ▼
//!                 engine::appender     log it, sync, acknowledge           (forebay-storage)
//!                        │
//!                        ▼
//!                    project           resolve identities, fold, evaluate: pure
//!       identity · profile · pql       who is who; what is known of whom; what rules ask
//!                        │
//!                        ▼
//!               detect · payload       what makes an export, and what it says
//!                        │
//!                        ▼
//!                 engine::deriver      number exports, store them, sync    (forebay-storage)
//!                        │
//!                        ▼
//!                    deliver           order, rate, retry, breaker, HTTP
//! ```
//!
//! [`engine::Engine`] is the whole of it, opened on one data directory; [`check`] loads the
//! configuration that it starts with. Modules import downwards only: `engine` knows all of them,
//! `project` and `deliver` do not know each other, and nothing below them knows either.
//!
//! Time is always an argument ([`clock`]); what is derived depends on the log alone.

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
