//! The `identityMap` of a record, and the namespaces of a batch.
//!
//! Namespaces compare case-insensitively (`SPEC.md` §2). A batch has few of them and many
//! identities, so each spelling is lower-cased once, and identities hold an index.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::batch::RecordIdentity;
use super::expectation::unmet;
use crate::json::{Kind, Value};

/// The shape of an identity map, as messages tell it.
const SHAPE: &str = r#"an object such as {"Email":[{"id":"ana@example.com"}]}"#;

/// The namespaces of a batch, in lower case.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespaces {
    names: Vec<Box<str>>,
    /// Every spelling seen, the lower-case one included.
    by_spelling: HashMap<Box<str>, u32, foldhash::fast::FixedState>,
}

impl Namespaces {
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The index of the namespace spelled `spelling`.
    pub(super) fn intern(&mut self, spelling: &str) -> u32 {
        if let Some(index) = self.by_spelling.get(spelling) {
            return *index;
        }
        let lower = spelling.to_lowercase();
        let index = match self.by_spelling.get(lower.as_str()) {
            Some(index) => *index,
            None => self.add(&lower),
        };
        self.by_spelling.insert(spelling.into(), index);
        index
    }

    fn add(&mut self, lower: &str) -> u32 {
        let index = u32::try_from(self.names.len()).expect("fewer namespaces than bytes");
        self.names.push(lower.into());
        self.by_spelling.insert(lower.into(), index);
        index
    }
}

/// Reads what was `found` as the identity map of the object at `path`: its identities in order of
/// appearance, at least one, exactly one of them primary.
pub(super) fn read(
    found: Option<Value<'_>>,
    path: &str,
    namespaces: &mut Namespaces,
) -> Result<SmallVec<[RecordIdentity; 2]>, String> {
    let Some(map) = found.filter(|map| map.kind() == Kind::Object) else {
        return Err(unmet(&format!("{path}.identityMap"), SHAPE, found));
    };
    let mut identities: SmallVec<[RecordIdentity; 2]> = SmallVec::new();
    let mut primary = None;
    for (namespace, list) in map.entries() {
        let place = Place { path, namespace: &namespace };
        if list.kind() != Kind::Array {
            return Err(unmet(&place.of_list(), r#"an array such as [{"id":"c1"}]"#, Some(list)));
        }
        if namespace.is_empty() {
            return Err(format!("{path}.identityMap: expected a namespace's name, found \"\""));
        }
        let index = namespaces.intern(&namespace);
        for (position, item) in list.items().enumerate() {
            let read = identity(item).map_err(|fault| place.message(position, fault))?;
            if read.is_primary && primary.is_none() {
                primary = Some(identities.len());
            }
            identities.push(RecordIdentity { namespace: index, id: read.id, primary: false });
        }
    }
    if identities.is_empty() {
        return Err(format!("{path}.identityMap: expected at least one identity, found none"));
    }
    identities[primary.unwrap_or(0)].primary = true;
    Ok(identities)
}

/// An element of a namespace's list, as far as it is read.
struct Read {
    id: u32,
    is_primary: bool,
}

/// What is wrong with such an element: the member, what it should be, what it is.
type Fault<'a> = (&'static str, &'static str, Option<Value<'a>>);

fn identity(item: Value<'_>) -> Result<Read, Fault<'_>> {
    if item.kind() != Kind::Object {
        return Err(("", r#"an object such as {"id":"c1"}"#, Some(item)));
    }
    let (mut id, mut is_primary) = (None, false);
    for (key, value) in item.entries() {
        match (&*key, value.kind()) {
            ("id", _) => id = Some(value),
            ("primary", Kind::True) => is_primary = true,
            ("primary", Kind::False | Kind::Null) => is_primary = false,
            ("primary", _) => return Err((".primary", "true or false", Some(value))),
            ("authenticatedState", kind) if kind != Kind::Text && kind != Kind::Null => {
                return Err((".authenticatedState", "a string", Some(value)));
            }
            _ => {}
        }
    }
    match id {
        Some(id) if id.kind() == Kind::Text && id.raw().len() > 2 => {
            Ok(Read { id: id.index(), is_primary })
        }
        _ => Err((".id", "a string that is not empty", id)),
    }
}

/// Where an identity stands, put into words only when it has to be.
struct Place<'a> {
    path: &'a str,
    namespace: &'a str,
}

impl Place<'_> {
    fn of_list(&self) -> String {
        format!("{}.identityMap.{}", self.path, self.namespace)
    }

    fn message(&self, position: usize, (member, expected, found): Fault<'_>) -> String {
        unmet(&format!("{}[{position}]{member}", self.of_list()), expected, found)
    }
}
