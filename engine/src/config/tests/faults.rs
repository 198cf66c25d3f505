//! What is said about a bad one, word for word.

use std::path::Path;

use super::super::Config;
use super::{brief, dataflow, destination, environment, errors, good, load};

/// What it shows, what is written, what is said.
type Case = (&'static str, &'static str, &'static [&'static str]);

/// An audience of one merge policy in a rule of another.
const CROSSED: &str = concat!(
    "[[merge_policy]]\nid = \"default\"\ndefault = true\n[[merge_policy]]\nid = \"other\"\n",
    "[[audience]]\nid = \"a\"\nmerge_policy = \"other\"\npql = 'x'\n",
    "[[audience]]\nid = \"b\"\npql = 'not inSegment(\"a\")'",
);

/// A key of one type of authentication in another.
const FOREIGN: &str = concat!(
    "auth = { type = \"oauth2_client_credentials\", token = \"${env:TOKEN}\", ",
    "token_url = \"https://a/t\", client_id = \"i\", client_secret = \"${env:TOKEN}\" }",
);

fn check(cases: &[Case], whole: impl Fn(&str) -> String) {
    for (name, written, expected) in cases {
        assert_eq!(errors(&whole(written), &[]), *expected, "{name}");
    }
}

/// (what it shows, the file, the errors)
const TOP: &[Case] = &[
    (
        "broken TOML",
        "clock = \"wall\"\ntime_zone = \"UTC\n",
        &["2:17 : invalid basic string, expected `\"`"],
    ),
    ("a key written twice", "clock = \"wall\"\nclock = \"wall\"", &["2:1 clock: duplicate key"]),
    (
        "an unknown key",
        "clok = \"wall\"",
        &["1:1 clok: unknown key `clok` in the configuration (did you mean `clock`?)"],
    ),
    ("a wrong type", "clock = 3", &["1:9 3: expected a string, found a whole number"]),
    (
        "a wrong word",
        "clock = \"walk\"",
        &["1:9 \"walk\": expected `wall` or `event`, found `walk` (did you mean `wall`?)"],
    ),
    (
        "a wrong duration",
        "dedupe_window = \"1 day\"",
        &[
            "1:17 \"1 day\": `1 day` is no duration: its unit is one of `ms`, `s`, `m`, `h`, `d` or `w`, as in `15s`",
        ],
    ),
    (
        "a wrong size",
        "state_memory = \"1Gb\"",
        &[
            "1:16 \"1Gb\": `1Gb` is no size: its unit is one of `B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` or `TiB`, as in `10GB`",
        ],
    ),
    (
        "a wrong zone",
        "time_zone = \"Paris\"",
        &[
            "1:13 \"Paris\": there is no time zone `Paris` (write its IANA name, as in `Europe/Paris`)",
        ],
    ),
    (
        "what is not built yet",
        "[[alert]]\nid = 1\n[http]\nlisten = 2",
        &[
            "1:3 alert: `alert` is not built yet (leave it out; the name is kept for later)",
            "3:2 http: `http` is not built yet (leave it out; the name is kept for later)",
        ],
    ),
    (
        "one table where a list belongs",
        "[audience]\nid = \"a\"",
        &[
            "1:1 [audience]: `audience` is a list of tables, not a table (each one starts with its own line `[[audience]]`)",
        ],
    ),
    (
        "all errors at once, in order",
        "[[dataflow]]\nid = \"f\"\ndestination = \"d\"\naudiences = [\"a\"]\n[[destination]]\nid = \"e\"\n",
        &[
            "3:15 \"d\": there is no destination `d` (did you mean `e`?)",
            "4:14 \"a\": there is no audience `a`",
            "5:1 [[destination]]: `[[destination]]` needs `endpoint`",
        ],
    ),
];

#[test]
fn what_is_wrong_at_the_top_is_shown_in_its_place() {
    check(TOP, str::to_owned);
}

