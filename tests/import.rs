//! Importing an audience: a file becomes its whole membership, at its end and not before (`SPEC.md` §5).

use std::io::{self, Read};
use std::sync::Arc;

use forebay_engine::engine::Engine;
use forebay_engine::error::EngineError;
use forebay_engine::views::ImportSummary;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule, upload};
use forebay_tests::place::{self, advance, feed, profile_line};
use forebay_tests::record::ndjson;
use forebay_tests::{HandClock, Place, Record};

/// Rows that are not looked at: as many as it takes for the first block of rows to be accepted while
/// the reader has yet to ask for what follows them.
const FILLERS: usize = 9_000;

fn configuration(clock: &str) -> String {
    let audiences = [upload("list", "10d"), rule("member", "inSegment(\"list\")")].concat();
    [clock, &audiences, SINK, &dataflow("d", &["list", "member"], &["n"])].concat()
}

fn place() -> Place {
    Place::new(&configuration(EVENT_CLOCK))
}

fn import(engine: &Engine, file: &mut dyn Read) -> Result<ImportSummary, EngineError> {
    place::import(engine, "list", file)
}

/// Accepted, rejected, exited.
fn imported(engine: &Engine, ids: &[&str]) -> (u64, u64, u64) {
    let summary = place::imported(engine, "list", ids);
    (summary.records.accepted, summary.records.rejected, summary.exited)
}

/// A file that something happens to when its first rows are accepted, and before its last ones are.
fn interrupted<'a>(
    first: &[&str],
    happens: impl FnMut() -> io::Result<usize> + 'a,
    last: &'a str,
) -> impl Read + 'a {
    struct Happening<F>(F, bool);
    impl<F: FnMut() -> io::Result<usize>> Read for Happening<F> {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, true) { Ok(0) } else { (self.0)() }
        }
    }
    let pad = "p".repeat(60);
    let rows = first.iter().map(|id| format!("{pad},{id}\n"));
    let fillers = (0..FILLERS).map(|n| format!("{pad},f{n}\n"));
    let head = rows.chain(fillers).fold("name,id\n".to_owned(), |head, row| head + &row);
    io::Cursor::new(head.into_bytes()).chain(Happening(happens, false)).chain(last.as_bytes())
}

fn lines_of(engine: &Engine, customers: &[&str]) -> Vec<String> {
    customers.iter().map(|customer| profile_line(engine, customer).unwrap_or_default()).collect()
}

#[test]
fn a_file_becomes_the_whole_membership_in_one_step_a_profile() {
    let place = place();
    let known = Record::profile("a").at("01T00:00:00").with("\"n\":1");
    let first = place.run_with(|engine| {
        feed(engine, &ndjson([known]));
        assert_eq!(imported(engine, &["a", "b", "b"]), (3, 0, 0));
        advance(engine, "02T00:00:00");
    });
    let entered = [
        r#"crmid:a | list=realized@01T00:00:00 member=realized@01T00:00:00 | {"n":1}"#,
        "crmid:b | list=realized@01T00:00:00 member=realized@01T00:00:00",
    ];
    assert_eq!(first.lines(), entered);
    let second = place.run_with(|engine| assert_eq!(imported(engine, &["b", "c"]), (2, 0, 1)));
    let changed = [
        "crmid:c | list=realized@02T00:00:00 member=realized@02T00:00:00",
        r#"crmid:a | list=exited@02T00:00:00 member=exited@02T00:00:00 | {"n":1}"#,
    ];
    assert_eq!(second.lines(), changed);
    let group = &second.requests[0].json()["segmentMembership"]["CustomerAudienceUpload"]["list"];
    assert_eq!(group["status"], "realized");
    let empty = place.run_with(|engine| assert_eq!(imported(engine, &[]), (0, 0, 2)));
    assert_eq!(empty.lines().len(), 2, "an empty list has no members");
    let counts = &empty.summary.audiences["list"];
    assert_eq!((counts.realized, counts.exited), (0, 3));
    let again = place.run_with(|engine| assert_eq!(imported(engine, &["a"]), (1, 0, 0)));
    assert_eq!(again.lines().len(), 1, "who left may come back");
}

