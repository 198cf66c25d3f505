//! "Did you mean": ids close to one that does not exist.

use crate::exit_code::CliError;

/// Least similarity (Jaro-Winkler, 1 is equal) that is worth a suggestion; typing errors stay
/// above 0.85, other words mostly below 0.7.
const SIMILAR: f64 = 0.8;

/// Most suggestions; more would be a list to read.
const SUGGESTIONS_MAX: usize = 3;

/// Checks that `id` is one of `known`, and says which ones are if not.
pub(crate) fn check_known(kind: &str, id: &str, known: &[String]) -> Result<(), CliError> {
    if known.iter().any(|other| other == id) {
        return Ok(());
    }
    Err(CliError::Usage(format!("there is no {kind} `{id}`{}", hint(kind, id, known))))
}

fn hint(kind: &str, id: &str, known: &[String]) -> String {
    if known.is_empty() {
        return format!("; there are no {kind}s at all, see the configuration");
    }
    let mut close: Vec<(f64, &String)> = known
        .iter()
        .map(|other| (strsim::jaro_winkler(&id.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .collect();
    close.sort_by(|a, b| b.0.total_cmp(&a.0));
    if close.is_empty() {
        return format!("; `forebay {kind} list` shows all {}", known.len());
    }
    let names: Vec<_> =
        close.iter().take(SUGGESTIONS_MAX).map(|(_, name)| format!("`{name}`")).collect();
    format!("; did you mean {}?", names.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::check_known;

    #[test]
    fn unknown_ids_come_with_the_ones_that_are_close() {
        let known = ["big_spenders", "top_spenders", "lapsed"].map(str::to_owned);
        // (id, known, what is said)
        let cases: [(&str, &[String], Option<&str>); 5] = [
            ("lapsed", &known, None),
            ("lapsd", &known, Some("there is no audience `lapsd`; did you mean `lapsed`?")),
            (
                "big_spendrs",
                &known,
                Some("there is no audience `big_spendrs`; did you mean `big_spenders`?"),
            ),
            (
                "xyz",
                &known,
                Some("there is no audience `xyz`; `forebay audience list` shows all 3"),
            ),
            (
                "xyz",
                &[],
                Some(
                    "there is no audience `xyz`; there are no audiences at all, see the configuration",
                ),
            ),
        ];
        for (id, known, expected) in cases {
            let said = check_known("audience", id, known).err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), expected, "{id}");
        }
    }
}
