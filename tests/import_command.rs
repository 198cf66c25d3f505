//! `forebay import-audience` and `forebay audience show`, as they are typed (`SPEC.md` §10).

use std::io::Write as _;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule, upload};
use forebay_tests::program::{finish, signal};
use forebay_tests::{Place, Program, Run};

const IMPORT: &str = "import-audience list --identity-column id --namespace CRMID --output json";

fn place() -> Place {
    let audiences = [upload("list", "10d"), rule("member", "inSegment(\"list\")")].concat();
    Place::new(&[EVENT_CLOCK, &audiences, SINK, &dataflow("d", &["list"], &["n"])].concat())
}

fn program(place: &Place) -> Program {
    Program::at(place.path())
}

fn imported(program: &Program, file: &[u8]) -> serde_json::Value {
    program.run_with(&format!("{IMPORT} --csv -"), file).expect_status(0).json()
}

fn members(program: &Program) -> Vec<String> {
    let listed = program.run("audience members list --output json").expect_status(0);
    let line = |member: serde_json::Value| {
        let id = member["identities"][0]["id"].as_str().expect("a member has an id").to_owned();
        format!("{id} {}", member["status"].as_str().expect("a member has a status"))
    };
    listed.json_lines().into_iter().map(line).collect()
}

#[test]
fn a_file_is_imported_without_an_engine_and_through_one() {
    let place = place();
    let program = program(&place);
    place.write("list.csv", "id\na\nb\n\"\"\n");
    let first = program.run(&format!("{IMPORT} --csv list.csv")).expect_status(0);
    let mut summary = first.json();
    assert!(summary.as_object_mut().unwrap().remove("first_offset").unwrap().is_u64());
    let expected = serde_json::json!({"accepted": 2, "rejected": 1, "duplicate": 0, "exited": 0});
    assert_eq!(summary, expected);
    first.tells(&["1 rejected line", "rejects.ndjson"]);
    assert_eq!(place.receiver.requests(), [], "it sends nothing");
    let strict = program.run(&format!("{IMPORT} --csv list.csv --strict"));
    assert_eq!(strict.status, Some(1), "{strict:?}");

    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"x,id\n1,b\n2,c\n").unwrap();
    place.write("list.csv.gz", packed.finish().unwrap());
    let mut command = program.command("run --output json");
    let running = program.start(command.stdout(Stdio::piped()));
    let socket = place.data().join("engine.sock");
    Deadline::new().until("the engine listens", || socket.exists());
    let second = program.run(&format!("{IMPORT} --csv list.csv.gz")).expect_status(0).json();
    assert_eq!((&second["accepted"], &second["exited"]), (&2.into(), &1.into()));
    let text = program.run_with(
        "import-audience list --identity-column id --namespace CRMID --csv -",
        b"id\nb\nc\n",
    );
    assert_eq!(text.expect_status(0).stdout, "2 members accepted, 0 rows rejected; 0 exited\n");
    assert_eq!(members(&program), ["a exited", "b realized", "c realized"]);
    signal(&running, "TERM");
    assert_eq!(finish(running).status, Some(0));
    assert_eq!(members(&program), ["a exited", "b realized", "c realized"], "after replay too");
}

#[test]
fn what_is_not_meant_is_refused_before_anything_is_written() {
    let place = place();
    let program = program(&place);
    place.write("list.csv", "id,name\na,A\n");
    // (what is typed, what is told)
    let cases: [(&str, &[&str]); 5] = [
        (
            "import-audience list --csv list.csv --identity-column ID --namespace N",
            &["list.csv", "no column `ID`", "`id`, `name`"],
        ),
        (
            "import-audience lists --csv list.csv --identity-column id --namespace N",
            &["no audience `lists`", "can be imported: `list`"],
        ),
        (
            "import-audience member --csv list.csv --identity-column id --namespace N",
            &["`member` are decided by its rule", "can be imported: `list`"],
        ),
        (
            "import-audience list --csv none.csv --identity-column id --namespace N",
            &["none.csv", "No such file"],
        ),
        ("import-audience list --csv list.csv --identity-column id", &["--namespace"]),
    ];
    for (typed, told) in cases {
        program.run(typed).expect_status(2).tells(told);
        assert!(!place.data().exists(), "{typed}: nothing is made");
    }
    let mut command = program.command("run");
    let running = program.start(command.stdout(Stdio::piped()));
    let socket = place.data().join("engine.sock");
    Deadline::new().until("the engine listens", || socket.exists());
    let entries = || program.run("log stats --output json").json()["next_offset"].clone();
    let before = entries();
    for (typed, told) in cases {
        program.run(typed).expect_status(2).tells(told);
    }
    assert_eq!(entries(), before, "and nothing is written through an engine");
    signal(&running, "TERM");
    assert_eq!(finish(running).status, Some(0));
}

#[test]
fn a_client_and_an_engine_that_are_killed_let_nobody_leave() {
    let place = place();
    let program = program(&place);
    assert_eq!(imported(&program, b"id\na\nb\n")["accepted"], 2);
    let mut command = program.command("run --output json");
    let mut engine = program.start(command.stdout(Stdio::piped()));
    let socket = place.data().join("engine.sock");
    Deadline::new().until("the engine listens", || socket.exists());

    let mut command = program.command(&format!("{IMPORT} --csv -"));
    let mut client = program.start(command.stdin(Stdio::piped()));
    let mut stdin = client.stdin.take().expect("stdin is piped");
    stdin.write_all(b"id\n").unwrap();
    let fifty: Vec<String> = (0..50).map(|n| format!("m{n}\n")).collect();
    stdin.write_all(fifty.concat().repeat(6_000).as_bytes()).unwrap();
    let open = || {
        let page = program.run("audience show list --output json").expect_status(0).json();
        page["open_import"].is_u64() && page["realized"].as_u64() == Some(52)
    };
    Deadline::new().until("the import has begun", open);
    client.kill().expect("the client can be killed");
    finish(client);
    drop(stdin);
    engine.kill().expect("the engine can be killed");
    let ended: Run = finish(engine);
    assert_eq!(ended.status, None, "it was killed: {ended:?}");

    let kept = members(&program);
    assert!(kept.len() == 52 && kept.iter().all(|line| line.ends_with("realized")), "{kept:?}");
    assert_eq!(imported(&program, b"id\nb\n")["exited"], 51);
}

#[test]
fn an_audience_is_shown_with_what_decides_who_is_in() {
    let place = place();
    let program = program(&place);
    assert_eq!(imported(&program, b"id\na\nb\n")["accepted"], 2);
    let page = program.run("audience show member --output json").expect_status(0).json();
    let expected = serde_json::json!({
        "id": "member", "name": "member", "kind": "rule", "merge_policy": "default",
        "pql": "inSegment(\"list\")", "realized": 2, "exited": 0, "description": "",
        "plan": ["audiences: list", "changes by records only"],
        "dataflows": [], "open_import": null,
    });
    assert_eq!(page, expected);
    let text = program.run("audience show list").expect_status(0).stdout;
    for part in ["audience list: list", "upload under merge policy default; 2 in", "10 days", "  d"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    program.run("audience show lits").expect_status(2).tells(&["did you mean `list`?"]);
    let checked = program.run("check --output json").expect_status(0).json();
    assert_eq!(checked["audiences"]["member"], page["plan"], "the plan is that of `check`");
}
