//! A profile for tests: attributes, identities, memberships and events given as JSON, its query
//! states fed event by event as the engine feeds them.

use hashbrown::HashMap;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::json::Document;
use crate::profile::path::{PathId, PathTable};

use super::{
    Attribute, CompileContext, Evaluation, Event, Facts, MembershipFact, PqlError, QueryId,
    QuerySet, QueryState, Rule, Scope, SegmentKind,
};

/// Rules and what they were compiled into.
pub(super) struct Book {
    pub(super) zone: TimeZone,
    pub(super) queries: QuerySet,
    pub(super) paths: PathTable,
}

impl Book {
    pub(super) fn new(zone: &str) -> Self {
        let zone = TimeZone::get(zone).expect("a known zone");
        Self { zone, queries: QuerySet::new(), paths: PathTable::default() }
    }

    /// Every id names a rule, but those that start with `list`, which name uploads, and `nobody`.
    pub(super) fn compile(&mut self, text: &str) -> Result<Rule, PqlError> {
        let segment = |id: &str| match id {
            "nobody" => None,
            id if id.starts_with("list") => Some(SegmentKind::Upload),
            _ => Some(SegmentKind::Rule),
        };
        let context = CompileContext { zone: &self.zone, segment: &segment };
        Rule::compile(text, &mut self.queries, &mut self.paths, &context)
    }
}

/// One profile.
#[derive(Default)]
pub(super) struct Subject {
    leaves: HashMap<PathId, String>,
    /// Paths that have leaves below them.
    trees: HashMap<PathId, String>,
    pub(super) identities: Vec<(String, String)>,
    pub(super) memberships: HashMap<String, MembershipFact>,
    states: HashMap<QueryId, QueryState>,
    paths: PathTable,
}

pub(super) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect(text)
}

impl Subject {
    /// Takes in a profile's attributes; `book` must have compiled its rules.
    pub(super) fn with_attributes(mut self, book: &mut Book, json: &str) -> Self {
        fn walk(
            subject: &mut Subject,
            book: &mut Book,
            path: PathId,
            value: crate::json::Value<'_>,
        ) {
            if value.kind() != crate::json::Kind::Object {
                subject.leaves.insert(path, value.raw().to_owned());
                return;
            }
            subject.trees.insert(path, value.raw().to_owned());
            for (key, member) in value.entries() {
                let child = book.paths.child(path, &key);
                walk(subject, book, child, member);
            }
        }
        let document = Document::parse(json).expect("JSON");
        walk(&mut self, book, PathId::ROOT, document.root(json));
        self.paths = book.paths.clone();
        self
    }

    pub(super) fn with_identity(mut self, namespace: &str, id: &str) -> Self {
        self.identities.push((namespace.to_owned(), id.to_owned()));
        self
    }

    /// Takes in an event, as the engine does: through the candidates of its type.
    pub(super) fn observe(&mut self, book: &Book, offset: u64, body: &str) {
        let document = Document::parse(body).expect("JSON");
        let body = document.root(body);
        let text = |key: &str| body.get(key).and_then(|value| value.as_str());
        let timestamp = at(&text("timestamp").expect("an event has a timestamp"));
        let event_type = text("eventType");
        let event = Event { timestamp, offset, body, event_type: event_type.as_deref() };
        let mut candidates = Vec::new();
        book.queries.candidates(event_type.as_deref(), body, &mut candidates);
        for id in candidates {
            let query = book.queries.get(id);
            let state = self.states.entry(id).or_insert_with(|| QueryState::new(query));
            state.observe(query, &event);
        }
    }

    /// What the engine may do at any time.
    pub(super) fn trim(&mut self, book: &Book, now: Timestamp) {
        for (id, state) in &mut self.states {
            state.trim(book.queries.get(*id), now);
        }
    }

    /// What is kept for a query.
    pub(super) fn state(&self, id: QueryId) -> String {
        format!("{:?}", self.states[&id])
    }

    pub(super) fn absorb(&mut self, book: &Book, other: Self) {
        for (id, more) in other.states {
            let query = book.queries.get(id);
            self.states.entry(id).or_insert_with(|| QueryState::new(query)).merge(query, more);
        }
    }

    pub(super) fn evaluate(&self, book: &Book, rule: &Rule, now: Timestamp) -> Evaluation {
        rule.evaluate(self, &Scope { now, queries: &book.queries })
    }
}

impl Facts for Subject {
    fn attribute(&self, path: PathId) -> Attribute<'_> {
        if let Some(leaf) = self.leaves.get(&path) {
            return Attribute::Leaf(leaf);
        }
        if self.trees.contains_key(&path) {
            return Attribute::Tree;
        }
        let mut above = path;
        while above != PathId::ROOT && above.as_usize() < self.paths.len() {
            above = self.paths.parent(above);
            if let Some(leaf) = self.leaves.get(&above) {
                return Attribute::Within { leaf, depth: self.paths.depth(above) };
            }
        }
        Attribute::Missing
    }

    fn tree(&self, path: PathId) -> String {
        self.trees[&path].clone()
    }

    fn identities<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a str)) {
        self.identities.iter().for_each(|(namespace, id)| visit(namespace, id));
    }

    fn membership(&self, audience: &str) -> Option<MembershipFact> {
        self.memberships.get(audience).copied()
    }

    fn query(&self, id: QueryId) -> Option<&QueryState> {
        self.states.get(&id)
    }
}
