//! What the log is told of a chunk, so that who asks about one person need not read those of others.
//!
//! An [`Outline`] can only say that something is not in a chunk: that no record there names an identity,
//! that none deletes, that the chunk does nothing but let time pass. Whoever finds no outline reads the
//! chunk. Two identities with one hash make no difference but that both are looked at.
//!
//! The hash of an identity is stored, so it must be the same in every version and on every machine. It is
//! therefore spelled out here: FNV-1a over the bytes of namespace and id, and behind it the last steps of
//! `MurmurHash3`, because a filter needs bits that are spread evenly. Which letters have a lower case is
//! decided by Unicode, and new ones come; so a namespace beyond ASCII counts as none, and only its ids are
//! told apart.

use std::ops::Range;

use forebay_storage::{Chunk, EntryKind, HashFilter, Outline, OutlinedChunk, Stub};

use super::control::Control;
use crate::clock::{ClockKind, Timestamp};
use crate::record::{RecordBatch, RecordKind, RecordRef};

/// There are records, or what is left of erased ones.
const RECORDS: u8 = 1;

/// A record deletes somebody.
const DELETES: u8 = 2;

/// A control entry does something else than to let time pass to when it was appended.
const CONTROLS: u8 = 4;

/// Where FNV-1a starts, and what it multiplies by, for 64 bits.
const FNV_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01B3;

/// The outline of a chunk that holds these records of a batch, and nothing else.
pub(super) fn of_records(batch: &RecordBatch, part: Range<usize>) -> Outline {
    let (mut kinds, mut highest_ms) = (RECORDS, None);
    let mut all = Vec::with_capacity(part.len() * 2);
    for record in part.map(|index| batch.get(index)) {
        kinds |= if record.kind() == RecordKind::Delete { DELETES } else { 0 };
        highest_ms = highest_ms.max(record.timestamp().map(Timestamp::as_millis));
        all.extend(hashes(record));
    }
    let mut names = HashFilter::with_room_for(all.len());
    for hash in all {
        names.insert(hash);
    }
    Outline { highest_ms, kinds, names }
}

/// The outline of a chunk of records and what is left of erased ones, read back from the log; `None` if it
/// holds something else, or cannot be read.
pub(super) fn of_chunk(chunk: &Chunk<'_>) -> Option<Outline> {
    let (mut text, mut lines, mut highest_ms) = (String::new(), Vec::new(), None);
    let position = |length: usize| u32::try_from(length).ok();
    for entry in &chunk.entries {
        match entry.kind {
            EntryKind::Record => {
                let start = position(text.len())?;
                text.push_str(std::str::from_utf8(entry.bytes).ok()?);
                lines.push(start..position(text.len())?);
            }
            EntryKind::Stub => {
                highest_ms = highest_ms.max(Stub::from_bytes(entry.bytes).ok()?.timestamp_ms);
            }
            EntryKind::Control => return None,
        }
    }
    let batch = RecordBatch::from_log(text, &lines).ok()?;
    let outline = of_records(&batch, 0..batch.len());
    Some(Outline { highest_ms: outline.highest_ms.max(highest_ms), ..outline })
}

/// The outline of a chunk that holds this control entry alone.
pub(super) fn of_control(control: &Control, clock: ClockKind) -> Outline {
    let passes_time = matches!((control, clock), (Control::Tick {}, ClockKind::Wall));
    Outline { kinds: if passes_time { 0 } else { CONTROLS }, ..Outline::default() }
}

/// Whether a chunk may hold records, or what is left of some.
pub(super) fn may_hold_records(outline: Option<&Outline>) -> bool {
    may_hold(outline, RECORDS)
}

/// Whether a chunk may hold a delete record.
pub(super) fn may_hold_deletes(outline: Option<&Outline>) -> bool {
    may_hold(outline, DELETES)
}

/// Whether a chunk may hold control entries that do more than let time pass.
pub(super) fn may_hold_controls(outline: Option<&Outline>) -> bool {
    may_hold(outline, CONTROLS)
}

/// Where a chunk moves the clock to, if it never goes back. `None` if only the chunk itself tells.
pub(super) fn passes_to(clock: ClockKind, chunk: &OutlinedChunk) -> Option<Timestamp> {
    let outline = chunk.outline.as_ref().filter(|outline| !may_hold_controls(Some(outline)))?;
    Some(match clock {
        ClockKind::Wall => Timestamp::from_millis(chunk.now_ms),
        ClockKind::Event => outline.highest_ms.map_or(Timestamp::EPOCH, Timestamp::from_millis),
    })
}

fn may_hold(outline: Option<&Outline>, kind: u8) -> bool {
    outline.is_none_or(|outline| outline.kinds & kind != 0)
}

/// The hashes of the identities that a record names.
pub(super) fn hashes(record: RecordRef<'_>) -> impl Iterator<Item = u64> {
    record.identities().map(|named| hash(named.namespace, &named.id))
}

/// The hash of an identity; `namespace` is in lower case.
pub(super) fn hash(namespace: &str, id: &str) -> u64 {
    let namespace = if namespace.is_ascii() { namespace } else { "" };
    // The byte between them keeps the letters of one out of the other. Where it stands in one of them, two
    // identities may have one hash, as others may by chance.
    let bytes = namespace.bytes().chain([0]).chain(id.bytes());
    spread(bytes.fold(FNV_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)))
}

