//! The parser under texts that nobody wrote: mutations of the page's examples, and noise.
//!
//! For every text: nothing panics; an error's place lies in the text, on characters, and can be
//! drawn; what parses prints as a text that parses to the same tree, and compiles or says why not.
//! `FOREBAY_FUZZ_CASES` sets the number of texts, `FOREBAY_FUZZ_SEED` where they start.

use super::parser::TEXT_MAX;
use super::subject::{Book, Subject, at};
use super::{Expr, parse, render};

/// Texts of one run of the tests.
const CASES: u64 = 4_000;

/// The examples of `PQL.md`, and constructs that they lack.
const CORPUS: &[&str] = &[
    r#"workAddress.country = "FR""#,
    r"homeAddress",
    r"homeAddress.stateProvince = workAddress.stateProvince",
    r#"homeAddress.countryCode = "US" and homeAddress.stateProvince in ["NV","UT"]"#,
    r#"person.gender notIn ["male"]"#,
    r#"workEmail.address like "%.org""#,
    r#"person.name.firstName.matches("(?i)^jo")"#,
    r#"personalEmail.address.regexGroup("@(\\w+)",1) = "example""#,
    r#"homeAddress.city.equals("Lyon", false)"#,
    r"not(mobilePhone.number.isNull())",
    r#"if(homeAddress.countryCode in ["US","CA"],"NA","ROW") = "NA""#,
    r"person.birthDate.getYear() in [1990,1991]",
    r"loyalty.joinDate occurs between date(2020,1,1) and date(2021,1,1)",
    r#"xEvent[eventType = "commerce.purchases" and timestamp occurs < 7 days before now].count() >= 2"#,
    r"xEvent[timestamp occurs < 7 days before now].sum(commerce.order.priceTotal) > 250",
    r#"exists E from xEvent where E.commerce.order.priceTotal > 80, I from E.productListItems where I.SKU = "K9""#,
    r#"forall E from xEvent : E.web.webPageDetails.server = "shop""#,
    r#"chain(xEvent, timestamp, [A: WHAT(eventType = "web.webpagedetails.pageViews") WHEN(< 24 hours before now) COUNT(5)])"#,
    r#"CHAIN(xEvent, timestamp, [C0: WHAT(eventType.equals("commerce.productViews", false)), C1: WHAT(eventType.equals("commerce.productListAdds", false)), C2: WHAT(eventType.equals("commerce.purchases", false))])"#,
    r#"chain(xEvent, timestamp, [X: WHAT(eventType = "commerce.productListAdds") WHEN(today)]) and not(chain(xEvent, timestamp, [Y: WHAT(eventType = "commerce.purchases") WHEN(today)]))"#,
    r#"inSegment("aud-1") and CHAIN(xEvent, timestamp, [C0: WHAT(eventType.equals("commerce.checkouts", false)) WHEN(<= 24 hours before now)])"#,
    r#"identityMap.keys() intersects ["Email"]"#,
    r#"identityMap.get("Email").exists(id.endsWith("@example.org"))"#,
    r#"segmentMembership.get("ups").get("aud-1").status in ["realized"]"#,
    r#"chain(xEvent, timestamp, [A: WHAT(eventType = "commerce.productViews") WHEN(< 30 days before now) COUNT(3), B: WHAT(eventType = "commerce.purchases" and commerce.order.priceTotal > 100)])"#,
    r"`odd name`.x:y != -1.5e3 or !a - b * 2 / 3 % [] < currentMonth()",
    r"a occurs != 3 weeks from 2 months after last year and b occurs on `now` or c occurs before this hour",
    r#"'\u00e9\n' subsetOf a.values() and a.keys() supersetOf ["\"", 1, true, date(1999, 12, 31)]"#,
];

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// The text in pieces that mostly are tokens.
fn pieces(text: &str) -> Vec<String> {
    let pattern = r#""(?:[^"\\]|\\.)*"|[A-Za-z0-9_@$]+|\s+|."#;
    let pattern = regex::Regex::new(pattern).expect("a pattern");
    pattern.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

/// One text: an example, changed a few times.
fn text(random: &mut Random, corpus: &[Vec<String>]) -> String {
    let mut pieces = corpus[random.below(corpus.len())].clone();
    for _ in 0..random.below(5) {
        let other = &corpus[random.below(corpus.len())];
        let (at, from) = (random.below(pieces.len()), random.below(other.len()));
        let to = from + random.below(other.len() - from + 1);
        match random.below(8) {
            0 => drop(pieces.splice(at.., other[from..].iter().cloned())),
            1 => drop(pieces.splice(at..at, other[from..to].iter().cloned())),
            2 => {
                let end = at + random.below(pieces.len() - at + 1);
                drop(pieces.drain(at..end));
            }
            3 => {
                let with = random.below(pieces.len());
                pieces.swap(at, with);
            }
            4 => {
                let wrapped = ["(", "not (", "[", "if(", "!", "exists E from x where ", "-"];
                pieces.insert(at, random.one_of(&wrapped).to_owned());
                let end = at + random.below(pieces.len() - at) + 1;
                pieces.insert(end, random.one_of(&[")", "]", ", 1, 2)", ""]).to_owned());
            }
            5 => {
                let piece = pieces.get(at).cloned().unwrap_or_default();
                drop(pieces.splice(at..at, std::iter::repeat_n(piece, random.below(80))));
            }
            6 => {
                let odd = [
                    "\u{0}",
                    "é",
                    "😀",
                    "\\",
                    "`",
                    "\"",
                    "\u{2028}",
                    "1e999",
                    "0x1",
                    "99999999999999999999",
                    ":",
                    "\\u12",
                ];
                pieces.insert(at, random.one_of(&odd).to_owned());
            }
            _ => {
                let word = [
                    "xEvent",
                    "now",
                    "this",
                    "from",
                    "occurs",
                    "date",
                    "chain",
                    "null",
                    "timestamp",
                    "E",
                    ".",
                    ",",
                ];
                pieces.insert(at, format!(" {} ", random.one_of(&word)));
            }
        }
        if pieces.is_empty() {
            break;
        }
    }
    pieces.concat()
}

/// The tree without places.
fn shape(expr: &Expr) -> String {
    let places = regex::Regex::new(r"span: \d+\.\.\d+,? ?").expect("a pattern");
    places.replace_all(&format!("{expr:?}"), "").into_owned()
}

fn check(text: &str) {
    let place = |error: &super::PqlError| {
        let span = &error.span;
        assert!(span.start <= span.end && span.end <= text.len(), "{error} at {span:?}");
        assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?}");
        assert!(!error.message.is_empty());
        render(text, error);
    };
    match parse(text) {
        Err(error) => place(&error),
        Ok(expr) => {
            let printed = expr.to_string();
            match parse(&printed) {
                Ok(again) => assert_eq!(shape(&again), shape(&expr), "{printed}"),
                // Spaces and parentheses make it longer.
                Err(error) => assert!(
                    printed.len() > TEXT_MAX || error.message.contains("deeper"),
                    "{error} in {printed}"
                ),
            }
            let mut book = Book::new("Europe/Paris");
            match book.compile(text) {
                Err(error) => place(&error),
                Ok(rule) => {
                    rule.describe(&book.queries, &book.paths);
                    let profile = r#"{"a":[1,{"b":"x"}],"homeAddress":{"city":"Lyon"}}"#;
                    let mut subject = Subject::default().with_attributes(&mut book, profile);
                    let body =
                        r#"{"timestamp":"2026-01-01T00:00:00Z","eventType":"a","a":{"b":1}}"#;
                    subject.observe(&book, 0, body);
                    let now = at("2026-01-02T00:00:00Z");
                    subject.trim(&book, now);
                    assert!(subject.evaluate(&book, &rule, now).changes_at > now);
                }
            }
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn mutated_examples_break_nothing() {
    let corpus: Vec<Vec<String>> = CORPUS.iter().map(|text| pieces(text)).collect();
    let first = setting("FOREBAY_FUZZ_SEED", 0);
    for seed in first..first + setting("FOREBAY_FUZZ_CASES", CASES) {
        let text = text(&mut Random(seed), &corpus);
        let outcome = std::panic::catch_unwind(|| check(&text));
        assert!(outcome.is_ok(), "seed {seed}: {text:?}");
    }
}

#[test]
fn noise_breaks_nothing() {
    let first = setting("FOREBAY_FUZZ_SEED", 0);
    for seed in first..first + setting("FOREBAY_FUZZ_CASES", CASES) {
        let random = &mut Random(seed);
        let bytes: Vec<u8> =
            (0..random.below(64)).map(|_| random.next().to_be_bytes()[7]).collect();
        check(&String::from_utf8_lossy(&bytes));
    }
}

/// Each of these would not end if reading took more than linear time, or overflow the stack if depth
/// were not bounded.
#[test]
fn long_texts_are_read_once() {
    let rows = [
        "(",
        "!",
        "not ",
        "[",
        "-",
        "a[",
        "a.",
        "a.b(",
        "{",
        "\"",
        "`",
        "'\\",
        "'\\u0041'.",
        "0",
        "1.",
        "a and ",
        "a or not ",
        "1 + ",
        "a,",
        "exists E from a, ",
        "exists E from a where ",
        "if(a,",
        "chain(xEvent, timestamp, [A:WHAT(",
        "A:WHAT(),",
        "a occurs 1 day before ",
        "x:y:",
        "xEvent[a].b[c].d(e).",
        "a.get(\"b\")",
        ".isNull()",
        "[1,2],",
        "a in [b] or ",
        "\u{1F600}",
    ];
    for row in rows {
        for (before, after) in [("", ""), ("a = ", " 1"), ("chain(xEvent, timestamp, [", "])")] {
            let count = (TEXT_MAX - before.len() - after.len()) / row.len();
            check(&format!("{before}{}{after}", row.repeat(count)));
        }
    }
    let error = parse(&"a".repeat(TEXT_MAX + 1)).expect_err("too long");
    assert!(error.message.contains("longer than"), "{error}");
}
