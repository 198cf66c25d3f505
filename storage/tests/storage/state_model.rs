//! Outbox, progress and dead letters against sorted maps, all three together.
//!
//! After a crash the three must be what they were after one of the writes since the last sync: each
//! write whole, and none without those before it, whichever of the three they went to.

use std::collections::{BTreeMap, BTreeSet};

use forebay_storage::{
    AttemptRow, DeadLetterRow, Derived, EndedExport, ExportRow, FlowExports, FlowMarks, LaneMark,
    Mark, MarkKey, Offset, ProgressRow, Store, StoreOptions,
};
use proptest::prelude::*;

use crate::journal_model;
use crate::support::{Host, noise};

/// One is the beginning of the other, on purpose.
const FLOWS: [&str; 2] = ["to", "to_x"];

#[derive(Clone, Debug)]
enum Op {
    /// For each dataflow, a gap in the sequences and the lengths of new payloads.
    Commit([(u64, Vec<usize>); 2]),
    Trim(usize, u64),
    TrimWithin(usize, u64, u64),
    Withdraw(usize, Vec<u64>),
    /// Profiles to mark, with causes, and profiles whose marks are taken.
    Mark(usize, BTreeMap<u64, u8>, Vec<u64>),
    Forget(usize),
    Progress(usize, ProgressRow, Vec<EndedExport>),
    /// What ended without a progress row.
    Note(usize, Vec<EndedExport>),
    /// Drops what ended before a time, so many pages at a time.
    TrimJournal(i64, usize),
    /// Drops what was answered to the failed attempts of a profile.
    DropAnswers(usize, u64),
    Bury(usize, u64, usize),
    Raise(usize, u64),
    /// Withdraws dead letters.
    Forgive(usize, Vec<u64>),
    Sync,
    Reopen,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let flow = || 0..FLOWS.len();
    let length = || prop_oneof![8 => 0..2_000usize, 1 => 50_000..150_000usize];
    let marks = || prop::collection::vec(0..9u64, 0..4);
    let rows = || (0..2u64, prop::collection::vec(length(), 0..12));
    let progress = (0..50u64, prop::collection::vec(50..90u64, 0..4), any::<i64>()).prop_map(
        |(w, done, ms)| {
            let done: BTreeSet<_> = done.into_iter().collect();
            let done = done.into_iter().map(|first| (2 * first, 2 * first)).collect();
            let attempts = vec![(w, 1, ms)];
            ProgressRow { watermark: w, done, last_starts: vec![(ms, 3)], attempts }
        },
    );
    prop_oneof![
        6 => (rows(), rows()).prop_map(|(a, b)| Op::Commit([a, b])),
        2 => (flow(), 0..60u64).prop_map(|(f, below)| Op::Trim(f, below)),
        2 => (flow(), prop::collection::vec(0..60u64, 0..6)).prop_map(|(f, s)| Op::Withdraw(f, s)),
        2 => (flow(), 0..60u64, 0..30u64).prop_map(|(f, from, n)| Op::TrimWithin(f, from, from + n)),
        3 => (flow(), prop::collection::btree_map(0..9u64, 0..8u8, 0..6), marks())
            .prop_map(|(f, set, taken)| Op::Mark(f, set, taken)),
        1 => flow().prop_map(Op::Forget),
        2 => (flow(), progress, journal_model::ended()).prop_map(|(f, row, ended)| Op::Progress(f, row, ended)),
        2 => (flow(), journal_model::ended()).prop_map(|(f, ended)| Op::Note(f, ended)),
        1 => (0..1_000i64, 1..4usize).prop_map(|(before, pages)| Op::TrimJournal(before, pages)),
        1 => (flow(), 0..3u64).prop_map(|(f, profile)| Op::DropAnswers(f, profile)),
        3 => (flow(), 0..8u64, length()).prop_map(|(f, s, l)| Op::Bury(f, s, l)),
        2 => (flow(), 0..8u64).prop_map(|(f, s)| Op::Raise(f, s)),
        1 => (flow(), prop::collection::vec(0..8u64, 0..6)).prop_map(|(f, s)| Op::Forgive(f, s)),
        2 => Just(Op::Sync),
        1 => Just(Op::Reopen),
        2 => Just(Op::Crash),
    ]
}

type Ranges = &'static [(u64, u64)];

