//! Inputs that go on where they were left (`SPEC.md` §10).

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use forebay_engine::engine::Notice;
use forebay_engine::error::EngineError;
use forebay_tests::configuration::one_audience;
use forebay_tests::place::Silent;
use forebay_tests::record::ndjson;
use forebay_tests::{Place, Record};

fn lines(range: std::ops::Range<usize>) -> String {
    ndjson(range.map(|n| {
        let time = format!("01T00:{:02}:{:02}", n / 60 % 60, n % 60);
        Record::profile(&format!("c{n}")).at(&time).with(&format!("\"n\":{n}"))
    }))
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// Reads `name` in one run: accepted, rejected, what was noticed.
fn read(place: &Place, name: &str) -> Result<(u64, u64, Vec<Notice>), EngineError> {
    let engine = place.open();
    let counts = engine.read_file(&place.path().join(name), &Silent)?;
    let notices = engine.notices();
    engine.close()?;
    Ok((counts.accepted, counts.rejected, notices))
}

#[test]
fn a_file_is_read_once_and_goes_on_when_it_grew() {
    let first = lines(0..100);
    // (what it shows, the file's content in each run, how many each run takes)
    let cases = [
        ("the same again", vec![first.clone(), first.clone()], vec![100, 0]),
        ("it grew", vec![first.clone(), lines(0..130)], vec![100, 30]),
        ("it grew twice", vec![lines(0..1), lines(0..2), lines(0..90)], vec![1, 1, 88]),
        ("it begins otherwise", vec![first.clone(), lines(500..540)], vec![100, 40]),
        ("it was empty", vec![String::new(), lines(0..3)], vec![0, 3]),
        (
            "its last line was cut, then ended",
            vec![first[..first.len() - 10].to_owned(), lines(0..101)],
            vec![99, 2],
        ),
        (
            "its last line had no end, but was whole",
            vec![first.trim_end().to_owned(), lines(0..101)],
            vec![100, 1],
        ),
    ];
    for (name, contents, expected) in cases {
        let place = Place::new(&one_audience("n >= 0"));
        let mut taken = Vec::new();
        for content in &contents {
            place.write("in.ndjson", content);
            taken.push(read(&place, "in.ndjson").unwrap().0);
        }
        assert_eq!(taken, expected, "{name}");
    }
}

#[test]
fn it_says_that_it_goes_on() {
    let place = Place::new(&one_audience("n >= 0"));
    let path = place.write("in.ndjson", lines(0..10));
    assert_eq!(read(&place, "in.ndjson").unwrap().2, []);
    place.write("in.ndjson", lines(0..20));
    let (_, _, notices) = read(&place, "in.ndjson").unwrap();
    let source = path.canonicalize().unwrap().display().to_string();
    let byte = lines(0..10).len() as u64;
    assert_eq!(notices, [Notice::Resumed { source: source.clone(), line: 11, byte }]);
    place.write("in.ndjson", lines(100..101));
    let (_, _, notices) = read(&place, "in.ndjson").unwrap();
    assert!(notices.contains(&Notice::OtherBeginning { source }), "{notices:?}");
}

#[test]
fn a_file_that_lost_its_end_is_an_error() {
    let place = Place::new(&one_audience("n >= 0"));
    place.write("in.ndjson", lines(0..200));
    read(&place, "in.ndjson").unwrap();
    // Longer than the hashed beginning, and the same there.
    let shorter = &lines(0..200)[..6_000];
    place.write("in.ndjson", shorter);
    let error = read(&place, "in.ndjson").unwrap_err().to_string();
    assert!(error.contains("in.ndjson"), "{error}");
    place.write("in.ndjson", lines(0..210));
    assert_eq!(read(&place, "in.ndjson").unwrap().0, 10, "nothing was lost by the error");
}

#[test]
fn rejects_are_kept_once_however_often_the_file_is_read() {
    let place = Place::new(&one_audience("n >= 0"));
    let bad = format!("{}nonsense\n{}", lines(0..2), lines(2..4));
    place.write("in.ndjson", &bad);
    let counts = |(accepted, rejected, _): (u64, u64, Vec<Notice>)| (accepted, rejected);
    assert_eq!(counts(read(&place, "in.ndjson").unwrap()), (4, 1));
    assert_eq!(counts(read(&place, "in.ndjson").unwrap()), (0, 0));
    place.write("in.ndjson", format!("{bad}[]\n"));
    assert_eq!(counts(read(&place, "in.ndjson").unwrap()), (0, 1));
    let lines: Vec<_> = place.rejects().iter().map(|reject| reject["line"].clone()).collect();
    assert_eq!(lines, [3, 6]);
}

#[test]
fn packed_input_is_resumed_by_its_unpacked_position() {
    let place = Place::new(&one_audience("n >= 0"));
    // A second member appended to a gzip file is a file that grew, if its first 4 KiB are the same.
    let first = packed(&lines(0..5_000));
    place.write("in.ndjson.gz", &first);
    assert_eq!(read(&place, "in.ndjson.gz").unwrap().0, 5_000);
    assert_eq!(read(&place, "in.ndjson.gz").unwrap().0, 0);
    place.write("in.ndjson.gz", [first, packed(&lines(5_000..5_100))].concat());
    assert_eq!(read(&place, "in.ndjson.gz").unwrap().0, 100);
}