#[test]
fn a_list_that_is_cut_off_lets_nobody_leave_until_another_one_is_complete() {
    let place = place();
    place.run_with(|engine| {
        imported(engine, &["a", "b"]);
    });
    let cut_off = place.run_with(|engine| {
        let broken = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        let error = import(engine, &mut interrupted(&["c"], broken, "")).unwrap_err();
        assert!(error.to_string().contains("list.csv cannot be read"), "{error}");
    });
    assert!(cut_off.lines()[0].starts_with("crmid:c |"), "what was read is in");
    let members = ["a", "b", "c"];
    let before = place.ask(|engine| lines_of(engine, &members));
    assert!(before.iter().all(|line| line.contains("list=realized")), "{before:?}");
    let page = place.ask(|engine| engine.audience_page("list").unwrap().unwrap());
    assert!(page.open_import.is_some(), "it can be seen that it has not ended");

    assert_eq!(place.run(&[]).lines(), [""; 0], "and a restart is no end");
    assert_eq!(place.ask(|engine| lines_of(engine, &members)), before);
    let completed = place.run_with(|engine| {
        let (accepted, _, exited) = imported(engine, &["b"]);
        assert_eq!((accepted, exited), (1, 2 + read_fillers(&cut_off.lines())));
    });
    let left = "crmid:a | list=exited@1970-01-01T00:00:00Z member=exited@1970-01-01T00:00:00Z";
    assert_eq!(completed.lines()[0], left);
    let page = place.ask(|engine| engine.audience_page("list").unwrap().unwrap());
    assert_eq!((page.open_import, page.audience.realized), (None, 1));
}

/// How many of the rows that are not looked at became members.
fn read_fillers(lines: &[String]) -> u64 {
    lines.iter().filter(|line| line.starts_with("crmid:f")).count() as u64
}

#[test]
fn what_comes_from_elsewhere_while_a_list_is_read_counts() {
    let place = place();
    place.run_with(|engine| {
        imported(engine, &["in", "out", "other", "joins", "left"]);
    });
    place.run_with(|engine| {
        let happens = || {
            let elsewhere = ndjson([
                Record::membership("in", "list", "realized"),
                Record::membership("new", "list", "realized"),
                // A member that the file does not have, and one that it has, are one.
                Record::profile("joins").also("CRMID", "listed"),
                Record::membership("early", "list", "exited"),
            ]);
            feed(engine, &elsewhere);
            let is_in = profile_line(engine, "out").unwrap();
            assert!(is_in.contains("list=realized"), "nobody leaves before the end");
            Ok(0)
        };
        let mut file = interrupted(&["listed", "early"], happens, "x,left\n");
        import(engine, &mut file).expect("it is complete");
    });
    // (who, whether a member after the end)
    let expected = [
        ("in", "realized"),
        ("new", "realized"),
        ("joins", "realized"),
        ("listed", "realized"),
        ("left", "realized"),
        ("early", "exited"),
        ("out", "exited"),
        ("other", "exited"),
    ];
    let look = |engine: &Engine| {
        for (who, status) in expected {
            let line = profile_line(engine, who).unwrap();
            assert!(line.contains(&format!("list={status}@")), "{who}: {line}");
        }
    };
    // The second look replays what the first one has, from the beginning.
    place.ask(look);
    place.ask(look);
    assert_eq!(place.run(&[]).lines(), [""; 0], "and exports nothing again");
}

#[test]
fn profiles_that_become_one_after_the_end_keep_what_each_was() {
    let place = place();
    place.run_with(|engine| {
        imported(engine, &["a", "b"]);
    });
    let linked = place.run_with(|engine| {
        let happens = || {
            let link = Record::profile("b").also("CRMID", "a");
            feed(engine, &ndjson([link]));
            Ok(0)
        };
        import(engine, &mut interrupted(&["b"], happens, "")).expect("it is complete");
    });
    let of_both: Vec<_> =
        linked.lines().into_iter().filter(|line| line.starts_with("crmid:a")).collect();
    let time = "1970-01-01T00:00:00Z";
    let expected = format!("crmid:a crmid:b | list=realized@{time} member=realized@{time}");
    assert_eq!(of_both, [expected], "the older one was not named, but the younger was");
}

#[test]
fn another_import_of_the_audience_takes_the_place_of_an_open_one() {
    let place = place();
    place.run_with(|engine| {
        imported(engine, &["a", "b"]);
    });
    place.run_with(|engine| {
        let happens = || {
            let (accepted, _, exited) = imported(engine, &["b", "c"]);
            assert_eq!(accepted, 2);
            assert!(exited >= 2, "`a`, and who was named by the first list only");
            Ok(0)
        };
        let mut first = interrupted(&["first"], happens, "x,last\n");
        let error = import(engine, &mut first).unwrap_err();
        assert!(matches!(error, EngineError::Interrupted(_)), "{error}");
        assert!(error.to_string().contains("another import of `list` began"), "{error}");
    });
    let in_it = |engine: &Engine| {
        let members = ["a", "b", "c", "first", "last"].map(|who| {
            let line = profile_line(engine, who).unwrap();
            line.contains("list=realized")
        });
        assert_eq!(members, [false, true, true, false, true]);
    };
    place.ask(in_it);
}

