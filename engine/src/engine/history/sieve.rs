//! Who is asked about, and the chunks of the log that tell of them.
//!
//! What a profile is depends on the records that name an identity which is ever linked with it, on what
//! the control entries define and import, and on the clock; on nothing else. So the log can be derived
//! with everybody else's records hidden, and the profile comes out the same: its number is an offset, its
//! identities keep their order, and whether an event is a duplicate is asked of its own events. Then a
//! chunk that names nobody of them need not be read: only its time passes, which its outline knows.
//!
//! # Who belongs together
//!
//! Whoever stands in a record together may be linked by it, under one merge policy or another, so the
//! names asked about grow by those of every record that names one of them, until nothing is added. It does
//! no harm if somebody is added who was never linked. So names are hashes here, and two identities with
//! one hash are both looked at.
//!
//! # When the whole log is derived after all
//!
//! - A delete names one of them, wherever it stands: then it is told of them as if they had never been, and
//!   which records that concerns only the whole log tells.
//! - So many chunks name one of them that little would be left out, or nothing is known of so many.
//! - The profile asked about has no record that first named it any more.

use std::collections::BTreeSet;
use std::ops::Range;

use forebay_storage::OutlinedChunk;

use super::super::outlines::{self, hash, hashes};
use super::super::playback::Played;
use super::super::replay::Replay;
use super::History;
use super::lens::Way;
use crate::clock::Timestamp;
use crate::error::EngineError;
use crate::record::{RecordBatch, RecordKind};

/// Reads that are always worth it, however short the log.
const READS_FREE: usize = 256;

/// The log is derived whole rather than that more than one in so many of its chunks is read, some of
/// them several times.
const READS_SHARE: usize = 2;

/// Whom a question is about.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum Whom<'a> {
    /// Whoever has an identity: a namespace, in any letter case, and an id.
    Named(&'a str, &'a str),
    /// The profile of this number.
    Profile(u64),
}

/// The log with everybody hidden who is not asked about.
pub(super) struct Sieve {
    /// The hashes of all identities that belong together.
    names: BTreeSet<u64>,
    /// All chunks as far as they matter, in order.
    chunks: Vec<Known>,
}

/// What is known of a chunk.
struct Known {
    part: Range<u64>,
    /// Where it moves the clock to; `None` if it must be read to know that.
    passes_to: Option<Timestamp>,
    /// Whether it may name one who is asked about.
    is_named: bool,
}

impl Known {
    /// Where it moves the clock to, if that is all to be known of it.
    fn passes_to(&self) -> Option<Timestamp> {
        self.passes_to.filter(|_| !self.is_named)
    }
}

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// It is to be read.
    Read(Range<u64>),
    /// Below `next` only time passes.
    Pass {
        /// Where it ends.
        next: u64,
        /// Where the clock stands then, if it did not stand further on before.
        to: Timestamp,
    },
}

impl Sieve {
    /// Everything that tells of `whom` on the `way`. `None` if the whole log must be derived.
    pub(super) fn new(
        history: &History,
        whom: Whom<'_>,
        way: Way,
    ) -> Result<Option<Self>, EngineError> {
        let names = match whom {
            Whom::Named(namespace, id) => BTreeSet::from([hash(&namespace.to_lowercase(), id)]),
            Whom::Profile(number) => first_named(history, number)?,
        };
        if names.is_empty() {
            return Ok(None);
        }
        let survey = Survey::of(history, way.next)?;
        let end = if survey.may_delete {
            history.end
        } else {
            way.last.saturating_add(1).min(history.end)
        };
        let mut sieve = Self { names, chunks: survey.chunks };
        sieve.chunks.retain(|chunk| chunk.part.start < end);
        Ok(sieve.search(history)?.then_some(sieve))
    }

