//! A profile's attributes, merged by policy (`SPEC.md` §2, §3).
//!
//! # What decides
//!
//! A write has a path, a [`WriteKey`] (record timestamp, then offset) and a value, or none where it
//! deletes. A write *shows* iff it is the latest at its path and no later write stands above or below
//! it: a scalar at `a` and one at `a.b` cannot both be. For that to be true in whatever order writes
//! arrive, and after any merge of profiles, the latest key of every path ever written is kept, with
//! no value once something later covers it.
//!
//! Under `dataSetPrecedence` each dataset of `order` has a layer of its own with these rules, and the
//! layers are looked through from the first: what an earlier dataset shows hides what later ones have
//! at the path, above and below. Deletions hide nothing in other layers.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::path::{PathId, PathTable};
use crate::clock::Timestamp;
use crate::json;

/// What orders two writes: the record's timestamp, on a tie the later offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WriteKey {
    /// When the value was true.
    pub timestamp: Timestamp,
    /// The record's offset.
    pub offset: u64,
}

/// The place of a dataset in the merge policy's order; always 0 under `timestampOrdered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank(pub u16);

/// One leaf of a profile record.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Where.
    pub path: PathId,
    /// By whom.
    pub rank: Rank,
    /// When.
    pub key: WriteKey,
    /// The JSON text, or `None` for `null`.
    pub value: Option<&'a str>,
}

/// How a write, or what it covered, bears on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The write took part in the merged profile and changed what its path shows.
    Changed,
    /// It took part, and the value is the same as before.
    Same,
    /// It covered what this path, above or below its own, had shown.
    Covered,
}

