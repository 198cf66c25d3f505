//! House rules that the compiler and clippy cannot state, checked by `cargo test`.
//!
//! Every rule is a plain search through the sources; comments, string literals and the tests at the
//! end of a file are left out where a rule is about code that runs. A rule whose place is gone fails
//! too, so that none keeps watch over nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// (what is looked for, the only places that may contain it, why)
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("sled::", &["storage/"], "engine and cli must not know the storage backend"),
    ("bincode::", &["storage/src/"], "storage alone decides how values are encoded"),
    ("ureq::", &["engine/src/deliver/transport"], "the simulation swaps the transport"),
    ("Instant::now", &["engine/src/clock.rs"], "time is passed in, so that replay agrees"),
    ("SystemTime::now", &["engine/src/clock.rs"], "time is passed in, so that replay agrees"),
    ("println!", &["cli/", "tests/"], "libraries return, they do not print"),
    ("process::exit", &["cli/"], "libraries return, they do not end the program"),
];

/// What must not stay behind, in code that runs or in tests.
const LEFTOVERS: &[&str] =
    &["FIXME", "TODO", "XXX", "dbg!(", "todo!(", "unimplemented!(", "#[ignore"];

/// Most lines of a file. Past 400 a file is usually two.
const FILE_LINES_MAX: usize = 600;

/// Most lines of a function, from `fn` to its brace.
const FUNCTION_LINES_MAX: usize = 90;

/// The folders that hold Rust, from the root of the workspace.
const FOLDERS: [&str; 5] = ["storage", "engine", "cli", "benches", "tests"];

/// This file names what it forbids.
const SELF: &str = "tests/tidy.rs";

/// A Rust file.
struct Source {
    /// From the root of the workspace, with `/`.
    path: String,
    text: String,
    /// The text with comments, strings and characters blanked out, line for line.
    code: String,
}

#[test]
fn sources_are_tidy() {
    let sources = rust_sources();
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
    let mut found = stale_places(&sources);
    for source in &sources {
        found.extend(missing_header(source));
        found.extend(too_long(source));
        found.extend(long_functions(source));
        found.extend(bare_allows(source));
        if source.path != SELF {
            found.extend(confined(source));
            found.extend(leftovers(source));
        }
    }
    assert!(found.is_empty(), "{} untidy places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn each_rule_finds_what_it_forbids() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
        code: code_of(text),
    };
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LINES_MAX));
    let fits = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LINES_MAX - 2));
    // (what it shows, what a rule says of a text, how many places)
    let cases = [
        ("a name out of its place", confined(&source("cli/a.rs", "use sled::Db;")).len(), 1),
        ("a name in its place", confined(&source("storage/a.rs", "use sled::Db;")).len(), 0),
        ("a name in a comment", confined(&source("cli/a.rs", "// sled::Db")).len(), 0),
        ("a name in a string", confined(&source("cli/a.rs", "f(\"sled::\")")).len(), 0),
        ("a name in a raw string", confined(&source("cli/a.rs", "r#\"\"sled::\"#")).len(), 0),
        ("after a quoted character", confined(&source("cli/a.rs", "'\"' sled::Db")).len(), 1),
        ("beside a lifetime", confined(&source("cli/a.rs", "&'a sled::Db")).len(), 1),
        ("no header", usize::from(missing_header(&source("a.rs", "use a;")).is_some()), 1),
        ("a header", usize::from(missing_header(&source("a.rs", "//! Why.\nuse a;")).is_some()), 0),
        ("a long function", long_functions(&source("a.rs", &long)).len(), 1),
        ("a function that fits", long_functions(&source("a.rs", &fits)).len(), 0),
        ("an allow without reason", bare_allows(&source("a.rs", "#[allow(x)]")).len(), 1),
        ("an expect without reason", bare_allows(&source("a.rs", "#![expect(\n x\n)]")).len(), 1),
        ("an allow with one", bare_allows(&source("a.rs", "#[allow(x, reason = \"y\")]")).len(), 0),
        ("a left-over", leftovers(&source("a.rs", "// TODO: more")).len(), 1),
        (
            "a long file",
            usize::from(too_long(&source("a.rs", &"\n".repeat(FILE_LINES_MAX + 1))).is_some()),
            1,
        ),
    ];
    for (name, places, expected) in cases {
        assert_eq!(places, expected, "{name}");
    }
}

fn confined(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (name, places, why) in CONFINED {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        let lines = source.code.lines().enumerate().filter(|(_, line)| names(line, name));
        found.extend(lines.map(|(at, _)| format!("{}:{}: {name}: {why}", source.path, at + 1)));
    }
    found
}

/// Whether `line` names `name`, and not only something that ends like it (`eprintln!` does name
/// `println!`, as it prints too).
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].trim_end_matches('e');
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// Places named in [`CONFINED`] where nothing of the kind is left.
fn stale_places(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, places, _) in CONFINED {
        let holds = |source: &&Source| places.iter().any(|p| source.path.starts_with(p));
        let is_used = sources
            .iter()
            .filter(holds)
            .any(|source| source.path != SELF && source.text.contains(name));
        // Only `cli` may print or exit, and it need not.
        if !is_used && !places.contains(&"cli/") {
            found.push(format!("{name} is in none of {places:?} any more: mend the rule"));
        }
    }
    found
}

