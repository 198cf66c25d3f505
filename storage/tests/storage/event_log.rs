//! The event log: what is appended comes back, in order, whatever its size.

use forebay_storage::{
    Chunk, Entry, EntryKind, Offset, RejectsMark, SourceMark, Store, StoreOptions,
};

use crate::support::{Host, entries, noise, records};

fn small_segments() -> StoreOptions {
    StoreOptions { segment_bytes: 200_000, ..StoreOptions::default() }
}

#[test]
fn the_first_entry_since_a_time_is_found() {
    let host = Host::new(StoreOptions { segment_bytes: 1, ..StoreOptions::default() });
    let log = host.store().log();
    assert_eq!(log.first_since(0).unwrap(), Offset::START);
    for now_ms in [10, 10, 20, 35] {
        let entries = vec![Entry { kind: EntryKind::Record, bytes: b"x" }; 3];
        log.append(&[Chunk { now_ms, mark: None, rejects: None, outline: None, entries }]).unwrap();
    }
    // (time, first offset)
    let cases = [(-5, 0), (10, 0), (11, 6), (20, 6), (21, 9), (35, 9), (36, 12)];
    for (time, first) in cases {
        assert_eq!(log.first_since(time).unwrap().as_u64(), first, "since {time}");
    }
}

#[test]
fn a_chunk_comes_back_with_everything_around_it() {
    let mut host = Host::new(StoreOptions::default());
    let mark = SourceMark {
        source: "/data/records.ndjson".to_owned(),
        head_len: 4096,
        head_hash: [7; 32],
        position: 1 << 40,
        line: 12,
    };
    let rejects = RejectsMark { generation: 3, length: 812 };
    let entries = [(EntryKind::Control, "c"), (EntryKind::Record, ""), (EntryKind::Stub, "stub")];
    let chunk = Chunk {
        now_ms: -5,
        mark: Some(mark.clone()),
        rejects: Some(rejects),
        outline: None,
        entries: entries.map(|(kind, text)| Entry { kind, bytes: text.as_bytes() }).to_vec(),
    };
    let first = host.store().log().append(&[records(&[b"before"]), chunk]).unwrap();
    assert_eq!(first, Offset::START);
    for _ in 0..2 {
        let stored: Vec<_> =
            host.store().log().read(Offset::from_u64(2)).collect::<Result<_, _>>().unwrap();
        assert_eq!(stored.len(), 1, "the chunk that holds the offset is whole");
        let stored = &stored[0];
        assert_eq!((stored.first.as_u64(), stored.next().as_u64()), (1, 4));
        assert_eq!((stored.now_ms, stored.rejects), (-5, Some(rejects)));
        assert_eq!(stored.mark.as_ref(), Some(&mark));
        let read: Vec<_> = stored.iter().map(|(_, kind, bytes)| (kind, bytes)).collect();
        assert_eq!(read, entries.map(|(kind, text)| (kind, text.as_bytes())).to_vec());
        host.reopen();
    }
}

#[test]
fn a_record_of_a_mebibyte_is_stored_in_parts() {
    let mut host = Host::new(StoreOptions::default());
    let large = noise(1, 1 << 20);
    for round in 0..20_u64 {
        let chunks = [records(&[b"small", &large]), records(&[b"after"])];
        assert_eq!(host.store().log().append(&chunks).unwrap().as_u64(), 3 * round);
    }
    host.store().log().sync().unwrap();
    host.crash();
    let all = entries(host.store(), Offset::START);
    assert_eq!(all.len(), 60);
    assert!(all.iter().all(|(offset, _, bytes)| offset % 3 != 1 || *bytes == large));
}

#[test]
fn segments_are_sealed_and_read_as_one_log() {
    let mut host = Host::new(small_segments());
    let record = noise(2, 30_000);
    for _ in 0..50 {
        host.store().log().append(&[records(&[&record, b"x"])]).unwrap();
    }
    let check = |store: &Store| {
        let stats = store.log().stats().unwrap();
        assert_eq!((stats.entries, stats.records, stats.chunks), (100, 100, 50));
        assert_eq!(stats.raw_bytes, 50 * 30_001);
        assert_eq!(stats.next_offset.as_u64(), 100);
        assert!(stats.segments >= 6, "{stats:?}");
        for from in [0, 1, 13, 14, 15, 50, 98, 99, 100, 101] {
            let all = entries(store, Offset::from_u64(from));
            let offsets: Vec<_> = all.iter().map(|(offset, ..)| *offset).collect();
            assert_eq!(offsets, (from..100).collect::<Vec<_>>());
        }
    };
    check(host.store());
    host.reopen();
    check(host.store());
}

#[test]
fn a_crash_between_creating_a_segment_and_its_first_chunk_leaves_no_gap() {
    let mut host = Host::new(StoreOptions { segment_bytes: 1, ..StoreOptions::default() });
    host.store().log().append(&[records(&[b"a", b"b"])]).unwrap();
    host.store().log().sync().unwrap();
    // What is on disk when the process dies right behind the creation of the next segment, and one
    // of which not even that was finished.
    let log = host.dir().join("log");
    let empty = tempfile::tempdir().unwrap();
    drop(Store::open(empty.path(), StoreOptions::default()).unwrap());
    let target = log.join(format!("{:020}", 2));
    std::fs::rename(empty.path().join("log").join(format!("{:020}", 0)), target).unwrap();
    std::fs::create_dir(log.join(format!("{:020}.new", 9))).unwrap();
    host.reopen();
    assert_eq!(host.store().log().next_offset().as_u64(), 2);
    assert_eq!(host.store().log().append(&[records(&[b"c"])]).unwrap().as_u64(), 2);
    let texts: Vec<_> = entries(host.store(), Offset::START).into_iter().map(|e| e.2).collect();
    assert_eq!(texts, [b"a", b"b", b"c"]);
    assert!(!log.join(format!("{:020}.new", 9)).exists());
}

#[test]
fn controls_are_found_without_the_rest() {
    let mut host = Host::new(small_segments());
    let record = noise(3, 30_000);
    let mut expected = Vec::new();
    for round in 0..30_u64 {
        let control = format!("control {round}").into_bytes();
        let mut chunk = records(&[&record, b"between", b"last"]);
        if round % 3 == 0 {
            chunk.entries[0] = Entry { kind: EntryKind::Control, bytes: &control };
            chunk.entries[2] = Entry { kind: EntryKind::Control, bytes: b"second" };
            expected.push((Offset::from_u64(3 * round), control.clone()));
            expected.push((Offset::from_u64(3 * round + 2), b"second".to_vec()));
        }
        host.store().log().append(&[chunk]).unwrap();
    }
    assert_eq!(host.store().log().controls().unwrap(), expected);
    host.reopen();
    assert_eq!(host.store().log().controls().unwrap(), expected);
    assert_eq!(host.store().log().stats().unwrap().records, 90 - 20);
}

#[test]
fn nothing_and_empty_chunks_are_told_apart() {
    let host = Host::new(StoreOptions::default());
    assert_eq!(host.store().log().append(&[]).unwrap(), Offset::START);
    assert!(host.store().log().append(&[records(&[])]).is_err());
    assert_eq!(host.store().log().append(&[records(&[b"a"])]).unwrap(), Offset::START);
}
