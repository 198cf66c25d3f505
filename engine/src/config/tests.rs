//! Whole configurations, good and bad, as files in a directory of their own.

mod audience_files;
mod faults;
mod reading;

use std::path::Path;

use super::{Config, Diagnostic, Diagnostics, KindOf, PqlFacts, PqlFault};

/// One file of a configuration: its path below the directory, and its text.
type File<'a> = (&'a str, &'a str);

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "TOKEN" => "s3cret",
        "SIGNING" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "LINES" => "a\r\nX-Evil: 1",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

/// Stands in for the language: `inSegment("x")` names x, each `WHAT` is a step of one chain, `= =` is
/// wrong, all else is right.
fn pql(text: &str, _: &KindOf<'_>) -> Result<PqlFacts, PqlFault> {
    if let Some(at) = text.find("= =") {
        let message = "expected a value, found `=`".to_owned();
        return Err(PqlFault { span: at + 2..at + 3, message, help: None });
    }
    let calls = text.match_indices("inSegment(\"");
    let segments = calls.map(|(at, call)| {
        let start = at + call.len();
        let end = start + text[start..].find('"').expect("the quotes close");
        (text[start..end].to_owned(), start..end)
    });
    let chain_steps = text.matches("WHAT").count();
    Ok(PqlFacts { segments: segments.collect(), chain_steps })
}

fn load(toml: &str, others: &[File<'_>]) -> Result<Config, Diagnostics> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in others.iter().chain(&[("forebay.toml", toml)]) {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let path = directory.path().join("forebay.toml");
    let mut loaded = Config::load_with(&path, &environment, &pql);
    let local = |d: &mut Diagnostic| {
        d.file = d.file.strip_prefix(directory.path()).unwrap().to_owned();
        d.message = d.message.replace(&format!("{}/", directory.path().display()), "");
        d.help =
            d.help.as_ref().map(|h| h.replace(&format!("{}/", directory.path().display()), ""));
    };
    match &mut loaded {
        Ok(config) => config.warnings.iter_mut().for_each(local),
        Err(faults) => faults.0.iter_mut().for_each(local),
    }
    loaded
}

fn good(toml: &str) -> Config {
    load(toml, &[]).unwrap_or_else(|faults| panic!("{toml}\n{faults}"))
}

/// The errors as `LINE:COL marked text: message (help)`.
fn errors(toml: &str, others: &[File<'_>]) -> Vec<String> {
    let faults = load(toml, others).expect_err(toml);
    faults.0.iter().map(brief).collect()
}

fn brief(d: &Diagnostic) -> String {
    let marked: String = d.source_line.chars().skip(d.caret.start).take(d.caret.len()).collect();
    let help = d.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
    let file = if d.file == Path::new("forebay.toml") {
        String::new()
    } else {
        format!("{}:", d.file.display())
    };
    format!("{file}{}:{} {marked}: {}{help}", d.line, d.column, d.message)
}

/// A destination table with more keys.
fn destination(keys: &str) -> String {
    format!("[[destination]]\nid = \"d\"\nendpoint = \"https://example.com/in\"\n{keys}\n")
}

/// Enough audiences, with a destination, for a dataflow table with more keys.
fn dataflow(keys: &str) -> String {
    let before = "[[audience]]\nid = \"a\"\npql = 'x'\n[[audience]]\nid = \"b\"\npql = 'y'\n";
    let after = "attributes = [\"person.name\"]";
    let keys =
        if keys.contains("attributes") { keys.to_owned() } else { format!("{keys}\n{after}") };
    format!("{before}{}[[dataflow]]\nid = \"f\"\ndestination = \"d\"\n{keys}\n", destination(""))
}