fn missing_header(source: &Source) -> Option<String> {
    (!source.text.starts_with("//! "))
        .then(|| format!("{}:1: no `//!` header that says why the file exists", source.path))
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > FILE_LINES_MAX)
        .then(|| format!("{}:1: {lines} lines, at most {FILE_LINES_MAX}", source.path))
}

fn leftovers(source: &Source) -> Vec<String> {
    let is_left = |line: &str| LEFTOVERS.iter().find(|leftover| names(line, leftover));
    let lines = source.text.lines().enumerate();
    lines
        .filter_map(|(at, line)| is_left(line).map(|what| (at, what)))
        .map(|(at, what)| format!("{}:{}: left over: {what}", source.path, at + 1))
        .collect()
}

/// Functions from their `fn` to the brace under its first column: the sources are formatted.
fn long_functions(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = source.code.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_function = line.trim_start().starts_with("fn ") || line.contains(" fn ");
        if !is_function || line.trim_end().ends_with('}') {
            continue;
        }
        let closes = |line: &&str| {
            line.split_at_checked(indent)
                .is_some_and(|(blank, brace)| blank.trim().is_empty() && brace.trim_end() == "}")
        };
        let Some(length) = lines[start..].iter().position(closes) else { continue };
        if length + 1 > FUNCTION_LINES_MAX {
            let (path, at) = (&source.path, start + 1);
            found.push(format!("{path}:{at}: a function of {} lines", length + 1));
        }
    }
    found
}

/// `allow` and `expect` attributes that do not say why.
fn bare_allows(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in source.code.match_indices(opening) {
            let attribute = &source.code[at..];
            let end = attribute.find(")]").unwrap_or(attribute.len());
            if !attribute[..end].contains("reason =") {
                let line = source.code[..at].lines().count().max(1);
                found.push(format!("{}:{line}: {opening}…) without a reason", source.path));
            }
        }
    }
    found
}

/// What of Rust's text is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    LineComment,
    /// So many deep: block comments nest.
    BlockComment(usize),
    String,
    /// With so many `#`.
    RawString(usize),
}

/// `text` with everything that is no code replaced by blanks; line ends stay.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut rest = text;
    while !rest.is_empty() {
        let (taken, is_code, then) = step(rest, &code, inside);
        for c in rest[..taken].chars() {
            code.push(if is_code || c == '\n' { c } else { ' ' });
        }
        inside = then;
        rest = &rest[taken..];
    }
    code
}

/// How many bytes come next that belong together, whether they are code, and what follows them.
fn step(rest: &str, before: &str, inside: Inside) -> (usize, bool, Inside) {
    let one = rest.chars().next().map_or(1, char::len_utf8);
    match inside {
        Inside::Code => code_step(rest, before),
        Inside::LineComment if rest.starts_with('\n') => (1, true, Inside::Code),
        Inside::BlockComment(1) if rest.starts_with("*/") => (2, false, Inside::Code),
        Inside::BlockComment(n) if rest.starts_with("*/") => {
            (2, false, Inside::BlockComment(n - 1))
        }
        Inside::BlockComment(n) if rest.starts_with("/*") => {
            (2, false, Inside::BlockComment(n + 1))
        }
        Inside::String if rest.starts_with('\\') => {
            let escaped = rest[1..].chars().next().map_or(0, char::len_utf8);
            (1 + escaped, false, inside)
        }
        Inside::String if rest.starts_with('"') => (1, false, Inside::Code),
        Inside::RawString(hashes)
            if rest.starts_with('"') && rest[1..].starts_with(&"#".repeat(hashes)) =>
        {
            (1 + hashes, false, Inside::Code)
        }
        _ => (one, false, inside),
    }
}

fn code_step(rest: &str, before: &str) -> (usize, bool, Inside) {
    let is_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let prefix = ["br", "r"].into_iter().find(|p| rest.starts_with(p)).map_or(0, str::len);
    let hashes = rest[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    let opens_raw = prefix > 0 && !is_word && rest[prefix + hashes..].starts_with('"');
    if rest.starts_with("//") {
        (2, false, Inside::LineComment)
    } else if rest.starts_with("/*") {
        (2, false, Inside::BlockComment(1))
    } else if opens_raw {
        (prefix + hashes + 1, false, Inside::RawString(hashes))
    } else if rest.starts_with('"') {
        (1, false, Inside::String)
    } else if let Some(length) = character(rest) {
        (length, false, Inside::Code)
    } else {
        (rest.chars().next().map_or(1, char::len_utf8), true, Inside::Code)
    }
}

/// The length of a character literal at the beginning of `rest`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if let Some(escaped) = body.strip_prefix('\\') {
        let first = escaped.chars().next()?.len_utf8();
        return escaped[first..].find('\'').map(|end| 2 + first + end + 1);
    }
    let first = body.chars().next()?.len_utf8();
    body[first..].starts_with('\'').then_some(first + 2)
}

fn rust_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in the workspace");
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("the folders of the workspace can be read");
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is UTF-8");
                let path = path.strip_prefix(root).expect("it was found below the root");
                let path = path.to_string_lossy().replace('\\', "/");
                sources.push(Source { path, code: code_of(&text), text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}
