//! Records: what a line of input means, and what becomes of a line that means nothing.
//!
//! A line is parsed once. What validation found (its kind, its identities, its time) is kept as
//! positions in the text, and the fold reads from the same nodes; nothing is copied and nothing is
//! looked up twice. The log keeps the text of the line, so replay goes through this parser again and
//! sees exactly what the first run saw.
//!
//! What this module does not do: it reads no clock (a time too far ahead is judged by the appender,
//! through [`checked_at`]), it keeps no state between lines, and it never gives up on a block because
//! of one line. A refused line becomes a [`Reject`] and goes to the [`RejectsFile`].

mod batch;
mod event_types;
mod expectation;
mod form;
mod identity_map;
mod member_list;
mod parse;
mod redaction;
mod reject;
mod rejects_file;
mod time_limit;

pub use batch::{
    IdentityRef, LogTextError, MembershipStatus, Record, RecordBatch, RecordIdentity, RecordKind,
    RecordRef,
};
pub use member_list::{MemberColumn, MemberList, MemberListError};
pub use parse::{ParseRules, ParsedBlock, parse_lines};
pub use redaction::Redaction;
pub use reject::{Reject, RejectedInput};
pub use rejects_file::{RejectsError, RejectsFile, RejectsMark};
pub use time_limit::{AHEAD_MAX_MS, checked_at, checked_jump};
