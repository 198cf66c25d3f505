//! Builds Criterion once and runs each suite.
//!
//! `cargo bench -p forebay-benches` measures, with ` -- NAME` only what has NAME in it; with
//! ` -- --test` each bench runs once, to show that it works.

mod audiences;
mod configuration;
mod cut;
mod deliver;
mod end_to_end;
mod fold;
mod log;
mod payload;
mod receiver;
mod record;

use std::time::Duration;

use criterion::Criterion;

/// Enough to see a change of some 5 %; the whole run stays below six minutes on two cores.
const SAMPLES: usize = 10;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    log::define(&mut criterion);
    record::define(&mut criterion);
    fold::define(&mut criterion);
    audiences::define(&mut criterion);
    cut::define(&mut criterion);
    payload::define(&mut criterion);
    deliver::define(&mut criterion);
    end_to_end::define(&mut criterion);
    criterion.final_summary();
}
