//! Outlines against a model that cannot be wrong: the list of chunks that were appended.
//!
//! What is told of a chunk is what was told when it was appended, or nothing. An outline that stood with
//! another chunk than its own would hide records from whoever asks, so restarts, crashes and erasures are
//! among the operations.

use std::ops::Range;
use std::path::Path;

use forebay_storage::{
    Chunk, Compression, EntryKind, Erased, HashFilter, Offset, Outline, OutlinedChunk, Store,
    StoreOptions, Stub,
};
use proptest::prelude::*;

use crate::support::{Host, copy_tree, noise, records};

/// Small segments, so that there are several; nothing packed, so that bytes can be found.
fn options() -> StoreOptions {
    let compression = Compression::None;
    StoreOptions { compression, segment_bytes: 60_000, ..StoreOptions::default() }
}

fn outline(hashes: Range<u64>) -> Outline {
    let mut names = HashFilter::with_room_for(20);
    let count = u8::try_from(hashes.end - hashes.start).unwrap();
    let highest_ms = hashes.start.is_multiple_of(2).then_some(i64::from(count) - 5);
    hashes.for_each(|hash| names.insert(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    Outline { highest_ms, kinds: count, names }
}

fn outlines(store: &Store, from: u64) -> Vec<OutlinedChunk> {
    store.log().outlines(Offset::from_u64(from)).collect::<Result<_, _>>().unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    /// Chunks, each with the lengths of its records, and of what it tells.
    Append(Vec<(Vec<usize>, Option<u64>)>),
    Erase(u64),
    LookFrom(u64),
    Sync,
    Reopen,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let lengths = prop::collection::vec(prop_oneof![9 => 0..300usize, 1 => 0..70_000usize], 1..5);
    let chunk = (lengths, prop::option::weighted(0.7, 0..1_000u64));
    prop_oneof![
        8 => prop::collection::vec(chunk, 1..4).prop_map(Op::Append),
        1 => (0..60u64).prop_map(Op::Erase),
        3 => (0..60u64).prop_map(Op::LookFrom),
        2 => Just(Op::Sync),
        1 => Just(Op::Reopen),
        2 => Just(Op::Crash),
    ]
}

#[derive(Default)]
struct Model {
    chunks: Vec<OutlinedChunk>,
}

impl Model {
    fn next(&self) -> Offset {
        self.chunks.last().map_or(Offset::START, |chunk| chunk.next)
    }

    fn append(&mut self, now_ms: i64, entries: usize, outline: Option<Outline>) {
        let first = self.next();
        self.chunks.push(OutlinedChunk {
            first,
            next: first.plus(entries as u64),
            now_ms,
            outline,
        });
    }

    fn from(&self, from: u64) -> Vec<OutlinedChunk> {
        let is_behind = |chunk: &&OutlinedChunk| chunk.next > Offset::from_u64(from);
        self.chunks.iter().filter(is_behind).cloned().collect()
    }

    fn erase(&mut self, offset: Offset) {
        let holds = |chunk: &&mut OutlinedChunk| (chunk.first..chunk.next).contains(&offset);
        self.chunks.iter_mut().filter(holds).for_each(|chunk| chunk.outline = None);
    }
}

fn append(host: &Host, model: &mut Model, told: &[(Vec<usize>, Option<u64>)]) {
    let bytes: Vec<Vec<Vec<u8>>> = told
        .iter()
        .map(|(lengths, _)| lengths.iter().map(|length| noise(7, *length)).collect())
        .collect();
    let slices: Vec<Vec<&[u8]>> =
        bytes.iter().map(|chunk| chunk.iter().map(Vec::as_slice).collect()).collect();
    let now_ms = i64::try_from(model.chunks.len()).unwrap();
    let mut chunks = Vec::new();
    for (entries, (_, start)) in slices.iter().zip(told) {
        let outline = start.map(|start| outline(start..start + 9));
        model.append(now_ms, entries.len(), outline.clone());
        chunks.push(Chunk { now_ms, outline, ..records(entries) });
    }
    host.store().log().append(&chunks).unwrap();
}

fn apply(host: &mut Host, model: &mut Model, op: &Op) {
    match op {
        Op::Append(told) => append(host, model, told),
        Op::Erase(offset) => {
            let offset = Offset::from_u64(*offset);
            if offset < model.next() {
                let erased = Erased { offset, stub: Stub::default() };
                host.store().log().erase(&[erased], &|| true).unwrap();
                model.erase(offset);
            }
        }
        Op::LookFrom(from) => {
            assert!(outlines(host.store(), *from) == model.from(*from), "from {from}");
        }
        Op::Sync => host.store().log().sync().unwrap(),
        Op::Reopen => host.reopen(),
        Op::Crash => {
            host.crash();
            let next = host.store().log().next_offset();
            model.chunks.retain(|chunk| chunk.next <= next);
            assert_eq!(model.next(), next, "a crash leaves whole chunks");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_of_a_chunk_is_what_was_appended_with_it(
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let (mut host, mut model) = (Host::new(options()), Model::default());
        for op in &ops {
            apply(&mut host, &mut model, op);
            prop_assert!(outlines(host.store(), 0) == model.from(0), "{:?}", op);
        }
    }
}

/// The database of the only segment of the store at `dir`.
fn database(dir: &Path) -> sled::Db {
    let path = dir.join("log").join(format!("{:020}", 0));
    sled::Config::new().path(path).segment_size(8 << 20).flush_every_ms(None).open().unwrap()
}

/// Rewrites the outlines of the store at `dir`: the key and value of each are given to `edit`.
fn edit(dir: &Path, edit: impl Fn(usize, &mut Vec<u8>)) {
    let database = database(dir);
    let tree = database.open_tree("chunks").unwrap();
    let rows: Vec<_> = tree.scan_prefix(b"i").collect::<Result<_, _>>().unwrap();
    for (number, (key, value)) in rows.iter().enumerate() {
        let mut edited = value.to_vec();
        edit(number, &mut edited);
        tree.insert(key, edited).unwrap();
    }
    database.flush().unwrap();
}

/// What happens to a stored outline.
type Damage = fn(&mut Vec<u8>);

#[test]
fn of_a_chunk_whose_outline_cannot_be_read_nothing_is_known() {
    let filled = tempfile::tempdir().unwrap();
    let store = Store::open(filled.path(), StoreOptions::default()).unwrap();
    for start in 0..4 {
        let outline = Some(outline(start..start + 9));
        store.log().append(&[Chunk { outline, ..records(&[b"one", b"two"]) }]).unwrap();
    }
    drop(store);
    // (what is wrong with the third outline, how it comes to that)
    let cases: [(&str, Damage); 4] = [
        ("its format is not known", |value| value[0] = 99),
        ("it is cut off", |value| value.truncate(value.len() - 1)),
        ("it is longer than it says", |value| value.push(0)),
        ("it tells of no entries", |value| value[3] = 0),
    ];
    for (what, damage) in cases {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(filled.path(), copy.path());
        edit(copy.path(), |number, value| {
            if number == 2 {
                damage(value);
            }
        });
        let store = Store::open(copy.path(), StoreOptions::default()).unwrap();
        let found = outlines(&store, 0);
        let firsts: Vec<u64> = found.iter().map(|chunk| chunk.first.as_u64()).collect();
        assert_eq!(firsts, [0, 2, 4, 6], "{what}");
        assert_eq!(found[2].outline, None, "{what}");
        for (start, chunk) in (0..).zip(&found[..2]) {
            assert_eq!(chunk.outline, Some(outline(start..start + 9)), "{what}");
        }
        assert_eq!(store.log().read(Offset::START).count(), 4, "{what}");
    }
}

#[test]
fn no_hash_of_who_was_erased_is_left_in_any_file() {
    let mut host = Host::new(options());
    // All bits are set: bytes that stand nowhere else.
    let mut names = HashFilter::with_room_for(100);
    (0..10_000).map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).for_each(|h| names.insert(h));
    let full = Outline { names, ..Outline::default() };
    let other = outline(3..9);
    for outline in [&other, &full, &other] {
        let outline = Some(outline.clone());
        host.store().log().append(&[Chunk { outline, ..records(&[b"a", b"b"]) }]).unwrap();
    }
    host.store().log().sync().unwrap();
    let is_there = |host: &Host| holds(host.dir(), &[0xFF; 100]);
    assert!(is_there(&host));
    let erased = Erased { offset: Offset::from_u64(3), stub: Stub::default() };
    host.store().log().erase(&[erased], &|| true).unwrap();
    for what in ["at once", "opened again"] {
        assert!(!is_there(&host), "{what}");
        let told = outlines(host.store(), 0).into_iter().map(|chunk| chunk.outline);
        let expected = [Some(other.clone()), None, Some(other.clone())];
        assert_eq!(told.collect::<Vec<_>>(), expected, "{what}");
        host.reopen();
    }
}

#[test]
fn what_remains_of_a_chunk_is_outlined_by_who_erases() {
    let mut host = Host::new(options());
    for start in 0..3 {
        let outline = Some(outline(start..start + 9));
        host.store().log().append(&[Chunk { outline, ..records(&[b"a", b"b"]) }]).unwrap();
    }
    let erased = Erased { offset: Offset::from_u64(3), stub: Stub::default() };
    let count = |chunk: &Chunk<'_>, kind| chunk.entries.iter().filter(|e| e.kind == kind).count();
    let outline_of = |chunk: &Chunk<'_>| {
        let (records, stubs) = (count(chunk, EntryKind::Record), count(chunk, EntryKind::Stub));
        ((records, stubs) == (1, 1)).then(|| outline(70..72))
    };
    host.store().log().erase_and_outline(&[erased], &|| true, &outline_of).unwrap();
    for what in ["at once", "opened again"] {
        let told = outlines(host.store(), 0).into_iter().map(|chunk| chunk.outline);
        let expected = [outline(0..9), outline(70..72), outline(2..11)].map(Some);
        assert_eq!(told.collect::<Vec<_>>(), expected, "{what}");
        host.reopen();
    }
}

fn holds(dir: &Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| {
        if path.is_dir() {
            holds(&path, bytes)
        } else {
            memchr::memmem::find(&std::fs::read(&path).unwrap(), bytes).is_some()
        }
    })
}
