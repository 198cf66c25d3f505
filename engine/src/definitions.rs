//! The part of the configuration that is history (`SPEC.md` §9).
//!
//! What a record means depends on the audiences, merge policies and dataflows that held when it was
//! applied, so these live in the log beside the records: what changed since the last run is appended
//! as a [`Change`], and folding all changes from [`Definitions::default`] gives what held at any
//! offset. Endpoints, limits and secrets are no part of it: they say how exports travel, not which
//! ones there are, and a secret must never reach the log.
//!
//! # Invariants
//!
//! 1. Every list is sorted by id, and the audiences and attributes of a dataflow by name, so that
//!    writing a table elsewhere in the file is no change. Only the order of datasets means something.
//! 2. `old.apply(&diff(old, new))` is `new`, and nothing is left to differ.
//! 3. The JSON form is stored: a name once written is never given another meaning. A field added
//!    later needs a default for entries written before it. One that is not known is refused: to go on
//!    without it would make other profiles of the same log.

use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Everything defined at one offset of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definitions {
    /// What is not about one thing.
    pub settings: Settings,
    /// Sorted by id; exactly one is the default once anything is configured.
    pub merge_policies: Vec<MergePolicy>,
    /// Sorted by id.
    pub audiences: Vec<Audience>,
    /// Sorted by id.
    pub dataflows: Vec<Dataflow>,
}

/// Settings that change what records do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The time zone of `today`, `this week` and dates in rules: an IANA name.
    pub time_zone: String,
    /// How long an exited membership is remembered, in milliseconds.
    pub exited_retention_ms: u64,
    /// How long an event's `_id` keeps later copies out, in milliseconds of clock time.
    pub dedupe_window_ms: u64,
    /// How far past the event clock a record may be, in milliseconds; unlimited if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_clock_jump_ms: Option<u64>,
}

impl Default for Settings {
    /// What holds where the configuration is silent: UTC, 30 days, 24 hours, no limit.
    fn default() -> Self {
        Self {
            time_zone: "UTC".to_owned(),
            exited_retention_ms: 30 * DAY_MS,
            dedupe_window_ms: DAY_MS,
            max_clock_jump_ms: None,
        }
    }
}

/// Which identities form one profile, and which dataset wins for an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergePolicy {
    /// Its id.
    pub id: String,
    /// Whether audiences use it that name none, and commands that are given none.
    pub default: bool,
    /// Which identities form one profile.
    pub identity_graph: IdentityGraph,
    /// Which write of an attribute wins.
    pub attribute_merge: AttributeMerge,
}

impl MergePolicy {
    /// The id of the policy there is when none is configured.
    pub const IMPLICIT_ID: &'static str = "default";

    /// The policy there is when none is configured: `pdg`, `timestampOrdered`.
    pub fn implicit() -> Self {
        Self {
            id: Self::IMPLICIT_ID.to_owned(),
            default: true,
            identity_graph: IdentityGraph::Pdg,
            attribute_merge: AttributeMerge::TimestampOrdered,
        }
    }

    /// Whether `other` makes the same profiles: it is the same policy, whichever is the default.
    pub fn makes_same_profiles(&self, other: &Self) -> bool {
        self.id == other.id
            && self.identity_graph == other.identity_graph
            && self.attribute_merge == other.attribute_merge
    }
}

/// Which identities form one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityGraph {
    /// Those that appear together in a record, transitively.
    Pdg,
    /// Each primary identity alone.
    None,
}

/// Which write of an attribute wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AttributeMerge {
    /// The one with the latest record timestamp, on a tie the later offset.
    TimestampOrdered,
    /// The one from the first dataset in `order` that has a value.
    DataSetPrecedence {
        /// Datasets, the strongest first; others do not contribute.
        order: Vec<String>,
    },
}

/// A named set of profiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// Its id, which payloads and `inSegment` use.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is for; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The id of the merge policy whose profiles it holds.
    pub merge_policy: String,
    /// What decides who is in it.
    pub kind: AudienceKind,
}

/// What decides who is in an audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AudienceKind {
    /// A PQL expression.
    Rule {
        /// Its text, as configured.
        pql: String,
    },
    /// Imported lists.
    Upload {
        /// How long a membership lasts without refresh, in milliseconds.
        ttl_ms: u64,
    },
}

