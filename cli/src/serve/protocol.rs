//! What is said over the socket: JSON lines, a request and a reply in turn.
//!
//! An ingest, or an import, is one request line, then the records as frames (length, 4 bytes big-endian, then so
//! many bytes; a length of 0 ends), then one reply line. Frames rather than "until the connection
//! closes", so that a client that dies in the middle of a record is told from one that has finished.

use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, Read, Write};

use forebay_engine::engine::{
    AsOf, Backtest, Import, LogPage, LogQuestion, Payload, ProfileQuestion, Selection,
    StandingQuestion,
};
use forebay_engine::error::EngineError;
use forebay_engine::views::explanation::StandingView;
use forebay_engine::views::export::ExportView;
use forebay_engine::views::{
    AudiencePage, AudienceView, BacktestView, CompactionView, DataflowView, DeadLetterPage,
    DestinationView, ImportSummary, IngestSummary, LogView, MemberView, ProfileView, RebuildView,
    ReplayView, StatusView, VerificationView,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// Raised whenever an older program could misunderstand what is said here.
pub(crate) const VERSION: u32 = 3;

/// Longest request line; a question is a few words.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// Longest reply line. A page of 1,000 dead letters of 64 KiB fits; nothing sensible exceeds it.
const REPLY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Most bytes in one frame of an ingest.
pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024;

/// A line from the client.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Request {
    /// [`VERSION`] of the client.
    pub(crate) version: u32,
    /// What it wants.
    pub(crate) question: Question,
}

/// What can be asked of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// `forebay status`
    Status,
    /// `forebay profile`
    Profile(ProfileQuestion),
    /// What was.
    Past(PastQuestion),
    /// `forebay audience list`
    Audiences,
    /// One page of `forebay audience members`
    Members { audience: String, from: u64, limit: usize },
    /// `forebay dataflow list`, `forebay dataflow status`
    Dataflows,
    /// `forebay destination list`
    Destinations,
    /// How many dead letters each dataflow has
    DeadLetterCounts,
    /// One page of `forebay dead-letters list` and `export`
    DeadLetters { selection: Selection, after: Option<(String, u64)>, limit: usize },
    /// `forebay dead-letters replay`
    ReplayDeadLetters { selection: Selection, limit: u64, payload: Payload },
    /// `forebay dead-letters purge`
    PurgeDeadLetters { selection: Selection, limit: u64 },
    /// `forebay log stats`
    LogStats,
    /// `forebay log compact`
    Compact,
    /// `forebay verify`
    Verify,
    /// `forebay rebuild`
    Rebuild,
    /// `forebay ingest`: frames follow. `source` stands in rejects.
    Ingest { source: String },
    /// `forebay audience show`
    Audience { id: String },
    /// `forebay import-audience`: frames follow, with the file as it is.
    ImportAudience(Import),
    /// `forebay explain --profile`
    ExplainStanding(StandingQuestion),
}

/// What can be asked of the past: of an engine, or of the log of a directory that nobody holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PastQuestion {
    /// `forebay profile --as-of`
    Profile { question: ProfileQuestion, as_of: AsOf },
    /// `forebay explain EXPORT_ID`
    Export { export: String },
    /// One page of `forebay log cat`
    Log(LogQuestion),
    /// `forebay audience backtest`
    Backtest(Backtest),
}

/// A line from the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The answer.
    Answer(Box<Answer>),
    /// There is none: what was asked for makes no sense.
    Usage(String),
    /// There is none: it could not be done.
    Failed(String),
}

/// The answer to the [`Question`] of the same name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Status(StatusView),
    Profile(Option<ProfileView>),
    Audiences(Vec<AudienceView>),
    Members(Vec<MemberView>),
    Dataflows(Vec<DataflowView>),
    Destinations(Vec<DestinationView>),
    DeadLetterCounts(BTreeMap<String, u64>),
    DeadLetters(DeadLetterPage),
    ReplayDeadLetters(ReplayView),
    PurgeDeadLetters(u64),
    LogStats(LogView),
    Log(LogPage),
    Compact(CompactionView),
    Verify(VerificationView),
    Backtest(BacktestView),
    Rebuild(RebuildView),
    Ingest(IngestSummary),
    /// `None` if there is no such audience.
    Audience(Option<AudiencePage>),
    ImportAudience(ImportSummary),
    /// [`PastQuestion::Export`]
    Export(Box<ExportView>),
    /// `None` if nobody has the identity.
    ExplainStanding(Option<StandingView>),
}

