//! Imports that have begun and are not complete (`SPEC.md` §5).
//!
//! An import is known by its audience and the offset of the entry that began it. Another one of the
//! same audience takes its place, so that the end of a list that somebody else has started anew lets
//! nobody leave: of that new list, members may still be missing. Who was named since the beginning is
//! not kept here; each membership knows the record that last named it. An audience that is no upload any
//! more, even for a while, has no open import.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The open imports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imports(BTreeMap<String, u64>);

impl Imports {
    /// Begins an import of `audience` with the entry at `offset`, in place of an open one.
    pub fn begin(&mut self, audience: &str, offset: u64) {
        self.0.insert(audience.to_owned(), offset);
    }

    /// Ends the import of `audience` that began at `begin`; whether it was the open one.
    pub fn end(&mut self, audience: &str, begin: u64) -> bool {
        let is_open = self.open(audience) == Some(begin);
        if is_open {
            self.0.remove(audience);
        }
        is_open
    }

    /// Forgets the imports of all audiences but these: their ends let nobody leave.
    pub fn keep(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|audience, _| is_kept(audience));
    }

    /// Where the open import of `audience` began.
    pub fn open(&self, audience: &str) -> Option<u64> {
        self.0.get(audience).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Imports;

    #[test]
    fn an_import_that_is_not_kept_cannot_end() {
        let mut imports = Imports::default();
        imports.begin("a", 3);
        imports.begin("b", 4);
        imports.keep(|audience| audience == "b");
        assert_eq!((imports.end("a", 3), imports.end("b", 4)), (false, true));
    }

    #[test]
    fn only_the_open_import_can_end() {
        let mut imports = Imports::default();
        imports.begin("a", 3);
        imports.begin("b", 4);
        imports.begin("a", 7);
        // (what it shows, the audience, where the import began, whether its end counts)
        let cases = [
            ("one that another one replaced", "a", 3, false),
            ("the open one", "a", 7, true),
            ("one that has ended", "a", 7, false),
            ("one of another audience", "b", 4, true),
            ("one that nobody began", "c", 0, false),
        ];
        for (name, audience, begin, expected) in cases {
            assert_eq!(imports.end(audience, begin), expected, "{name}");
        }
        assert_eq!(imports, Imports::default());
    }
}
