//! The past against a fresh engine: what is told as of a moment is what an engine knows that was fed
//! everything up to it, and nothing since. Whoever is erased later on is told of as if their bytes were
//! gone already.

use std::collections::BTreeMap;

use forebay_engine::clock::Timestamp;
use forebay_engine::engine::{AsOf, Engine, ProfileQuestion};
use forebay_engine::views::ProfileView;
use forebay_tests::place::{Silent, advance};
use forebay_tests::{Place, Seed};

use super::naive::POLICIES;
use super::random::{Happening, What, happenings, time_text};
use super::{RECORDS, configuration, play};

/// Runs with seeds from 0 on.
const SEEDS: u64 = 5;

/// Questions of one run.
const QUESTIONS: usize = 30;

/// Times asked about in one run.
const TIMES: usize = 4;

/// Somebody who may be known, and the policy to see them under.
fn question(seed: &mut Seed) -> ProfileQuestion {
    let (namespace, id) = match seed.within(0..8) {
        0 => ("Email", format!("m{}", seed.within(0..5))),
        1 => ("crmid", format!("x{}", seed.within(0..5))),
        _ => ("CRMID", format!("c{}", seed.within(0..6))),
    };
    let policy = Some(seed.one_of(POLICIES).id.to_owned());
    ProfileQuestion { namespace: namespace.to_owned(), id, policy, dataflow: None }
}

/// Some questions, each with how many happenings were before it.
fn questions(seed: &mut Seed, count: usize) -> BTreeMap<usize, Vec<ProfileQuestion>> {
    let mut all: BTreeMap<usize, Vec<ProfileQuestion>> = BTreeMap::new();
    for _ in 0..QUESTIONS {
        let at = usize::try_from(seed.within(1..count as u64 + 1)).expect("a place in a list");
        all.entry(at).or_default().push(question(seed));
    }
    all
}

fn text(view: Option<&ProfileView>) -> String {
    serde_json::to_string(&view).expect("a view is JSON")
}

fn was(engine: &Engine, question: &ProfileQuestion, as_of: AsOf) -> String {
    let history = engine.history().expect("the engine answers");
    let found = history.profile(question, as_of, &Silent).expect("there was such a moment");
    text(found.as_ref())
}

fn is(engine: &Engine, question: &ProfileQuestion) -> String {
    text(engine.profile_page(question).expect("the engine answers").as_ref())
}

#[test]
fn the_past_is_what_a_fresh_engine_knows_that_was_fed_it() {
    for number in 0..SEEDS {
        let mut seed = Seed::new(number);
        let mut happenings = happenings(&mut seed, RECORDS, POLICIES);
        happenings.retain(|happening| happening.what != What::Erased);
        let questions = questions(&mut seed, happenings.len());

        let fresh = Place::new(&configuration());
        let engine = fresh.open();
        let mut known = Vec::new();
        for (at, happening) in (1..).zip(&happenings) {
            play(&engine, std::slice::from_ref(happening));
            let next = engine.summary().expect("the engine answers").next_offset;
            for question in questions.get(&at).into_iter().flatten() {
                known.push((question, next - 1, is(&engine, question)));
            }
        }
        engine.close().expect("the engine stops");

        let place = Place::new(&configuration());
        let engine = place.open();
        play(&engine, &happenings);
        for (question, offset, expected) in known {
            let found = was(&engine, question, AsOf::Offset(offset));
            assert_eq!(found, expected, "seed {number}, as of {offset}: {question:?}");
        }
        engine.close().expect("the engine stops");
    }
}

/// What is known at a time, but for the entry that moved the clock there.
fn at_that_time(view: &str) -> &str {
    view.split(",\"next_offset\"").next().expect("there is a first part")
}

#[test]
fn a_time_of_the_past_is_what_a_fresh_engine_knows_whose_clock_was_moved_there() {
    for number in 0..SEEDS {
        let mut seed = Seed::new(number);
        let mut happenings = happenings(&mut seed, RECORDS, POLICIES);
        // An import has no time of its own.
        let has_time = |what: &What| !matches!(what, What::Erased | What::Imported(_));
        happenings.retain(|happening| has_time(&happening.what));
        let clock_at = |at: usize| happenings[..=at].iter().map(|h| h.time_ms).max().expect("some");
        let last_ms = clock_at(happenings.len() - 1);
        let place = Place::new(&configuration());
        let engine = place.open();
        play(&engine, &happenings);
        for _ in 0..TIMES {
            let at = usize::try_from(seed.within(1..happenings.len() as u64)).expect("a place");
            let moved_ms = i64::try_from(seed.within(0..3 * 86_400_000)).expect("some days");
            let time_ms =
                clock_at(at).saturating_add(moved_ms * i64::from(seed.chance(70))).min(last_ms);
            let before = (0..happenings.len()).take_while(|at| clock_at(*at) <= time_ms).count();
            let question = question(&mut seed);

            let fresh = Place::new(&configuration());
            let other = fresh.open();
            play(&other, &happenings[..before]);
            advance(&other, &time_text(time_ms));
            let expected = is(&other, &question);
            other.close().expect("the engine stops");

            let found = was(&engine, &question, AsOf::Time(Timestamp::from_millis(time_ms)));
            let (found, expected) = (at_that_time(&found), at_that_time(&expected));
            assert_eq!(found, expected, "seed {number}, at {time_ms}: {question:?}");
        }
        engine.close().expect("the engine stops");
    }
}

/// The happenings, with the first of them repeated as a delete of somebody at the end.
fn with_deletes(seed: &mut Seed) -> Vec<Happening> {
    let mut all = happenings(seed, RECORDS, POLICIES);
    let mut last = all[0].clone();
    last.what = What::Erased;
    last.identities = vec![format!("crmid:c{}", seed.within(0..6))];
    all.push(last);
    all
}

#[test]
fn who_is_erased_later_is_told_of_as_if_their_bytes_were_gone() {
    for number in 0..SEEDS {
        let mut seed = Seed::new(number);
        let happenings = with_deletes(&mut seed);
        let place = Place::new(&configuration());
        let engine = place.open();
        play(&engine, &happenings);
        let next = engine.summary().expect("the engine answers").next_offset;
        let asked: Vec<_> = (0..QUESTIONS)
            .map(|_| (question(&mut seed), AsOf::Offset(seed.within(1..next))))
            .collect();
        let ask = || asked.iter().map(|(question, at)| was(&engine, question, *at));
        let before: Vec<String> = ask().collect();
        assert!(engine.compact().expect("it is compacted").records > 0, "seed {number}");
        for ((found, expected), question) in before.into_iter().zip(ask()).zip(&asked) {
            assert_eq!(found, expected, "seed {number}: {question:?}");
        }
        engine.close().expect("the engine stops");
    }
}
