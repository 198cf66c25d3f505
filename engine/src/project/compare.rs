//! Two projections of the same log, compared: is what one knows what the other knows?
//!
//! Each profile has a [`Digest`] of all that is told of it: identities, attributes, memberships, and when
//! the clock will change those. Digests of two projections can be compared without holding both still;
//! where they differ, [`first_difference`] says what it is, in names that people know. What is kept for
//! later evaluation (events, duplicates) is not looked at, but for the instants that it leads to.
//!
//! A digest does not depend on numbers that a projection gives out for itself: of paths, of audiences.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

use super::projection::{Projection, audience_counts};
use super::view::View;
use crate::clock::Timestamp;
use crate::identity::ProfileId;
use crate::profile::membership::{AudienceNo, Membership};
use crate::profile::path::PathId;
use crate::profile::state::Profile;
use crate::views::AudienceCounts;

/// All that a projection knows, in few bytes a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    now: Timestamp,
    counts: BTreeMap<String, AudienceCounts>,
    /// By merge policy, ascending by profile.
    profiles: BTreeMap<String, Vec<(ProfileId, u64)>>,
}

impl Digest {
    /// How many profiles there are, by merge policy.
    pub fn profiles(&self) -> BTreeMap<String, u64> {
        self.profiles.iter().map(|(policy, all)| (policy.clone(), all.len() as u64)).collect()
    }
}

/// What two projections tell differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whose it is: merge policy and profile; `None` if it is nobody's.
    pub profile: Option<(String, ProfileId)>,
    /// Namespaces and ids by which the profile is known.
    pub identities: Vec<(String, String)>,
    /// What differs: `clock`, `profile`, `identities`, `attributes.person.name`, `memberships.vip`, …
    pub field: String,
    /// What the one knows; `None` if it knows nothing of it.
    pub one: Option<String>,
    /// What the other knows.
    pub other: Option<String>,
}

/// Digests all profiles, on the threads of the current pool.
pub fn digest(projection: &Projection) -> Digest {
    let hasher = FixedState::default();
    let paths = projection.paths();
    let path_hashes: Vec<u64> =
        paths.ids().map(|path| hasher.hash_one(paths.dotted(path))).collect();
    let catalog = projection.catalog();
    let audience_hashes: Vec<u64> =
        (0..catalog.len()).map(|at| hasher.hash_one(catalog.id(number(at)))).collect();
    let cast = Cast { projection, hasher, path_hashes, audience_hashes };
    let of = |view: &View| {
        let mut all = view.map_profiles(|id, profile| (id, cast.profile(view, id, profile)));
        all.sort_unstable();
        all
    };
    let policies = &catalog.definitions().merge_policies;
    let views = policies.iter().filter_map(|policy| projection.view(Some(&policy.id)));
    Digest {
        now: projection.now(),
        counts: audience_counts(projection),
        profiles: views.map(|view| (view.policy.id.clone(), of(view))).collect(),
    }
}

fn number(at: usize) -> AudienceNo {
    AudienceNo(u32::try_from(at).expect("fewer than 2^32 audiences"))
}

/// What profiles are hashed with.
struct Cast<'a> {
    projection: &'a Projection,
    hasher: FixedState,
    path_hashes: Vec<u64>,
    audience_hashes: Vec<u64>,
}

impl Cast<'_> {
    fn profile(&self, view: &View, id: ProfileId, profile: &Profile) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        id.hash(&mut hasher);
        for identity in &profile.identities {
            self.projection.identities().name(*identity).hash(&mut hasher);
            view.graph.owner(*identity).hash(&mut hasher);
        }
        let mut all = hasher.finish();
        // In whatever order they come: a sum.
        let roots = [PathId::ROOT];
        for (path, text) in profile.attributes.leaves(&roots, self.projection.paths()) {
            let leaf = (self.path_hashes[path.as_usize()], text);
            all = all.wrapping_add(self.hasher.hash_one(leaf));
        }
        for membership in profile.memberships.iter() {
            let audience = self.audience_hashes[membership.audience.as_usize()];
            let said = (audience, membership.status, told(membership), membership.changes_at);
            all = all.wrapping_add(self.hasher.hash_one(said));
        }
        all
    }
}

/// The times of a membership, as far as they mean something.
fn told(membership: &Membership) -> (Timestamp, Timestamp, u64) {
    let since = membership.status.map_or(Timestamp::EPOCH, |_| membership.since);
    (since, membership.refreshed, membership.refreshed_by)
}

/// What differs first: definitions and clock, then profiles by merge policy and number, then counts.
pub fn first_difference(one: &Projection, other: &Projection) -> Option<Difference> {
    let (definitions, others) = (one.catalog().definitions(), other.catalog().definitions());
    if definitions != others {
        let text = |definitions| serde_json::to_string(definitions).expect("definitions are JSON");
        return Some(nobodys("definitions", (text(definitions), text(others))));
    }
    if one.now() != other.now() {
        return Some(nobodys("clock", (one.now().to_string(), other.now().to_string())));
    }
    let digests = (digest(one), digest(other));
    let mut policies = digests.0.profiles.iter();
    let found = policies.find_map(|(policy, profiles)| {
        let profile = first_differing(profiles, digests.1.profiles.get(policy)?)?;
        let between = of_profile((one, other), policy, profile);
        Some(between.unwrap_or_else(|| unnamed(policy, profile)))
    });
    found.or_else(|| of_counts(&digests.0.counts, &digests.1.counts))
}

