//! The language page as tables: each rule of `PQL.md` with a profile and the value worked out by
//! hand.
#![expect(clippy::too_many_lines, reason = "tables of like cases")]

use crate::clock::Timestamp;
use crate::json::Document;

use super::parser::DEPTH_MAX;
use super::subject::{Book, Subject, at};
use super::{MembershipFact, parse};

const PROFILE: &str = r#"{"workAddress":{"country":"FR","stateProvince":"NV"},
    "homeAddress":{"countryCode":"US","stateProvince":"NV","city":"LYON"},
    "person":{"gender":"female","name":{"firstName":"Joan"},"birthDate":"1990-06-01"},
    "workEmail":{"address":"j@club.org"},"personalEmail":{"address":"jo@example.net"},
    "mobilePhone":{"number":"1"},"loyalty":{"joinDate":"2021-01-01","tier":"gold","points":120},
    "tags":["a","b"],"none":[],"flag":false,"cars":[{"make":"x","year":2001},{"make":"y"}],
    "nums":[1,2,3],"dup":["a","b","a"],"prefs":{"mail":true,"sms":false},
    "words":{"and":1,"occurs":"2026-01-10","date":5,"true":6,"if":7,"chain":8,"in":{"like":9}},
    "xdm:name":"n","@id":"i","$ref":"r","_t":{"x":1},"from":{"where":2},"odd name":{"a b":3},
    "quote":"\"\\\n","days":["2026-01-09","2026-01-10"]}"#;

