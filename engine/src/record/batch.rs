//! Records read together, and how to look at one.
//!
//! A batch owns the text of its lines; its records hold positions in it. Whoever wants to read a
//! record asks the batch for a [`RecordRef`], which is two pointers and gives everything by
//! borrowing. Only strings with escapes are copied, when they are asked for.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::event_types::EventTypes;
use super::identity_map::Namespaces;
use super::reject::{Reject, RejectedInput};
use crate::clock::Timestamp;
use crate::json::{Documents, Value};

/// The dataset of a record that names none (`SPEC.md` §2).
const DATASET_DEFAULT: &str = "default";

/// Lines of one input that were read together, each parsed and found right.
#[derive(Debug)]
pub struct RecordBatch {
    /// What was read, lines that are no record included, so that a position here and a position in
    /// the input differ by a constant.
    pub(super) text: String,
    pub(super) records: Vec<Record>,
    /// What the lines were parsed to, by slice: each task had a list of its own.
    pub(super) documents: Vec<Documents>,
    pub(super) namespaces: Namespaces,
    /// The types of its events: few, so that whoever asks for one need not look at the text.
    pub(super) event_types: Box<EventTypes>,
    /// Where `text` starts in its input, in uncompressed bytes.
    pub(super) first_byte: u64,
    /// The number of the line that `text` starts with, from 1.
    pub(super) first_line: u64,
}

/// One line that is a record: where it stands, and what validation found in it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The line in the batch's text, without its end.
    pub(super) line: Range<u32>,
    /// How many lines of the batch's text come before it.
    pub(super) line_index: u32,
    /// Place of its nodes in [`RecordBatch::documents`].
    pub(super) slice: u32,
    /// The node of the whole line.
    pub(super) root: u32,
    pub(super) kind: RecordKind,
    pub(super) identities: SmallVec<[RecordIdentity; 2]>,
    pub(super) timestamp: Option<Timestamp>,
    /// The node of the dataset's name, if the record names one.
    pub(super) dataset: Option<u32>,
}

/// What a record says; numbers are nodes, for [`RecordRef::value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Attributes of a profile.
    Profile {
        /// The object whose members, except `identityMap`, are attributes.
        attributes: u32,
    },
    /// Something that happened.
    Event {
        /// The event itself.
        body: u32,
        /// Its `_id`, a string that is not empty.
        id: u32,
        /// Index of its `eventType` in the batch's event types.
        event_type: Option<u32>,
    },
    /// A profile enters or leaves an upload audience.
    Membership {
        /// The audience's id, a string.
        audience: u32,
        /// Which of the two.
        status: MembershipStatus,
    },
    /// The profiles named are erased.
    Delete,
    /// Nothing any more: it was erased, and names nobody. Its timestamp moved the clock, and does so
    /// again. Only the log has these.
    Stub,
}

/// What a membership record makes of the profile's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipStatus {
    /// It is in.
    Realized,
    /// It was in.
    Exited,
}

/// An identity as a record holds it: positions, resolved by [`RecordRef::identities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordIdentity {
    /// Index in [`RecordBatch::namespaces`].
    pub(super) namespace: u32,
    /// The node of the id, a string that is not empty.
    pub(super) id: u32,
    pub(super) primary: bool,
}

/// An identity of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRef<'a> {
    /// The namespace in lower case.
    pub namespace: &'a str,
    /// Its index in [`RecordBatch::namespaces`]: resolve those once a batch, not once an identity.
    pub namespace_index: usize,
    /// The id, exactly as received.
    pub id: Cow<'a, str>,
    /// Whether it is the primary one; exactly one of a record is.
    pub primary: bool,
}

/// A line from the log is no record any more: the log was damaged, or written by a newer version.
#[derive(Debug, thiserror::Error)]
#[error("record {index} of a stored chunk cannot be read: {reason}")]
pub struct LogTextError {
    /// Which record of the chunk, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl RecordBatch {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record at `index`, in the order of the lines, from 0.
    ///
    /// # Panics
    ///
    /// Panics if `index` is not below [`RecordBatch::len`].
    pub fn get(&self, index: usize) -> RecordRef<'_> {
        RecordRef { batch: self, record: &self.records[index] }
    }

    /// All records, in the order of the lines.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        self.records.iter().map(|record| RecordRef { batch: self, record })
    }

    /// The namespaces that occur, in lower case, each once, in the order first seen.
    pub fn namespaces(&self) -> &[Box<str>] {
        self.namespaces.names()
    }

    /// The batch with stubs among its records: each at its index in the batch that comes out (rising),
    /// with the timestamp that its record had.
    #[must_use]
    pub fn with_stubs(mut self, stubs: &[(usize, Option<Timestamp>)]) -> Self {
        let mut records = std::mem::take(&mut self.records).into_iter();
        let mut all = Vec::with_capacity(records.len() + stubs.len());
        for (index, timestamp) in stubs {
            let missing = index - all.len();
            all.extend(records.by_ref().take(missing));
            all.push(Record::stub(*timestamp));
        }
        all.extend(records);
        Self { records: all, ..self }
    }

    /// Takes the records from `index` on out, as a batch of their own. Both keep the whole text.
    #[must_use]
    pub fn split_off(&mut self, index: usize) -> Self {
        Self {
            text: self.text.clone(),
            records: self.records.split_off(index),
            documents: self.documents.clone(),
            namespaces: self.namespaces.clone(),
            event_types: self.event_types.clone(),
            ..*self
        }
    }

    /// Leaves a stub in the place of the record at `index`: it names nobody, and its time passes.
    ///
    /// # Panics
    ///
    /// Panics if `index` is not below [`RecordBatch::len`].
    pub fn erase(&mut self, index: usize) {
        let record = &mut self.records[index];
        *record = Record::stub(record.timestamp);
    }

    /// Takes out the records at `refused` (rising indices), with the reason each was refused for.
    /// For what only the appender knows: the time.
    pub fn refuse(&mut self, refused: &[(usize, String)]) -> Vec<Reject> {
        let rejects = refused
            .iter()
            .map(|(index, error)| {
                let record = self.get(*index);
                Reject {
                    line: self.first_line + u64::from(record.record.line_index),
                    byte: self.first_byte + u64::from(record.record.line.start),
                    error: error.clone(),
                    input: RejectedInput::Text(record.raw_line().to_owned()),
                }
            })
            .collect();
        let mut next = refused.iter().map(|(index, _)| *index).peekable();
        let mut index = 0;
        self.records.retain(|_| {
            let is_refused = next.next_if_eq(&index).is_some();
            index += 1;
            !is_refused
        });
        rejects
    }
}