pub(crate) type ByFlow<T> = BTreeMap<(String, u64), T>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    next: u64,
    lane: Option<u64>,
    sequences: [u64; 2],
    exports: ByFlow<ExportRow>,
    withdrawn: BTreeSet<(String, u64)>,
    progress: BTreeMap<String, ProgressRow>,
    journal: ByFlow<EndedExport>,
    dead: ByFlow<DeadLetterRow>,
    marked: BTreeMap<(String, MarkKey), Mark>,
}

fn row(sequence: u64, length: usize) -> ExportRow {
    ExportRow {
        profile: sequence % 5,
        policy: 1,
        causes: 3,
        offset: sequence * 7,
        boundary_ms: sequence.is_multiple_of(3).then_some(-5),
        rendered_after: sequence.is_multiple_of(4).then_some(sequence * 7),
        accepted_ms: -1,
        payload: noise(sequence + length as u64, length),
    }
}

pub(crate) fn dead(sequence: u64, length: usize) -> DeadLetterRow {
    let answer = noise(sequence, 1024);
    let attempt = AttemptRow { at_ms: 5, status: Some(503), error: "busy".to_owned(), answer };
    let attempts = vec![attempt; 3];
    DeadLetterRow {
        export: row(sequence, length),
        attempts,
        died_ms: 9,
        replay: length.is_multiple_of(2),
    }
}

/// Does `op` to both; every one of these is a single batch, but for trimming and withdrawing.
fn write(store: &Store, model: &mut Model, op: &Op) {
    match op {
        Op::Commit(flows) => commit(store, model, flows),
        Op::Trim(flow, below) => {
            store.outbox().trim(FLOWS[*flow], *below).unwrap();
            // By whole chunks: what is left below is for the store to say.
            let left = read(store, FLOWS[*flow]);
            let gone = |(name, sequence): &(String, u64)| {
                name == FLOWS[*flow] && sequence < below && !left.contains_key(sequence)
            };
            model.exports.retain(|key, _| !gone(key));
            let left = withdrawn(store, FLOWS[*flow]);
            model.withdrawn.retain(|key @ (name, sequence)| {
                name != FLOWS[*flow] || sequence >= below || left.contains(key)
            });
        }
        Op::TrimWithin(flow, first, last) => {
            store.outbox().trim_within(FLOWS[*flow], &[(*first, *last)]).unwrap();
            // By whole chunks, as above.
            let left = read(store, FLOWS[*flow]);
            let gone = |(name, sequence): &(String, u64)| {
                let within = (first..=last).contains(&sequence);
                name == FLOWS[*flow] && within && !left.contains_key(sequence)
            };
            model.exports.retain(|key, _| !gone(key));
        }
        Op::Mark(flow, set, taken) => mark(store, model, FLOWS[*flow], (set, taken)),
        Op::Forget(flow) => {
            store.outbox().forget_marked(FLOWS[*flow]).unwrap();
            model.marked.retain(|(name, _), _| name != FLOWS[*flow]);
        }
        Op::Withdraw(flow, sequences) => {
            // `row` makes the offset of the sequence.
            let is_gone = |row: &ExportRow| sequences.contains(&(row.offset / 7));
            let told = store.outbox().withdraw(FLOWS[*flow], &is_gone, 7).unwrap();
            let gone = |(name, sequence): &(String, u64)| {
                name == FLOWS[*flow] && sequences.contains(sequence)
            };
            let expected: Vec<_> = model.exports.keys().filter(|key| gone(key)).cloned().collect();
            assert_eq!(told, expected.iter().map(|(_, sequence)| *sequence).collect::<Vec<_>>());
            for key in &expected {
                let row = &model.exports[key];
                let ended = journal_model::withdrawn(key.1, row, 7);
                model.journal.entry(key.clone()).or_insert(ended);
            }
            model.withdrawn.extend(expected);
            model.exports.retain(|key, _| !gone(key));
        }
        Op::Forgive(flow, sequences) => {
            let is_gone = |row: &ExportRow| sequences.contains(&(row.offset / 7));
            let told = store.dead_letters().withdraw(FLOWS[*flow], &is_gone).unwrap();
            let gone =
                |name: &str, row: &DeadLetterRow| name == FLOWS[*flow] && is_gone(&row.export);
            let expected = model.dead.iter().filter(|((name, _), row)| gone(name, row));
            assert_eq!(told, expected.map(|((_, sequence), _)| *sequence).collect::<Vec<_>>());
            model.dead.retain(|(name, _), row| !gone(name, row));
        }
        Op::Progress(..) | Op::Note(..) | Op::TrimJournal(..) | Op::DropAnswers(..) => {
            write_journal(store, model, op);
        }
        Op::Bury(flow, sequence, length) => {
            let row = dead(*sequence, *length);
            store.dead_letters().put(FLOWS[*flow], *sequence, &row).unwrap();
            model.dead.insert((FLOWS[*flow].to_owned(), *sequence), row);
        }
        Op::Raise(flow, sequence) => {
            let removed = store.dead_letters().remove(FLOWS[*flow], *sequence).unwrap();
            let key = (FLOWS[*flow].to_owned(), *sequence);
            assert_eq!(removed, model.dead.remove(&key).is_some());
        }
        Op::Sync | Op::Reopen | Op::Crash => unreachable!("no write"),
    }
}

