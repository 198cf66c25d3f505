//! The projection: from the log to profiles, memberships and exports.
//!
//! ```text
//!  batch of records (offsets, now)
//!        │
//!        ▼
//!  look up  identities, attribute paths and event ids, in parallel, ahead of their turn (lookup)
//!        │
//!        ▼
//!  route    one pass, in order: identities → profiles, duplicates, attribute paths      (route)
//!        │  who is erased                                                               (erase)
//!        │  steps by shard; profiles that this batch links moved together               (view)
//!        ▼
//!  fold     shards in parallel, each its steps in offset order, boundaries before them  (shard)
//!        │  one profile at a time: change, evaluate, detect                             (step)
//!        ▼
//!  exports sorted by (position or boundary, profile, dataflow, policy)                  (projection)
//! ```
//!
//! The log is the only input. Time comes in as the `now` of each record, never from a clock, no map
//! is iterated in its own order, and the number of threads decides nothing: the same log gives the
//! same bytes.

pub mod catalog;
pub mod compare;
pub mod context;
pub mod erase;
mod facts;
pub mod imports;
pub mod lookup;
pub mod plan;
pub mod projection;
pub mod route;
pub mod shard;
pub mod step;
pub mod trace;
pub mod view;
