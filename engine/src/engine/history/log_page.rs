//! The log, entry by entry, for people: `forebay log cat`.
//!
//! Read in pages, so that neither this process nor the one that asks holds much of it. What is erased by
//! a delete whose bytes are still there is shown as what a compaction will leave of it: a delete holds
//! for every command at once (`SPEC.md` §3). To know what that is, the whole log must be followed, which
//! takes as long as deriving it; that is done only while there is such a delete.

use std::sync::Arc;

use forebay_storage::{EntryKind, Offset, StoredChunk, Stub};
use serde::{Deserialize, Serialize};

use super::super::control::{Control, read_control};
use super::super::{compaction, deletes as pending, traces};
use super::{History, deletes};
use crate::clock::Timestamp;
use crate::engine::answers::raw;
use crate::error::EngineError;
use crate::record::{RecordBatch, RecordKind, RecordRef};
use crate::views::LogEntryView;

/// Bytes of lines after which a page is full.
const PAGE_BYTES: usize = 4 << 20;

/// Entries looked at for one page, so that a filter that fits few does not take long.
const LOOKED_AT: u64 = 256 * 1024;

/// What an entry of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// A profile record.
    Profile,
    /// An experience event.
    Event,
    /// An upload membership.
    Membership,
    /// An erasure.
    Delete,
    /// What the engine tells itself: definitions, ticks, imports.
    Control,
    /// What is left of an erased record.
    Stub,
}

impl LogKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Event => "event",
            Self::Membership => "membership",
            Self::Delete => "delete",
            Self::Control => "control",
            Self::Stub => "stub",
        }
    }
}

/// Which entries are meant: those that fit everything given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuestion {
    /// From this offset on.
    pub from: u64,
    /// Through this offset.
    pub to: Option<u64>,
    /// Appended then or later: milliseconds since 1970, wall time.
    pub since_ms: Option<i64>,
    /// Appended then or earlier.
    pub until_ms: Option<i64>,
    /// Of these kinds; of all, if there are none.
    pub kinds: Vec<LogKind>,
    /// Records that name this identity: namespace and id.
    pub identity: Option<(String, String)>,
    /// At most so many.
    pub limit: usize,
}

impl LogQuestion {
    /// The same with the namespace as a batch of records holds it: in lower case (`SPEC.md` §2).
    fn folded(&self) -> Self {
        let folded = |(namespace, id): &(String, String)| (namespace.to_lowercase(), id.clone());
        Self { identity: self.identity.as_ref().map(folded), ..self.clone() }
    }
}

/// Some of the entries that fit, and where the others begin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogPage {
    /// In order of their offsets.
    pub entries: Vec<LogEntryView>,
    /// The offset to ask from for what follows; `None` at the end.
    pub next: Option<u64>,
}

impl History {
    /// The first entries that fit: at most so many, and fewer if they are large or few fit.
    pub fn log_page(&self, question: &LogQuestion) -> Result<LogPage, EngineError> {
        let _turn = self.turn();
        let question = &question.folded();
        let end = question.to.map_or(self.end, |to| to.saturating_add(1).min(self.end));
        let since =
            question.since_ms.map_or(Ok(Offset::START), |ms| self.store.log().first_since(ms));
        let from = question.from.max(since?.as_u64());
        let mut page = LogPage::default();
        if from >= end || question.limit == 0 {
            return Ok(page);
        }
        let erased = self.erased()?;
        let (mut bytes, mut looked_at) = (0, 0);
        for chunk in self.store.log().read(Offset::from_u64(from)) {
            self.check_goes_on()?;
            let chunk = chunk?;
            if question.until_ms.is_some_and(|until| chunk.now_ms > until) {
                return Ok(page);
            }
            for (offset, kind, entry) in chunk.iter() {
                let offset = offset.as_u64();
                if offset < from {
                    continue;
                }
                if offset >= end {
                    return Ok(page);
                }
                let is_full = page.entries.len() >= question.limit || bytes >= PAGE_BYTES;
                if is_full || looked_at >= LOOKED_AT {
                    page.next = Some(offset);
                    return Ok(page);
                }
                looked_at += 1;
                let entry = Entry { offset, chunk: &chunk, bytes: entry };
                let kind = if erased.binary_search(&offset).is_ok() { None } else { Some(kind) };
                if let Some(view) = entry.view(kind, question)? {
                    bytes += entry.bytes.len();
                    page.entries.push(view);
                }
            }
        }
        Ok(page)
    }

    /// The offsets of entries that are erased and whose bytes are still there, ascending.
    fn erased(&self) -> Result<Arc<Vec<u64>>, EngineError> {
        let derived = self.store.outbox().derived_next().as_u64().min(self.end);
        let are_pending =
            pending::are_pending(&self.store)? || compaction::is_unfinished(&self.store)?;
        if !are_pending && !deletes::is_any_in(self, derived..self.end)? {
            return Ok(Arc::default());
        }
        // Nothing further is erased before the next delete.
        let through = self.shared.last_delete().unwrap_or(self.end);
        if let Some(known) = self.shared.erased(through) {
            return Ok(known);
        }
        let traces = traces::traces(&self.store, self.kind, self.end, &|| self.goes_on())?;
        let Some(traces) = traces else {
            self.check_goes_on()?;
            return Ok(Arc::default());
        };
        let offsets = Arc::new(traces.offsets);
        self.shared.set_erased(through, &offsets);
        Ok(offsets)
    }
}

