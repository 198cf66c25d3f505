//! One file a behaviour.