    /// The log from `part.start` to its end, in stretches.
    pub(super) fn stretches(&self, part: Range<u64>) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        if part.is_empty() {
            return stretches;
        }
        let from = self.chunks.partition_point(|chunk| chunk.part.end <= part.start);
        let within = self.chunks[from..].iter().take_while(|chunk| chunk.part.start < part.end);
        for chunk in within {
            let cut = chunk.part.start.max(part.start)..chunk.part.end.min(part.end);
            // Of a part of a chunk nobody knows what time it is then.
            let passes_to = chunk.passes_to().filter(|_| cut == chunk.part);
            match (stretches.last_mut(), passes_to) {
                (Some(Stretch::Read(read)), None) => read.end = cut.end,
                (Some(Stretch::Pass { next, to }), Some(passes_to)) => {
                    (*next, *to) = (cut.end, passes_to.max(*to));
                }
                (_, None) => stretches.push(Stretch::Read(cut)),
                (_, Some(to)) => stretches.push(Stretch::Pass { next: cut.end, to }),
            }
        }
        stretches
    }

    /// Leaves stubs in the places of records that are about nobody asked about.
    pub(super) fn hide(&self, played: &mut Played) {
        let Played::Records { batch, .. } = played else { return };
        for index in 0..batch.len() {
            if !hashes(batch.get(index)).any(|hash| self.names.contains(&hash)) {
                batch.erase(index);
            }
        }
    }

    /// Finds all that belong together, and the chunks that may name one of them. `false` if the whole log
    /// must be derived.
    fn search(&mut self, history: &History) -> Result<bool, EngineError> {
        let mut reads_left = READS_FREE.max(self.chunks.len() / READS_SHARE);
        let mut fresh = self.names.clone();
        while !fresh.is_empty() {
            // Who is found in this round is looked for behind there at once, and in the next one before.
            let mut found = BTreeSet::new();
            let outlined = history.outlines(0);
            for (at, outlined) in (0..self.chunks.len()).zip(outlined) {
                history.check_goes_on()?;
                let outlined = outlined?;
                if !fresh.iter().any(|hash| may_name(&outlined, *hash)) {
                    continue;
                }
                let Some(left) = reads_left.checked_sub(1) else { return Ok(false) };
                (reads_left, self.chunks[at].is_named) = (left, true);
                let Some(more) = self.read(history, at)? else { return Ok(false) };
                fresh.extend(&more);
                found.extend(more);
            }
            fresh = found;
        }
        Ok(true)
    }

    /// Adds the names that stand in a chunk together with known ones: those that were not known. `None` if
    /// a delete names a known one.
    fn read(&mut self, history: &History, at: usize) -> Result<Option<Vec<u64>>, EngineError> {
        let mut added = Vec::new();
        let batches = records_in(history, self.chunks[at].part.clone())?;
        loop {
            let before = added.len();
            for record in batches.iter().flat_map(RecordBatch::iter) {
                if !hashes(record).any(|hash| self.names.contains(&hash)) {
                    continue;
                }
                if record.kind() == RecordKind::Delete {
                    return Ok(None);
                }
                added.extend(hashes(record).filter(|hash| self.names.insert(*hash)));
            }
            if added.len() == before {
                return Ok(Some(added));
            }
        }
    }
}

/// A first look at all chunks.
struct Survey {
    chunks: Vec<Known>,
    /// Whether there may be a delete at an offset that is still to come.
    may_delete: bool,
}

impl Survey {
    fn of(history: &History, next: u64) -> Result<Self, EngineError> {
        let mut survey = Self { chunks: Vec::new(), may_delete: false };
        for outlined in history.outlines(0) {
            history.check_goes_on()?;
            let outlined = outlined?;
            if outlined.first.as_u64() >= history.end {
                break;
            }
            let outline = outlined.outline.as_ref();
            survey.may_delete |=
                outlined.next.as_u64() > next && outlines::may_hold_deletes(outline);
            survey.chunks.push(Known {
                part: outlined.first.as_u64()..outlined.next.as_u64(),
                passes_to: outlines::passes_to(history.kind, &outlined),
                is_named: false,
            });
        }
        Ok(survey)
    }
}

