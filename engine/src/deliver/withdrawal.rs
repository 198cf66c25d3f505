//! What a delete takes back of the exports that are not delivered yet (`SPEC.md` §3).
//!
//! Most are found by the number of their profile. That is not enough: once a merge policy has changed
//! its graph, or is gone, nobody knows the profiles any more whose numbers its earlier exports bear.
//! Who such an export is about says its payload, in its identity map.
//!
//! # Guarantee
//!
//! An export of an entry behind the delete is never taken for what it names: whoever comes later with
//! the same identities is somebody new. Attributes are not looked at: that one of them reads like an
//! erased id says nothing about whose it is.

use std::collections::{BTreeMap, BTreeSet};

use memchr::memmem;

use super::backlog::ProfileKey;
use crate::clock::Timestamp;
use crate::json::{Document, quote};

/// Where the identity map of a payload begins. No string can hold these bytes, its quotes being
/// escaped; an attribute may be called so, and stands before it.
const MAP: &[u8] = b"\"identityMap\":{";

/// Whose exports are withdrawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawal {
    profiles: BTreeSet<ProfileKey>,
    /// By namespace, in lower case, and id: the offset of the last delete.
    identities: BTreeMap<String, BTreeMap<String, u64>>,
    /// When the last delete was appended.
    at: Timestamp,
}

/// Erased ids that are looked for in an answer; where there are more, any answer may hold one of them.
const IDS_SOUGHT_MAX: usize = 64;

impl Withdrawal {
    /// Takes what bears the number of `profile`, too.
    pub fn add_profile(&mut self, profile: ProfileKey) {
        self.profiles.insert(profile);
    }

    /// Takes what names this identity, too, if nothing behind the delete at `offset` caused it.
    /// `namespace` is in lower case.
    pub fn add_identity(&mut self, namespace: &str, id: &str, offset: u64) {
        let ids = self.identities.entry(namespace.to_owned()).or_default();
        let last = ids.entry(id.to_owned()).or_default();
        *last = offset.max(*last);
    }

    /// Notes that one of its deletes was appended at `at`.
    pub fn note_time(&mut self, at: Timestamp) {
        self.at = self.at.max(at);
    }

    /// When its last delete was appended.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// Whether what an endpoint answered to an export of `profile` must not be kept: it is of a profile
    /// that is erased, or holds an erased id, or nobody looks because there are too many ids.
    pub fn takes_answer(&self, profile: ProfileKey, answer: &[u8]) -> bool {
        if answer.is_empty() {
            return false;
        }
        let mut ids = self.identities.values().flat_map(BTreeMap::keys);
        self.profiles.contains(&profile)
            || self.identities.values().map(BTreeMap::len).sum::<usize>() > IDS_SOUGHT_MAX
            || ids.any(|id| {
                let quoted = quote(id);
                let spellings = [id, &quoted[1..quoted.len() - 1]];
                spellings.into_iter().any(|id| memmem::find(answer, id.as_bytes()).is_some())
            })
    }

