//! forebay against software by others: OAuth2 servers (`oidc-provider`, `@node-oauth/oauth2-server`)
//! and the reference library of Standard Webhooks, all from npm.
//!
//! Needs `FOREBAY_FOREIGN=1`, Node.js, and `npm ci` in `tests/foreign`; says so and passes otherwise.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use forebay_tests::configuration::{EVENT_CLOCK, rule};
use forebay_tests::{Place, Record};
use serde_json::{Value, json};

/// With every character that the encodings treat apart.
const CLIENT_ID: &str = "my id";
const CLIENT_SECRET: &str = "s3cr:et/+&=%~";
const USERNAME: &str = "ann@example.com";
const PASSWORD: &str = "p w&+%";
const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SIGNING_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Exports of each dataflow.
const CUSTOMERS: usize = 5;

/// The servers, running.
struct Servers {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    endpoint: String,
    tokens: Value,
}

fn reason_to_skip() -> Option<String> {
    if std::env::var_os("FOREBAY_FOREIGN").is_none_or(|value| value != "1") {
        return Some("FOREBAY_FOREIGN is not 1".to_owned());
    }
    if !directory().join("node_modules").is_dir() {
        return Some("there is no node_modules in tests/foreign: run `npm ci` there".to_owned());
    }
    let node = Command::new("node").arg("--version").output();
    node.err().map(|error| format!("node does not start: {error}"))
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("foreign")
}

impl Servers {
    fn start(log: PathBuf) -> Self {
        let mut command = Command::new("node");
        command.arg("server.mjs").current_dir(directory());
        command.env("CLIENT_ID", CLIENT_ID).env("CLIENT_SECRET", CLIENT_SECRET);
        command.env("USERNAME", USERNAME).env("PASSWORD", PASSWORD);
        command.env("SIGNING_SECRET", SIGNING_SECRET);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("there is room for a log"));
        let mut child = command.spawn().expect("node starts, as it did before");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let listening = read(&mut stdout, &log);
        let endpoint = listening["endpoint"].as_str().expect("it says where it listens").to_owned();
        Self { child, stdout, log, endpoint, tokens: listening["tokens"].clone() }
    }

    fn token_url(&self, server: &str) -> &str {
        self.tokens[server].as_str().expect("there is such a server")
    }

    /// Ends them; what they saw.
    fn stop(mut self) -> Value {
        drop(self.child.stdin.take());
        let report = read(&mut self.stdout, &self.log);
        assert!(self.child.wait().expect("it can be waited for").success());
        report
    }
}

fn read(stdout: &mut BufReader<ChildStdout>, log: &PathBuf) -> Value {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("what it prints is text");
    serde_json::from_str(&line).unwrap_or_else(|error| {
        panic!("{error}: {line}\n{}", std::fs::read_to_string(log).unwrap_or_default())
    })
}

/// A dataflow and how its destination authenticates.
struct Flow {
    id: &'static str,
    server: &'static str,
    signing_secret: Option<&'static str>,
    auth: String,
}

fn flow(id: &'static str, server: &'static str, auth: String) -> Flow {
    Flow { id, server, signing_secret: Some(SIGNING_SECRET), auth }
}

fn flows() -> Vec<Flow> {
    let client = |style: &str, secret: &str| {
        format!(
            "type = \"oauth2_client_credentials\", client_credentials_type = \"{style}\", \
             client_id = \"{CLIENT_ID}\", client_secret = \"{secret}\""
        )
    };
    let owner = |password: &str| {
        format!(
            "type = \"oauth2_password\", client_id = \"{CLIENT_ID}\", \
             client_secret = \"{CLIENT_SECRET}\", username = \"{USERNAME}\", \
             password = \"{password}\""
        )
    };
    let basic = || client("basic_authorization", CLIENT_SECRET);
    let form = || client("body_form_encoded", CLIENT_SECRET);
    vec![
        flow("basic", "basic", basic()),
        flow("form", "form", form()),
        flow("short", "short", basic()),
        flow("revoked", "revoked", form()),
        flow("password", "password", owner(PASSWORD)),
        flow("no-client", "basic", client("basic_authorization", "another")),
        flow("no-owner", "password", owner("another")),
        Flow { signing_secret: None, ..flow("unsigned", "basic", basic()) },
        Flow { signing_secret: Some(OTHER_SIGNING_SECRET), ..flow("forged", "basic", basic()) },
    ]
}