/// A destination with the audiences and attributes mapped to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataflow {
    /// Its id.
    pub id: String,
    /// The id of its destination.
    pub destination: String,
    /// Ids of the mapped audiences, sorted, each once.
    pub audiences: Vec<String>,
    /// Dotted paths of the mapped attributes, sorted, each once.
    pub attributes: Vec<String>,
    /// The causes that make an export.
    pub triggers: Triggers,
    /// What a write of the value an attribute already has does.
    pub same_value_writes: SameValueWrites,
    /// The memberships a payload shows.
    pub memberships: Memberships,
    /// Whether payloads carry the names of mapped audiences.
    pub include_segment_names: bool,
    /// Whether payloads carry creation and change times of mapped audiences.
    pub include_segment_timestamps: bool,
}

/// The causes that make an export (`SPEC.md` §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triggers {
    /// A mapped audience changed status.
    pub segment: bool,
    /// A mapped attribute was written.
    pub attribute: bool,
    /// The set of identities changed.
    pub identity: bool,
}

impl Triggers {
    /// Every cause, as where the configuration is silent.
    pub const ALL: Self = Self { segment: true, attribute: true, identity: true };
}

/// What a write of the value an attribute already has does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameValueWrites {
    /// It is a change, as for Experience Platform.
    Export,
    /// It is no change.
    Ignore,
}

/// The memberships a payload shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memberships {
    /// Those in every audience of the same merge policy.
    All,
    /// Those in mapped audiences only.
    Mapped,
}

/// What turns one [`Definitions`] into another: the body of a control entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The settings from here on, if any of them differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// What happens to merge policies.
    #[serde(default, skip_serializing_if = "Edits::is_empty")]
    pub merge_policies: Edits<MergePolicy>,
    /// What happens to audiences.
    #[serde(default, skip_serializing_if = "Edits::is_empty")]
    pub audiences: Edits<Audience>,
    /// What happens to dataflows.
    #[serde(default, skip_serializing_if = "Edits::is_empty")]
    pub dataflows: Edits<Dataflow>,
}

/// What happens to the definitions of one kind. No id is in both lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edits<T> {
    /// Definitions that are new or replace the one with their id, sorted by id.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub upserts: Vec<T>,
    /// Ids of definitions that end, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<String>,
}

impl<T> Default for Edits<T> {
    fn default() -> Self {
        Self { upserts: Vec::new(), removals: Vec::new() }
    }
}

impl<T> Edits<T> {
    /// Whether nothing happens.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }
}

/// A definition that is known by an id.
pub trait Identified {
    /// The id, unique among definitions of its kind.
    fn id(&self) -> &str;
}

impl Identified for MergePolicy {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for Audience {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for Dataflow {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Definitions {
    /// Brings every list into the order that the comparison of definitions relies on.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        sort_by_id(&mut self.merge_policies);
        sort_by_id(&mut self.audiences);
        sort_by_id(&mut self.dataflows);
        for dataflow in &mut self.dataflows {
            dataflow.audiences.sort_unstable();
            dataflow.audiences.dedup();
            dataflow.attributes.sort_unstable();
            dataflow.attributes.dedup();
        }
        self
    }

    /// Makes what `change` says hold. Applying it again changes nothing.
    pub fn apply(&mut self, change: &Change) {
        if let Some(settings) = &change.settings {
            self.settings = settings.clone();
        }
        edit(&mut self.merge_policies, &change.merge_policies);
        edit(&mut self.audiences, &change.audiences);
        edit(&mut self.dataflows, &change.dataflows);
    }

    /// The merge policy with this id.
    pub fn merge_policy(&self, id: &str) -> Option<&MergePolicy> {
        find(&self.merge_policies, id)
    }

    /// The merge policy used where none is named; `None` only before anything is configured.
    pub fn default_merge_policy(&self) -> Option<&MergePolicy> {
        self.merge_policies.iter().find(|policy| policy.default)
    }

    /// The merge policy whose profiles an audience of these definitions holds.
    pub fn policy_of(&self, audience: &Audience) -> &MergePolicy {
        self.merge_policy(&audience.merge_policy).expect("an audience names a policy that there is")
    }

    /// The audience with this id.
    pub fn audience(&self, id: &str) -> Option<&Audience> {
        find(&self.audiences, id)
    }

    /// Whether this is an audience whose members are uploaded.
    pub fn is_upload(&self, audience: &str) -> bool {
        let found = self.audience(audience);
        found.is_some_and(|found| matches!(found.kind, AudienceKind::Upload { .. }))
    }

