//! Secrets are used and never shown: not printed, logged or stored (`SPEC.md` §8).
//!
//! The real binary runs through success and every kind of failure with secrets that stand out, its
//! log at its loudest; then everything it printed and everything it left on the disk is searched
//! for them. The log is compressed on the disk, so it is read back as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use forebay_storage::{Offset, Store, StoreOptions};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, rule};
use forebay_tests::program::{finish, signal};
use forebay_tests::{Answer, Place, Program, Receiver, Record, Request, Run};

/// (the variable, its value)
const SECRETS: [(&str, &str); 7] = [
    ("BEARER", "Zq-bearer-7f3a"),
    ("CLIENT_SECRET", "Zq:client/secret+8e1c"),
    ("PASSWORD", "Zq password&2b9d"),
    ("SIGNING", "whsec_WnEtc2lnbmluZy1rZXktNGM2Zg=="),
    ("HEADER", "Zq-header-5a0e"),
    ("REFUSED", "Zq-refused-1d7b"),
    ("OTHER", "Zq-other-9c2f"),
];

/// What is shown where the search is proved to find something.
const PLAIN: &str = "Zq-plain-text";

/// What the token endpoint gives.
const TOKEN: &str = "Zq-token-3e8a";
const REFRESH: &str = "Zq-refresh-6b4d";