    /// Whether it takes nothing.
    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty() && self.identities.is_empty()
    }

    /// The profiles whose number is enough.
    pub fn profiles(&self) -> impl Iterator<Item = ProfileKey> {
        self.profiles.iter().copied()
    }

    /// Whether it takes the export of `profile` that the entry at `offset` caused.
    pub fn takes(&self, profile: ProfileKey, offset: u64, payload: &[u8]) -> bool {
        self.profiles.contains(&profile) || self.names(offset, payload)
    }

    fn names(&self, offset: u64, payload: &[u8]) -> bool {
        if self.identities.is_empty() {
            return false;
        }
        let Some(start) = memmem::rfind(payload, MAP) else { return false };
        let payload = str::from_utf8(payload).expect("a payload is text");
        // From the brace that opens the map to the last but one: the last closes the payload.
        let (start, end) = (start + MAP.len() - 1, payload.len() - 1);
        let map =
            Document::parse_at(payload, start, end).expect("a payload ends with its identities");
        map.root(payload).entries().any(|(namespace, list)| {
            let Some(erased) = self.identities.get(&*namespace) else { return false };
            list.items()
                .filter_map(|item| item.get("id")?.as_str())
                .any(|id| erased.get(&*id).is_some_and(|delete| offset <= *delete))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(policy: u32, profile: u64) -> ProfileKey {
        ProfileKey { policy, profile }
    }

    #[test]
    fn an_export_is_taken_if_its_identity_map_names_who_was_erased() {
        let mut withdrawal = Withdrawal::default();
        for (namespace, id) in [("crmid", "c1"), ("email", "a\"b\\é\n"), ("identitymap", "i")] {
            withdrawal.add_identity(namespace, id, 7);
        }
        // (what it shows, attributes before the map, the map, whether it is taken)
        let cases = [
            ("the one", "", r#""crmid":[{"id":"c1"}]"#, true),
            ("another", "", r#""crmid":[{"id":"c2"}]"#, false),
            ("nobody", "", "", false),
            ("not the first", "", r#""ecid":[{"id":"x"}],"crmid":[{"id":"c2"},{"id":"c1"}]"#, true),
            ("more than its id", "", r#""crmid":[{"id":"c11"},{"id":"C1"}]"#, false),
            ("in another namespace", "", r#""email":[{"id":"c1"}]"#, false),
            ("as a namespace", "", r#""c1":[{"id":"crmid"}]"#, false),
            ("escaped", "", r#""email":[{"id":"a\"b\\é\n"}]"#, true),
            ("escaped in full", "", r#""email":[{"id":"a\u0022b\u005c\u00e9\u000a"}]"#, true),
            ("as a value", r#""v":"c1","#, r#""crmid":[{"id":"c2"}]"#, false),
            (
                "in a map that is an attribute",
                r#""v":{"identityMap":{"crmid":[{"id":"c1"}]}},"#,
                r#""crmid":[{"id":"c2"}]"#,
                false,
            ),
            (
                "in a text that looks like a map",
                r#""v":"\"identityMap\":{\"crmid\":[{\"id\":\"c1\"}]}}","#,
                r#""crmid":[{"id":"c2"}]"#,
                false,
            ),
            (
                "behind an id that looks like a map",
                "",
                r#""crmid":[{"id":"c1"},{"id":"\"identityMap\":{}"}]"#,
                true,
            ),
            (
                "in a namespace that is called like the map",
                "",
                r#""identitymap":[{"id":"i"}]"#,
                true,
            ),
        ];
        for (name, attributes, map, expected) in cases {
            let payload =
                format!(r#"{{{attributes}"segmentMembership":{{}},"identityMap":{{{map}}}}}"#);
            let taken = withdrawal.takes(key(0, 1), 3, payload.as_bytes());
            assert_eq!(taken, expected, "{name}: {payload}");
        }
    }

    #[test]
    fn who_comes_after_the_delete_is_somebody_new() {
        let mut withdrawal = Withdrawal::default();
        withdrawal.add_identity("crmid", "c1", 9);
        withdrawal.add_identity("crmid", "c1", 4);
        let payload = br#"{"segmentMembership":{},"identityMap":{"crmid":[{"id":"c1"}]}}"#;
        for (offset, expected) in [(0, true), (4, true), (9, true), (10, false)] {
            assert_eq!(withdrawal.takes(key(0, 1), offset, payload), expected, "{offset}");
        }
    }

    #[test]
    fn an_answer_is_taken_if_it_may_tell_who_was_erased() {
        let mut withdrawal = Withdrawal::default();
        withdrawal.add_profile(key(1, 5));
        withdrawal.add_identity("email", "a\"b", 9);
        // (what it shows, profile, answer, whether it is taken)
        let cases = [
            ("of the profile", key(1, 5), "busy", true),
            ("of another", key(0, 5), "busy", false),
            ("with the id", key(0, 5), "no a\"b", true),
            ("with the id in JSON", key(0, 5), r#"{"unknown":"a\"b"}"#, true),
            ("nothing to take", key(1, 5), "", false),
        ];
        for (name, profile, answer, expected) in cases {
            assert_eq!(withdrawal.takes_answer(profile, answer.as_bytes()), expected, "{name}");
        }
        for id in 0..IDS_SOUGHT_MAX {
            withdrawal.add_identity("crmid", &format!("c{id}"), 9);
        }
        assert!(withdrawal.takes_answer(key(0, 5), b"busy"), "too many to look for");
    }

    #[test]
    fn an_export_is_taken_by_the_number_of_its_profile() {
        let mut withdrawal = Withdrawal::default();
        assert!(withdrawal.is_empty());
        withdrawal.add_profile(key(1, 5));
        withdrawal.add_identity("crmid", "other", 9);
        let payload = br#"{"segmentMembership":{},"identityMap":{"crmid":[{"id":"c1"}]}}"#;
        for (profile, expected) in [(key(1, 5), true), (key(0, 5), false), (key(1, 6), false)] {
            assert_eq!(withdrawal.takes(profile, 3, payload), expected, "{profile:?}");
        }
        assert!(!withdrawal.is_empty());
    }
}
