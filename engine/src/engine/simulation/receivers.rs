//! Receivers as a seed has them: well, slow, gone, overloaded, out of order, and well again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::random::Random;
use crate::deliver::outcome::Outcome;

/// A request that was sent and has not ended.
pub(super) struct Flight {
    pub(super) dataflow: String,
    pub(super) sequence: u64,
    pub(super) ends_ms: u64,
    pub(super) outcome: Outcome,
}

/// How a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Slow,
    Out,
    Overloaded,
    Flaky,
}

/// All destinations.
pub(super) struct Receivers {
    random: Random,
    moods: BTreeMap<String, (Mood, u64)>,
    is_healed: bool,
}

impl Receivers {
    pub(super) fn new(random: Random) -> Self {
        Self { random, moods: BTreeMap::new(), is_healed: false }
    }

    /// From now on all are well.
    pub(super) fn heal(&mut self) {
        self.is_healed = true;
    }

    /// How long a request to `destination` takes, in milliseconds, and how it ends.
    pub(super) fn answer(&mut self, destination: &str, now: u64) -> (u64, Outcome) {
        let quick = self.random.within(1, 20);
        let mood = if self.is_healed { Mood::Well } else { self.mood(destination, now) };
        let chance = self.random.below(100);
        match (mood, chance) {
            (Mood::Well, _) if self.is_healed => (quick, status(200)),
            (Mood::Well, 0..3) => (quick, status(404)),
            (Mood::Well, 3..6) | (Mood::Flaky, 0..20) => (quick, status(500)),
            (Mood::Slow, 0..30) => (2_000, Outcome::Timeout),
            (Mood::Slow, _) => (self.random.within(100, 1_900), status(200)),
            (Mood::Out, _) => (quick, Outcome::Connect("refused".to_owned())),
            (Mood::Overloaded, 0..30) => (quick, asking(429, self.random.within(1, 3))),
            (Mood::Overloaded, 30..40) => (quick, asking(503, 1)),
            (Mood::Flaky, 20..24) => (quick, status(410)),
            (Mood::Flaky, 24..28) => (quick, status(413)),
            (Mood::Flaky, 28..40) => (quick, status(401)),
            (Mood::Flaky, 40..50) => (quick, status(409)),
            (Mood::Well | Mood::Overloaded | Mood::Flaky, _) => (quick, status(204)),
        }
    }

    fn mood(&mut self, destination: &str, now: u64) -> Mood {
        let known = self.moods.get(destination).copied();
        if let Some((mood, _)) = known.filter(|(_, until)| now < *until) {
            return mood;
        }
        let moods = [
            (4, Mood::Well),
            (1, Mood::Slow),
            (1, Mood::Out),
            (1, Mood::Overloaded),
            (2, Mood::Flaky),
        ];
        let mood = self.random.weighed(&moods);
        let until = now + self.random.within(50, 5_000);
        self.moods.insert(destination.to_owned(), (mood, until));
        mood
    }
}

fn status(code: u16) -> Outcome {
    Outcome::Status { code, retry_after: None, answer: b"so".to_vec() }
}

fn asking(code: u16, seconds: u64) -> Outcome {
    let retry_after = Some(Duration::from_secs(seconds));
    Outcome::Status { code, retry_after, answer: Vec::new() }
}