impl From<Result<Answer, EngineError>> for Reply {
    fn from(result: Result<Answer, EngineError>) -> Self {
        match result {
            Ok(answer) => Self::Answer(Box::new(answer)),
            Err(EngineError::Usage(message)) => Self::Usage(message),
            Err(other) => Self::Failed(other.to_string()),
        }
    }
}

/// Writes one request or reply.
pub(crate) fn write_line<T: Serialize>(to: &mut dyn Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// A request as it is heard: what another version asks is not looked into.
#[derive(Debug, Deserialize)]
struct Heard {
    version: u32,
    question: Box<RawValue>,
}

/// Reads one request; `None` if the client has no more. One of another version comes without its
/// question, which this version may not know.
pub(crate) fn read_request(
    from: &mut dyn BufRead,
) -> io::Result<Option<Result<Question, OtherVersion>>> {
    let Some(heard) = read_line::<Heard>(from, REQUEST_BYTES_MAX)? else { return Ok(None) };
    if heard.version != VERSION {
        return Ok(Some(Err(OtherVersion)));
    }
    Ok(Some(Ok(serde_json::from_str(heard.question.get())?)))
}

/// The client speaks another [`VERSION`] than this program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OtherVersion;

impl From<OtherVersion> for Reply {
    fn from(_: OtherVersion) -> Self {
        Self::Failed(format!(
            "the running engine is forebay {}, which speaks another protocol than this command\n\
             Use the forebay that the engine was started with, or stop the engine (SIGTERM) and \
             start it with this one.",
            env!("CARGO_PKG_VERSION")
        ))
    }
}

/// Reads one reply; `None` if the server went away.
pub(crate) fn read_reply(from: &mut dyn BufRead) -> io::Result<Option<Reply>> {
    read_line(from, REPLY_BYTES_MAX)
}

fn read_line<T: DeserializeOwned>(from: &mut dyn BufRead, max: u64) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(max).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "a line without end"));
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Copies `input` as frames, and the end frame. `sent` hears how many bytes each frame had.
pub(crate) fn write_frames(
    to: &mut dyn Write,
    input: &mut dyn Read,
    sent: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut block = vec![0; FRAME_BYTES_MAX];
    loop {
        let n = match input.read(&mut block) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let length = u32::try_from(n).expect("a frame is at most FRAME_BYTES_MAX");
        to.write_all(&length.to_be_bytes())?;
        to.write_all(&block[..n])?;
        if n == 0 {
            return to.flush();
        }
        sent(u64::from(length));
    }
}

/// What a client sends as frames, as one stream. It ends with the end frame, and fails with
/// [`ErrorKind::UnexpectedEof`] if the client goes away before.
pub(crate) struct Frames<'a> {
    from: &'a mut dyn BufRead,
    left: usize,
    ended: bool,
}

