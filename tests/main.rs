//! One file a behaviour.

mod tidy;
