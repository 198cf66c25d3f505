//! The journal as a sorted map: what the model of the state knows of exports that ended.

use std::collections::BTreeMap;

use forebay_storage::{EndedExport, Ending, ExportRow, Store};
use proptest::prelude::*;

use crate::state_model::{ByFlow, dead};

/// Of two pages, or of one that is far away.
pub(crate) fn ended() -> impl Strategy<Value = Vec<EndedExport>> {
    let sequence = || prop_oneof![9 => 0..100u64, 1 => 9_000..9_064u64];
    let ending = prop_oneof![
        (200..300u16).prop_map(|status| Ending::Delivered { status }),
        Just(Ending::DeadLettered),
        Just(Ending::Withdrawn),
    ];
    let one = (sequence(), 0..1_000i64, ending, 0..3usize).prop_map(
        |(sequence, ended_ms, ending, failures)| EndedExport {
            sequence,
            profile: sequence % 3,
            offset: sequence * 7,
            boundary_ms: sequence.is_multiple_of(5).then_some(ended_ms),
            accepted_ms: ended_ms - 5,
            ended_ms,
            ending,
            failures: u32::try_from(failures).unwrap(),
            attempts: dead(sequence, 0).attempts[..failures].to_vec(),
            ..EndedExport::default()
        },
    );
    prop::collection::vec(one, 0..20)
}

/// A waiting export that was withdrawn.
pub(crate) fn withdrawn(sequence: u64, row: &ExportRow, ended_ms: i64) -> EndedExport {
    EndedExport {
        sequence,
        profile: row.profile,
        policy: row.policy,
        causes: row.causes,
        offset: row.offset,
        boundary_ms: row.boundary_ms,
        rendered_after: row.rendered_after,
        accepted_ms: row.accepted_ms,
        ended_ms,
        ending: Ending::Withdrawn,
        ..EndedExport::default()
    }
}

/// Adds what ended.
pub(crate) fn note(journal: &mut ByFlow<EndedExport>, flow: &str, ended: &[EndedExport]) {
    for row in ended {
        journal.insert((flow.to_owned(), row.sequence), row.clone());
    }
}

/// Goes once round the journal, and drops the same from the map: by whole pages.
pub(crate) fn trim(
    store: &Store,
    journal: &mut ByFlow<EndedExport>,
    (before_ms, pages): (i64, usize),
) {
    let mut place = None;
    loop {
        place = store.journal().trim(place.as_ref(), before_ms, pages).unwrap().next;
        if place.is_none() {
            break;
        }
    }
    let page = |(flow, sequence): &(String, u64)| (flow.clone(), sequence / 64);
    let mut newest: ByFlow<i64> = BTreeMap::new();
    for (key, row) in &*journal {
        let newest = newest.entry(page(key)).or_insert(row.ended_ms);
        *newest = row.ended_ms.max(*newest);
    }
    journal.retain(|key, _| newest[&page(key)] >= before_ms);
}

/// What the store tells of the sequences that [`ended`] makes.
pub(crate) fn observe(store: &Store, flow: &str) -> ByFlow<EndedExport> {
    let found = |sequence| {
        let row = store.journal().find(flow, sequence).unwrap()?;
        Some(((flow.to_owned(), sequence), row))
    };
    let seen: ByFlow<_> = (0..100).chain(9_000..9_064).filter_map(found).collect();
    let size = store.journal().size(flow);
    assert_eq!(size.rows, seen.len() as u64, "{flow}");
    assert_eq!(size.rows == 0, size.row_bytes == 0, "{flow}: {size:?}");
    let has_attempts = seen.values().any(|row| !row.attempts.is_empty());
    assert_eq!(has_attempts, size.attempt_bytes > 0, "{flow}: {size:?}");
    seen
}
