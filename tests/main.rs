//! One file a behaviour.

mod audiences_time;
mod authentication;
mod backfill;
mod causes;
mod cli;
mod config_change;
mod crash;
mod dead_letters;
mod delete;
mod delivery;
mod destinations;
mod foreign;
mod full_disk;
mod import;
mod import_command;
mod merge;
mod model;
mod payload;
mod profiles;
mod receiver_matrix;
mod records;
mod resume;
mod secrets;
mod tidy;
mod tls;
