//! How often requests start.

/// Request starts kept with the progress, for the rate limit over a restart.
pub const STORED_STARTS_MAX: usize = 128;