/// (what it shows, the file, the errors)
const POLICIES_AND_AUDIENCES: &[Case] = &[
    (
        "no default policy",
        "[[merge_policy]]\nid = \"m\"",
        &[
            "1:1 [[merge_policy]]: no merge policy is the default (write `default = true` in the one that audiences use)",
        ],
    ),
    (
        "two default policies",
        "[[merge_policy]]\nid = \"m\"\ndefault = true\n[[merge_policy]]\nid = \"n\"\ndefault = true",
        &["6:1 default: another merge policy is the default already"],
    ),
    (
        "precedence without order",
        "[[merge_policy]]\nid = \"m\"\ndefault = true\nattribute_merge = \"dataSetPrecedence\"",
        &["1:1 [[merge_policy]]: `[[merge_policy]]` needs `order`"],
    ),
    (
        "an order that is not used",
        "[[merge_policy]]\nid = \"m\"\ndefault = true\norder = [\"a\"]",
        &[
            "4:1 order: `order` belongs to `dataSetPrecedence`, not to `timestampOrdered` (write `attribute_merge = \"dataSetPrecedence\"`)",
        ],
    ),
    (
        "a dataset listed twice",
        "[[merge_policy]]\nid = \"m\"\ndefault = true\nattribute_merge = \"dataSetPrecedence\"\norder = [\"a\", \"a\"]",
        &["5:15 \"a\": `a` is listed twice"],
    ),
    ("a missing id", "[[audience]]\npql = 'x'", &["1:1 [[audience]]: `[[audience]]` needs `id`"]),
    (
        "a bad id",
        "[[audience]]\nid = \"a b\"\npql = 'x'",
        &["2:6 \"a b\": `a b` is no id (1 to 64 of the characters A-Z a-z 0-9 _ . -)"],
    ),
    (
        "an id used twice",
        "[[audience]]\nid = \"a\"\npql = 'x'\n[[audience]]\nid = \"a\"\npql = 'x'",
        &["5:6 \"a\": audience `a` is defined twice (first at forebay.toml:2)"],
    ),
    (
        "a rule without text",
        "[[audience]]\nid = \"a\"",
        &["1:1 [[audience]]: `[[audience]]` needs `pql`"],
    ),
    (
        "a rule with a ttl",
        "[[audience]]\nid = \"a\"\npql = 'x'\nttl = \"1d\"",
        &[
            "4:1 ttl: `ttl` belongs to an upload (an audience is a rule unless it says `type = \"upload\"`)",
        ],
    ),
    (
        "an upload with a rule",
        "[[audience]]\nid = \"a\"\ntype = \"upload\"\npql = 'x'",
        &[
            "4:1 pql: `pql` belongs to a rule (an audience is a rule unless it says `type = \"upload\"`)",
        ],
    ),
    (
        "a policy that is not there",
        "[[audience]]\nid = \"a\"\npql = 'x'\nmerge_policy = \"defalt\"",
        &["4:16 \"defalt\": there is no merge policy `defalt` (did you mean `default`?)"],
    ),
    (
        "an error in a rule",
        "[[audience]]\nid = \"a\"\npql = 'person.name = = 3'",
        &["3:22 =: audience `a`: expected a value, found `=`"],
    ),
    (
        "an error behind escapes",
        "[[audience]]\nid = \"a\"\npql = \"\\\"\\u00e9\\\" = = 3\"",
        &["3:21 =: audience `a`: expected a value, found `=`"],
    ),
    (
        "an error in a rule of several lines",
        "[[audience]]\nid = \"a\"\npql = '''\nx and\n  y = = 3'''",
        &["5:7 =: audience `a`: expected a value, found `=`"],
    ),
    (
        "a rule that names no audience",
        "[[audience]]\nid = \"good\"\npql = 'inSegment(\"goods\")'",
        &["3:19 goods: audience `good`: there is no audience `goods` (did you mean `good`?)"],
    ),
    (
        "rules that name each other",
        "[[audience]]\nid = \"a\"\npql = 'inSegment(\"b\")'\n[[audience]]\nid = \"b\"\npql = 'inSegment(\"a\")'\n[[audience]]\nid = \"c\"\npql = 'inSegment(\"a\")'",
        &[
            "3:7 'inSegment(\"b\")': audience `a` depends on itself: a -> b -> a",
            "6:7 'inSegment(\"a\")': audience `b` depends on itself: b -> a -> b",
        ],
    ),
    (
        "a rule that names another policy's audience",
        CROSSED,
        &[
            "12:23 a: audience `a` has merge policy `other`, this one has `default` (a rule may name audiences of its own merge policy only)",
        ],
    ),
];

