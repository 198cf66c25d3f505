//! What is told of one profile from the chunks that name it, against what the whole log tells.
//!
//! The records of the model, for several groups of customers that never meet but share the clock, the
//! datasets, the imports and the ids of events. They are appended a few at a time, so that there are many
//! chunks, and those of one group name few others. What is defined changes on the way, and half of the runs
//! delete somebody. Then everything is asked twice: of a directory as it is, of one whose chunks have lost
//! what was told of them here and there, and of both when they were compacted.

use std::fs;
use std::sync::Arc;

use forebay_engine::clock::Timestamp;
use forebay_engine::engine::{AsOf, Engine, History, ProfileQuestion};
use forebay_storage::{Chunk, Entry, Offset, OutlinedChunk, Store, StoreOptions, StoredChunk};
use forebay_tests::configuration::{EVENT_CLOCK, dataflow, rule};
use forebay_tests::place::Silent;
use forebay_tests::{HandClock, Place, Seed};

use super::definitions::Definitions;
use super::naive::{DAY_MS, POLICIES, Policy};
use super::random::{Happening, What, happenings, time_text};
use super::{configuration, play};

/// Runs with seeds from 0 on, of each clock.
const SEEDS: u64 = 2;

/// Profiles and stories that must be told at least, lest nothing be compared but that nobody is there.
const TOLD_MIN: usize = 30;

/// Changes of what is defined in a run.
const CHANGES: usize = 4;

/// Records of one run.
const RECORDS: usize = 150;

/// Groups of customers.
const GROUPS: u64 = 6;

/// Questions about profiles as they were, of one directory.
const QUESTIONS: usize = 12;

/// Exports of one directory that are explained.
const EXPLAINED: usize = 10;

/// What is defined, one after another, and the clock.
struct Setting {
    is_event_clock: bool,
    configurations: Vec<String>,
    policies: &'static [Policy],
}

/// One run, and what is asked about it.
struct Run {
    place: Place,
    setting: Setting,
    /// When the first and the last record were.
    times: (i64, i64),
    /// The ids of exports.
    exports: Vec<String>,
}

impl Setting {
    /// Three merge policies, and later another audience and dataflow.
    fn of_policies(is_event_clock: bool) -> Self {
        let before = configuration();
        let (late, flow) = (rule("late", "n > 1"), dataflow("later", &["late", "french"], &["n"]));
        let after = [before.as_str(), &late, &flow].concat();
        Self { is_event_clock, configurations: vec![before, after], policies: POLICIES }
    }

    /// One merge policy, which changes as the audiences do.
    fn of_changes(seed: &mut Seed, is_event_clock: bool) -> Self {
        let mut defined = vec![Definitions::default()];
        for at in 0..CHANGES {
            defined.push(defined[at].changed(seed));
        }
        let configurations = defined.iter().map(Definitions::configuration).collect();
        Self { is_event_clock, configurations, policies: &POLICIES[..1] }
    }

    fn configuration(&self, at: usize) -> String {
        let text = &self.configurations[at];
        if self.is_event_clock { text.clone() } else { text.replace(EVENT_CLOCK, "") }
    }
}

/// The model's happenings, each in one of the groups. Half of the runs delete nobody.
fn grouped(seed: &mut Seed, policies: &[Policy]) -> Vec<Happening> {
    let mut all = happenings(seed, RECORDS, policies);
    if seed.chance(50) {
        all.retain(|happening| happening.what != What::Erased);
    }
    for happening in &mut all {
        let group = seed.within(0..GROUPS);
        let named = |identity: &String| format!("{identity}-{group}");
        happening.identities = happening.identities.iter().map(named).collect();
        if let What::Imported(ids) = &mut happening.what {
            let named = |id: &String| format!("{id}-{}", seed.within(0..GROUPS));
            *ids = ids.iter().map(named).collect();
        }
    }
    all
}

/// Lets everything happen, a few records at a time, and delivers what it leads to.
fn run(seed: &mut Seed, setting: Setting) -> Run {
    let all = grouped(seed, setting.policies);
    let times: Vec<i64> = all.iter().map(|happening| happening.time_ms).collect();
    let first_ms = *times.iter().min().expect("something happens");
    let last_ms = *times.iter().max().expect("something happens");
    let clock = Arc::new(HandClock::at(&time_text(first_ms)));
    let place = Place::with_clock(&setting.configuration(0), Arc::clone(&clock) as _);
    let mut exports = Vec::new();
    let mut now_ms = first_ms;
    let parts = all.chunks(all.len().div_ceil(setting.configurations.len()));
    for (at, part) in parts.enumerate() {
        place.configure(&setting.configuration(at));
        let ran = place.run_with(|engine| {
            let mut rest = part;
            while !rest.is_empty() {
                let count = usize::try_from(seed.within(1..4)).expect("it is small");
                let (some, others) = rest.split_at(count.min(rest.len()));
                now_ms = some.iter().map(|happening| happening.time_ms).fold(now_ms, i64::max);
                clock.set(&time_text(now_ms));
                play(engine, some);
                rest = others;
            }
        });
        exports.extend(ran.requests.iter().map(|request| request.id().to_owned()));
    }
    clock.set(&time_text(last_ms + 9 * DAY_MS));
    Run { place, setting, times: (first_ms, last_ms), exports }
}