/// Has every bit depend on every bit.
const fn spread(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use forebay_storage::Entry;

    use super::*;

    #[test]
    fn the_hash_of_an_identity_is_the_same_for_ever() {
        // (namespace, id, hash): computed elsewhere, from the definition
        let cases = [
            ("crmid", "c1", 0xAE8F_9832_36C2_81AE),
            ("email", "ana@example.com", 0xB6C3_88BA_119A_F8F1),
            ("crmid", "", 0x2F5C_A49E_5619_61C0),
            ("ünïcode", "c1", 0x932C_3A27_2DC6_7542),
            ("other ünïcode", "c1", 0x932C_3A27_2DC6_7542),
        ];
        for (namespace, id, expected) in cases {
            assert_eq!(hash(namespace, id), expected, "{namespace} {id}");
        }
        assert_ne!(hash("a", "bc"), hash("ab", "c"));
    }

    fn batch(lines: &[&str]) -> RecordBatch {
        let (mut text, mut ranges) = (String::new(), Vec::new());
        for line in lines {
            let start = u32::try_from(text.len()).unwrap();
            text.push_str(line);
            ranges.push(start..u32::try_from(text.len()).unwrap());
        }
        RecordBatch::from_log(text, &ranges).unwrap()
    }

    #[test]
    fn an_outline_tells_who_is_named_and_how_late_it_is() {
        let batch = batch(&[
            r#"{"profile":{"identityMap":{"CRMID":[{"id":"a"}],"Email":[{"id":"\u0061@x"}]}}}"#,
            r#"{"event":{"_id":"e","timestamp":"1970-01-01T00:00:07Z","identityMap":{"crmid":[{"id":"b"}]}}}"#,
            r#"{"delete":{"identityMap":{"CrmId":[{"id":"c"}]}}}"#,
        ]);
        // (records, who is named, the highest time, whether there are deletes)
        let cases: [(_, &[(&str, &str)], _, _); 4] = [
            (0..1, &[("crmid", "a"), ("email", "a@x")], None, false),
            (1..2, &[("crmid", "b")], Some(7_000), false),
            (0..2, &[("crmid", "a"), ("email", "a@x"), ("crmid", "b")], Some(7_000), false),
            (1..3, &[("crmid", "b"), ("crmid", "c")], Some(7_000), true),
        ];
        for (part, named, highest_ms, deletes) in cases {
            let outline = of_records(&batch, part.clone());
            let all = [("crmid", "a"), ("email", "a@x"), ("crmid", "b"), ("crmid", "c")];
            for identity in all {
                let found = outline.names.may_hold(hash(identity.0, identity.1));
                assert_eq!(found, named.contains(&identity), "{part:?}: {identity:?}");
            }
            assert_eq!(outline.highest_ms, highest_ms, "{part:?}");
            assert_eq!(may_hold_deletes(Some(&outline)), deletes, "{part:?}");
            assert!(may_hold_records(Some(&outline)) && !may_hold_controls(Some(&outline)));
        }
    }

    /// The entries of a chunk, who is named in them, and the highest time; `None` if it has no outline.
    type Remains<'a> = (&'a [(EntryKind, &'a [u8])], Option<(&'a str, Option<i64>)>);

    #[test]
    fn what_remains_of_a_chunk_has_the_outline_of_what_remains() {
        let record = |id: &str, second: u32| {
            format!(
                "{{\"profile\":{{\"identityMap\":{{\"CRMID\":[{{\"id\":\"{id}\"}}]}}}},\
                 \"timestamp\":\"1970-01-01T00:00:0{second}Z\"}}"
            )
        };
        let (a, b) = (record("a", 3), record("b", 5));
        let late = Stub { timestamp_ms: Some(7_000) }.to_bytes();
        let timeless = Stub { timestamp_ms: None }.to_bytes();
        let a = (EntryKind::Record, a.as_bytes());
        let b = (EntryKind::Record, b.as_bytes());
        let (late, timeless) = ((EntryKind::Stub, &late[..]), (EntryKind::Stub, &timeless[..]));
        let control = (EntryKind::Control, &b"{}"[..]);
        let cases: [Remains<'_>; 5] = [
            (&[a, b], Some(("ab", Some(5_000)))),
            (&[a, timeless], Some(("a", Some(3_000)))),
            (&[late, a], Some(("a", Some(7_000)))),
            (&[timeless], Some(("", None))),
            (&[a, control], None),
        ];
        for (entries, expected) in cases {
            let entries =
                entries.iter().map(|(kind, bytes)| Entry { kind: *kind, bytes }).collect();
            let found =
                of_chunk(&Chunk { now_ms: 0, mark: None, rejects: None, outline: None, entries });
            let named = |outline: &Outline| -> String {
                ["a", "b"]
                    .into_iter()
                    .filter(|id| outline.names.may_hold(hash("crmid", id)))
                    .collect()
            };
            let found = found.map(|outline| (named(&outline), outline.highest_ms));
            let found = found.as_ref().map(|(named, highest)| (named.as_str(), *highest));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn only_a_tick_of_the_wall_clock_does_nothing_but_pass_time() {
        let read = Control::Read {};
        // (control entry, clock, whether it does more)
        let cases = [
            (Control::Tick {}, ClockKind::Wall, false),
            (Control::Tick {}, ClockKind::Event, true),
            (Control::Advance { to_ms: 1 }, ClockKind::Event, true),
            (read, ClockKind::Wall, true),
        ];
        for (control, clock, expected) in cases {
            let outline = Some(of_control(&control, clock));
            assert_eq!(may_hold_controls(outline.as_ref()), expected, "{control:?} {clock:?}");
            assert!(!may_hold_records(outline.as_ref()) && !may_hold_deletes(outline.as_ref()));
        }
        assert!(may_hold_controls(None) && may_hold_records(None) && may_hold_deletes(None));
    }
}