impl Record {
    fn stub(timestamp: Option<Timestamp>) -> Self {
        Self {
            line: 0..0,
            line_index: 0,
            slice: 0,
            root: 0,
            kind: RecordKind::Stub,
            identities: SmallVec::new(),
            timestamp,
            dataset: None,
        }
    }
}

/// One record of a batch; copying it copies two pointers.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    batch: &'a RecordBatch,
    record: &'a Record,
}

impl<'a> RecordRef<'a> {
    /// What it says.
    pub fn kind(self) -> RecordKind {
        self.record.kind
    }

    /// The value at a node that [`RecordRef::kind`] gave.
    pub fn value(self, node: u32) -> Value<'a> {
        self.batch.documents[self.record.slice as usize].at(&self.batch.text, node)
    }

    /// The object whose members, except `identityMap`, are attributes. `None` if it is no profile
    /// record.
    pub fn attributes(self) -> Option<Value<'a>> {
        match self.record.kind {
            RecordKind::Profile { attributes } => Some(self.value(attributes)),
            _ => None,
        }
    }

    /// The event. `None` if it is no event.
    pub fn event_body(self) -> Option<Value<'a>> {
        match self.record.kind {
            RecordKind::Event { body, .. } => Some(self.value(body)),
            _ => None,
        }
    }

    /// The event's `_id`. `None` if it is no event.
    pub fn event_id(self) -> Option<Cow<'a, str>> {
        match self.record.kind {
            RecordKind::Event { id, .. } => Some(self.text_at(id)),
            _ => None,
        }
    }

    /// The event's `eventType`. `None` if it has none, or is no event.
    pub fn event_type(self) -> Option<&'a str> {
        match self.record.kind {
            RecordKind::Event { event_type, .. } => {
                event_type.map(|index| self.batch.event_types.name(index))
            }
            _ => None,
        }
    }

    /// The audience and status of an upload membership. `None` if it is none.
    pub fn membership(self) -> Option<(Cow<'a, str>, MembershipStatus)> {
        match self.record.kind {
            RecordKind::Membership { audience, status } => Some((self.text_at(audience), status)),
            _ => None,
        }
    }

    /// The identities in order of appearance: at least one, and exactly one of them primary. The
    /// same identity may stand there twice. A stub has none.
    pub fn identities(self) -> impl ExactSizeIterator<Item = IdentityRef<'a>> {
        self.record.identities.iter().map(move |identity| self.identity(*identity))
    }

    /// The primary identity (`SPEC.md` §2).
    pub fn primary_identity(self) -> IdentityRef<'a> {
        let primary = self.record.identities.iter().find(|identity| identity.primary);
        self.identity(*primary.expect("every record has a primary identity"))
    }

    /// The dataset it belongs to; `default` if it names none.
    pub fn dataset(self) -> Cow<'a, str> {
        self.record.dataset.map_or(Cow::Borrowed(DATASET_DEFAULT), |node| self.text_at(node))
    }

    /// The event's time, or that of the envelope of another record. `None`: the clock at append.
    pub fn timestamp(self) -> Option<Timestamp> {
        self.record.timestamp
    }

    /// The line as received, without its end.
    pub fn raw_line(self) -> &'a str {
        &self.batch.text[self.record.line.start as usize..self.record.line.end as usize]
    }

    /// The whole line as a value.
    pub fn root(self) -> Value<'a> {
        self.value(self.record.root)
    }

    fn identity(self, identity: RecordIdentity) -> IdentityRef<'a> {
        let namespace_index = identity.namespace as usize;
        IdentityRef {
            namespace: &self.batch.namespaces()[namespace_index],
            namespace_index,
            id: self.text_at(identity.id),
            primary: identity.primary,
        }
    }

    fn text_at(self, node: u32) -> Cow<'a, str> {
        self.value(node).as_str().expect("validation found a string here")
    }
}
