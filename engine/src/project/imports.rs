//! Imports that have begun and are not complete (`SPEC.md` §5).
//!
//! An import is known by its audience and the offset of the entry that began it. Another one of the
//! same audience takes its place, so that the end of a list that somebody else has started anew lets
//! nobody leave: of that new list, members may still be missing. Who was named since the beginning is
//! not kept here; each membership knows the record that last named it.

use std::collections::BTreeMap;

/// The open imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// Where the open import of `audience` began.
    pub fn open(&self, audience: &str) -> Option<u64> {
        self.0.get(audience).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Imports;

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