    /// The dataflow with this id.
    pub fn dataflow(&self, id: &str) -> Option<&Dataflow> {
        find(&self.dataflows, id)
    }
}

/// What must be applied to `old` to get `new`; `None` if they are the same.
///
/// Both are sorted, see [`Definitions::sorted`].
pub fn diff(old: &Definitions, new: &Definitions) -> Option<Change> {
    let change = Change {
        settings: (old.settings != new.settings).then(|| new.settings.clone()),
        merge_policies: edits(&old.merge_policies, &new.merge_policies),
        audiences: edits(&old.audiences, &new.audiences),
        dataflows: edits(&old.dataflows, &new.dataflows),
    };
    (change != Change::default()).then_some(change)
}

fn edits<T: Identified + Clone + PartialEq>(old: &[T], new: &[T]) -> Edits<T> {
    let changed = |item: &&T| find(old, item.id()) != Some(item);
    let gone = |item: &&T| find(new, item.id()).is_none();
    Edits {
        upserts: new.iter().filter(changed).cloned().collect(),
        removals: old.iter().filter(gone).map(|item| item.id().to_owned()).collect(),
    }
}

fn edit<T: Identified + Clone>(items: &mut Vec<T>, edits: &Edits<T>) {
    items.retain(|item| !edits.removals.iter().any(|id| id == item.id()));
    for upsert in &edits.upserts {
        match items.binary_search_by(|item| item.id().cmp(upsert.id())) {
            Ok(at) => items[at] = upsert.clone(),
            Err(at) => items.insert(at, upsert.clone()),
        }
    }
}

fn find<'a, T: Identified>(sorted: &'a [T], id: &str) -> Option<&'a T> {
    sorted.binary_search_by(|item| item.id().cmp(id)).ok().map(|at| &sorted[at])
}