fn may_name(outlined: &OutlinedChunk, hash: u64) -> bool {
    outlined.outline.as_ref().is_none_or(|outline| outline.names.may_hold(hash))
}

/// The names in the record that first named a profile; none if it is no record any more.
fn first_named(history: &History, profile: u64) -> Result<BTreeSet<u64>, EngineError> {
    let batches = records_in(history, profile..profile.saturating_add(1))?;
    Ok(batches.iter().flat_map(RecordBatch::iter).flat_map(hashes).collect())
}

fn records_in(history: &History, part: Range<u64>) -> Result<Vec<RecordBatch>, EngineError> {
    let mut batches = Vec::new();
    for played in Replay::new(&history.store, part) {
        if let Played::Records { batch, .. } = played? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_storage::{Chunk, Entry, EntryKind, Outline, Store, StoreOptions};
    use tempfile::TempDir;

    use super::*;
    use crate::clock::{ClockKind, SystemClock};
    use crate::engine::control::Control;

    /// `p a b` a profile record of the crmids a and b, `d a` a delete.
    fn line(words: &str) -> String {
        let (kind, ids) = words.split_once(' ').unwrap();
        let kind = if kind == "d" { "delete" } else { "profile" };
        let ids: Vec<String> = ids.split(' ').map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
        format!("{{\"{kind}\":{{\"identityMap\":{{\"CRMID\":[{}]}}}}}}", ids.join(","))
    }

    fn outline(lines: &[String]) -> Outline {
        let (mut text, mut ranges) = (String::new(), Vec::new());
        for line in lines {
            let start = u32::try_from(text.len()).unwrap();
            text.push_str(line);
            ranges.push(start..u32::try_from(text.len()).unwrap());
        }
        outlines::of_records(&RecordBatch::from_log(text, &ranges).unwrap(), 0..lines.len())
    }

    fn append(store: &Store, kind: EntryKind, lines: &[String], outline: Option<Outline>) {
        let entries = lines.iter().map(|line| Entry { kind, bytes: line.as_bytes() }).collect();
        let chunk = Chunk { now_ms: 1_000, mark: None, rejects: None, outline, entries };
        store.log().append(&[chunk]).unwrap();
    }

    /// A log of these chunks: records divided by commas; with a `?` before them if nothing is known of
    /// it; or a control entry.
    fn history(chunks: &[&str]) -> (TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        for chunk in chunks {
            let control = match *chunk {
                "tick" => Some(Control::Tick {}),
                "read" => Some(Control::Read {}),
                _ => None,
            };
            if let Some(control) = control {
                let line = String::from_utf8(control.to_bytes()).unwrap();
                let outline = outlines::of_control(&control, ClockKind::Wall);
                append(&store, EntryKind::Control, &[line], Some(outline));
                continue;
            }
            let records = chunk.trim_start_matches('?').split(", ");
            let lines: Vec<String> = records.map(line).collect();
            let outline = (!chunk.starts_with('?')).then(|| outline(&lines));
            append(&store, EntryKind::Record, &lines, outline);
        }
        let end = store.log().next_offset().as_u64();
        let (store, clock) = (Arc::new(store), Arc::new(SystemClock::new()));
        let (shared, kind, is_whole) = (Arc::default(), ClockKind::Wall, false);
        (dir, History { store, shared, clock, kind, end, is_whole })
    }

    /// Which chunks are read; `None`: all, in the usual way.
    fn read_chunks(chunks: &[&str], whom: Whom<'_>, way: Way) -> Option<Vec<usize>> {
        let (_dir, history) = history(chunks);
        let sieve = Sieve::new(&history, whom, way).unwrap()?;
        let all = sieve.chunks.iter().enumerate();
        Some(all.filter(|(_, chunk)| chunk.passes_to().is_none()).map(|(at, _)| at).collect())
    }

    /// What it shows, the log, whom it is asked about, the last offset, chunks read.
    type Case<'a> = (&'a str, &'a [&'a str], Whom<'a>, u64, Option<&'a [usize]>);

    #[test]
    fn only_chunks_that_tell_of_one_asked_about_are_read() {
        let (c, by_number) = (Whom::Named("CrmId", "c"), Whom::Profile(1));
        let cases: [Case<'_>; 15] = [
            ("nobody has the name", &["p a", "p b"], c, 1, Some(&[])),
            ("those that name it", &["p a, p c", "p b", "p c"], c, 3, Some(&[0, 2])),
            ("and not later ones", &["p c", "p a", "p c"], c, 1, Some(&[0])),
            ("linked before", &["p a", "p b", "p b c", "p c"], c, 4, Some(&[1, 2, 3])),
            ("and behind", &["p c b", "p a", "p b d", "p d"], c, 4, Some(&[0, 2, 3])),
            (
                "by many hands",
                &["p e", "p d e", "p b d", "p c b", "p a"],
                c,
                9,
                Some(&[0, 1, 2, 3]),
            ),
            ("within a chunk", &["p d", "p a d, p b a, p c b", "p x"], c, 4, Some(&[0, 1])),
            ("a link that came too late", &["p b", "p c", "p b c"], c, 1, Some(&[1])),
            ("by number", &["p a", "p c b", "p b", "p a"], by_number, 3, Some(&[1, 2])),
            ("by the number of no record", &["p a", "tick"], by_number, 1, None),
            ("ticks pass time", &["p a", "tick", "read", "p c"], c, 3, Some(&[2, 3])),
            ("what is not known", &["?p a", "p b", "p c"], c, 2, Some(&[0, 2])),
            ("somebody else was deleted", &["p c", "p a", "d a", "p b"], c, 3, Some(&[0])),
            ("a delete of one of them", &["p c b", "p a", "d b"], c, 2, None),
            ("of one linked later", &["p c", "p a", "p c b", "d b"], c, 0, None),
        ];
        for (name, chunks, whom, last, expected) in cases {
            let found = read_chunks(chunks, whom, Way { next: last, last });
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn of_a_long_log_few_chunks_are_read_and_all_if_little_is_known() {
        let of = |number: usize| format!("p x{number}, p y{number}, p z{number}");
        let mut long: Vec<String> = (0..1_000).map(of).collect();
        for at in [3, 500, 999] {
            long[at].push_str(", p c");
        }
        long[700] = "p c y7".to_owned();
        let all: Vec<&str> = long.iter().map(String::as_str).collect();
        let (whom, way) = (Whom::Named("crmid", "c"), Way { next: 2_999, last: 2_999 });
        let found = read_chunks(&all, whom, way).expect("it is worth it");
        assert!([3, 7, 500, 700].iter().all(|at| found.contains(at)), "{found:?}");
        assert!(found.len() < 20, "{found:?}");

        let unknown: Vec<String> = long.iter().map(|chunk| format!("?{chunk}")).collect();
        let all: Vec<&str> = unknown.iter().map(String::as_str).collect();
        assert_eq!(read_chunks(&all, whom, way), None);
    }

    #[test]
    fn what_is_not_read_passes_in_as_few_stretches_as_there_are() {
        let chunks = ["p a, p b", "tick", "p c", "p b", "p a, p b", "p c, p b", "p b, p d"];
        let (_dir, history) = history(&chunks);
        let way = Way { next: 9, last: 9 };
        let sieve = Sieve::new(&history, Whom::Named("crmid", "c"), way).unwrap().unwrap();
        let pass = |next| Stretch::Pass { next, to: Timestamp::from_millis(1_000) };
        let read = |from, to| Stretch::Read(from..to);
        // (from, to, stretches)
        let cases = [
            (0, 10, vec![pass(3), read(3, 4), pass(7), read(7, 10)]),
            (1, 4, vec![read(1, 2), pass(3), read(3, 4)]),
            (4, 6, vec![pass(5), read(5, 6)]),
            (8, 8, vec![]),
        ];
        for (from, to, expected) in cases {
            assert_eq!(sieve.stretches(from..to), expected, "{from}..{to}");
        }
    }
}