/// A copy of a directory whose chunks were appended again, some without their outlines.
fn thinned(run: &Run, seed: &mut Seed, percent: u64) -> Place {
    let copy = run.place.copied(&run.setting.configuration(0));
    fs::remove_dir_all(copy.data().join("log")).expect("there was a log");
    let open = |place: &Place| {
        Store::open(&place.data(), StoreOptions::default()).expect("nobody holds it")
    };
    let (from, to) = (open(&run.place), open(&copy));
    let known = from.log().outlines(Offset::START).map(|known| known.expect("it can be read"));
    for (known, chunk) in known.zip(from.log().read(Offset::START)) {
        let chunk = chunk.expect("it can be read");
        let known =
            if seed.chance(percent) { OutlinedChunk { outline: None, ..known } } else { known };
        to.log().append(&[again(&chunk, known)]).expect("there is room");
    }
    to.log().sync().expect("there is room");
    copy
}

fn again(chunk: &StoredChunk, known: OutlinedChunk) -> Chunk<'_> {
    Chunk {
        now_ms: chunk.now_ms,
        mark: chunk.mark.clone(),
        rejects: chunk.rejects,
        outline: known.outline,
        entries: chunk.iter().map(|(_, kind, bytes)| Entry { kind, bytes }).collect(),
    }
}

fn profile(history: &History, (asked, as_of): &(ProfileQuestion, AsOf)) -> String {
    match history.profile(asked, *as_of, &Silent) {
        Ok(view) => serde_json::to_string(&view).expect("a view is JSON"),
        Err(error) => format!("error: {error}"),
    }
}

fn story(history: &History, export: &str) -> String {
    let view = history.explain_export(export, &Silent).expect("it can be explained");
    serde_json::to_string(&view).expect("a view is JSON")
}

fn question(seed: &mut Seed, run: &Run, end: u64) -> (ProfileQuestion, AsOf) {
    let (first_ms, last_ms) = run.times;
    let (namespace, id) = match seed.within(0..8) {
        0 => ("EMAIL", format!("m{}", seed.within(0..5))),
        1 => ("crmid", format!("x{}", seed.within(0..5))),
        _ => ("CRMID", format!("c{}", seed.within(0..6))),
    };
    let id = format!("{id}-{}", seed.within(0..GROUPS));
    let policy = (run.setting.policies.len() > 1).then(|| seed.one_of(POLICIES).id.to_owned());
    let asked = ProfileQuestion { namespace: namespace.to_owned(), id, policy, dataflow: None };
    let as_of = if seed.chance(70) {
        AsOf::Offset(seed.within(0..end))
    } else {
        let span_ms = (last_ms - first_ms + 2 * DAY_MS).unsigned_abs();
        let ms = first_ms - DAY_MS + i64::try_from(seed.within(0..span_ms)).expect("some days");
        AsOf::Time(Timestamp::from_millis(ms))
    };
    (asked, as_of)
}

/// Asks everything of the engine twice, and says how many profiles and stories were told.
fn compare(engine: &Engine, run: &Run, (seed, what): (&mut Seed, &str)) -> (usize, usize) {
    let (mut profiles, mut stories) = (0, 0);
    let end = engine.summary().expect("it answers").next_offset;
    let history = || engine.history().expect("it answers");
    let (sieved_history, whole_history) = (history(), history().whole());
    for _ in 0..QUESTIONS {
        let asked = question(seed, run, end);
        let sieved = profile(&sieved_history, &asked);
        assert_eq!(sieved, profile(&whole_history, &asked), "{what}: {asked:?}");
        profiles += usize::from(sieved.starts_with('{'));
    }
    for _ in 0..EXPLAINED.min(run.exports.len()) {
        let id = seed.one_of(&run.exports);
        let sieved = story(&sieved_history, id);
        assert_eq!(sieved, story(&whole_history, id), "{what}: {id}");
        stories += usize::from(sieved.contains("\"origin\":{"));
    }
    (profiles, stories)
}

/// Checks runs with seeds from 0 on.
fn check(setting: impl Fn(&mut Seed) -> Setting) {
    let (mut profiles, mut stories) = (0, 0);
    for number in 0..SEEDS {
        let mut seed = Seed::new(number);
        let setting = setting(&mut seed);
        let run = run(&mut seed, setting);
        let percent = *seed.one_of(&[10, 50]);
        let copy = thinned(&run, &mut seed, percent);
        for (place, of) in [(&run.place, "itself"), (&copy, "thinned")] {
            place.ask(|engine| {
                for when in ["before", "compacted"] {
                    let what = format!("seed {number}, {of}, {when}");
                    let told = compare(engine, &run, (&mut seed, &what));
                    (profiles, stories) = (profiles + told.0, stories + told.1);
                    engine.compact().expect("it compacts");
                }
            });
        }
    }
    assert!(profiles.min(stories) > TOLD_MIN, "{profiles} profiles, {stories} stories");
}

#[test]
fn by_the_event_clock_the_chunks_of_one_profile_tell_what_the_whole_log_tells() {
    check(|_| Setting::of_policies(true));
}

#[test]
fn by_the_wall_clock_the_chunks_of_one_profile_tell_what_the_whole_log_tells() {
    check(|_| Setting::of_policies(false));
}

#[test]
fn so_they_do_where_merge_policies_and_audiences_change() {
    let setting = |seed: &mut Seed| {
        let is_event_clock = seed.chance(50);
        Setting::of_changes(seed, is_event_clock)
    };
    check(setting);
}
