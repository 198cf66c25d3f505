//! What the integration tests share: places to run in, records to feed, and a receiver that looks.
//!
//! Tests speak the contract (`SPEC.md`) and nothing else: they write configuration and records as
//! text, and read what arrived over HTTP or was printed. So they survive any change inside, and an
//! engine that passes them does what its users were told.
//!
//! [`Place`] runs the engine within the test, which is fast; [`Program`] runs the real binary, which
//! can be killed. Neither waits for time to pass: both wait for something to happen, up to
//! [`PATIENCE`].

pub mod clock;
pub mod configuration;
pub mod place;
pub mod program;
pub mod raw_receiver;
pub mod receiver;
pub mod record;
pub mod request;
pub mod seed;

use std::time::Duration;

pub use clock::{HandClock, QuietClock};
pub use place::{Place, Ran};
pub use program::{Program, Run};
pub use raw_receiver::{Exchange, RawReceiver, Step};
pub use receiver::{Answer, Receiver};
pub use record::Record;
pub use request::Request;
pub use seed::Seed;

/// How long a test waits for something that must happen. Only a broken engine, or a machine slower
/// than any we know, makes a test wait that long.
pub const PATIENCE: Duration = Duration::from_secs(30);
