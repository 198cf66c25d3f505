//! Which of the words that would be right a wrong word was meant to be.

/// Most letters that may differ for a word to be suggested; less for short words.
const DISTANCE_MAX: usize = 3;

/// The help for `word`, if one of `candidates` is close to it: `did you mean ...?`.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let nearest = candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .min()?;
    let allowed = (word.chars().count() / 2).clamp(1, DISTANCE_MAX);
    (nearest.0 <= allowed).then(|| format!("did you mean `{}`?", nearest.1))
}

/// How many letters must be put in, left out or replaced to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let keys = ["id", "name", "retry", "timeout", "max_in_flight"];
        // (the word, what is suggested)
        let cases = [
            ("retries", Some("retry")),
            ("time_out", Some("timeout")),
            ("Name", Some("name")),
            ("max_inflight", Some("max_in_flight")),
            ("if", Some("id")),
            ("colour", None),
            ("x", None),
        ];
        for (word, expected) in cases {
            let expected = expected.map(|key| format!("did you mean `{key}`?"));
            assert_eq!(did_you_mean(word, keys), expected, "{word}");
        }
        assert_eq!(did_you_mean("retries", []), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
    }
}