/// A path that a record touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Which.
    pub path: PathId,
    /// How.
    pub effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cell {
    path: PathId,
    key: WriteKey,
    /// `None` where the latest write deleted, or something later lies above or below.
    value: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Layer {
    rank: Rank,
    /// Ascending by path.
    cells: Vec<Cell>,
}

/// All attributes of one profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attributes {
    /// Ascending by rank.
    layers: SmallVec<[Layer; 1]>,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Nothing.
    Nothing,
    /// A leaf, as JSON text.
    Leaf(&'a str),
    /// A leaf higher up, as JSON text, which covers the first `depth` segments of the path.
    Within {
        /// The leaf's text.
        leaf: &'a str,
        /// How many segments of the path lead to it.
        depth: usize,
    },
    /// Leaves further down.
    Tree,
}

impl Attributes {
    /// Applies a write and appends what it touched; nothing if it lost.
    pub fn write(&mut self, write: Write<'_>, paths: &PathTable, touched: &mut Vec<Touched>) {
        if let Some(effect) = self.rewrite(&write, paths) {
            touched.push(Touched { path: write.path, effect });
            return;
        }
        let before = self.leaf(write.path, paths).map(|(rank, text)| (rank, text.to_owned()));
        let covered = self.shown_around(write.path, paths);
        let mut suppliers = before.iter().map(|(rank, _)| rank);
        let mut around = covered.iter().map(|(rank, ..)| rank);
        let is_supplier = (before.is_none() && covered.is_empty())
            || suppliers.any(|rank| *rank == write.rank)
            || around.any(|rank| *rank == write.rank);
        let won = self.layer(write.rank).write(&write, paths);

        for (_, path, old) in covered {
            // Nothing stands there any more, or what another dataset has.
            if self.leaf(path, paths).is_none_or(|(_, new)| !json::same(&old, new)) {
                touched.push(Touched { path, effect: Effect::Covered });
            }
        }
        let after = self.leaf(write.path, paths);
        let took_part = won
            && match write.value {
                Some(_) => after.is_some_and(|(rank, _)| rank == write.rank),
                None => is_supplier,
            };
        if took_part {
            let is_same = match (&before, after) {
                (Some((_, old)), Some((_, new))) => json::same(old, new),
                (None, None) => true,
                _ => false,
            };
            let effect = if is_same { Effect::Same } else { Effect::Changed };
            touched.push(Touched { path: write.path, effect });
        }
    }

    /// The usual write at a fraction of the cost: another value at a path that shows one, where there is one
    /// layer and no path above or below was ever written. `None`, and nothing is done, if it is another.
    fn rewrite(&mut self, write: &Write<'_>, paths: &PathTable) -> Option<Effect> {
        let [layer] = &mut self.layers[..] else { return None };
        let new = write.value?;
        if layer.rank != write.rank || !paths.children(write.path).is_empty() {
            return None;
        }
        let at = layer.position(write.path).ok()?;
        let mut above = write.path;
        while above != PathId::ROOT {
            above = paths.parent(above);
            if layer.position(above).is_ok() {
                return None;
            }
        }
        let cell = &mut layer.cells[at];
        let old = cell.value.as_deref()?;
        if cell.key > write.key {
            return None;
        }
        cell.key = write.key;
        if old == new {
            return Some(Effect::Same);
        }
        let effect = if json::same(old, new) { Effect::Same } else { Effect::Changed };
        cell.value = Some(new.into());
        Some(effect)
    }

    /// What stands at `path`.
    pub fn find(&self, path: PathId, paths: &PathTable) -> Found<'_> {
        if let Some((_, text)) = self.leaf(path, paths) {
            return Found::Leaf(text);
        }
        let mut above = path;
        while above != PathId::ROOT {
            above = paths.parent(above);
            if let Some((_, leaf)) = self.leaf(above, paths) {
                return Found::Within { leaf, depth: paths.depth(above) };
            }
        }
        if self.has_below(path, paths) { Found::Tree } else { Found::Nothing }
    }

    /// The leaves shown at and below any of `roots`, in no particular order.
    pub fn leaves<'a>(
        &'a self,
        roots: &'a [PathId],
        paths: &'a PathTable,
    ) -> impl Iterator<Item = (PathId, &'a str)> {
        self.shown(paths).filter_map(|(_, path, text)| {
            roots.iter().any(|root| paths.is_within(path, *root)).then_some((path, text))
        })
    }

    /// Unites two profiles' attributes.
    pub fn merge(&mut self, other: Self, paths: &PathTable) {
        for layer in other.layers {
            let target = self.layer(layer.rank);
            for cell in layer.cells {
                let value = cell.value.as_deref();
                target.write(
                    &Write { path: cell.path, rank: layer.rank, key: cell.key, value },
                    paths,
                );
            }
        }
    }

    /// Every path ever written, in no particular order, some more than once.
    pub fn written(&self) -> impl Iterator<Item = PathId> {
        self.layers.iter().flat_map(|layer| &layer.cells).map(|cell| cell.path)
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The latest write at `path`, above or below it that is remembered, whether it shows or not.
    pub fn last_write(&self, path: PathId, paths: &PathTable) -> Option<WriteKey> {
        let cells = self.layers.iter().flat_map(|layer| &layer.cells);
        let touching = cells
            .filter(|cell| paths.is_within(cell.path, path) || paths.is_within(path, cell.path));
        touching.map(|cell| cell.key).max()
    }

    fn layer(&mut self, rank: Rank) -> &mut Layer {
        let at = match self.layers.binary_search_by_key(&rank, |layer| layer.rank) {
            Ok(at) => at,
            Err(at) => {
                self.layers.insert(at, Layer { rank, cells: Vec::new() });
                at
            }
        };
        &mut self.layers[at]
    }

    /// The leaf shown at exactly `path`, and which layer has it.
    fn leaf(&self, path: PathId, paths: &PathTable) -> Option<(Rank, &str)> {
        for (at, layer) in self.layers.iter().enumerate() {
            if let Some(text) = layer.live(path) {
                let hidden = self.layers[..at].iter().any(|earlier| earlier.conflicts(path, paths));
                return (!hidden).then_some((layer.rank, text));
            }
        }
        None
    }

    /// The leaves shown above and below `path`.
    fn shown_around(
        &self,
        path: PathId,
        paths: &PathTable,
    ) -> SmallVec<[(Rank, PathId, Box<str>); 2]> {
        let mut found = SmallVec::new();
        let mut above = path;
        while above != PathId::ROOT {
            above = paths.parent(above);
            if let Some((rank, text)) = self.leaf(above, paths) {
                found.push((rank, above, text.into()));
            }
        }
        if !paths.children(path).is_empty() {
            let below =
                self.shown(paths).filter(|(_, at, _)| *at != path && paths.is_within(*at, path));
            found.extend(below.map(|(rank, at, text)| (rank, at, text.into())));
        }
        found
    }

    fn has_below(&self, path: PathId, paths: &PathTable) -> bool {
        !paths.children(path).is_empty()
            && self.shown(paths).any(|(_, at, _)| paths.is_within(at, path))
    }

    fn shown<'a>(
        &'a self,
        paths: &'a PathTable,
    ) -> impl Iterator<Item = (Rank, PathId, &'a str)> + use<'a> {
        self.layers.iter().enumerate().flat_map(move |(index, layer)| {
            layer.cells.iter().filter_map(move |cell| {
                let text = cell.value.as_deref()?;
                let hidden = self.layers[..index].iter().any(|earlier| {
                    earlier.live(cell.path).is_some() || earlier.conflicts(cell.path, paths)
                });
                (!hidden).then_some((layer.rank, cell.path, text))
            })
        })
    }
}

impl Layer {
    fn position(&self, path: PathId) -> Result<usize, usize> {
        self.cells.binary_search_by_key(&path, |cell| cell.path)
    }

