//! The storage crate from outside, as the engine uses it: with restarts, faults and kills among the
//! operations. One binary, one file a behaviour.

mod support;

mod event_log;