fn sort_by_id<T: Identified>(items: &mut [T]) {
    items.sort_by(|a, b| a.id().cmp(b.id()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, pql: &str) -> Audience {
        Audience {
            id: id.to_owned(),
            name: id.to_uppercase(),
            description: String::new(),
            merge_policy: MergePolicy::IMPLICIT_ID.to_owned(),
            kind: AudienceKind::Rule { pql: pql.to_owned() },
        }
    }

    fn dataflow(id: &str, audiences: &[&str]) -> Dataflow {
        Dataflow {
            id: id.to_owned(),
            destination: "sink".to_owned(),
            audiences: audiences.iter().map(|&id| id.to_owned()).collect(),
            attributes: vec!["person.name".to_owned()],
            triggers: Triggers::ALL,
            same_value_writes: SameValueWrites::Export,
            memberships: Memberships::All,
            include_segment_names: false,
            include_segment_timestamps: false,
        }
    }

    fn sample() -> Definitions {
        Definitions {
            settings: Settings::default(),
            merge_policies: vec![MergePolicy::implicit()],
            audiences: vec![rule("b", "person.b"), rule("a", "person.a")],
            dataflows: vec![dataflow("to_sink", &["b", "a", "b"])],
        }
        .sorted()
    }

    /// Ids upserted, ids removed, and whether settings differ.
    type Ids<'a> = (&'a [&'a str], &'a [&'a str], bool);

    #[test]
    fn a_difference_applied_leaves_none() {
        let changed = |edit: fn(&mut Definitions)| {
            let mut definitions = sample();
            edit(&mut definitions);
            definitions.sorted()
        };
        // (what it shows, the new definitions, (upserted ids, removed ids, settings differ))
        let cases: [(&str, Definitions, Ids<'_>); 7] = [
            (
                "an audience is added",
                changed(|d| d.audiences.push(rule("aa", "x"))),
                (&["aa"], &[], false),
            ),
            (
                "an audience is removed",
                changed(|d| drop(d.audiences.remove(0))),
                (&[], &["a"], false),
            ),
            ("a rule changes", changed(|d| d.audiences[1] = rule("b", "y")), (&["b"], &[], false)),
            (
                "a policy changes",
                changed(|d| d.merge_policies[0].identity_graph = IdentityGraph::None),
                (&["default"], &[], false),
            ),
            (
                "a mapping changes",
                changed(|d| d.dataflows[0].audiences.truncate(1)),
                (&["to_sink"], &[], false),
            ),
            (
                "an id changes",
                changed(|d| d.dataflows[0].id = "z".to_owned()),
                (&["z"], &["to_sink"], false),
            ),
            (
                "a setting changes",
                changed(|d| d.settings.max_clock_jump_ms = Some(1)),
                (&[], &[], true),
            ),
        ];
        for (name, new, (upserts, removals, settings)) in cases {
            let mut definitions = sample();
            let change = diff(&definitions, &new).expect(name);
            assert_eq!(upserted(&change), upserts, "{name}");
            assert_eq!(removed(&change), removals, "{name}");
            assert_eq!(change.settings.is_some(), settings, "{name}");
            definitions.apply(&change);
            assert_eq!(definitions, new, "{name}");
            definitions.apply(&change);
            assert_eq!(diff(&definitions, &new), None, "{name}: applied twice");
        }
    }

    #[test]
    fn the_first_configuration_is_a_difference_from_nothing() {
        let mut definitions = Definitions::default();
        let change = diff(&definitions, &sample()).expect("something is defined");
        assert_eq!(upserted(&change), ["default", "a", "b", "to_sink"]);
        assert_eq!(change.settings, None, "the defaults hold already");
        definitions.apply(&change);
        assert_eq!(definitions, sample());
        assert_eq!(definitions.default_merge_policy(), Some(&MergePolicy::implicit()));
        assert_eq!(definitions.audience("b"), Some(&rule("b", "person.b")));
        assert_eq!(definitions.dataflow("gone"), None);
    }

    #[test]
    fn order_in_the_file_is_no_difference() {
        let mut other = sample();
        other.audiences.reverse();
        other.dataflows[0].audiences.reverse();
        assert_eq!(diff(&sample(), &other.sorted()), None);
    }

    /// The stored form, word for word: a change here breaks logs already written.
    const STORED: &str = concat!(
        r#"{"settings":{"time_zone":"Europe/Paris","exited_retention_ms":1,"dedupe_window_ms":2,"max_clock_jump_ms":3},"#,
        r#""merge_policies":{"upserts":[{"id":"p","default":true,"identity_graph":"none","#,
        r#""attribute_merge":{"dataSetPrecedence":{"order":["crm","web"]}}}],"removals":["default"]},"#,
        r#""audiences":{"upserts":[{"id":"r","name":"R","merge_policy":"default","kind":{"rule":{"pql":"x"}}},"#,
        r#"{"id":"u","name":"U","description":"d","merge_policy":"default","kind":{"upload":{"ttl_ms":4}}}]},"#,
        r#""dataflows":{"upserts":[{"id":"f","destination":"sink","audiences":["r"],"attributes":["person.name"],"#,
        r#""triggers":{"segment":true,"attribute":true,"identity":true},"same_value_writes":"export","#,
        r#""memberships":"all","include_segment_names":false,"include_segment_timestamps":false}]}}"#,
    );

    #[test]
    fn the_stored_form_is_stable() {
        let upload = Audience {
            description: "d".to_owned(),
            kind: AudienceKind::Upload { ttl_ms: 4 },
            ..rule("u", "")
        };
        let policy = MergePolicy {
            id: "p".to_owned(),
            default: true,
            identity_graph: IdentityGraph::None,
            attribute_merge: AttributeMerge::DataSetPrecedence {
                order: vec!["crm".to_owned(), "web".to_owned()],
            },
        };
        let change = Change {
            settings: Some(Settings {
                time_zone: "Europe/Paris".to_owned(),
                exited_retention_ms: 1,
                dedupe_window_ms: 2,
                max_clock_jump_ms: Some(3),
            }),
            merge_policies: Edits { upserts: vec![policy], removals: vec!["default".to_owned()] },
            audiences: Edits { upserts: vec![rule("r", "x"), upload], removals: Vec::new() },
            dataflows: Edits { upserts: vec![dataflow("f", &["r"])], removals: Vec::new() },
        };
        assert_eq!(serde_json::to_string(&change).unwrap(), STORED);
        assert_eq!(serde_json::from_str::<Change>(STORED).unwrap(), change);
        assert_eq!(serde_json::from_str::<Change>("{}").unwrap(), Change::default());
    }

    fn upserted(change: &Change) -> Vec<&str> {
        let policies = change.merge_policies.upserts.iter().map(Identified::id);
        let audiences = change.audiences.upserts.iter().map(Identified::id);
        let dataflows = change.dataflows.upserts.iter().map(Identified::id);
        policies.chain(audiences).chain(dataflows).collect()
    }

    fn removed(change: &Change) -> Vec<&str> {
        let policies = change.merge_policies.removals.iter();
        let all = policies.chain(&change.audiences.removals).chain(&change.dataflows.removals);
        all.map(String::as_str).collect()
    }
}
