//! A profile's audience memberships (`SPEC.md` §5).
//!
//! Only what differs from "never been in, and no clock will change that" takes room, so a profile
//! costs nothing for the audiences that do not concern it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// An audience by number. Numbers are given out in order of first definition and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AudienceNo(pub u32);

impl AudienceNo {
    /// The number as an index.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Whether a profile is in an audience, if it ever was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Was in, and left.
    Exited,
    /// In.
    Realized,
}

impl Status {
    /// The word of payloads and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Realized => "realized",
        }
    }
}

/// What is known of a profile in one audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Which audience.
    pub audience: AudienceNo,
    /// `None`: never in, or forgotten since; kept only for `changes_at`.
    pub status: Option<Status>,
    /// When the status last changed; meaningless without a status.
    pub since: Timestamp,
    /// When an upload last named the member; the epoch for rules.
    pub refreshed: Timestamp,
    /// The offset of the record that last named it. Many records share one `now`, so an import that
    /// ends asks for this, and not for the time.
    pub refreshed_by: u64,
    /// The next instant at which the clock alone may change it; [`Timestamp::MAX`]: never.
    pub changes_at: Timestamp,
}

impl Membership {
    /// Never been in.
    pub const fn absent(audience: AudienceNo) -> Self {
        Self {
            audience,
            status: None,
            since: Timestamp::EPOCH,
            refreshed: Timestamp::EPOCH,
            refreshed_by: 0,
            changes_at: Timestamp::MAX,
        }
    }

    /// Whether the profile is in the audience.
    pub fn is_realized(&self) -> bool {
        self.status == Some(Status::Realized)
    }

    fn says_nothing(&self) -> bool {
        self.status.is_none() && self.changes_at == Timestamp::MAX
    }

    /// The starting membership after a profile merge: realized if either was, else exited if either
    /// was, with the latest time among those with that status (`SPEC.md` §3).
    fn united(self, other: Self) -> Self {
        let (first, second) =
            if self.status >= other.status { (self, other) } else { (other, self) };
        if first.status != second.status {
            return first;
        }
        Self {
            since: first.since.max(second.since),
            refreshed: first.refreshed.max(second.refreshed),
            refreshed_by: first.refreshed_by.max(second.refreshed_by),
            changes_at: first.changes_at.min(second.changes_at),
            ..first
        }
    }
}

/// The memberships of one profile, ascending by audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memberships(Vec<Membership>);

impl Memberships {
    /// The membership in `audience`; absent if nothing is known.
    pub fn get(&self, audience: AudienceNo) -> Membership {
        self.position(audience).map_or(Membership::absent(audience), |at| self.0[at])
    }

    /// Replaces a membership; one that says nothing is removed.
    pub fn set(&mut self, membership: Membership) {
        match (self.position(membership.audience), membership.says_nothing()) {
            (Ok(at), true) => {
                self.0.remove(at);
            }
            (Ok(at), false) => self.0[at] = membership,
            (Err(_), true) => {}
            (Err(at), false) => self.0.insert(at, membership),
        }
    }

    /// All memberships of which something is known, ascending by audience.
    pub fn iter(&self) -> impl Iterator<Item = &Membership> {
        self.0.iter()
    }

    /// The next instant at which the clock alone may change any of them.
    pub fn next_change(&self) -> Timestamp {
        self.0.iter().map(|m| m.changes_at).min().unwrap_or(Timestamp::MAX)
    }

    /// Unites the memberships of two profiles that are one from now on.
    pub fn merge(&mut self, other: &Self) {
        for membership in &other.0 {
            self.set(self.get(membership.audience).united(*membership));
        }
    }

    fn position(&self, audience: AudienceNo) -> Result<usize, usize> {
        self.0.binary_search_by_key(&audience, |m| m.audience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(status: Option<Status>, since: i64, refreshed: i64) -> Membership {
        Membership {
            status,
            since: Timestamp::from_millis(since),
            refreshed: Timestamp::from_millis(refreshed),
            refreshed_by: refreshed.unsigned_abs(),
            ..Membership::absent(AudienceNo(1))
        }
    }

    #[test]
    fn a_merge_starts_from_the_strongest_status() {
        use Status::{Exited, Realized};
        // (what it shows, one, other, united)
        let cases = [
            (
                "realized beats exited",
                (Some(Realized), 1, 1),
                (Some(Exited), 9, 9),
                (Some(Realized), 1, 1),
            ),
            ("exited beats absent", (None, 0, 0), (Some(Exited), 3, 2), (Some(Exited), 3, 2)),
            (
                "of two realized the latest times",
                (Some(Realized), 5, 6),
                (Some(Realized), 4, 8),
                (Some(Realized), 5, 8),
            ),
            (
                "of two exited the latest time",
                (Some(Exited), 5, 0),
                (Some(Exited), 7, 0),
                (Some(Exited), 7, 0),
            ),
        ];
        for (name, one, other, expected) in cases {
            let of = |(status, since, refreshed)| membership(status, since, refreshed);
            for (a, b) in [(one, other), (other, one)] {
                let (mut left, mut right) = (Memberships::default(), Memberships::default());
                left.set(of(a));
                right.set(of(b));
                left.merge(&right);
                assert_eq!(left.get(AudienceNo(1)), of(expected), "{name}");
            }
        }
    }

    #[test]
    fn what_says_nothing_takes_no_room() {
        let mut memberships = Memberships::default();
        memberships.set(Membership::absent(AudienceNo(3)));
        assert_eq!(memberships.iter().count(), 0);
        let watched = Membership {
            changes_at: Timestamp::from_millis(7),
            ..Membership::absent(AudienceNo(3))
        };
        memberships.set(watched);
        assert_eq!(memberships.next_change(), Timestamp::from_millis(7));
        memberships.set(Membership::absent(AudienceNo(3)));
        assert_eq!(memberships, Memberships::default());
        assert_eq!(memberships.next_change(), Timestamp::MAX);
    }
}