#[test]
fn what_is_wrong_in_policies_and_audiences_is_shown_in_its_place() {
    check(POLICIES_AND_AUDIENCES, str::to_owned);
}

/// (what it shows, the keys from line 4 on, the errors)
const DESTINATIONS: &[Case] = &[
    (
        "an unknown key",
        "retries = 3",
        &["4:1 retries: unknown key `retries` in `[[destination]]` (did you mean `retry`?)"],
    ),
    (
        "an unknown key in a table below",
        "retry = { max_retry = 3 }",
        &["4:11 max_retry: unknown key `max_retry` in `retry` (did you mean `max_retries`?)"],
    ),
    (
        "a number out of range",
        "max_in_flight = 0",
        &["4:17 0: `max_in_flight` is a whole number from 1 to 4096"],
    ),
    ("a fraction", "max_in_flight = 1.5", &["4:17 1.5: expected a whole number, found a fraction"]),
    ("a duration out of range", "timeout = \"0s\"", &["4:11 \"0s\": `timeout` is from 1ms to 10m"]),
    (
        "no backoff",
        "retry = { backoff = [] }",
        &["4:11 backoff: `backoff` has at least one duration"],
    ),
    (
        "a wrong backoff",
        "retry = { backoff = [\"1s\", 2] }",
        &["4:28 2: expected a string, found a whole number"],
    ),
    (
        "an unknown type",
        "auth = { type = \"basic\" }",
        &[
            "4:17 \"basic\": expected `none` or `bearer` or `oauth2_client_credentials` or `oauth2_password`, found `basic`",
        ],
    ),
    (
        "no type",
        "auth = { token = \"${env:TOKEN}\" }",
        &["4:8 { token = \"${env:TOKEN}\" }: `auth` needs `type`"],
    ),
    (
        "a missing key",
        "auth = { type = \"bearer\" }",
        &["4:8 { type = \"bearer\" }: `auth` needs `token`"],
    ),
    (
        "a key of another type",
        FOREIGN,
        &["4:46 token: `token` belongs to `bearer`, not to `oauth2_client_credentials`"],
    ),
    (
        "a variable that is not set",
        "auth = { type = \"bearer\", token = \"${env:NONE}\" }",
        &["4:36 ${env:NONE}: the environment variable `NONE` is not set"],
    ),
    (
        "a variable that is empty",
        "auth = { type = \"bearer\", token = \"${env:EMPTY}\" }",
        &["4:35 \"${env:EMPTY}\": `token` is empty"],
    ),
    (
        "a token with a line break",
        "auth = { type = \"bearer\", token = \"${env:LINES}\" }",
        &[
            "4:27 token: `token` has a character beyond printable ASCII (look for a line end, at its end perhaps)",
        ],
    ),
    (
        "a file that is not there",
        "auth = { type = \"bearer\", token = \"${file:x/y}\" }",
        &[
            "4:36 ${file:x/y}: the file `x/y` cannot be read: No such file or directory (os error 2)",
        ],
    ),
    (
        "a reference that does not end",
        "headers = \"X-A:${env:TOKEN\"",
        &["4:16 ${env:TOKEN: a `${` without its `}`"],
    ),
    (
        "a signing secret that is none",
        "signing_secret = \"${env:TOKEN}\"",
        &["4:1 signing_secret: `signing_secret` is not `whsec_` and base64"],
    ),
    (
        "a header without colon",
        "headers = \"X-A:1,X-B\"",
        &[
            "4:18 X-B: `X-B` is no header (write `Name:value,Name:value`, or a table if a value has a comma)",
        ],
    ),
    (
        "a header given twice",
        "headers = \"X-A:1,x-a:2\"",
        &["4:18 x-a: header `x-a` is given twice"],
    ),
    (
        "a header of forebay's",
        "headers = { webhook-id = \"1\" }",
        &["4:13 webhook-id: header `webhook-id` is written by forebay itself"],
    ),
    (
        "a secret with a line break in a header",
        "headers = \"X-A:${env:LINES}\"",
        &["4:16 ${env:LINES}: the value of header `X-A` has a character beyond printable ASCII"],
    ),
    (
        "a header that `auth` writes",
        "headers = \"Authorization:x\"\nauth = { type = \"bearer\", token = \"${env:TOKEN}\" }",
        &["4:12 Authorization: header `Authorization` is written by `auth`"],
    ),
    (
        "a certificate without key",
        "client_cert = \"forebay.toml\"",
        &["4:1 client_cert: `client_cert` needs `client_key`"],
    ),
    (
        "a certificate that is not there",
        "ca_file = \"ca.pem\"",
        &[
            "4:11 \"ca.pem\": the file `ca.pem` cannot be read: No such file or directory (os error 2)",
        ],
    ),
    (
        "a file that is no certificate",
        "ca_file = \"forebay.toml\"",
        &["4:1 ca_file: forebay.toml holds no certificate"],
    ),
    (
        "a source that is no address",
        "source_address = \"eth0\"",
        &["4:18 \"eth0\": `eth0` is no IP address (write the address itself, as in `203.0.113.7`)"],
    ),
];