fn configuration(servers: &Servers) -> String {
    let table = |Flow { id, server, signing_secret, auth }: Flow| {
        let signing = signing_secret.map(|secret| format!("signing_secret = \"{secret}\"\n"));
        format!(
            "\n[[destination]]\nid = \"{id}\"\nendpoint = \"{}/{server}\"\ntimeout = \"20s\"\n\
             max_in_flight = 1\nretry = {{ max_retries = 0, backoff = [\"1ms\"] }}\n{}\
             auth = {{ {auth}, token_url = \"{}\" }}\n\
             [[dataflow]]\nid = \"{id}\"\ndestination = \"{id}\"\naudiences = [\"any\"]\n\
             attributes = [\"n\"]\n",
            servers.endpoint,
            signing.unwrap_or_default(),
            servers.token_url(server),
        )
    };
    let tables: Vec<String> = flows().into_iter().map(table).collect();
    [EVENT_CLOCK, &rule("any", "n"), &tables.concat()].concat()
}

#[test]
fn foreign_servers_and_libraries_accept_what_is_sent() {
    let mut err = std::io::stderr();
    if let Some(reason) = reason_to_skip() {
        writeln!(err, "foreign software: skipped, {reason}").unwrap();
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let servers = Servers::start(scratch.path().join("servers.log"));
    let place = Place::new(&configuration(&servers));
    let customer = |n| Record::profile(&format!("c{n}")).at("01T00:00:00").with("\"n\":\"é\"");
    let ran = place.run(&(0..CUSTOMERS).map(customer).collect::<Vec<_>>());
    let report = servers.stop();

    // (the dataflow, a part of the error of its dead letters, if it has them instead of deliveries)
    let expected = [
        ("basic", None),
        ("form", None),
        ("short", None),
        ("revoked", None),
        ("password", None),
        ("no-client", Some("invalid_client (status 401)")),
        ("no-owner", Some("invalid_grant (status 400)")),
        ("unsigned", Some("status 400")),
        ("forged", Some("status 400")),
    ];
    for (id, error) in expected {
        let counts = ran.summary.dataflows[id];
        let all = CUSTOMERS as u64;
        let ends = if error.is_none() { (all, 0) } else { (0, all) };
        assert_eq!((counts.delivered, counts.dead_letters), ends, "{id}: {report}");
        let letters = place.ask(|engine| engine.dead_letters(Some(id), 100).unwrap());
        for letter in letters {
            let said = &letter.attempts[0].error;
            assert!(said.contains(error.unwrap_or_default()), "{id}: {said}");
        }
    }
    // One token for each client; three are used at `basic`. `short` lives less than the margin, so
    // every request fetches one; a revoked one is replaced.
    let tokens = json!({
        "basic": 3, "form": 1, "short": CUSTOMERS, "revoked": 2,
        "password password": 1, "password refresh_token": 1,
    });
    assert_eq!(report["tokens"], tokens);
    let refusals = json!({ "basic": CUSTOMERS, "password password": CUSTOMERS });
    assert_eq!(report["refusals"], refusals);
    let delivered = json!({
        "basic": CUSTOMERS, "form": CUSTOMERS, "short": CUSTOMERS, "revoked": CUSTOMERS,
        "password": CUSTOMERS,
    });
    assert_eq!(report["delivered"], delivered);
    let mut unsigned: Vec<&str> =
        report["unsigned"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    unsigned.sort_unstable();
    let refused = [
        ["basic: Missing required headers"; CUSTOMERS],
        ["basic: No matching signature found"; CUSTOMERS],
    ];
    assert_eq!(unsigned, refused.concat());
    writeln!(err, "foreign software: {report}").unwrap();
}
