//! What becomes of an export when its request ended (`SPEC.md` §8).
//!
//! Pure: the outcome, how many attempts there were, and a random number go in, a decision comes out.
//! Statuses are classified here and nowhere else.

use std::time::Duration;

use super::outcome::Outcome;
use super::settings::RetrySettings;

/// Jitter lengthens a backoff by at most this part of it.
const JITTER_MAX: f64 = 0.2;

/// What becomes of the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is done.
    Delivered,
    /// It is sent again after this time.
    Retry(Duration),
    /// It is sent again at once, with a new token, and the attempt does not count.
    Renew,
    /// It is given up on.
    DeadLetter,
    /// It is kept, and its destination rests until the next run.
    Gone,
}

/// Whether a 401 can be answered with a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// No: there is none, or it was renewed for this attempt already.
    Impossible,
    /// Yes.
    Possible,
}

/// One attempt, as far as the decision goes.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// Which attempt of its export it was, from 1.
    pub number: u32,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// Whether a token could be renewed.
    pub renewal: Renewal,
}

/// Decides. `random` is from `0.0..1.0`.
pub fn decide(settings: &RetrySettings, attempt: Attempted<'_>, random: f64) -> Decision {
    let wish = match attempt.outcome {
        Outcome::Status { code, retry_after, .. } => match code {
            200..=299 => return Decision::Delivered,
            401 if attempt.renewal == Renewal::Possible => return Decision::Renew,
            410 => return Decision::Gone,
            403 | 408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 => *retry_after,
            _ => return Decision::DeadLetter,
        },
        Outcome::Timeout | Outcome::Connect(_) | Outcome::Refused(_) => None,
    };
    if attempt.number > settings.max_retries {
        return Decision::DeadLetter;
    }
    let backoff = lengthened(backoff(&settings.backoff, attempt.number), random);
    Decision::Retry(backoff.max(wish.unwrap_or_default()))
}

/// How long `outcome` asks the whole dataflow to rest: 429 and 503 mean more than one export.
pub const fn hold(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Status { code: 429 | 503, retry_after, .. } => *retry_after,
        _ => None,
    }
}

/// Whether `outcome` shows that the destination works: it took the export, or disliked just this one.
pub const fn is_sign_of_life(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Status { code: 200..=299 | 400 | 413 | 422, .. })
}

/// The wait after attempt `number`; the last one configured repeats, none configured is no wait.
fn backoff(waits: &[Duration], number: u32) -> Duration {
    let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    waits.get(index).or(waits.last()).copied().unwrap_or_default()
}

fn lengthened(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 + JITTER_MAX * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Attempted, Decision, Renewal, decide, hold, is_sign_of_life};
    use crate::deliver::outcome::Outcome;
    use crate::deliver::settings::RetrySettings;

    fn status(code: u16, retry_after: Option<u64>) -> Outcome {
        let retry_after = retry_after.map(Duration::from_secs);
        Outcome::Status { code, retry_after, answer: Vec::new() }
    }

    #[test]
    fn each_outcome_has_its_decision() {
        use Decision::{DeadLetter, Delivered, Gone, Renew};
        let settings = RetrySettings {
            max_retries: 4,
            backoff: vec![Duration::from_secs(10), Duration::from_secs(20)],
        };
        let wait = |seconds| Decision::Retry(Duration::from_secs(seconds));
        let (plain, oauth) = (Renewal::Impossible, Renewal::Possible);
        let connect = || Outcome::Connect("refused".to_owned());
        // (what it shows, attempt, outcome, renewal, random, decision)
        let cases = [
            ("success", 1, status(200, None), plain, 0.0, Delivered),
            ("any success", 5, status(299, Some(9)), plain, 0.0, Delivered),
            ("first failure waits the first backoff", 1, status(500, None), plain, 0.0, wait(10)),
            ("second the second", 2, Outcome::Timeout, plain, 0.0, wait(20)),
            ("the last backoff repeats", 4, connect(), plain, 0.0, wait(20)),
            ("retries used up", 5, status(500, None), plain, 0.0, DeadLetter),
            ("jitter lengthens by a fifth at most", 1, status(502, None), plain, 1.0, wait(12)),
            ("and by less", 1, status(504, None), plain, 0.5, wait(11)),
            ("a longer wish is honoured", 1, status(429, Some(60)), plain, 0.0, wait(60)),
            ("on other statuses too", 1, status(409, Some(60)), plain, 0.0, wait(60)),
            ("without jitter", 1, status(429, Some(60)), plain, 1.0, wait(60)),
            ("a shorter one is not", 1, status(429, Some(1)), plain, 0.0, wait(10)),
            ("a wish gives no more retries", 5, status(429, Some(60)), plain, 0.0, DeadLetter),
            ("410 pauses", 1, status(410, None), plain, 0.0, Gone),
            ("even after the last retry", 5, status(410, None), plain, 0.0, Gone),
            ("401 renews the token", 1, status(401, None), oauth, 0.0, Renew),
            ("outside the count", 5, status(401, None), oauth, 0.0, Renew),
            ("401 without a token to renew", 1, status(401, None), plain, 0.0, DeadLetter),
            ("a refused address", 1, Outcome::Refused("10.0.0.1".into()), plain, 0.0, wait(10)),
        ];
        for (name, number, outcome, renewal, random, expected) in cases {
            let attempt = Attempted { number, outcome: &outcome, renewal };
            assert_eq!(decide(&settings, attempt, random), expected, "{name}");
        }
    }

    #[test]
    fn statuses_fall_into_their_classes() {
        let settings = RetrySettings { max_retries: 1, backoff: Vec::new() };
        for code in 100..=599 {
            let outcome = status(code, Some(7));
            let attempt = Attempted { number: 1, outcome: &outcome, renewal: Renewal::Impossible };
            let expected = match code {
                200..300 => Decision::Delivered,
                403 | 408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 => {
                    Decision::Retry(Duration::from_secs(7))
                }
                410 => Decision::Gone,
                _ => Decision::DeadLetter,
            };
            assert_eq!(decide(&settings, attempt, 0.5), expected, "{code}");
            let alive = matches!(code, 200..300 | 400 | 413 | 422);
            assert_eq!(is_sign_of_life(&outcome), alive, "{code}");
            let held = matches!(code, 429 | 503).then_some(Duration::from_secs(7));
            assert_eq!(hold(&outcome), held, "{code}");
        }
        assert!(!is_sign_of_life(&Outcome::Timeout));
    }

    #[test]
    fn no_retries_means_one_attempt() {
        let settings = RetrySettings { max_retries: 0, backoff: vec![Duration::ZERO] };
        let attempt =
            Attempted { number: 1, outcome: &Outcome::Timeout, renewal: Renewal::Impossible };
        assert_eq!(decide(&settings, attempt, 0.0), Decision::DeadLetter);
    }
}