/// What is progress, or journal.
fn write_journal(store: &Store, model: &mut Model, op: &Op) {
    match op {
        Op::Progress(flow, row, ended) => {
            store.progress().write(FLOWS[*flow], row, ended).unwrap();
            model.progress.insert(FLOWS[*flow].to_owned(), row.clone());
            journal_model::note(&mut model.journal, FLOWS[*flow], ended);
        }
        Op::Note(flow, ended) => {
            store.journal().note(FLOWS[*flow], ended).unwrap();
            journal_model::note(&mut model.journal, FLOWS[*flow], ended);
        }
        Op::TrimJournal(before_ms, pages) => {
            journal_model::trim(store, &mut model.journal, (*before_ms, *pages));
        }
        Op::DropAnswers(flow, profile) => {
            store.journal().drop_answers(FLOWS[*flow], &|_, of, _| of == *profile).unwrap();
            let rows = model.journal.iter_mut().filter(|((name, _), _)| name == FLOWS[*flow]);
            rows.filter(|(_, row)| row.profile == *profile)
                .flat_map(|(_, row)| &mut row.attempts)
                .for_each(|attempt| attempt.answer.clear());
        }
        _ => unreachable!("neither"),
    }
}

/// Half of the profiles are under another policy.
fn key(profile: u64) -> MarkKey {
    MarkKey { policy: u32::from(profile.is_multiple_of(2)), profile }
}

fn mark(store: &Store, model: &mut Model, flow: &str, (set, taken): (&BTreeMap<u64, u8>, &[u64])) {
    model.next += 1;
    let next = model.next;
    let mut marks = FlowMarks { dataflow: flow.to_owned(), ..FlowMarks::default() };
    for (profile, causes) in set {
        let new = Mark { causes: *causes, offset: next, boundary_ms: Some(1), accepted_ms: -7 };
        marks.set.insert(key(*profile), new);
        let known = model.marked.entry((flow.to_owned(), key(*profile))).or_insert(new);
        known.causes |= causes;
    }
    for profile in taken.iter().filter(|profile| !set.contains_key(profile)) {
        marks.taken.insert(key(*profile));
        model.marked.remove(&(flow.to_owned(), key(*profile)));
    }
    let next = Offset::from_u64(next);
    store.outbox().commit(&Derived { next, marked: vec![marks], ..Derived::default() }).unwrap();
}

fn commit(store: &Store, model: &mut Model, flows: &[(u64, Vec<usize>); 2]) {
    model.next += 3;
    model.lane = Some(model.next * 2);
    let lane = LaneMark { lane: "backfill".to_owned(), through: model.next * 2 };
    let mut derived =
        Derived { next: Offset::from_u64(model.next), lanes: vec![lane], ..Derived::default() };
    for (flow, (gap, lengths)) in flows.iter().enumerate() {
        let first_sequence = model.sequences[flow] + 1 + gap;
        let rows: Vec<_> =
            (first_sequence..).zip(lengths).map(|(seq, length)| row(seq, *length)).collect();
        for (sequence, row) in (first_sequence..).zip(&rows) {
            model.exports.insert((FLOWS[flow].to_owned(), sequence), row.clone());
        }
        model.sequences[flow] = first_sequence - 1 + rows.len() as u64;
        derived.flows.push(FlowExports { dataflow: FLOWS[flow].to_owned(), first_sequence, rows });
    }
    store.outbox().commit(&derived).unwrap();
}

