//! The grammar and the sentences of `PQL.md`, production by production, with values worked out by
//! hand. The profile is Joan of [`super::tests`], at 09:00 on Saturday, 10 January 2026, UTC.

use super::subject::{Book, Subject, at};
use super::tests::check;

#[test]
fn names_are_read_as_the_grammar_says() {
    check(&[
        ("a colon before a letter", r#"xdm:name = "n""#, true),
        ("an at sign", r#"@id = "i""#, true),
        ("a dollar", r#"$ref = "r""#, true),
        ("an underscore", "_t.x = 1", true),
        ("backticks around a word", "`tags` = \"a\"", true),
        ("backticks around anything", "`odd name`.`a b` = 3", true),
        ("backticks around a keyword", "`from`.where = 2", true),
        ("after a dot every word is a name", "words.and = 1 and words.true = 6", true),
        ("also those of constructs", "words.if = 7 and words.chain = 8 and words.date = 5", true),
        ("and of operators", "words.in.like = 9 and words.occurs occurs today", true),
        ("names mind their case", "Tags", false),
        ("strings too", r#"tags = "A""#, false),
        ("single quotes", "tags = 'a'", true),
        ("a quote in the other quotes", r#"quote.contains('"')"#, true),
        ("escapes", r#"quote = "\"\\\n""#, true),
        ("a code point", r#"tags = "\u0061""#, true),
        ("numbers with exponent", "1e2 = 100 and 1.5E-1 = 0.15", true),
        ("negative numbers", "-1 < 0 and nums > - 1", true),
    ]);
}

#[test]
fn keywords_are_taken_in_any_case() {
    check(&[
        ("NOT, AND, OR", "NOT gone AND tags OR gone", true),
        ("IN", r#"tags IN ["a"]"#, true),
        ("NOTIN", r#"tags NOTIN ["a"]"#, true),
        ("LIKE", r#"tags LIKE "_""#, true),
        ("INTERSECTS", r#"tags INTERSECTS ["b"]"#, true),
        ("SUBSETOF", r#"tags SubsetOf ["a","b"]"#, true),
        ("SUPERSETOF", r#"tags SUPERSETOF ["a"]"#, true),
        ("INCLUDES", r#"tags INCLUDES "a""#, true),
        ("TRUE, FALSE", "flag = FALSE and not(flag = True)", true),
        ("OCCURS ON", "days OCCURS ON TODAY", true),
        ("BETWEEN", "days OCCURS BETWEEN YESTERDAY AND NOW", true),
        ("BEFORE, DAYS", "days OCCURS <= 1 DAYS BEFORE NOW", true),
        ("AFTER, DATE", "days OCCURS AFTER DATE(2026,1,9)", true),
        ("THIS", "days OCCURS THIS Month", true),
        ("IF", "IF(gone, 1, 2) = 2", true),
        ("INSEGMENT", r#"INSEGMENT("aud-1")"#, true),
        ("CURRENTYEAR", "CURRENTYEAR() = 2026", true),
        ("EXISTS, FROM, WHERE", r#"EXISTS C FROM cars WHERE C.make = "x""#, true),
        ("FORALL", "FORALL C FROM cars : C.make", true),
        ("CHAIN", "Chain(xEvent, timestamp, [A: What() When(Today) Count(12)])", true),
    ]);
}

#[test]
fn lists_may_be_empty() {
    check(&[
        ("in nothing", r#""a" in []"#, false),
        ("notIn nothing", "tags notIn []", true),
        ("a missing one notIn nothing", "gone notIn []", false),
        ("nothing is a subset of nothing", "none subsetOf []", true),
        ("something is not", "tags subsetOf []", false),
        ("a superset of nothing", "tags supersetOf []", true),
        ("a missing superset of nothing", "gone supersetOf []", false),
        ("no common element", "tags intersects []", false),
        ("nothing to count", "[].count() = 0", true),
    ]);
}

#[test]
fn arrays_are_compared_element_by_element() {
    check(&[
        ("two arrays", "tags = dup", true),
        ("any pair", "nums < nums", true),
        ("an inequality of an array with itself", "tags != tags", true),
        ("not of that", r#"not(tags != "a")"#, false),
        ("in a list", "nums in [9, 3]", true),
        ("notIn is of any element", r#"tags notIn ["a"]"#, true),
        ("of none", r#"tags notIn ["a", "b"]"#, false),
        ("another type is never equal", "nums = \"1\"", false),
        ("nor unequal", "nums != \"1\"", false),
        ("like", r#"tags like "b%""#, true),
        ("a string test", r#"tags.endsWith("B", false)"#, true),
        ("a negative one is of any element", r#"tags.doesNotContain("a")"#, true),
        ("matches", r#"tags.matches("^b$")"#, true),
        ("matches of numbers", r#"nums.matches("1")"#, false),
        ("a group", r#"tags.regexGroup("(b)", 1) = "b""#, true),
        ("dates", "days.getDayOfMonth() = 9", true),
        ("arithmetic has single numbers only", "nums + 1 = 2", false),
        ("windows are of any element", "days occurs yesterday and days occurs today", true),
        ("their anchors too", r#""2026-01-09T12:00:00Z" occurs before days"#, true),
        ("of both ends", r#""2026-01-09T12:00:00Z" occurs between days and days"#, true),
        ("keys of no map", "tags.keys()", false),
        ("includes any of a list", r#"tags includes ["z", "b"]"#, true),
        ("single values are sets of one", r#"person.gender subsetOf ["female", "male"]"#, true),
    ]);
}

#[test]
fn numbers_are_64_bit_floats() {
    check(&[
        ("the remainder has the dividend's sign", "-7 % 3 = -1 and 7 % -3 = 1", true),
        ("of fractions too", "5.5 % 2 = 1.5", true),
        ("division is not whole", "7 / 2 = 3.5", true),
        ("parentheses", "(1 + 2) * 3 = 9", true),
        ("from left to right", "loyalty.points * 2 % 7 = 2", true),
        ("a missing operand", "loyalty.points + gone > 0", false),
        ("whose negation holds", "not(loyalty.points + gone > 0)", true),
        ("division by zero", "loyalty.points / 0 != 0", false),
        ("minus without blanks", "loyalty.points-20=100", true),
        ("a sum rounded once", "0.1 + 0.2 != 0.3", true),
    ]);
}

#[test]
fn choices_take_what_the_condition_says() {
    check(&[
        ("a missing condition is false", "if(gone, 1, 2) = 2", true),
        ("one of two paths", r#"if(tags, tags, none) = "a""#, true),
        ("nested", "if(gone, 1, if(flag, 2, 3)) = 2", true),
        ("of other types", r#"if(flag = true, 5, "x") = "x""#, true),
        ("the missing branch", r#"if(flag = true, "x", gone) != "x""#, false),
        ("as a condition", "if(flag, nums = 3, gone)", true),
        ("in a list", r#"tags in [if(gone, "z", "b")]"#, true),
    ]);
}

#[test]
fn quantifiers_bind_one_element_after_another() {
    check(&[
        (
            "an element of an array",
            r#"exists C from cars where C.make = "x" and C.year = 2001"#,
            true,
        ),
        ("a scalar element", r#"exists T from tags where T = "b""#, true),
        ("without condition", "exists C from cars", true),
        ("of nothing", "exists C from none", false),
        ("two sources", "exists C from cars, D from cars where C.make != D.make", true),
        (
            "each with a condition",
            r#"exists C from cars where C.year, D from cars where D.make = "y""#,
            true,
        ),
        (
            "the second from the first",
            "exists E from xEvent, I from E.productListItems where I.n = 2",
            true,
        ),
        ("forall", "forall C from cars : C.make", true),
        ("forall and one that does not", "forall C from cars : C.year", false),
        ("forall over what is missing", "forall C from gone : C.x", true),
        ("forall over nothing", "forall C from none : C", true),
        ("forall over no event", r#"forall E from xEvent[eventType = "none"] : gone"#, true),
        ("forall of two sources", "forall C from cars : C.make, D from cars : D.make", true),
        ("and one that fails", "forall C from cars : C.make, D from cars : D.year", false),
        ("a variable hides a path", r#"exists tags from cars where tags.make = "x""#, true),
        ("and the events", r#"exists xEvent from cars where xEvent.make = "y""#, true),
        ("bare paths are the profile's", "exists C from cars where make", false),
        ("indeed", "exists C from cars where loyalty", true),
        ("in a filter they are the element's", r#"cars[make = "x"]"#, true),
        (
            "the variable is known in a filter",
            r#"exists E from xEvent where cars[make = "x" and E.commerce.order.priceTotal > 149]"#,
            true,
        ),
        (
            "a filter of the variable",
            r#"exists E from xEvent where E.productListItems[SKU = "K9"].count() = 1"#,
            true,
        ),
        (
            "a filtered source",
            r#"exists E from xEvent[eventType = "commerce.purchases"] where E.commerce.order.priceTotal < 102"#,
            true,
        ),
        (
            "the condition takes what follows",
            r#"exists C from cars where C.make = "x" and gone"#,
            false,
        ),
        ("parentheses end it", r#"(exists C from cars where C.make = "x") and tags"#, true),
        ("in brackets", r#"[exists C from cars where C.make = "x", true] supersetOf [true]"#, true),
        (
            "identities",
            r#"exists I from identityMap.get("EMAIL") where I.id.endsWith(".org")"#,
            true,
        ),
        ("a function called exists", r#"cars.exists(make = "y")"#, true),
        (
            "a quantifier within a filter",
            r#"xEvent[exists I from productListItems where I.SKU = "K9"].count() = 1"#,
            true,
        ),
        ("forall in forall", "forall C from cars : (forall T from tags : T != C.make)", true),
    ]);
}

#[test]
fn chains_complete_step_by_step() {
    let chain = |steps: &str| format!("chain(xEvent, timestamp, [{steps}])");
    let bought = r#"WHAT(eventType = "commerce.purchases")"#;
    let checked = r#"WHAT(eventType = "commerce.checkouts")"#;
    // (what it shows, steps, whether the chain holds)
    let cases = [
        ("one step", format!("A: {bought}"), true),
        ("no blank after the label", format!("A:{bought}"), true),
        ("a label in backticks", format!("`A 1`: {bought}"), true),
        ("twice", format!("A: {bought} COUNT(2)"), true),
        ("not three times", format!("A: {bought} COUNT(3)"), false),
        ("one after the other", format!("A: {bought}, B: {bought}, C: {checked}"), true),
        ("a step after both", format!("A: {bought} COUNT(2), B: {checked}"), true),
        ("an event serves one step", format!("A: {bought} COUNT(2), B: {bought}"), false),
        ("labels may repeat", format!("A: {bought}, A: {checked}"), true),
        ("WHEN and COUNT", format!("A: {bought} WHEN(< 4 hours before now) COUNT(1)"), true),
        ("both within", format!("A: {bought} WHEN(< 4 hours before now) COUNT(2)"), false),
        ("the edge", format!("A: {bought} WHEN(<= 4 hours before now) COUNT(2)"), true),
        ("a window on the last step only", format!("A: {bought}, B: WHAT() WHEN(<= 57 minutes before now) COUNT(2)"), true),
        ("a path in WHEN is the event's", format!("A: {bought} WHEN(after person.birthDate)"), false),
        ("a missing one", format!("A: {bought} WHEN(before gone)"), false),
        ("a window within WHAT", r"A: WHAT(timestamp occurs today and commerce) COUNT(2)".to_owned(), true),
        ("a choice with the clock", r#"A: WHAT(eventType = "commerce.checkouts" or timestamp occurs < 1 hour before now) COUNT(5)"#.to_owned(), true),
        ("which is not more", r#"A: WHAT(eventType = "commerce.checkouts" or timestamp occurs < 1 hour before now) COUNT(6)"#.to_owned(), false),
        ("a quantifier of the event's own items", "A: WHAT(exists T from productListItems where T.n = 2)".to_owned(), true),
    ];
    let texts: Vec<_> =
        cases.iter().map(|(name, steps, holds)| (*name, chain(steps), *holds)).collect();
    check(
        &texts.iter().map(|(name, text, holds)| (*name, text.as_str(), *holds)).collect::<Vec<_>>(),
    );
    let both = format!(
        "{} and {}",
        chain(&format!("A: {bought}")),
        chain(&format!("B: {checked}, C: {bought}"))
    );
    check(&[("several without order between them", &both, false)]);
}

#[test]
fn events_of_one_instant_are_in_the_order_of_the_log() {
    let mut book = Book::new("UTC");
    let chain = |first: &str, then: &str| {
        format!("chain(xEvent, timestamp, [A: WHAT(t = \"{first}\"), B: WHAT(t = \"{then}\")])")
    };
    let rules = [("a", "b", true), ("b", "a", false)]
        .map(|(first, then, holds)| (book.compile(&chain(first, then)).expect("a chain"), holds));
    let mut subject = Subject::default().with_attributes(&mut book, "{}");
    // The later offset arrives first, as after a merge.
    subject.observe(&book, 2, r#"{"timestamp":"2026-01-01T00:00:00Z","t":"b"}"#);
    subject.observe(&book, 1, r#"{"timestamp":"2026-01-01T00:00:00Z","t":"a"}"#);
    for (rule, holds) in &rules {
        assert_eq!(subject.evaluate(&book, rule, at("2026-01-02T00:00:00Z")).holds, *holds);
    }
}

#[test]
fn windows_are_read_in_every_form() {
    check(&[
        ("before a path", "loyalty.joinDate occurs before person.birthDate", false),
        ("after a path", "loyalty.joinDate occurs after person.birthDate", true),
        (
            "between a path and the clock",
            "loyalty.joinDate occurs between person.birthDate and now",
            true,
        ),
        (
            "between includes both ends",
            "loyalty.joinDate occurs between date(2021,1,1) and date(2021,1,1)",
            true,
        ),
        (
            "between the wrong way around",
            "loyalty.joinDate occurs between now and person.birthDate",
            false,
        ),
        ("a missing end", "loyalty.joinDate occurs between gone and now", false),
        ("a missing subject", "gone occurs before now", false),
        ("on a date", "loyalty.joinDate occurs on date(2021,1,1)", true),
        ("on may be left out", "loyalty.joinDate occurs date(2021,1,1)", true),
        ("on a path", "loyalty.joinDate occurs on loyalty.joinDate", true),
        ("at most a day after", "loyalty.joinDate occurs <= 1 day after date(2020,12,31)", true),
        ("less than a day after", "loyalty.joinDate occurs < 1 day after date(2020,12,31)", false),
        ("one day after", "loyalty.joinDate occurs 1 day after date(2020,12,31)", true),
        ("after what comes later", "loyalty.joinDate occurs > 0 days after date(2021,1,2)", false),
        ("not one day after", "loyalty.joinDate occurs != 1 day after date(2020,12,31)", false),
        ("not two days before", "loyalty.joinDate occurs != 2 days before now", true),
        ("but before", "loyalty.joinDate occurs != 2 days before date(2020,1,1)", false),
        (
            "on so many days before",
            "loyalty.joinDate occurs on 9 days before date(2021,1,10)",
            true,
        ),
        ("and on no other", "loyalty.joinDate occurs on 8 days before date(2021,1,10)", false),
        (
            "before a shifted time",
            "loyalty.joinDate occurs before 1 month after date(2020,12,31)",
            true,
        ),
        (
            "shifted twice",
            "loyalty.joinDate occurs on 1 day before 1 day after date(2021,1,1)",
            true,
        ),
        (
            "from a shifted time means after",
            "loyalty.joinDate occurs on 1 day from date(2020,12,31)",
            true,
        ),
    ]);
}

#[test]
fn periods_and_distances_are_of_the_clock() {
    check(&[
        ("a literal date", "date(2026,1,1) occurs this year", true),
        ("a literal text", r#""2026-01-10" occurs today"#, true),
        ("yesterday", "date(2026,1,9) occurs yesterday", true),
        ("tomorrow", "date(2026,1,11) occurs tomorrow", true),
        ("weeks start on Sunday", "date(2026,1,4) occurs this week", true),
        ("and end on Saturday", "date(2026,1,3) occurs last week", true),
        ("next week", "date(2026,1,11) occurs next week", true),
        ("last month", "date(2025,12,31) occurs last month", true),
        ("next month", "date(2026,2,28) occurs next month", true),
        ("last year", "date(2025,1,1) occurs last year", true),
        ("next year", "date(2027,12,31) occurs next year", true),
        ("this day", "date(2026,1,10) occurs this day", true),
        ("last day", "date(2026,1,9) occurs last day", true),
        ("this hour", r#""2026-01-10T09:59:59.999Z" occurs this hour"#, true),
        ("last hour", r#""2026-01-10T08:00:00Z" occurs last hour"#, true),
        ("next hour", r#""2026-01-10T10:00:00Z" occurs next hour"#, true),
        ("this minute", r#""2026-01-10T09:00:59Z" occurs this minute"#, true),
        ("this second", r#""2026-01-10T09:00:00.999Z" occurs this second"#, true),
        ("this millisecond", r#""2026-01-10T09:00:00.001Z" occurs this millisecond"#, false),
        ("on now is the day", "date(2026,1,10) occurs on now", true),
        ("and no other", "date(2026,1,9) occurs now", false),
        ("from, in the past", "date(2026,1,10) occurs < 1 day from now", true),
        ("from, in the future", "date(2026,1,11) occurs < 1 day from now", true),
        ("truncated from", "date(2026,1,12) occurs 1 day from now", true),
        ("a month ago", "date(2025,12,10) occurs 1 month before now", true),
        ("more than it", "date(2025,12,10) occurs > 1 month before now", true),
        ("months are clamped", "date(2025,12,31) occurs 2 months before date(2026,2,28)", true),
        ("years too", "date(2024,2,29) occurs >= 1 year before date(2025,2,28)", true),
        ("weeks are seven days", "date(2026,1,3) occurs 1 week before now", true),
        ("singular and plural", "date(2026,1,9) occurs <= 33 hour before now", true),
        ("an offset in a text", r#""2026-01-10T00:30:00+01:00" occurs yesterday"#, true),
        ("text that is no time", r#""soon" occurs before now"#, false),
        ("a date that is none", r#""2026-02-30" occurs after now"#, false),
        ("an event's timestamp", r#"xEvent[timestamp = "2026-01-10T06:00:00Z"].count() = 1"#, true),
        ("is a time, not a text", r#"xEvent[timestamp < "2026-01-10"]"#, false),
        ("in a list of dates", r#"xEvent[timestamp in ["2026-01-10T06:00:00.000+00:00"]]"#, true),
        ("and has parts", "xEvent[timestamp.getDayOfMonth() = 10].count() = 12", true),
    ]);
}

#[test]
fn paths_across_events_are_of_any_event() {
    check(&[
        ("equality", r#"xEvent.eventType = "commerce.checkouts""#, true),
        ("from the right", r#""commerce.checkouts" = xEvent.eventType"#, true),
        ("an order from the right", "120 < xEvent.commerce.order.priceTotal", true),
        ("no such event", r#"xEvent.eventType = "none""#, false),
        ("a profile's value", "xEvent.commerce.order.priceTotal > loyalty.points", true),
        (
            "of filtered events",
            r#"xEvent[eventType = "commerce.checkouts"].commerce.order.priceTotal > 0"#,
            false,
        ),
        ("in", r#"xEvent.eventType in ["x", "commerce.checkouts"]"#, true),
        ("notIn is of any", r#"xEvent.eventType notIn ["commerce.checkouts"]"#, true),
        ("a test", r#"xEvent.eventType.startsWith("WEB", false)"#, true),
        ("a pattern", r#"xEvent.eventType.matches("^web[.]")"#, true),
        ("like", r#"xEvent.eventType like "%purchases""#, true),
        ("presence", "xEvent.commerce", true),
        ("absence", "xEvent.gone", false),
        ("isNull", "xEvent.gone.isNull() and not(xEvent.commerce.isNull())", true),
        ("a window", "xEvent.timestamp occurs < 1 hour before now", true),
        ("a window in the past", "xEvent.timestamp occurs before yesterday", false),
        (
            "all of them together",
            r#"xEvent.eventType supersetOf ["commerce.checkouts","commerce.purchases"]"#,
            true,
        ),
        (
            "with themselves",
            "xEvent.commerce.order.priceTotal < xEvent.commerce.order.priceTotal",
            true,
        ),
        ("distinct ones", "xEvent.eventType.distinct().count() = 6", true),
        ("across their arrays", r#"xEvent.productListItems.SKU = "K9""#, true),
        (
            "inside a quantifier",
            "exists C from cars where xEvent.commerce.order.priceTotal < C.year",
            true,
        ),
    ]);
}

#[test]
fn string_functions_come_in_pairs_and_mind_the_case_if_asked() {
    // (function, argument, whether it holds for "LYON", and without case)
    let cases = [
        ("equals", "lyon", false, true),
        ("notEqualTo", "lyon", true, false),
        ("startsWith", "ly", false, true),
        ("doesNotStartWith", "ly", true, false),
        ("endsWith", "on", false, true),
        ("doesNotEndWith", "on", true, false),
        ("contains", "yo", false, true),
        ("doesNotContain", "yo", true, false),
    ];
    for (function, argument, distinct, ignored) in cases {
        let of = |subject: &str, more: &str| format!("{subject}.{function}(\"{argument}\"{more})");
        check(&[
            (function, &of("homeAddress.city", ""), distinct),
            (function, &of("homeAddress.city", ", true"), distinct),
            (function, &of("homeAddress.city", ", false"), ignored),
            ("a missing subject", &of("gone", ""), false),
            ("a missing argument", &format!("homeAddress.city.{function}(gone)"), false),
            ("another type", &of("loyalty.points", ""), false),
            ("not is plain negation", &format!("not {}", of("gone", ", false")), true),
        ]);
    }
    check(&[
        ("Unicode lower case", r#""ÉCOLE".equals("école", false)"#, true),
        ("of one that grows", r#""İ".equals("i̇", false)"#, true),
        ("an empty argument", r#"homeAddress.city.contains("")"#, true),
        ("like minds the case", r#"homeAddress.city like "lyon""#, false),
        ("a percent sign alone", r#"homeAddress.city like "%""#, true),
        ("an underscore is one character", r#""é" like "_""#, true),
    ]);
}

#[test]
fn aggregates_of_nothing_are_zero_or_missing() {
    for source in ["xEvent[eventType = \"none\"]", "cars[make = \"z\"]", "none", "gone"] {
        let of = |rest: &str| format!("{source}.{rest}");
        check(&[
            ("count", &of("count() = 0"), true),
            ("sum", &of("sum(n) = 0"), true),
            ("average", &of("average(n) != 1"), false),
            ("min", &of("min(n) < 1"), false),
            ("max", &of("max(n) > 1"), false),
            ("the negation", &format!("not({source}.max(n) > 1)"), true),
        ]);
    }
    check(&[
        ("elements without a number are skipped", "cars.average(year) = 2001", true),
        ("of a filter", r#"cars[make = "x"].sum(year) = 2001"#, true),
        ("of filtered events", "xEvent[commerce].average(commerce.order.priceTotal) = 125.5", true),
        (
            "with a window",
            "xEvent[timestamp occurs <= 3 hours before now].max(commerce.order.priceTotal) = 101",
            true,
        ),
        ("a single value counts as one", "flag.count() = 1", true),
        ("distinct of an array", "nums.distinct() intersects [3]", true),
    ]);
}

#[test]
fn what_is_outside_the_page_is_named() {
    // (expression, the text it points at, what the message contains, what the help contains)
    let cases = [
        ("a = null", "null", "`null` is no value", ".isNull()"),
        ("a is null", "is", "found `is`", ".isNotNull()"),
        ("a contains \"x\"", "contains", "found `contains`", ".contains("),
        ("a between 1 and 2", "between", "found `between`", "x >= 1"),
        ("a before now", "before", "found `before`", "occurs before"),
        ("a.first()", "first", "unknown function `first`", "there are equals"),
        ("xEvent.topN(2)", "topN", "unknown function `topN`", "count"),
        ("count(xEvent) > 1", "count", "unknown function `count`", "called on a value"),
        ("a.IsNull()", "IsNull", "unknown function `IsNull`", "it is written `isNull`"),
        ("a ? b", "?", "found `?`", ""),
        ("{a}", "{", "unexpected character `{`", "backticks"),
        ("a == b", "==", "unknown operator `==`", "`=`"),
        ("forall E from xEvent:E.x", "xEvent:E", "is one name", "space after"),
        ("in [1]", "in", "expected an operand", "backticks"),
        ("[[1]] = 1", "[1]", "a list holds single values", ""),
        ("a in date(2020,1,1)", "date(2020,1,1)", "`in` needs a list, found a date", "[\"a\""),
        ("5 like \"x\"", "5", "expected a string, found a number", ""),
        ("date(2020,1) < a", ")", "expected `,`", ""),
        ("a occurs last now", "now", "expected a unit", ""),
        ("a occurs < 7 days before 5", "", "expected a unit", ""),
        ("a.matches(\"a{9999}{9999}\")", "\"a{9999}{9999}\"", "no regular expression", ""),
        ("a.equals(\"x\", b)", "b", "`true` or `false`", ""),
        ("exists from x", "x", "expected `from`", ""),
        ("chain(xEvent, timestamp, [])", "]", "a step such as", ""),
        ("chain(xEvent, timestamp, [A: WHAT(a) COUNT(1) WHEN(today)])", "WHEN", "expected `]`", ""),
        ("chain(a, timestamp, [A: WHAT(a)])", "a", "expected `xEvent`", ""),
        ("segmentMembership = 1", "segmentMembership", "named in full", "get(\"ups\")"),
    ];
    for (text, place, message, help) in cases {
        let error = Book::new("UTC").compile(text).expect_err(text);
        assert!(error.message.contains(message), "{text}: {error}");
        let helped = error.help.clone().unwrap_or_default();
        assert!(helped.contains(help), "{text}: {helped}");
        assert_eq!(&text[error.span.clone()], place, "{text}: {error}");
    }
    let steps = |count: usize| vec!["A: WHAT()"; count].join(", ");
    let chain = |count: usize| format!("chain(xEvent, timestamp, [{}])", steps(count));
    Book::new("UTC").compile(&chain(32)).expect("so many steps are taken");
    let error = Book::new("UTC").compile(&chain(33)).expect_err("and no more");
    assert!(error.message.contains("at most 32 steps"), "{error}");
}