#[test]
fn what_is_wrong_in_destinations_is_shown_in_its_place() {
    check(DESTINATIONS, destination);
}

#[test]
fn a_client_certificate_needs_its_own_key() {
    let pair = || {
        let pair = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    };
    let ((cert, own), (_, other)) = (pair(), pair());
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    // (what it shows, the key's file, a part of what is said)
    let cases = [
        ("its own", own.as_str(), None),
        ("another's", &other, Some("cert.pem and key.pem do not fit")),
        ("a certificate", &cert, Some("key.pem holds no private key")),
        ("no key at all", broken, Some("key.pem holds no key that can be used")),
    ];
    let toml = destination("client_cert = \"cert.pem\"\nclient_key = \"key.pem\"");
    for (name, key, expected) in cases {
        let files = [("cert.pem", cert.as_str()), ("key.pem", key)];
        let Some(part) = expected else {
            load(&toml, &files).unwrap();
            continue;
        };
        let found = errors(&toml, &files);
        assert!(found.len() == 1 && found[0].contains(part), "{name}: {found:?}");
    }
}

#[test]
fn what_is_wrong_in_urls_is_shown_in_its_place() {
    // (what it shows, the endpoint, the error)
    let cases = [
        (
            "no URL",
            "example.com",
            "\"example.com\": `endpoint` is no URL: relative URL without a base (write the whole of it, as in `https://example.com/profiles`)",
        ),
        (
            "plain text",
            "http://example.com/",
            "\"http://example.com/\": `http` sends profiles in the clear (use `https`, or set `allow_insecure = true` (a literal loopback address needs it not))",
        ),
        (
            "a private address",
            "https://10.0.0.1/",
            "\"https://10.0.0.1/\": `10.0.0.1` is a private address (set `allow_private = true` on the destination if that is meant)",
        ),
        (
            "a secret",
            "https://h/${env:TOKEN}",
            "\"https://h/${env:TOKEN}\": no secret can be named here (`${...}` may stand in `headers`, `auth` and `signing_secret`)",
        ),
        (
            "a password, which is not shown",
            "https://u:pw@h/",
            "*****************: a URL here has no user or password (say how to authenticate in `auth` or `headers`)",
        ),
    ];
    for (name, endpoint, expected) in cases {
        let toml = format!("[[destination]]\nid = \"d\"\nendpoint = \"{endpoint}\"");
        assert_eq!(errors(&toml, &[]), [format!("3:12 {expected}")], "{name}");
    }
    let token_url = "auth = { type = \"oauth2_client_credentials\", token_url = \"http://a/t\", client_id = \"i\", client_secret = \"${env:TOKEN}\" }";
    assert!(
        errors(&destination(token_url), &[])[0].contains("in the clear"),
        "token endpoints too"
    );
}