impl<'a> Frames<'a> {
    /// Reads the frames that come next from `from`.
    pub(crate) fn new(from: &'a mut dyn BufRead) -> Self {
        Self { from, left: 0, ended: false }
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ended || into.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let mut length = [0; 4];
            self.from.read_exact(&mut length)?;
            self.left = u32::from_be_bytes(length) as usize;
            if self.left > FRAME_BYTES_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "a frame is too long"));
            }
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let wanted = into.len().min(self.left);
        let n = self.from.read(&mut into[..wanted])?;
        if n == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the client went away"));
        }
        self.left -= n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};

    use forebay_engine::clock::Timestamp;
    use forebay_engine::engine::LastAttempt;
    use forebay_engine::views::{IngestSummary, LogView, ProfileView};

    use super::*;

    fn profile() -> ProfileQuestion {
        ProfileQuestion {
            namespace: "Email".into(),
            id: "a\n\"b\"".into(),
            policy: Some("p".into()),
            dataflow: None,
        }
    }

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            Question::Status,
            Question::Profile(profile()),
            Question::Past(PastQuestion::Profile {
                question: profile(),
                as_of: AsOf::Time(Timestamp::from_millis(-1)),
            }),
            Question::Members { audience: "vip".into(), from: u64::MAX, limit: 1000 },
            Question::DeadLetters {
                selection: Selection { since_ms: Some(-1), ..Selection::default() },
                after: Some(("d".into(), 7)),
                limit: 10,
            },
            Question::ReplayDeadLetters {
                selection: Selection {
                    dataflow: some("d"),
                    last_attempt: Some(LastAttempt::Status(422)),
                    ..Selection::default()
                },
                limit: u64::MAX,
                payload: Payload::Current,
            },
            Question::Ingest { source: "a b.ndjson".into() },
            Question::Audience { id: "vip".into() },
            Question::ImportAudience(Import {
                audience: "vip".into(),
                column: "the \"id\"".into(),
                namespace: "Email".into(),
                source: "a.csv".into(),
            }),
        ];
        for question in cases {
            let mut wire = Vec::new();
            write_line(&mut wire, &Request { version: VERSION, question: question.clone() })
                .unwrap();
            let read = read_request(&mut wire.as_slice()).unwrap().unwrap();
            assert_eq!(read, Ok(question));
        }
    }

    #[test]
    fn another_version_is_told_whatever_it_asks() {
        for question in ["\"status\"", "{\"foretell\":{\"days\":[1,2]}}"] {
            let line = format!("{{\"version\":{},\"question\":{question}}}\n", VERSION + 1);
            assert_eq!(read_request(&mut line.as_bytes()).unwrap(), Some(Err(OtherVersion)));
        }
        let unknown = format!("{{\"version\":{VERSION},\"question\":\"foretell\"}}\n");
        read_request(&mut unknown.as_bytes()).unwrap_err();
    }

    #[test]
    fn an_answer_keeps_values_as_received() {
        let text = r#"{"profile":7,"merge_policy":"default","attributes":{"n":1.50,"b":10000000000000000000000},"identities":[],"memberships":{},"clock":""}"#;
        let view: ProfileView = serde_json::from_str(text).unwrap();
        let mut wire = Vec::new();
        write_line(&mut wire, &Reply::from(Ok(Answer::Profile(Some(view))))).unwrap();
        let Some(Reply::Answer(answer)) = read_reply(&mut wire.as_slice()).unwrap() else {
            panic!("it is an answer");
        };
        let Answer::Profile(Some(view)) = *answer else { panic!("it is a profile") };
        assert_eq!(view.attributes.get(), r#"{"n":1.50,"b":10000000000000000000000}"#);
    }

    #[test]
    fn every_reply_is_told_from_the_others() {
        let usage = Reply::from(Err(EngineError::Usage("no such".into())));
        let cases = [
            (Reply::from(Ok(Answer::LogStats(LogView::default()))), "answer"),
            (Reply::from(Ok(Answer::Ingest(IngestSummary::default()))), "answer"),
            (usage, "usage"),
            (Reply::from(Err(EngineError::Stopped("disk".into()))), "failed"),
        ];
        for (reply, kind) in cases {
            let text = serde_json::to_string(&reply).unwrap();
            assert!(text.starts_with(&format!("{{\"{kind}\":")), "{text}");
        }
    }

    #[test]
    fn frames_carry_any_bytes() {
        let input: Vec<u8> = (0..=255).cycle().take(FRAME_BYTES_MAX + 100).collect();
        let mut wire = Vec::new();
        let mut sent = 0;
        write_frames(&mut wire, &mut input.as_slice(), &mut |n| sent += n).unwrap();
        wire.extend_from_slice(b"next request");
        let mut rest = wire.as_slice();
        let mut got = Vec::new();
        Frames::new(&mut rest).read_to_end(&mut got).unwrap();
        assert!(got == input);
        assert_eq!(sent, input.len() as u64);
        assert_eq!(rest, b"next request");
    }

    #[test]
    fn a_client_that_dies_is_told_from_one_that_ended() {
        let mut wire = Vec::new();
        write_frames(&mut wire, &mut &b"{\"event\":1}\n"[..], &mut |_| {}).unwrap();
        // (what it shows, bytes that arrived, whether that is the end)
        let cases = [
            ("all of it", wire.len(), true),
            ("no end frame", wire.len() - 4, false),
            ("half an end frame", wire.len() - 2, false),
            ("half a record", 8, false),
            ("nothing", 0, false),
        ];
        for (name, arrived, ended) in cases {
            let mut rest = &wire[..arrived];
            let read = Frames::new(&mut rest).read_to_end(&mut Vec::new());
            let kind = read.as_ref().err().map(std::io::Error::kind);
            assert_eq!(kind, (!ended).then_some(ErrorKind::UnexpectedEof), "{name}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let endless = vec![b'x'; 70_000];
        let error = read_request(&mut endless.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