fn first_differing(one: &[(ProfileId, u64)], other: &[(ProfileId, u64)]) -> Option<ProfileId> {
    let at = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let ids = [one.get(at), other.get(at)];
    ids.into_iter().flatten().map(|(id, _)| *id).min()
}

fn nobodys(field: &str, (one, other): (String, String)) -> Difference {
    let (one, other) = (Some(one), Some(other));
    Difference { profile: None, identities: Vec::new(), field: field.to_owned(), one, other }
}

/// Whose digests differ though every field is told alike, which only a broken digest makes.
fn unnamed(policy: &str, profile: ProfileId) -> Difference {
    Difference {
        profile: Some((policy.to_owned(), profile)),
        ..nobodys("digest", Default::default())
    }
}

fn of_counts(
    one: &BTreeMap<String, AudienceCounts>,
    other: &BTreeMap<String, AudienceCounts>,
) -> Option<Difference> {
    let text = |counts: Option<&AudienceCounts>| {
        counts.map(|counts| format!("{} realized, {} exited", counts.realized, counts.exited))
    };
    let audience = one.keys().chain(other.keys()).find(|id| one.get(*id) != other.get(*id))?;
    Some(Difference {
        field: format!("members of {audience}"),
        one: text(one.get(audience)),
        other: text(other.get(audience)),
        ..nobodys("", Default::default())
    })
}

/// What two projections tell differently of one profile.
fn of_profile(
    (one, other): (&Projection, &Projection),
    policy: &str,
    profile: ProfileId,
) -> Option<Difference> {
    let (fields, others) = (fields(one, policy, profile), fields(other, policy, profile));
    let names: BTreeSet<&(Place, String)> = fields.keys().chain(others.keys()).collect();
    let field = names.into_iter().find(|name| fields.get(*name) != others.get(*name))?;
    let known = if fields.is_empty() { other } else { one };
    Some(Difference {
        profile: Some((policy.to_owned(), profile)),
        identities: identities(known, policy, profile),
        field: field.1.clone(),
        one: fields.get(field).cloned(),
        other: others.get(field).cloned(),
    })
}

/// The order in which fields are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Profile,
    Identities,
    Owner,
    Attribute,
    Membership,
}

/// All that is told of a profile, by name; nothing if there is no such profile.
fn fields(
    projection: &Projection,
    policy: &str,
    id: ProfileId,
) -> BTreeMap<(Place, String), String> {
    let mut fields = BTreeMap::new();
    let view = projection.view(Some(policy));
    let Some((view, profile)) = view.and_then(|view| Some((view, view.profile(id)?))) else {
        return fields;
    };
    let mut say = |place: Place, name: String, text: String| fields.insert((place, name), text);
    let names = identities(projection, policy, id);
    let names: Vec<String> = names.iter().map(|(ns, id)| format!("{ns}:{id}")).collect();
    say(Place::Profile, "profile".to_owned(), "is known".to_owned());
    say(Place::Identities, "identities".to_owned(), names.join(" "));
    for (identity, name) in profile.identities.iter().zip(&names) {
        let owner = view.graph.owner(*identity);
        let owner = owner.map_or("nobody".to_owned(), |owner| owner.as_u64().to_string());
        say(Place::Owner, format!("profile of {name}"), owner);
    }
    let paths = projection.paths();
    for (path, text) in profile.attributes.leaves(&[PathId::ROOT], paths) {
        say(Place::Attribute, format!("attributes.{}", paths.dotted(path)), text.to_owned());
    }
    for membership in profile.memberships.iter() {
        let audience = projection.catalog().id(membership.audience);
        say(Place::Membership, format!("memberships.{audience}"), text_of(membership));
    }
    fields
}

fn identities(projection: &Projection, policy: &str, id: ProfileId) -> Vec<(String, String)> {
    let profile = projection.view(Some(policy)).and_then(|view| view.profile(id));
    let name = |identity| {
        let (namespace, id) = projection.identities().name(identity);
        (namespace.to_owned(), id.to_owned())
    };
    profile.map_or_else(Vec::new, |profile| profile.identities.iter().copied().map(name).collect())
}

fn text_of(membership: &Membership) -> String {
    let (since, refreshed, refreshed_by) = told(membership);
    let status = membership.status.map(|status| format!("{} since {since}", status.as_str()));
    let named =
        (refreshed_by > 0).then(|| format!("named at {refreshed} by offset {refreshed_by}"));
    let next = membership.changes_at;
    let next = (next != Timestamp::MAX).then(|| format!("next change by the clock at {next}"));
    [status, named, next].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