/// (what it shows, the keys from line 14 on, the errors)
const DATAFLOWS: &[Case] = &[
    ("no audiences", "", &["11:1 [[dataflow]]: `[[dataflow]]` needs `audiences`"]),
    (
        "an audience that is not there",
        "audiences = [\"a\", \"missing_audience\"]",
        &["14:19 \"missing_audience\": there is no audience `missing_audience`"],
    ),
    (
        "an audience listed twice",
        "audiences = [\"a\", \"a\"]",
        &["14:19 \"a\": `a` is listed twice"],
    ),
    (
        "a list that is none",
        "audiences = \"a\"",
        &["14:13 \"a\": expected a list of strings, found a string"],
    ),
    (
        "a wrong trigger",
        "audiences = [\"a\"]\ntriggers = [\"segments\"]",
        &[
            "15:13 \"segments\": expected `segment` or `attribute` or `identity`, found `segments` (did you mean `segment`?)",
        ],
    ),
    (
        "a path that is none",
        "audiences = [\"a\"]\nattributes = [\"person..name\"]",
        &[
            "15:15 \"person..name\": `person..name` is no attribute path (write keys with dots between them, as in `person.name`)",
        ],
    ),
    (
        "a flag that is none",
        "audiences = [\"a\"]\npaused = \"yes\"",
        &["15:10 \"yes\": expected `true` or `false`, found a string"],
    ),
];

#[test]
fn what_is_wrong_in_dataflows_is_shown_in_its_place() {
    check(DATAFLOWS, dataflow);
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let many = |what: &str, count: usize| -> String {
        let names: Vec<String> = (0..count).map(|n| format!("\"{what}{n}\"")).collect();
        names.join(", ")
    };
    let attributes = dataflow(&format!("audiences = [\"a\"]\nattributes = [{}]", many("x", 51)));
    let defined: String = (0..251)
        .map(|n| format!("[[audience]]\nid = \"c{n}\"\npql = 'x'"))
        .collect::<Vec<_>>()
        .join("\n");
    let audiences = format!("{}{defined}", dataflow(&format!("audiences = [{}]", many("c", 251))));
    let token = destination("auth = { type = \"bearer\", token = \"hunter2\" }");
    // (what it shows, the file, the warnings)
    let cases: [(&str, &str, &[&str]); 8] = [
        (
            "no attribute",
            &dataflow("audiences = [\"a\"]\nattributes = []"),
            &[
                "15:1 attributes: no attribute is mapped, so payloads have identities and memberships only",
            ],
        ),
        (
            "no audience",
            &dataflow("audiences = []"),
            &["14:1 audiences: no audience is mapped, so nothing is ever exported"],
        ),
        (
            "many attributes",
            &attributes,
            &["15:1 attributes: 51 attributes are mapped, more than the 50 advised"],
        ),
        (
            "many audiences",
            &audiences,
            &["14:1 audiences: 251 audiences are mapped, more than the 250 advised"],
        ),
        (
            "what every payload has",
            &dataflow("audiences = [\"a\"]\nattributes = [\"identityMap.Email\", \"x\"]"),
            &[
                "15:15 \"identityMap.Email\": `identityMap` is no attribute and need not be mapped: every payload has it",
            ],
        ),
        (
            "a limit that does nothing",
            "max_clock_jump = \"1d\"",
            &[
                "1:1 max_clock_jump: `max_clock_jump` does nothing under the wall clock (it is for `clock = \"event\"`)",
            ],
        ),
        (
            "a secret in the file, which is not shown",
            &token,
            &[
                "4:35 \"*******\": `token` is a secret written into the configuration (write `token = \"${env:NAME}\"` or `\"${file:PATH}\"`)",
            ],
        ),
        ("nothing", &dataflow("audiences = [\"a\"]"), &[]),
    ];
    for (name, toml, expected) in cases {
        let warnings: Vec<String> = good(toml).warnings.iter().map(brief).collect();
        assert_eq!(warnings, expected, "{name}");
    }
}