    fn live(&self, path: PathId) -> Option<&str> {
        self.cells[self.position(path).ok()?].value.as_deref()
    }

    /// Whether a leaf lives above or below `path`.
    fn conflicts(&self, path: PathId, paths: &PathTable) -> bool {
        let mut above = path;
        while above != PathId::ROOT {
            above = paths.parent(above);
            if self.live(above).is_some() {
                return true;
            }
        }
        !paths.children(path).is_empty()
            && self
                .cells
                .iter()
                .any(|c| c.value.is_some() && c.path != path && paths.is_within(c.path, path))
    }

    /// Whether the write is now the latest at its path and shows, or deletes.
    fn write(&mut self, write: &Write<'_>, paths: &PathTable) -> bool {
        let position = self.position(write.path);
        if let Ok(at) = position
            && self.cells[at].key > write.key
        {
            return false;
        }
        let is_covered = self.cover(write, paths);
        let value = if is_covered { None } else { write.value.map(Box::from) };
        match position {
            Ok(at) => {
                self.cells[at].key = write.key;
                self.cells[at].value = value;
            }
            Err(at) => self.cells.insert(at, Cell { path: write.path, key: write.key, value }),
        }
        !is_covered
    }

    /// Takes the value of each earlier write above and below; whether a later one stands there.
    fn cover(&mut self, write: &Write<'_>, paths: &PathTable) -> bool {
        let mut is_covered = false;
        let mut meet = |cell: &mut Cell| {
            if cell.key > write.key {
                is_covered = true;
            } else {
                cell.value = None;
            }
        };
        let mut above = write.path;
        while above != PathId::ROOT {
            above = paths.parent(above);
            if let Ok(at) = self.cells.binary_search_by_key(&above, |cell| cell.path) {
                meet(&mut self.cells[at]);
            }
        }
        if !paths.children(write.path).is_empty() {
            for cell in &mut self.cells {
                if cell.path != write.path && paths.is_within(cell.path, write.path) {
                    meet(cell);
                }
            }
        }
        is_covered
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Host {
        paths: PathTable,
        attributes: Attributes,
        offset: u64,
    }

    impl Host {
        fn new() -> Self {
            Self { paths: PathTable::default(), attributes: Attributes::default(), offset: 0 }
        }

        /// Writes at time `at` into layer `rank`; the effects as `path effect`.
        fn write(&mut self, rank: u16, at: i64, path: &str, value: Option<&str>) -> Vec<String> {
            self.offset += 1;
            let key = WriteKey { timestamp: Timestamp::from_millis(at), offset: self.offset };
            let write = Write { path: self.paths.intern(path), rank: Rank(rank), key, value };
            let mut touched = Vec::new();
            self.attributes.write(write, &self.paths, &mut touched);
            touched
                .iter()
                .map(|t| format!("{} {:?}", self.paths.dotted(t.path), t.effect))
                .collect()
        }

        fn shown(&self) -> Vec<String> {
            let mut shown: Vec<_> = self
                .attributes
                .leaves(&[PathId::ROOT], &self.paths)
                .map(|(path, text)| format!("{}={text}", self.paths.dotted(path)))
                .collect();
            shown.sort();
            shown
        }
    }

    #[test]
    fn the_latest_write_wins_and_covers_what_lies_above_and_below() {
        // (what it shows, writes (time, path, value), effects of the last, what is shown)
        type Case = (
            &'static str,
            &'static [(i64, &'static str, Option<&'static str>)],
            &'static [&'static str],
            &'static [&'static str],
        );
        let cases: &[Case] = &[
            ("a first write", &[(1, "a.b", Some("1"))], &["a.b Changed"], &["a.b=1"]),
            ("the same value", &[(1, "a", Some("1")), (2, "a", Some("1"))], &["a Same"], &["a=1"]),
            ("an older write loses", &[(2, "a", Some("1")), (1, "a", Some("2"))], &[], &["a=1"]),
            (
                "on a tie the later offset",
                &[(1, "a", Some("1")), (1, "a", Some("2"))],
                &["a Changed"],
                &["a=2"],
            ),
            ("a null deletes", &[(1, "a", Some("1")), (2, "a", None)], &["a Changed"], &[]),
            ("a null of nothing is a write", &[(1, "a", None)], &["a Same"], &[]),
            ("a tombstone stands", &[(2, "a", None), (1, "a", Some("1"))], &[], &[]),
            (
                "a scalar above removes the tree",
                &[(1, "a.b", Some("1")), (1, "a.c", Some("2")), (2, "a", Some("3"))],
                &["a.b Covered", "a.c Covered", "a Changed"],
                &["a=3"],
            ),
            (
                "a leaf below removes the scalar",
                &[(1, "a", Some("3")), (2, "a.b", Some("1"))],
                &["a Covered", "a.b Changed"],
                &["a.b=1"],
            ),
            (
                "a null above deletes the subtree, late writes below lose",
                &[(1, "a.b", Some("1")), (3, "a", None), (2, "a.b", Some("2"))],
                &[],
                &[],
            ),
            (
                "a late scalar loses to a later leaf below, and still covers the earlier one",
                &[(1, "a.c", Some("1")), (3, "a.d", Some("2")), (2, "a", Some("5"))],
                &["a.c Covered"],
                &["a.d=2"],
            ),
            (
                "and what arrives even later from before it stays covered",
                &[(3, "a.d", Some("2")), (2, "a", Some("5")), (1, "a.c", Some("1"))],
                &[],
                &["a.d=2"],
            ),
        ];
        for (name, writes, effects, shown) in cases {
            let mut host = Host::new();
            let mut last = Vec::new();
            for (at, path, value) in *writes {
                last = host.write(0, *at, path, *value);
            }
            assert_eq!(last, *effects, "{name}");
            assert_eq!(host.shown(), *shown, "{name}");
        }
    }

    #[test]
    fn the_first_dataset_that_has_a_value_supplies_it() {
        let mut host = Host::new();
        assert_eq!(host.write(1, 5, "tier", Some("\"web\"")), ["tier Changed"]);
        assert_eq!(host.write(0, 1, "tier", Some("\"crm\"")), ["tier Changed"]);
        assert_eq!(host.write(1, 9, "tier", Some("\"web2\"")), [""; 0]);
        assert_eq!(host.shown(), ["tier=\"crm\""]);
        assert_eq!(host.write(1, 10, "tier", None), [""; 0], "a null of another dataset");
        assert_eq!(host.write(1, 11, "tier", Some("\"web3\"")), [""; 0]);
        assert_eq!(host.write(0, 2, "tier", None), ["tier Changed"], "the next dataset shows");
        assert_eq!(host.shown(), ["tier=\"web3\""]);
        assert_eq!(
            host.write(0, 3, "tier.level", Some("1")),
            ["tier Covered", "tier.level Changed"]
        );
        assert_eq!(host.shown(), ["tier.level=1"]);
        assert_eq!(host.write(1, 12, "name.last", Some("\"web\"")), ["name.last Changed"]);
        assert_eq!(host.write(1, 12, "name.first", Some("\"web\"")), ["name.first Changed"]);
        assert_eq!(host.write(0, 4, "name.first", Some("\"crm\"")), ["name.first Changed"]);
        assert_eq!(
            host.write(0, 5, "name", None),
            ["name.first Covered", "name Same"],
            "a null over what two datasets supplied: another value shows"
        );
        assert_eq!(host.shown(), ["name.first=\"web\"", "name.last=\"web\"", "tier.level=1"]);
    }

    #[test]
    fn a_path_finds_the_leaf_at_above_or_below_it() {
        let mut host = Host::new();
        host.write(0, 1, "list", Some("[{\"k\":1}]"));
        host.write(0, 1, "person.name.first", Some("\"Ana\""));
        let mut find = |path: &str| {
            let path = host.paths.intern(path);
            format!("{:?}", host.attributes.find(path, &host.paths))
        };
        assert_eq!(find("person.name"), "Tree");
        assert_eq!(find("person.name.first"), "Leaf(\"\\\"Ana\\\"\")");
        assert_eq!(find("person.name.first.x"), "Within { leaf: \"\\\"Ana\\\"\", depth: 3 }");
        assert_eq!(find("list.k"), "Within { leaf: \"[{\\\"k\\\":1}]\", depth: 1 }");
        assert_eq!(find("person.age"), "Nothing");
    }

    proptest! {
        #[test]
        fn merging_gives_the_same_in_either_order(
            writes in prop::collection::vec(
                (0..5_usize, 0..5_i64, 0..4_usize, 0..2_u16, any::<bool>()),
                0..9,
            ),
        ) {
            let names = ["a", "a.b", "a.b.c", "a.d", "e"];
            let mut paths = PathTable::default();
            let ids = names.map(|name| paths.intern(name));
            let mut halves = [Attributes::default(), Attributes::default()];
            let mut whole = Attributes::default();
            for (offset, (path, at, value, rank, second)) in (0..).zip(writes) {
                let key = WriteKey { timestamp: Timestamp::from_millis(at), offset };
                let value = ["1", "2", "[3]"].get(value).copied();
                let write = Write { path: ids[path], rank: Rank(rank), key, value };
                halves[usize::from(second)].write(write, &paths, &mut Vec::new());
                whole.write(write, &paths, &mut Vec::new());
            }
            let [one, two] = halves;
            let mut left = one.clone();
            left.merge(two.clone(), &paths);
            let mut right = two;
            right.merge(one, &paths);
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(&left, &whole, "as if never apart");
        }
    }
}
