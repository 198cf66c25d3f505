//! Exports explained: what is derived again of each is what was sent, byte by byte, whatever caused it.

use forebay_tests::place::{Silent, advance};
use forebay_tests::{Place, Seed};

use super::naive::{self, POLICIES};
use super::random::{happenings, time_text};
use super::{RECORDS, configuration, play};

/// Runs with seeds from 0 on.
const SEEDS: u64 = 4;

/// Exports of one run that are explained, evenly spread.
const EXPLAINED: usize = 60;

#[test]
fn what_is_derived_again_of_an_export_is_what_was_sent() {
    for number in 0..SEEDS {
        let mut seed = Seed::new(number);
        let happenings = happenings(&mut seed, RECORDS, POLICIES);
        let last_ms = happenings.iter().map(|happening| happening.time_ms).max();
        let end_ms = last_ms.expect("something happens") + 15 * naive::DAY_MS;
        let place = Place::new(&configuration());
        let ran = place.run_with(|engine| {
            play(engine, &happenings);
            advance(engine, &time_text(end_ms));
        });
        let (mut told, mut by_boundary) = (0, 0);
        place.ask(|engine| {
            for request in ran.requests.iter().step_by((ran.requests.len() / EXPLAINED).max(1)) {
                let id = request.id();
                let view = engine.explain_export(id, &Silent).expect("it can be explained");
                // What was being sent when its profile was deleted was withdrawn all the same.
                let state = view.outcome.state.as_str();
                assert!(
                    ["delivered", "withdrawn"].contains(&state),
                    "seed {number}, {id}: {state}"
                );
                let Some(origin) = &view.origin else {
                    let text = &view.outcome.text;
                    assert!(text.contains("deleted"), "seed {number}, {id}: {text}");
                    continue;
                };
                let payload = view.payload.as_ref().map(|payload| payload.get());
                assert_eq!(payload, Some(request.text()), "seed {number}, {id}: {origin:#?}");
                assert!(!origin.causes.is_empty(), "seed {number}, {id}");
                for cause in &origin.causes {
                    assert!(!cause.text.is_empty(), "seed {number}, {id}: {origin:#?}");
                }
                told += 1;
                by_boundary += usize::from(origin.boundary.is_some());
            }
        });
        assert!(told > 10 && by_boundary > 0, "seed {number}: {told}, {by_boundary}");
    }
}