#[test]
fn a_chain_of_many_steps_is_warned_about() {
    // (sequential steps of an audience's chain, the warnings)
    let cases: [(usize, &[&str]); 3] = [
        (0, &[]),
        (3, &[]),
        (
            4,
            &[
                "3:7 'chain(xEvent, timestamp, [S0: WHAT(), S1: WHAT(), S2: WHAT(), S3: WHAT()])': audience `c`: a chain of 4 sequential steps, more than the 3 advised",
            ],
        ),
    ];
    for (steps, expected) in cases {
        let all: Vec<String> = (0..steps).map(|n| format!("S{n}: WHAT()")).collect();
        let pql = format!("chain(xEvent, timestamp, [{}])", all.join(", "));
        let toml = format!("[[audience]]\nid = \"c\"\npql = '{pql}'\n");
        let warnings: Vec<String> = good(&toml).warnings.iter().map(brief).collect();
        assert_eq!(warnings, expected, "{steps} steps");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let faults =
        Config::load(Path::new("no/forebay.toml"), &environment).expect_err("it is not there");
    assert!(faults.to_string().starts_with("no/forebay.toml: cannot be read: "), "{faults}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("forebay.toml");
    std::fs::write(&path, b"a = 1\nb = '\xff'").unwrap();
    let faults = Config::load(&path, &environment).expect_err("it is not UTF-8");
    assert!(faults.to_string().contains("line 2 is not valid UTF-8"), "{faults}");
}

#[test]
fn errors_of_all_kinds_are_found_in_one_run() {
    let toml = concat!(
        "[[audience]]\nid = \"broken\"\npql = 'person.name = = 3'\n",
        "[[audience]]\nid = \"round_a\"\npql = 'inSegment(\"round_b\")'\n",
        "[[audience]]\nid = \"round_b\"\npql = 'inSegment(\"round_a\")'\n",
        "[[destination]]\nid = \"sink\"\nendpoint = \"http://127.0.0.1:1/in\"\nretries = 3\n",
        "[[dataflow]]\nid = \"to_sink\"\ndestination = \"sink\"\naudiences = [\"missing_audience\"]",
    );
    let shown = "\
forebay.toml:3:22: audience `broken`: expected a value, found `=`
  | pql = 'person.name = = 3'
  |                      ^

forebay.toml:6:7: audience `round_a` depends on itself: round_a -> round_b -> round_a
  | pql = 'inSegment(\"round_b\")'
  |       ^^^^^^^^^^^^^^^^^^^^^^

forebay.toml:9:7: audience `round_b` depends on itself: round_b -> round_a -> round_b
  | pql = 'inSegment(\"round_a\")'
  |       ^^^^^^^^^^^^^^^^^^^^^^

forebay.toml:13:1: unknown key `retries` in `[[destination]]`
  | retries = 3
  | ^^^^^^^
  help: did you mean `retry`?

forebay.toml:17:14: there is no audience `missing_audience`
  | audiences = [\"missing_audience\"]
  |              ^^^^^^^^^^^^^^^^^^

5 errors in the configuration";
    assert_eq!(load(toml, &[]).expect_err("it is full of errors").to_string(), shown);
}