const FLOWS: [(&str, &str); 6] = [
    ("bearer", r#"auth = { type = "bearer", token = "${env:BEARER}" }"#),
    (
        "client",
        r#"auth = { type = "oauth2_client_credentials", token_url = "{receiver}/token", client_id = "id", client_secret = "${env:CLIENT_SECRET}", client_credentials_type = "basic_authorization" }"#,
    ),
    (
        "password",
        r#"auth = { type = "oauth2_password", token_url = "{receiver}/token", client_id = "id", client_secret = "${env:CLIENT_SECRET}", username = "ann", password = "${env:PASSWORD}" }"#,
    ),
    (
        "refused",
        r#"auth = { type = "oauth2_client_credentials", token_url = "{receiver}/refuse", client_id = "id", client_secret = "${env:REFUSED}" }"#,
    ),
    ("echo", r#"auth = { type = "bearer", token = "${file:other.txt}" }"#),
    ("down", r#"auth = { type = "bearer", token = "${env:BEARER}" }"#),
];

fn configuration() -> String {
    let table = |(id, auth): (&str, &str)| {
        format!(
            "\n[[destination]]\nid = \"{id}\"\nendpoint = \"{{receiver}}/{id}\"\ntimeout = \"10s\"\n\
             retry = {{ max_retries = 1, backoff = [\"10ms\"] }}\nsigning_secret = \"${{env:SIGNING}}\"\n\
             headers = {{ X-Key = \"Key ${{env:HEADER}}\" }}\n{auth}\n\
             [[dataflow]]\nid = \"{id}\"\ndestination = \"{id}\"\naudiences = [\"any\"]\n\
             attributes = [\"n\"]\n"
        )
    };
    let tables: Vec<String> = FLOWS.into_iter().map(table).collect();
    [EVENT_CLOCK, &rule("any", "n"), &tables.concat()].concat()
}

/// Repeats what it was sent where an endpoint might.
fn script(request: &Request, _: usize) -> Answer {
    match request.target.as_str() {
        "/token" => {
            let answer =
                format!("{{\"access_token\":\"{TOKEN}\",\"refresh_token\":\"{REFRESH}\"}}");
            Answer::Text(200, answer)
        }
        "/refuse" => {
            let said = request.text();
            Answer::Text(400, format!("{{\"error\":\"{said}\",\"error_description\":\"{said}\"}}"))
        }
        "/echo" => Answer::Text(400, format!("{PLAIN} {:?}", request.headers)),
        "/down" => Answer::Drop,
        _ => Answer::Status(200),
    }
}

/// The secrets, and the forms in which they travel.
fn needles() -> BTreeMap<String, &'static str> {
    let mut needles = BTreeMap::new();
    for (name, value) in SECRETS {
        needles.insert(value.to_owned(), name);
    }
    for (form, name) in [
        (TOKEN, "the access token"),
        (REFRESH, "the refresh token"),
        ("Zq%3Aclient%2Fsecret%2B8e1c", "the client secret, encoded"),
        ("aWQ6WnElM0FjbGllbnQlMkZzZWNyZXQlMkI4ZTFj", "the client's Basic credentials"),
        ("Zq+password%262b9d", "the password, encoded"),
        ("WnEtc2lnbmluZy1rZXktNGM2Zg", "the signing key, encoded"),
        ("Zq-signing-key-4c6f", "the signing key"),
    ] {
        needles.insert(form.to_owned(), name);
    }
    needles
}

fn shown(place: &str, bytes: &[u8]) -> Vec<String> {
    let is_in = |needle: &str| bytes.windows(needle.len()).any(|part| part == needle.as_bytes());
    let found = needles().into_iter().filter(|(needle, _)| is_in(needle));
    found.map(|(_, name)| format!("{name} in {place}")).collect()
}

fn with_secrets(command: &mut Command) -> &mut Command {
    command.envs(SECRETS).env("FOREBAY_LOG", "trace")
}

/// Every file below `directory`.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).expect("it can be read");
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

/// Everything in the store, unpacked.
fn stored(data: &Path) -> Vec<u8> {
    let store = Store::open(data, StoreOptions::default()).expect("nobody else has it open");
    let mut bytes = Vec::new();
    for chunk in store.log().read(Offset::START) {
        bytes.extend(chunk.expect("the log is whole").bytes);
    }
    let letters = store.dead_letters().list(None, None, 1000);
    for (_, _, letter) in letters.expect("the dead letters are whole") {
        bytes.extend(format!("{letter:?}").into_bytes());
        for attempt in letter.attempts {
            bytes.extend(attempt.answer);
        }
    }
    bytes
}

fn record(n: u8) -> String {
    Record::profile("c").at("01T00:00:00").with(&format!("\"n\":{n}")).to_string()
}

#[test]
fn no_secret_is_printed_logged_or_stored() {
    let place = Place::with_receiver(&configuration(), Receiver::scripted(script));
    place.write("other.txt", "Zq-other-9c2f\n");
    place.write("in.ndjson", format!("{}\nno record\n", record(1)));
    let program = Program::at(place.path());
    let mut runs: Vec<(String, Run)> = Vec::new();
    let ask = |runs: &mut Vec<(String, Run)>, arguments: &str| {
        let run: Run = with_secrets(&mut program.command(arguments)).output().unwrap().into();
        runs.push((arguments.to_owned(), run));
    };
    ask(&mut runs, "check");
    let running = with_secrets(&mut program.command("run --input in.ndjson")).spawn().unwrap();
    let deadline = Deadline::new();
    let arrived = |target| place.receiver.requests().iter().any(|r| r.target == target);
    // Asked for only once the engine sends: before, the question itself would hold the directory.
    deadline.until("three flows have delivered", || {
        ["/bearer", "/client", "/password"].into_iter().all(arrived)
    });
    deadline.until("three have given up", || {
        let letters = program.run("dead-letters list --output json");
        letters.status == Some(0) && letters.stdout.lines().count() == 3
    });
    let questions =
        ["status", "dataflow list", "dataflow status", "dead-letters list", "log stats"];
    for question in questions {
        ask(&mut runs, question);
        ask(&mut runs, &format!("{question} --output json"));
    }
    signal(&running, "INT");
    runs.push(("run".to_owned(), finish(running)));
    place.write("in.ndjson", format!("{}\nno record\n{}\n", record(1), record(2)));
    ask(&mut runs, "run --input in.ndjson --drain --output json");
    for question in questions {
        ask(&mut runs, question);
    }

    let mut found = Vec::new();
    let mut printed = String::new();
    for (arguments, run) in &runs {
        printed.extend([run.stdout.as_str(), &run.stderr]);
        for (stream, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
            found.extend(shown(&format!("{stream} of `{arguments}`"), text.as_bytes()));
        }
        assert!(matches!(run.status, Some(0 | 1)), "{arguments}: {run:?}");
    }
    let left = files(&place.data());
    for (path, bytes) in &left {
        found.extend(shown(path, bytes));
    }
    let stored = stored(&place.data());
    found.extend(shown("the store", &stored));
    assert!(found.is_empty(), "secrets were shown:\n{}", found.join("\n"));

    // The search would have found them, and they were used.
    let has_plain = |bytes: &[u8]| bytes.windows(PLAIN.len()).any(|part| part == PLAIN.as_bytes());
    assert!(has_plain(printed.as_bytes()), "the echoed answer is shown by `dead-letters list`");
    assert!(has_plain(&stored), "and stored");
    assert!(printed.contains("[secret]"), "with the secrets in it blotted out");
    assert!(left.iter().any(|(path, _)| path.ends_with("rejects.ndjson")));
    let sent = format!("{:?}", place.receiver.requests());
    for secret in ["Zq-bearer-7f3a", TOKEN, "Zq-header-5a0e", "Zq-other-9c2f"] {
        assert!(sent.contains(secret), "{secret} was not sent");
    }
}

#[test]
fn a_secret_with_a_line_end_is_refused_and_not_shown() {
    let evil = "Zq-evil\r\nX-Evil: 1";
    // (what holds it, its keys)
    let cases = [
        ("a token", r#"auth = { type = "bearer", token = "${env:EVIL}" }"#),
        ("a header in a table", r#"headers = { X-Key = "${env:EVIL}" }"#),
        ("a header in the text", r#"headers = "X-Key:a ${env:EVIL}""#),
        ("a header from a file", r#"headers = { X-Key = "${file:evil.txt}" }"#),
        ("a header as written", "headers = { X-Key = \"Zq-evil\\r\\nX-Evil: 1\" }"),
        ("the name of a header", "headers = { \"X-Key: a\\r\\nX-Evil\" = \"1\" }"),
        ("a signing secret", r#"signing_secret = "${env:EVIL}""#),
    ];
    for (name, keys) in cases {
        let text = format!(
            "{EVENT_CLOCK}\n[[destination]]\nid = \"d\"\nendpoint = \"{{receiver}}/\"\n{keys}\n"
        );
        let place = Place::new(&text);
        place.write("evil.txt", evil);
        let program = Program::at(place.path());
        let run: Run =
            program.command("check").env("EVIL", evil).output().expect("it starts").into();
        assert_eq!(run.status, Some(2), "{name}: {run:?}");
        assert!(run.stderr.contains("forebay.toml:"), "{name} is shown in its place: {run:?}");
        let is_reference = keys.contains("${");
        assert!(!is_reference || !run.stderr.contains("Zq-evil"), "{name}: {}", run.stderr);
    }
}

#[test]
fn ids_cannot_hold_a_line_end() {
    for table in ["audience", "destination", "dataflow"] {
        let place = Place::new(&format!("{EVENT_CLOCK}\n[[{table}]]\nid = \"a\\r\\nX-Evil: 1\"\n"));
        let run = Program::at(place.path()).run("check").expect_status(2);
        run.tells(&["forebay.toml:4:"]);
    }
}