fn read(store: &Store, flow: &str) -> BTreeMap<u64, ExportRow> {
    store.outbox().read(flow, 0, usize::MAX).unwrap().into_iter().collect()
}

fn withdrawn(store: &Store, flow: &str) -> BTreeSet<(String, u64)> {
    let ranges = store.outbox().withdrawn(flow, 0, u64::MAX);
    ranges
        .into_iter()
        .flat_map(|(first, last)| first..=last)
        .map(|sequence| (flow.to_owned(), sequence))
        .collect()
}

/// What the store says, in the form of the model.
fn observe(store: &Store) -> Model {
    let mut seen = Model {
        next: store.outbox().derived_next().as_u64(),
        lane: store.outbox().lane("backfill"),
        sequences: FLOWS.map(|flow| store.outbox().next_sequence(flow) - 1),
        ..Model::default()
    };
    for flow in FLOWS {
        let rows = read(store, flow);
        assert_eq!(rows.is_empty(), store.outbox().stored_bytes(flow) == 0, "{flow}");
        let named = rows.into_iter().map(|(sequence, row)| ((flow.to_owned(), sequence), row));
        seen.exports.extend(named);
        seen.withdrawn.extend(withdrawn(store, flow));
        let marked = store.outbox().marked_profiles(flow, None, usize::MAX).unwrap();
        let (count, next) = store.outbox().marked_and_next_sequence(flow);
        assert_eq!((count, next), (marked.len() as u64, store.outbox().next_sequence(flow)));
        for (key, mark) in marked {
            assert_eq!(store.outbox().mark(flow, key).unwrap(), Some(mark), "{flow}");
            seen.marked.insert((flow.to_owned(), key), mark);
        }
        let count = seen.dead.len() as u64;
        let listed = store.dead_letters().list(Some(flow), None, usize::MAX).unwrap();
        seen.dead.extend(listed.into_iter().map(|(name, sequence, row)| ((name, sequence), row)));
        assert_eq!(seen.dead.len() as u64 - count, store.dead_letters().count(flow), "{flow}");
    }
    for flow in FLOWS {
        seen.journal.extend(journal_model::observe(store, flow));
    }
    for flow in store.progress().dataflows().unwrap() {
        seen.progress.insert(flow.clone(), store.progress().read(&flow).unwrap());
    }
    let all = store.dead_letters().list(None, None, usize::MAX).unwrap();
    assert!(
        all.iter().map(|(name, seq, _)| (name, *seq)).eq(seen.dead.keys().map(|(n, s)| (n, *s)))
    );
    seen
}

/// The states a crash may lead to: the synced one, and that after each write since.
struct History {
    states: Vec<Model>,
}

impl History {
    fn now(&self) -> &Model {
        self.states.last().expect("there is always the synced one")
    }

    fn settle(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }
}