#[test]
fn an_audience_that_is_no_upload_any_more_ends_the_import() {
    let as_upload = configuration(EVENT_CLOCK);
    let as_rule = as_upload.replacen(&upload("list", "10d"), &rule("list", "n = 1"), 1);
    // (what it becomes meanwhile, what is said)
    let cases: [(&[&String], &str); 2] = [
        (&[&as_rule], "`list` stopped being an upload audience"),
        (&[&as_rule, &as_upload], "its definition changed"),
    ];
    for (meanwhile, expected) in cases {
        let place = place();
        let engine = place.open();
        feed(&engine, &ndjson([Record::profile("one").at("01T00:00:00").with("\"n\":1")]));
        imported(&engine, &["one", "two"]);
        let happens = || {
            for configuration in meanwhile {
                place.reload(&engine, configuration);
            }
            Ok(0)
        };
        let mut file = interrupted(&["first"], happens, "x,last\n");
        let error = import(&engine, &mut file).unwrap_err();
        drop(file);
        assert!(matches!(error, EngineError::Interrupted(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        let [one] = &lines_of(&engine, &["one"])[..] else { panic!("one was asked for") };
        assert!(one.contains("list=realized"), "nobody left: {one}");
        engine.close().unwrap();
    }
}

#[test]
fn a_membership_lasts_from_its_last_refresh_under_the_event_clock() {
    let place = place();
    place.run_with(|engine| {
        advance(engine, "01T00:00:00");
        imported(engine, &["a", "b"]);
        advance(engine, "05T00:00:00");
        imported(engine, &["a", "b"]);
    });
    let before = place.run_until(&[Record::membership("b", "list", "realized")], "14T23:59:59.999");
    assert_eq!(before.lines(), [""; 0], "ten days from the second import");
    let after = place.run_until(&[], "15T00:00:00");
    let time = "15T00:00:00";
    let left = |who: &str| format!("crmid:{who} | list=exited@{time} member=exited@{time}");
    assert_eq!(after.lines(), [left("a"), left("b")]);
    let late = place.run_with(|engine| assert_eq!(imported(engine, &["c"]), (1, 0, 0)));
    assert_eq!(late.lines().len(), 1, "who left by the clock leaves once");
}

#[test]
fn a_membership_lasts_from_its_last_refresh_under_the_wall_clock() {
    let clock = Arc::new(HandClock::at("2026-01-01T00:00:00Z"));
    let place = Place::with_clock(&configuration(""), Arc::clone(&clock) as _);
    let ran = place.run_with(|engine| {
        imported(engine, &["a", "b", "c"]);
        clock.set("2026-01-05T00:00:00Z");
        assert_eq!(imported(engine, &["a", "b"]), (2, 0, 1));
        clock.set("2026-01-10T00:00:00Z");
        feed(engine, &ndjson([Record::membership("b", "list", "realized")]));
        clock.set("2026-01-15T00:00:00Z");
        place.receiver.wait_until("the ten days are over", |requests| requests.len() == 5);
        // What is due at the end of an import leaves by the clock, and once.
        clock.set("2026-01-20T00:00:00Z");
        assert_eq!(imported(engine, &["d"]), (1, 0, 0));
    });
    let line = |who: &str, status: &str, time: &str| {
        format!("crmid:{who} | list={status}@{time} member={status}@{time}")
    };
    let expected = [
        line("a", "realized", "01T00:00:00"),
        line("b", "realized", "01T00:00:00"),
        line("c", "realized", "01T00:00:00"),
        line("c", "exited", "05T00:00:00"),
        line("a", "exited", "15T00:00:00"),
        line("b", "exited", "20T00:00:00"),
        line("d", "realized", "20T00:00:00"),
    ];
    assert_eq!(ran.lines(), expected);
    assert_eq!(place.run(&[]).lines(), [""; 0], "replay gives the same");
}

#[test]
fn a_bad_row_is_kept_and_the_rest_is_imported() {
    let place = place();
    place.run_with(|engine| {
        let mut file = &b"name,id\nAna,a\nBo\n,\nCo,\xff\n\"D\n,d\n"[..];
        let summary = import(engine, &mut file).expect("it is complete");
        assert_eq!((summary.records.accepted, summary.records.rejected), (1, 4));
    });
    let shown: Vec<String> = place
        .rejects()
        .iter()
        .map(|reject| {
            let input = reject.get("input").or(reject.get("input_base64")).unwrap();
            format!("{} {} {} {}", reject["source"], reject["line"], reject["byte"], input)
        })
        .collect();
    let expected = [
        r#""list.csv" 3 14 "Bo""#,
        r#""list.csv" 4 17 ",""#,
        r#""list.csv" 5 19 "Q28s/w==""#,
        r#""list.csv" 6 24 "\"D\n,d""#,
    ];
    assert_eq!(shown, expected);
    let in_log = place.ask(|engine| engine.log_stats().unwrap().records);
    assert_eq!(in_log, 1, "the members are records of the log");
}