const EVENTS: [(&str, &str, &str); 12] = [
    ("2026-01-10T01:00:00Z", "commerce.productViews", ""),
    ("2026-01-10T02:00:00Z", "commerce.productViews", ""),
    ("2026-01-10T03:00:00Z", "commerce.productviews", ""),
    ("2026-01-10T04:00:00Z", "commerce.productListAdds", ""),
    (
        "2026-01-10T05:00:00Z",
        "commerce.purchases",
        r#","commerce":{"order":{"priceTotal":150}},"productListItems":[{"SKU":"A1","n":1},{"SKU":"K9","n":2}]"#,
    ),
    ("2026-01-10T06:00:00Z", "commerce.purchases", r#","commerce":{"order":{"priceTotal":101}}"#),
    ("2026-01-10T07:00:00Z", "commerce.checkouts", ""),
    ("2026-01-10T08:00:00Z", "web.webpagedetails.pageViews", ""),
    ("2026-01-10T08:01:00Z", "web.webpagedetails.pageViews", ""),
    ("2026-01-10T08:02:00Z", "web.webpagedetails.pageViews", ""),
    ("2026-01-10T08:03:00Z", "web.webpagedetails.pageViews", ""),
    ("2026-01-10T08:04:00Z", "web.webpagedetails.pageViews", ""),
];

fn fact(realized: bool) -> MembershipFact {
    MembershipFact { realized, since: at("2026-01-09T00:00:00Z"), until: Timestamp::MAX }
}

/// A profile that most of the examples hold for.
fn joan(book: &mut Book) -> Subject {
    let mut joan = Subject::default()
        .with_attributes(book, PROFILE)
        .with_identity("crmid", "c1")
        .with_identity("email", "jo@example.org");
    joan.memberships.insert("aud-1".into(), fact(true));
    joan.memberships.insert("list-1".into(), fact(false));
    for (offset, (time, kind, more)) in (1..).zip(EVENTS) {
        let body = format!(
            r#"{{"_id":"{offset}","timestamp":"{time}","eventType":"{kind}","web":{{"webPageDetails":{{"server":"shop"}}}}{more}}}"#
        );
        joan.observe(book, offset, &body);
    }
    joan
}

/// Checks each (what it shows, expression, expected value) on Joan at 09:00 of that day.
pub(super) fn check(cases: &[(&str, &str, bool)]) {
    let mut book = Book::new("UTC");
    let rules: Vec<_> = cases
        .iter()
        .map(|(name, text, _)| book.compile(text).unwrap_or_else(|e| panic!("{name}: {text}: {e}")))
        .collect();
    let joan = joan(&mut book);
    for ((name, text, expected), rule) in cases.iter().zip(&rules) {
        let found = joan.evaluate(&book, rule, at("2026-01-10T09:00:00Z"));
        assert_eq!(found.holds, *expected, "{name}: {text}");
        let canonical = parse(text).expect("it compiled").to_string();
        let again = parse(&canonical).unwrap_or_else(|e| panic!("{canonical}: {e}")).to_string();
        assert_eq!(again, canonical, "{name}: printing {text}");
    }
}

#[test]
fn the_examples_of_the_page_have_their_values() {
    check(&[
        ("1", r#"workAddress.country = "FR""#, true),
        ("2", r"homeAddress", true),
        ("3", r"homeAddress.stateProvince = workAddress.stateProvince", true),
        (
            "4",
            r#"homeAddress.countryCode = "US" and homeAddress.stateProvince in ["NV","UT"]"#,
            true,
        ),
        ("5", r#"person.gender notIn ["male"]"#, true),
        ("6", r#"workEmail.address like "%.org""#, true),
        ("7", r#"person.name.firstName.matches("(?i)^jo")"#, true),
        ("8", r#"personalEmail.address.regexGroup("@(\\w+)",1) = "example""#, true),
        ("9", r#"homeAddress.city.equals("Lyon", false)"#, true),
        ("10", r"not(mobilePhone.number.isNull())", true),
        ("11", r#"if(homeAddress.countryCode in ["US","CA"],"NA","ROW") = "NA""#, true),
        ("12", r"person.birthDate.getYear() in [1990,1991]", true),
        ("13", r"loyalty.joinDate occurs between date(2020,1,1) and date(2021,1,1)", true),
        (
            "14",
            r#"xEvent[eventType = "commerce.purchases" and timestamp occurs < 7 days before now].count() >= 2"#,
            true,
        ),
        (
            "15",
            r"xEvent[timestamp occurs < 7 days before now].sum(commerce.order.priceTotal) > 250",
            true,
        ),
        (
            "16",
            r#"exists E from xEvent where E.commerce.order.priceTotal > 80, I from E.productListItems where I.SKU = "K9""#,
            true,
        ),
        ("17", r#"forall E from xEvent : E.web.webPageDetails.server = "shop""#, true),
        (
            "18",
            r#"chain(xEvent, timestamp, [A: WHAT(eventType = "web.webpagedetails.pageViews") WHEN(< 24 hours before now) COUNT(5)])"#,
            true,
        ),
        (
            "19",
            r#"CHAIN(xEvent, timestamp, [C0: WHAT(eventType.equals("commerce.productViews", false)), C1: WHAT(eventType.equals("commerce.productListAdds", false)), C2: WHAT(eventType.equals("commerce.purchases", false))])"#,
            true,
        ),
        (
            "20",
            r#"chain(xEvent, timestamp, [X: WHAT(eventType = "commerce.productListAdds") WHEN(today)]) and not(chain(xEvent, timestamp, [Y: WHAT(eventType = "commerce.purchases") WHEN(today)]))"#,
            false,
        ),
        (
            "21",
            r#"inSegment("aud-1") and CHAIN(xEvent, timestamp, [C0: WHAT(eventType.equals("commerce.checkouts", false)) WHEN(<= 24 hours before now)])"#,
            true,
        ),
        ("22", r#"identityMap.keys() intersects ["Email"]"#, true),
        ("23", r#"identityMap.get("Email").exists(id.endsWith("@example.org"))"#, true),
        ("24", r#"segmentMembership.get("ups").get("aud-1").status in ["realized"]"#, true),
        (
            "25",
            r#"chain(xEvent, timestamp, [A: WHAT(eventType = "commerce.productViews") WHEN(< 30 days before now) COUNT(3), B: WHAT(eventType = "commerce.purchases" and commerce.order.priceTotal > 100)])"#,
            false,
        ),
    ]);
}

#[test]
fn missing_values_make_comparisons_false() {
    check(&[
        ("equality", r#"gone = "x""#, false),
        ("inequality", r#"gone != "x""#, false),
        ("two missing ones", "gone = away", false),
        ("notIn", r#"gone notIn ["x"]"#, false),
        ("a negative string test", r#"gone.doesNotContain("x")"#, false),
        ("not is plain negation", r#"not(gone = "x")"#, true),
        ("isNull", "gone.isNull()", true),
        ("isNotNull", "gone.isNotNull()", false),
        ("presence", "gone", false),
        ("presence of false", "flag", true),
        ("the value false", "flag = false", true),
        ("presence of an empty array", "none", true),
        ("presence across an array", "cars.year", true),
        ("absence across an array", "cars.gone", false),
        ("an empty filter", "cars[year > 2010]", false),
        ("a full filter", "cars[year > 2000]", true),
        ("an empty filter of events", r#"xEvent[eventType = "none"]"#, false),
        ("which is null", r#"xEvent[eventType = "none"].isNull()"#, true),
        ("events", "xEvent", true),
        ("different types", r#"loyalty.points = "120""#, false),
        ("and their inequality", r#"loyalty.points != "120""#, false),
        ("booleans have no order", "flag < true", false),
        ("division by zero is missing", "loyalty.points / 0 = 0", false),
        ("and so is its not-equal", "loyalty.points % 0 != 1", false),
        (
            "an unknown membership",
            r#"segmentMembership.get("ups").get("other").status != "realized""#,
            false,
        ),
        ("and its presence", r#"segmentMembership.get("ups").get("other")"#, false),
    ]);
}

#[test]
fn functions_do_what_the_page_says() {
    check(&[
        ("equals minds the case", r#"homeAddress.city.equals("Lyon")"#, false),
        ("notEqualTo", r#"homeAddress.city.notEqualTo("Lyon")"#, true),
        ("notEqualTo without case", r#"homeAddress.city.notEqualTo("lyon", false)"#, false),
        ("startsWith", r#"person.name.firstName.startsWith("Jo")"#, true),
        ("doesNotStartWith", r#"person.name.firstName.doesNotStartWith("jo", true)"#, true),
        ("endsWith", r#"person.name.firstName.endsWith("AN", false)"#, true),
        ("doesNotEndWith", r#"person.name.firstName.doesNotEndWith("an")"#, false),
        ("contains", r#"workEmail.address.contains("@")"#, true),
        ("doesNotContain", r#"workEmail.address.doesNotContain("@")"#, false),
        ("like with one character", r#"person.name.firstName like "J_an""#, true),
        ("like is of the whole", r#"person.name.firstName like "oa""#, false),
        ("like goes back", r#"workEmail.address like "%@%.org""#, true),
        ("matches is unanchored", r#"person.name.firstName.matches("oa")"#, true),
        (
            "a group that took no part is missing",
            r#"person.name.firstName.regexGroup("(x)?Jo",1) != "x""#,
            false,
        ),
        ("group zero is all", r#"person.name.firstName.regexGroup("J.",0) = "Jo""#, true),
        ("a comparison with an array is of any", r#"tags = "b""#, true),
        ("also for inequality", r#"tags != "a""#, true),
        ("across objects in arrays", r#"cars.make = "y""#, true),
        ("in", r#"tags in ["z","b"]"#, true),
        ("in a path", r#""a" in tags"#, true),
        ("notIn", r#"person.gender notIn ["female"]"#, false),
        ("intersects", r#"tags intersects ["c","b"]"#, true),
        ("subsetOf", r#"tags subsetOf ["a","b","c"]"#, true),
        ("not subsetOf", r#"tags subsetOf ["a"]"#, false),
        ("the empty array is a subset", r#"none subsetOf ["a"]"#, true),
        ("supersetOf", r#"tags supersetOf ["a"]"#, true),
        ("includes", r#"tags includes "a""#, true),
        ("count", "tags.count() = 2", true),
        ("count across arrays", "cars.year.count() = 1", true),
        ("count of the missing is 0", "gone.count() = 0", true),
        ("distinct", "dup.distinct().count() = 2", true),
        ("exists on elements", r#"cars.exists(make = "x" and year = 2001)"#, true),
        ("is of one element", r#"cars.exists(make = "y" and year = 2001)"#, false),
        ("a filter counts", r#"cars[make = "x"].count() = 1"#, true),
        ("keys", r#"prefs.keys() supersetOf ["mail","sms"]"#, true),
        ("values", "prefs.values() includes true", true),
        ("get is a path", r#"prefs.get("mail") = true"#, true),
        ("get with a computed key", r#"prefs.get(if(flag = false, "mail", "sms")) = true"#, true),
        ("get of another namespace", r#"identityMap.get("Phone").exists(id = "1")"#, false),
        ("an identity by path", r#"identityMap.email.id = "jo@example.org""#, true),
        (
            "a standing under uploads",
            r#"segmentMembership.get("CustomerAudienceUpload").get("list-1").status = "exited""#,
            true,
        ),
        ("is not in that segment", r#"inSegment("list-1")"#, false),
        (
            "its time",
            r#"segmentMembership.get("ups").get("aud-1").lastQualificationTime occurs on date(2026,1,9)"#,
            true,
        ),
        ("sum over an array", "cars.sum(year) = 2001", true),
        ("average of nothing is missing", "cars.average(gone) != 1", false),
        ("sum of nothing is zero", "cars.sum(gone) = 0", true),
        ("min", "xEvent.min(commerce.order.priceTotal) = 101", true),
        ("max", "xEvent.max(commerce.order.priceTotal) = 150", true),
        ("average", "xEvent.average(commerce.order.priceTotal) = 125.5", true),
        ("sum across arrays in events", "xEvent.sum(productListItems.n) = 3", true),
        ("getMonth", "person.birthDate.getMonth() = 6", true),
        ("getDayOfMonth", "person.birthDate.getDayOfMonth() = 1", true),
        ("currentYear", "currentYear() = 2026", true),
        ("currentMonth", "currentMonth() = 1", true),
        ("currentDayOfMonth", "currentDayOfMonth() = 10", true),
        ("arithmetic binds as usual", "1 + 2 * 3 - 4 / 2 = 5", true),
        ("from left to right", "10 - 4 - 3 = 3", true),
        ("the remainder has the dividend's sign", "0 - 7 % 3 = -1 and -7 % 3 = -1", true),
        ("a date is compared as a time", "person.birthDate < date(1990,6,2)", true),
        ("timestamps of events too", "xEvent[timestamp > date(2026,1,10)].count() = 12", true),
        ("not binds tighter than and", "not gone and tags", true),
        ("and tighter than or", "tags or gone and gone", true),
        ("`!` negates", "!gone", true),
        ("keywords in any case", "NOT gone AND tags Or gone", true),
        ("a condition as value", r#"(tags = "a") = true"#, true),
        ("if with conditions", "if(gone, gone, tags)", true),
    ]);
}

#[test]
fn events_are_asked_in_every_way() {
    check(&[
        (
            "a profile's value in a quantifier",
            r#"exists E from xEvent where E.eventType.endsWith("purchases") and loyalty.points > 100"#,
            true,
        ),
        (
            "and one that is too small",
            "exists E from xEvent where E.commerce.order.priceTotal < loyalty.points",
            true,
        ),
        (
            "two events",
            "exists E from xEvent where E.commerce.order.priceTotal > 0, F from xEvent where F.commerce.order.priceTotal < E.commerce.order.priceTotal",
            true,
        ),
        ("forall over nothing", r#"forall E from xEvent[eventType = "none"] : E.gone = 1"#, true),
        (
            "forall with a profile's value",
            "forall E from xEvent[commerce.order.priceTotal > 0] : E.commerce.order.priceTotal < loyalty.points",
            false,
        ),
        ("a path across events", r#"xEvent.eventType = "commerce.checkouts""#, true),
        ("distinct across events", "xEvent.eventType.distinct().count() = 6", true),
        ("nested filters", r#"xEvent[productListItems[SKU = "K9"].count() > 0].count() = 1"#, true),
        ("exists in a filter", r#"xEvent[productListItems.exists(SKU = "K9")]"#, true),
        (
            "two filters",
            r#"xEvent[eventType = "commerce.purchases"][commerce.order.priceTotal > 120].count() = 1"#,
            true,
        ),
        (
            "the clock in an odd place",
            "xEvent[timestamp occurs < 3 hours before now or eventType = \"commerce.checkouts\"].count() = 6",
            true,
        ),
        (
            "a window and a profile's value",
            "exists E from xEvent where E.timestamp occurs <= 3 hours before now and E.commerce.order.priceTotal < loyalty.points",
            true,
        ),
        (
            "WHEN of a past window",
            r#"chain(xEvent, timestamp, [A: WHAT(eventType = "commerce.purchases") WHEN(before date(2026,1,10))])"#,
            false,
        ),
        (
            "steps take distinct events",
            r#"chain(xEvent, timestamp, [A: WHAT(eventType = "commerce.checkouts"), B: WHAT(eventType = "commerce.checkouts")])"#,
            false,
        ),
        ("WHAT of anything", "chain(xEvent, timestamp, [A: WHAT() COUNT(12)])", true),
        ("and not one more", "chain(xEvent, timestamp, [A:WHAT() COUNT(13)])", false),
        (
            "a chain with the profile in it",
            r#"chain(xEvent, timestamp, [A: WHAT(inSegment("aud-1") and eventType = "commerce.purchases"), B: WHAT(eventType = "commerce.checkouts")])"#,
            true,
        ),
        (
            "order matters",
            r#"chain(xEvent, timestamp, [A: WHAT(eventType = "commerce.checkouts"), B: WHAT(eventType = "commerce.purchases")])"#,
            false,
        ),
        (
            "exists with a condition on events",
            "xEvent.exists(commerce.order.priceTotal = 101)",
            true,
        ),
        (
            "distance to an event's own time",
            "exists E from xEvent where E.timestamp occurs after person.birthDate",
            true,
        ),
    ]);
}

#[test]
fn errors_say_where_and_what() {
    // (expression, the text it points at, what the message contains)
    let cases = [
        ("person.name = = 3", "=", "expected an operand, found `=`"),
        ("", "", "expected an operand, found the end"),
        ("a = 1 = 2", "=", "expected an operator or the end"),
        ("a and", "", "found the end"),
        ("(a", "", "expected `)`"),
        ("a.foo()", "foo", "unknown function `foo`"),
        ("foo(a)", "foo", "unknown function `foo`"),
        ("a.isnull()", "isnull", "unknown function"),
        ("xEvent.count()", "xEvent.count()", "expected a condition, found a number"),
        ("\"x\"", "\"x\"", "expected a condition, found a string"),
        ("xEvent = 1", "xEvent", "events cannot be compared"),
        ("a + \"x\" = 1", "\"x\"", "expected a number, found a string"),
        ("a.matches(\"(\")", "\"(\"", "no regular expression: unclosed group"),
        ("a.matches(b)", "b", "a regular expression is a string"),
        ("a.regexGroup(\"(x)\", 2) = \"x\"", "2", "from 0 to 1"),
        ("a occurs today or b occurs sometimes before now", "", ""),
        ("a occurs 7 fortnights before now", "fortnights", "expected a unit"),
        ("a occurs 7 days", "", "`before`, `after` or `from`"),
        ("a < now", "now", "only after `occurs`"),
        ("inSegment(\"nobody\")", "\"nobody\"", "unknown audience `nobody`"),
        ("inSegment(a)", "a", "an audience's id in quotes"),
        (
            "segmentMembership.get(a).get(\"x\").status = \"realized\"",
            "segmentMembership.get(a).get(\"x\")",
            "named in full",
        ),
        (
            "segmentMembership.get(\"ups\").get(\"list-1\").status = \"x\"",
            "\"list-1\"",
            "does not stand under",
        ),
        ("date(2021,2,29) < a", "2021,2,29", "no day 2021-2-29"),
        ("chain(xEvent, timestamp, [A: WHAT(a) COUNT(0)])", "0", "at least 1"),
        ("chain(xevent, timestamp, [A: WHAT(a)])", "xevent", "expected `xEvent`"),
        ("a in \"x\"", "\"x\"", "`in` needs a list"),
        ("if(a, 1) = 1", "if(a, 1)", "a condition and two values, not 2"),
        ("`a.b` = 1", "`a.b`", "cannot be addressed"),
        ("xEvent.sum(timestamp) > 1", "timestamp", "the path of a number"),
        ("xEvent.sum(a + 1) > 1", "a + 1", "the path of a number"),
        ("a.equals(1)", "1", "expected a string, found a number"),
        ("1 occurs today", "1", "expected a date, found a number"),
    ];
    for (text, place, message) in cases {
        let mut book = Book::new("UTC");
        let Err(error) = book.compile(text) else {
            assert!(message.is_empty(), "{text} compiles");
            continue;
        };
        assert!(error.message.contains(message), "{text}: {error}");
        if !message.is_empty() {
            assert_eq!(&text[error.span.clone()], place, "{text}: {error}");
        }
    }
}

#[test]
fn queries_that_read_the_same_are_one() {
    let mut book = Book::new("UTC");
    let texts = [
        r#"xEvent[eventType = "x"].count() > 1"#,
        r#"exists E from xEvent where E.eventType = "x""#,
        r#"xEvent[ eventType="x" ]"#,
        r#"xEvent.exists(eventType = "x") and xEvent[eventType = "x"].count() = 2"#,
    ];
    for text in texts {
        book.compile(text).expect(text);
    }
    assert_eq!(book.queries.len(), 1);
    book.compile(r#"xEvent[eventType = "y"]"#).expect("another");
    book.compile(r#"xEvent[eventType.equals("Y", false) or eventType in ["z"]]"#).expect("a third");
    book.compile("xEvent[a = 1]").expect("one of any type");
    // (event type, how many queries may match)
    for (event_type, expected) in
        [(Some("x"), 2), (Some("y"), 3), (Some("Y"), 2), (Some("z"), 2), (Some("w"), 1), (None, 1)]
    {
        let mut found = Vec::new();
        let body = r#"{"a":1}"#;
        let document = Document::parse(body).expect(body);
        book.queries.candidates(event_type, document.root(body), &mut found);
        assert_eq!(found.len(), expected, "{event_type:?}");
        assert!(found.is_sorted());
    }
}

#[test]
fn queries_are_found_by_the_fields_they_need() {
    let mut book = Book::new("UTC");
    let rules = [
        "xEvent[a.b = 1]",
        "xEvent[a.b > 1 and c]",
        "xEvent.sum(a.c) > 1",
        "xEvent[items.exists(n = 1)]",
        "xEvent[items.n in [1]]",
        "chain(xEvent, timestamp, [A: WHAT(p = 1), B: WHAT(q = 1) WHEN(today)])",
        "xEvent[not a]",
        "xEvent[a or timestamp occurs today]",
    ];
    for text in rules {
        book.compile(text).expect(text);
    }
    // (event, how many queries may match; the last two rules' always do)
    let cases = [
        ("{}", 2),
        (r#"{"a":1}"#, 2),
        (r#"{"a":{"b":1}}"#, 4),
        (r#"{"a":[{"b":1},{"b":2,"c":3}]}"#, 5),
        (r#"{"items":[]}"#, 3),
        (r#"{"items":[{"n":1}]}"#, 4),
        (r#"{"q":1}"#, 3),
    ];
    for (body, expected) in cases {
        let document = Document::parse(body).expect(body);
        let mut found = Vec::new();
        book.queries.candidates(None, document.root(body), &mut found);
        assert_eq!(found.len(), expected, "{body}: {found:?}");
    }
}

#[test]
fn nesting_is_refused_and_never_overflows() {
    let deep = 5_000;
    let texts = [
        format!("{}a{}", "(".repeat(deep), ")".repeat(deep)),
        format!("{}a", "not ".repeat(deep)),
        format!("{}a", "!".repeat(deep)),
        format!("a{}", "[b".repeat(deep)),
        format!("a{}.isNull()", ".get(\"k\")".repeat(deep)),
        format!("a{}", "[b]".repeat(deep)),
        format!("a occurs {}now", "1 day before ".repeat(deep)),
        format!("exists E from x where {}E", "exists F from E where ".repeat(deep / 2)),
        format!("exists E from x{}", ", E from E".repeat(deep)),
    ];
    for text in texts {
        let error = Book::new("UTC").compile(&text).expect_err("too deep");
        assert!(error.message.contains("deeper") || error.message.contains("fewer"), "{error}");
    }
    // Long is not deep.
    for text in [format!("a{}", " and a".repeat(deep)), format!("a{} = 1", " + a".repeat(deep))] {
        Book::new("UTC").compile(&text).expect("long");
    }
}

#[test]
fn the_deepest_expressions_are_evaluated() {
    let deepest = DEPTH_MAX - 1;
    let nest = |layer: &dyn Fn(String) -> String, count: usize| {
        (0..count).fold("a".to_owned(), |inner, _| layer(inner))
    };
    let texts = [
        nest(&|inner| format!("({inner})"), deepest),
        nest(&|inner| format!("not ({inner})"), deepest / 2),
        nest(&|inner| format!("1 + 2 * if({inner}, 1, 2) = 3 and a or b"), deepest),
        nest(
            &|inner| format!("xEvent[1 + 2 * if({inner}, 1, 2) = 3 and a or b].count() > 0"),
            deepest / 2,
        ),
        nest(
            &|inner| format!("exists E from xEvent where ({inner} or E.a) and (a or b)"),
            deepest / 2,
        ),
    ];
    for text in texts {
        let mut book = Book::new("UTC");
        let rule = book.compile(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut subject = Subject::default().with_attributes(&mut book, r#"{"b":1}"#);
        subject.observe(&book, 1, r#"{"timestamp":"2026-01-01T00:00:00Z","a":1}"#);
        subject.evaluate(&book, &rule, Timestamp::EPOCH);
        assert_eq!(parse(&rule_text(&text)).map(|expr| expr.to_string()), Ok(rule_text(&text)));
    }
}

fn rule_text(text: &str) -> String {
    parse(text).expect("it compiled").to_string()
}