fn apply(host: &mut Host, history: &mut History, op: &Op) -> Result<(), TestCaseError> {
    match op {
        Op::Sync => {
            host.store().sync_state().unwrap();
            history.settle();
        }
        Op::Reopen => {
            host.reopen();
            history.settle();
        }
        Op::Crash => {
            host.crash();
            let seen = observe(host.store());
            let known = history.states.contains(&seen);
            prop_assert!(known, "none of {} states", history.states.len());
            history.states = vec![seen];
        }
        op => {
            let mut next = history.now().clone();
            write(host.store(), &mut next, op);
            if matches!(op, Op::Withdraw(..)) {
                // The journal tells it first.
                let journal = next.journal.clone();
                history.states.push(Model { journal, ..history.now().clone() });
            }
            history.states.push(next);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_state_matches_sorted_maps(ops in prop::collection::vec(op(), 1..40)) {
        let mut host = Host::new(StoreOptions::default());
        let mut history = History { states: vec![Model::default()] };
        for op in &ops {
            apply(&mut host, &mut history, op)?;
            prop_assert!(observe(host.store()) == *history.now(), "after {:?}", op);
        }
    }
}

#[test]
fn marked_profiles_are_listed_page_by_page() {
    let host = Host::new(StoreOptions::default());
    let (policy, mut model) = (|policy, profile| MarkKey { policy, profile }, Model::default());
    for flow in ["to", "to_x"] {
        mark(host.store(), &mut model, flow, (&(0..6).map(|profile| (profile, 1)).collect(), &[]));
    }
    let outbox = host.store().outbox();
    let page = |after, limit| -> Vec<MarkKey> {
        let page = outbox.marked_profiles("to", after, limit).unwrap();
        page.into_iter().map(|(key, _)| key).collect()
    };
    let all = [(0, 1), (0, 3), (0, 5), (1, 0), (1, 2), (1, 4)].map(|(p, id)| policy(p, id));
    assert_eq!(page(None, 9), all);
    assert_eq!(page(None, 2), all[..2]);
    assert_eq!(page(Some(all[1]), 3), all[2..5]);
    assert_eq!(page(Some(policy(0, 4)), 1), all[2..3], "behind one that is not there");
    assert_eq!(page(Some(all[5]), 9), []);
    assert_eq!(outbox.marked_dataflows(), ["to", "to_x"]);
    outbox.forget_marked("to").unwrap();
    assert_eq!((outbox.marked_dataflows(), page(None, 9)), (vec!["to_x".to_owned()], vec![]));
    assert_eq!(outbox.mark("to", all[0]).unwrap(), None);
}

#[test]
fn what_is_done_above_one_that_waits_is_dropped_by_whole_chunks() {
    let host = Host::new(StoreOptions::default());
    let outbox = host.store().outbox();
    let rows: Vec<_> = (1..=1_000).map(|sequence| row(sequence, 1_000)).collect();
    let flow = FlowExports { dataflow: "to".to_owned(), first_sequence: 1, rows };
    outbox.commit(&Derived { flows: vec![flow], ..Derived::default() }).unwrap();
    outbox.trim_within("to", &[(2, 300), (310, 1_000)]).unwrap();
    let left: Vec<u64> = outbox.read("to", 0, usize::MAX).unwrap().iter().map(|r| r.0).collect();
    assert_eq!(left[0], 1);
    assert!((301..310).all(|sequence| left.contains(&sequence)), "{left:?}");
    assert!(left.len() < 250, "{} of three chunks", left.len());
}

#[test]
fn exports_are_read_by_whole_chunks_and_trimmed_by_them() {
    let host = Host::new(StoreOptions::default());
    let outbox = host.store().outbox();
    let rows: Vec<_> = (1..=1_000).map(|sequence| row(sequence, 1_000)).collect();
    let flow = FlowExports { dataflow: "to".to_owned(), first_sequence: 1, rows };
    outbox.commit(&Derived { flows: vec![flow], ..Derived::default() }).unwrap();

    let some = outbox.read("to", 100, 1).unwrap();
    assert_eq!(some.first().map(|(sequence, _)| *sequence), Some(100));
    assert!((1..200).contains(&some.len()), "{} exports for one byte", some.len());
    let more = outbox.read("to", 1, 300_000).unwrap();
    assert!((290..400).contains(&more.len()), "{} exports for 300 kB", more.len());
    assert_eq!(outbox.read("to", 1_001, 1_000).unwrap(), []);
    assert_eq!(outbox.read("other", 1, 1_000).unwrap(), []);

    let before = outbox.stored_bytes("to");
    outbox.trim("to", 501).unwrap();
    let first = outbox.read("to", 0, 1).unwrap()[0].0;
    assert!((402..=501).contains(&first), "{first} is the first left");
    let after = outbox.stored_bytes("to");
    assert!(after * 10 > before * 4 && after * 10 < before * 7, "{after} of {before} bytes");
    outbox.trim("to", 1_001).unwrap();
    assert_eq!((outbox.stored_bytes("to"), outbox.next_sequence("to")), (0, 1_001));
}

#[test]
fn withdrawn_sequences_are_told_until_they_are_trimmed() {
    let mut host = Host::new(StoreOptions::default());
    let rows: Vec<_> = (1..=100).map(|sequence| row(sequence, 10_000)).collect();
    let flow = FlowExports { dataflow: "to".to_owned(), first_sequence: 1, rows };
    host.store().outbox().commit(&Derived { flows: vec![flow], ..Derived::default() }).unwrap();
    let profiles = |gone: &[u64]| {
        let gone = gone.to_vec();
        move |row: &ExportRow| gone.contains(&row.profile)
    };
    assert_eq!(host.store().outbox().withdraw("to", &profiles(&[1, 2]), 7).unwrap().len(), 40);
    assert_eq!(host.store().outbox().withdraw("to", &profiles(&[2]), 7).unwrap(), [], "not again");
    host.reopen();
    let outbox = host.store().outbox();
    // (from, through, ranges)
    let cases: [(u64, u64, Ranges); 5] = [
        (1, 12, &[(1, 2), (6, 7), (11, 12)]),
        (2, 11, &[(2, 2), (6, 7), (11, 11)]),
        (3, 5, &[]),
        (97, 100, &[(97, 97)]),
        (101, 200, &[]),
    ];
    for (from, through, expected) in cases {
        assert_eq!(outbox.withdrawn("to", from, through), expected, "{from} to {through}");
    }
    assert_eq!(outbox.withdrawn("other", 1, 100), []);
    outbox.trim("to", 52).unwrap();
    // Sequences 56 and 57 stood in two chunks.
    let left = [(51, 52), (56, 56), (57, 57)];
    assert_eq!(outbox.withdrawn("to", 1, 60), left, "what reaches beyond stays");
    outbox.trim("to", 101).unwrap();
    assert_eq!(outbox.withdrawn("to", 1, 100), []);
}

#[test]
fn a_sequence_is_never_given_twice_and_the_log_never_derived_backwards() {
    let host = Host::new(StoreOptions::default());
    let derived = |next, first_sequence| {
        let dataflow = "to".to_owned();
        let flows = vec![FlowExports { dataflow, first_sequence, rows: vec![row(1, 9); 2] }];
        Derived { next: Offset::from_u64(next), flows, ..Derived::default() }
    };
    // (what it shows, next offset, first sequence, taken, next sequence afterwards)
    let cases = [
        ("zero comes before the first", 10, 0, false, 1),
        ("the first", 10, 1, true, 3),
        ("again", 10, 2, false, 3),
        ("backwards", 9, 3, false, 3),
        ("the same offset, as for a backfill", 10, 3, true, 5),
        ("a gap", 11, 9, true, 11),
    ];
    for (name, next, first, taken, sequence) in cases {
        assert_eq!(host.store().outbox().commit(&derived(next, first)).is_ok(), taken, "{name}");
        assert_eq!(host.store().outbox().next_sequence("to"), sequence, "{name}");
    }
}

#[test]
fn dead_letters_are_listed_page_by_page() {
    let host = Host::new(StoreOptions::default());
    let letters = host.store().dead_letters();
    for (flow, sequence) in [("b", 1), ("a", 300), ("a", 2), ("a-", 5)] {
        letters.put(flow, sequence, &dead(sequence, 100_000)).unwrap();
    }
    let page = |flow, after, limit| -> Vec<(String, u64)> {
        let rows = letters.list(flow, after, limit).unwrap();
        rows.into_iter().map(|(name, sequence, _)| (name, sequence)).collect()
    };
    let named = |keys: &[(&str, u64)]| -> Vec<(String, u64)> {
        keys.iter().map(|(name, sequence)| ((*name).to_owned(), *sequence)).collect()
    };
    // (what it shows, dataflow, after, limit, listed)
    let cases = [
        ("all", None, None, 9, named(&[("a", 2), ("a", 300), ("a-", 5), ("b", 1)])),
        ("the first page", None, None, 2, named(&[("a", 2), ("a", 300)])),
        ("the next", None, Some(("a", 300)), 2, named(&[("a-", 5), ("b", 1)])),
        ("behind the last", None, Some(("b", 1)), 2, named(&[])),
        ("one dataflow", Some("a"), None, 9, named(&[("a", 2), ("a", 300)])),
        ("one dataflow, next page", Some("a"), Some(("a", 2)), 9, named(&[("a", 300)])),
        ("a page of another", Some("a"), Some(("b", 1)), 9, named(&[])),
        ("an earlier page of another", Some("b"), Some(("a", 2)), 9, named(&[("b", 1)])),
    ];
    for (name, flow, after, limit, expected) in cases {
        assert_eq!(page(flow, after, limit), expected, "{name}");
    }
}