/// An entry and where it stands.
struct Entry<'a> {
    offset: u64,
    chunk: &'a StoredChunk,
    bytes: &'a [u8],
}

impl Entry<'_> {
    /// What is told of it, if it fits; without a kind it is erased, whatever it was.
    fn view(
        &self,
        kind: Option<EntryKind>,
        question: &LogQuestion,
    ) -> Result<Option<LogEntryView>, EngineError> {
        let fits = |kind| question.kinds.is_empty() || question.kinds.contains(&kind);
        let names_nobody = question.identity.is_some();
        Ok(match kind {
            Some(EntryKind::Record) => {
                let batch = self.record()?;
                let record = batch.get(0);
                let kind = kind_of(record);
                (fits(kind) && names(record, question)).then(|| self.record_view(kind, record))
            }
            _ if names_nobody => None,
            Some(EntryKind::Control) if fits(LogKind::Control) => {
                let control = read_control(self.offset, self.bytes)?;
                let text = String::from_utf8_lossy(self.bytes).into_owned();
                let mut view = self.blank(LogKind::Control);
                view.summary = Some(summary(&control));
                view.control = Some(raw(text));
                Some(view)
            }
            Some(EntryKind::Stub) if fits(LogKind::Stub) => {
                let time = Stub::from_bytes(self.bytes)?.timestamp_ms;
                Some(self.stub(time.map(Timestamp::from_millis)))
            }
            None if fits(LogKind::Stub) => Some(self.stub(self.record()?.get(0).timestamp())),
            _ => None,
        })
    }

    fn record(&self) -> Result<RecordBatch, EngineError> {
        let text = String::from_utf8_lossy(self.bytes).into_owned();
        let whole = 0..u32::try_from(text.len()).expect("a line of at most 1 MiB");
        Ok(RecordBatch::from_log(text, &[whole])?)
    }

    fn record_view(&self, kind: LogKind, record: RecordRef<'_>) -> LogEntryView {
        let mut view = self.blank(kind);
        view.record = Some(raw(record.raw_line().to_owned()));
        view
    }

    fn stub(&self, timestamp: Option<Timestamp>) -> LogEntryView {
        let mut view = self.blank(LogKind::Stub);
        view.timestamp = timestamp.map(|timestamp| timestamp.to_string());
        view
    }

    fn blank(&self, kind: LogKind) -> LogEntryView {
        LogEntryView {
            offset: self.offset,
            appended: Timestamp::from_millis(self.chunk.now_ms).to_string(),
            kind: kind.as_str().to_owned(),
            record: None,
            control: None,
            summary: None,
            timestamp: None,
        }
    }
}

fn kind_of(record: RecordRef<'_>) -> LogKind {
    match record.kind() {
        RecordKind::Profile { .. } => LogKind::Profile,
        RecordKind::Event { .. } => LogKind::Event,
        RecordKind::Membership { .. } => LogKind::Membership,
        RecordKind::Delete => LogKind::Delete,
        RecordKind::Stub => LogKind::Stub,
    }
}

fn names(record: RecordRef<'_>, question: &LogQuestion) -> bool {
    let Some((namespace, id)) = &question.identity else { return true };
    let mut identities = record.identities();
    identities
        .any(|identity| identity.namespace == namespace.as_str() && identity.id == id.as_str())
}

/// A control entry in words.
fn summary(control: &Control) -> String {
    match control {
        Control::Definitions(change) => {
            let mut parts = Vec::new();
            if change.settings.is_some() {
                parts.push("settings".to_owned());
            }
            let policies = change.merge_policies.upserts.iter().map(|policy| &policy.id);
            let audiences = change.audiences.upserts.iter().map(|audience| &audience.id);
            let dataflows = change.dataflows.upserts.iter().map(|dataflow| &dataflow.id);
            parts.extend(policies.map(|id| format!("merge policy {id}")));
            parts.extend(audiences.map(|id| format!("audience {id}")));
            parts.extend(dataflows.map(|id| format!("dataflow {id}")));
            let removed = |kind: &'static str| move |id: &String| format!("without {kind} {id}");
            parts.extend(change.merge_policies.removals.iter().map(removed("merge policy")));
            parts.extend(change.audiences.removals.iter().map(removed("audience")));
            parts.extend(change.dataflows.removals.iter().map(removed("dataflow")));
            format!("definitions: {}", parts.join(", "))
        }
        Control::Tick {} => "tick: the clock moved without records".to_owned(),
        Control::Advance { to_ms } => {
            format!("the event clock is moved to {}", Timestamp::from_millis(*to_ms))
        }
        Control::Read {} => "lines were read of which none is a record".to_owned(),
        Control::ImportBegin { audience } => format!("an import of audience {audience} begins"),
        Control::ImportEnd { audience, begin } => {
            format!("the import of audience {audience} that began at offset {begin} is complete")
        }
    }
}
