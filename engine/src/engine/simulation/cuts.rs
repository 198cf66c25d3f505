//! Cuts that are made while records come: what is restored is what there was when the cut began, and goes
//! on as the projection did that was cut.

use forebay_storage::{Offset, Store, StoreOptions};

use super::random::Random;
use super::script::{Line, START_MS, Script};
use crate::clock::{ClockKind, Timestamp};
use crate::input::{LastLine, LineReader, Pace};
use crate::project::projection::{DerivedExport, Outcome, Projection, Section, Share, Slice};
use crate::record::{ParseRules, RecordBatch, RecordKind, parse_lines};

/// Worlds tried.
const SEEDS: u64 = 300;

/// Some records, and when they come.
struct Incoming {
    batch: RecordBatch,
    first_offset: u64,
    appended: Timestamp,
}

/// The good lines of a script in batches of a few, with a gap before each now and then.
fn incoming(random: &mut Random, lines: &[Line]) -> Vec<Incoming> {
    let rules = ParseRules { upload_audiences: ["vip".into()].into() };
    let (mut all, mut next, mut now) = (Vec::new(), 1, START_MS);
    let mut lines = lines.iter().filter(|line| line.is_good).map(|line| line.text.as_str());
    loop {
        let count = usize::try_from(random.within(1, 6)).expect("few");
        let text: String = lines.by_ref().take(count).flat_map(|line| [line, "\n"]).collect();
        if text.is_empty() {
            return all;
        }
        let mut reader = LineReader::new(text.as_bytes(), Pace::AsItComes, LastLine::Taken);
        let block = reader.next_block().expect("it is memory").expect("there are lines");
        let batch = parse_lines(block, &rules).batch;
        now += i64::try_from(random.below(3 * 3_600_000)).expect("it is short");
        let (first_offset, appended) = (next, Timestamp::from_millis(now));
        next += batch.len() as u64;
        all.push(Incoming { batch, first_offset, appended });
    }
}

fn apply(projection: &mut Projection, incoming: &Incoming) -> Vec<DerivedExport> {
    let Incoming { batch, first_offset, appended } = incoming;
    let Outcome { exports, .. } = projection.apply_batch(batch, *first_offset, *appended, None);
    exports
}

fn has_delete(incoming: &Incoming) -> bool {
    incoming.batch.iter().any(|record| record.kind() == RecordKind::Delete)
}

/// A cut of `projection`, made between the batches of `later` until one holds a delete or there are no
/// more; what the cut holds, restored. `random` decides how much is saved between two batches.
fn cut(
    (random, store): (&mut Random, &Store),
    projection: &mut Projection,
    (next, later): (u64, &[Incoming]),
    (kind, exports): (ClockKind, &mut Vec<DerivedExport>),
) -> Projection {
    let checkpoints = store.checkpoints();
    let pack = |section: Section, body| checkpoints.pack(section.number(), body).expect("memory");
    let (mut blocks, mut is_complete) = (Vec::new(), false);
    let coming = vec![projection.catalog().definitions().clone()];
    projection.begin_cut(next);
    for incoming in later {
        if !is_complete && (has_delete(incoming) || random.one_in(20)) {
            let rest: Slice<_> = projection.cut_on(Share::Rest, &pack);
            assert!(rest.is_complete);
            blocks.extend(rest.blocks);
            is_complete = true;
        }
        exports.extend(apply(projection, incoming));
        if !is_complete && random.one_in(2) {
            let share = Share::Profiles(random.index(4));
            let slice = projection.cut_on(share, &pack);
            is_complete = slice.is_complete;
            blocks.extend(slice.blocks);
        }
        assert_eq!(projection.is_cutting(), !is_complete);
    }
    blocks.extend(projection.cut_on(Share::Rest, &pack).blocks);
    let next = Offset::from_u64(next);
    checkpoints.write(next, &blocks).expect("it can be written");
    let stored = checkpoints.read(next).expect("it can be read");
    Projection::restore(kind, coming, &stored).expect("it holds what it is asked for")
}

#[test]
fn a_cut_made_while_records_come_shows_what_there_was_when_it_began() {
    let (mut with_later, mut with_exports) = (0, 0);
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path(), StoreOptions::default()).unwrap();
    for seed in 1..=SEEDS {
        let scratch = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let script = Script::new(&mut random, scratch.path());
        let (kind, definitions) = (script.clock, &script.configs[0].definitions);
        let mut projection = Projection::new(kind, vec![definitions.clone()]).unwrap();
        let begun = Timestamp::from_millis(START_MS);
        projection.apply_definitions(definitions, 0, begun, &|_| None).unwrap();
        let all = incoming(&mut random, &script.lines);
        let (before, later) = all.split_at(random.index(all.len()));
        for incoming in before {
            apply(&mut projection, incoming);
        }
        let expected = super::twin::knowledge(&projection, &script.configs[0]);
        let (mut exports, next) = (Vec::new(), later.first().map_or(1, |l| l.first_offset));
        let mut restored =
            cut((&mut random, &store), &mut projection, (next, later), (kind, &mut exports));
        let found = super::twin::knowledge(&restored, &script.configs[0]);
        assert_eq!(found, expected, "seed {seed}");
        let again: Vec<DerivedExport> =
            later.iter().flat_map(|incoming| apply(&mut restored, incoming)).collect();
        assert_eq!(again, exports, "seed {seed}");
        let (one, other) = (&projection, &restored);
        assert_eq!(crate::project::compare::first_difference(one, other), None, "seed {seed}");
        with_later += u64::from(later.len() > 3);
        with_exports += u64::from(!exports.is_empty());
    }
    assert!(with_later > SEEDS / 2 && with_exports > SEEDS / 3, "{with_later} {with_exports}");
}
