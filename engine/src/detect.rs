//! What makes an export: the causes of one step, for one dataflow (`SPEC.md` §6).
//!
//! Pure and small on purpose: given what a step did to a profile, and what a dataflow maps, it says
//! whether the profile is exported and why. Nothing here looks at a clock or at other profiles.

use crate::definitions::{SameValueWrites, Triggers};
use crate::profile::attributes::{Effect, Touched};
use crate::profile::membership::{AudienceNo, Memberships};
use crate::profile::path::{PathId, PathTable};

/// The reasons for an export, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Causes(u8);

impl Causes {
    /// No reason.
    pub const NONE: Self = Self(0);
    /// A mapped audience changed status.
    pub const SEGMENT: Self = Self(1);
    /// A mapped attribute was written.
    pub const ATTRIBUTE: Self = Self(2);
    /// The set of identities changed.
    pub const IDENTITY: Self = Self(4);
    /// The dataflow, or the mapping of an audience, is new.
    pub const BACKFILL: Self = Self(8);
    /// A dead letter was replayed with the profile as it is now.
    pub const REPLAY: Self = Self(16);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is no reason.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As stored with an export.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// The reverse of [`Causes::to_bits`].
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The words for them, as people and scripts read them.
    pub fn names(self) -> Vec<&'static str> {
        let named = [
            (Self::SEGMENT, "segment"),
            (Self::ATTRIBUTE, "attribute"),
            (Self::IDENTITY, "identity"),
            (Self::BACKFILL, "backfill"),
            (Self::REPLAY, "replay"),
        ];
        named.iter().filter(|(cause, _)| self.contains(*cause)).map(|(_, name)| *name).collect()
    }
}

impl From<Triggers> for Causes {
    fn from(triggers: Triggers) -> Self {
        let switched = [
            (triggers.segment, Self::SEGMENT),
            (triggers.attribute, Self::ATTRIBUTE),
            (triggers.identity, Self::IDENTITY),
        ];
        switched.iter().filter(|(on, _)| *on).fold(Self::NONE, |all, (_, cause)| all.with(*cause))
    }
}

/// What a dataflow reacts to, in one merge policy's view.
#[derive(Clone, Debug)]
pub struct Interest {
    /// Its mapped audiences of this view, ascending.
    pub audiences: Vec<AudienceNo>,
    /// Its mapped attributes.
    pub attributes: Vec<PathId>,
    /// The causes that are switched on.
    pub triggers: Causes,
    /// Whether writing the value that was there counts.
    pub same_value_writes: SameValueWrites,
}

/// What one step did to a profile.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// The audiences whose status changed.
    pub flipped: &'a [AudienceNo],
    /// The attribute paths that the record touched.
    pub touched: &'a [Touched],
    /// Whether the set of identities changed, other than by the profile's first appearance.
    pub identities_changed: bool,
}

impl Interest {
    /// Why the profile is exported after the step; empty: it is not. `memberships` are those after
    /// the step.
    pub fn causes(
        &self,
        happened: &Happened<'_>,
        memberships: &Memberships,
        paths: &PathTable,
    ) -> Causes {
        let mut causes = Causes::NONE;
        if happened.flipped.iter().any(|audience| self.maps(*audience)) {
            causes = causes.with(Causes::SEGMENT);
        }
        if happened.touched.iter().any(|touched| self.counts(*touched, paths)) {
            causes = causes.with(Causes::ATTRIBUTE);
        }
        if happened.identities_changed {
            causes = causes.with(Causes::IDENTITY);
        }
        causes = causes.only(self.triggers);
        if causes.contains(Causes::SEGMENT) || causes.is_empty() || self.has_member(memberships) {
            causes
        } else {
            Causes::NONE
        }
    }

    /// Whether a profile with these memberships is in at least one mapped audience.
    pub fn has_member(&self, memberships: &Memberships) -> bool {
        self.audiences.iter().any(|audience| memberships.get(*audience).is_realized())
    }

    /// Whether `audience` is mapped.
    pub fn maps(&self, audience: AudienceNo) -> bool {
        self.audiences.binary_search(&audience).is_ok()
    }

    fn counts(&self, touched: Touched, paths: &PathTable) -> bool {
        let is_write = match touched.effect {
            Effect::Changed | Effect::Covered => true,
            Effect::Same => self.same_value_writes == SameValueWrites::Export,
        };
        is_write && self.attributes.iter().any(|mapped| paths.is_within(touched.path, *mapped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::membership::{Membership, Status};

    #[test]
    fn causes_are_named_in_one_order() {
        assert_eq!(Causes::NONE.names(), [""; 0]);
        let replayed = Causes::from_bits(16 | 2);
        assert_eq!(replayed, Causes::REPLAY.with(Causes::ATTRIBUTE));
        assert_eq!(replayed.names(), ["attribute", "replay"]);
    }

    #[test]
    fn a_step_exports_for_the_causes_that_the_dataflow_asks_for() {
        let mut paths = PathTable::default();
        let (name, first, tier) = (
            paths.intern("person.name"),
            paths.intern("person.name.firstName"),
            paths.intern("loyalty.tier"),
        );
        let (mapped, other) = (AudienceNo(1), AudienceNo(2));
        let interest = |triggers, same_value_writes| Interest {
            audiences: vec![mapped],
            attributes: vec![name],
            triggers,
            same_value_writes,
        };
        let all = Causes::SEGMENT.with(Causes::ATTRIBUTE).with(Causes::IDENTITY);
        let usual = interest(all, SameValueWrites::Export);
        let strict = interest(all, SameValueWrites::Ignore);
        let segment_only = interest(Causes::SEGMENT, SameValueWrites::Export);
        let mut member = Memberships::default();
        member.set(Membership { status: Some(Status::Realized), ..Membership::absent(mapped) });
        let stranger = Memberships::default();
        let touched = |path, effect| [Touched { path, effect }];
        let (written, same, unmapped) = (
            touched(first, Effect::Changed),
            touched(name, Effect::Same),
            touched(tier, Effect::Changed),
        );

        // (what it shows, dataflow, flipped, touched, identities changed, memberships, causes)
        let cases = [
            ("a mapped flip", &usual, &[mapped][..], &[][..], false, &stranger, Causes::SEGMENT),
            ("an unmapped flip", &usual, &[other], &[], false, &member, Causes::NONE),
            (
                "a write below a mapped path",
                &usual,
                &[],
                &written,
                false,
                &member,
                Causes::ATTRIBUTE,
            ),
            ("a write to another path", &usual, &[], &unmapped, false, &member, Causes::NONE),
            (
                "a write outside all mapped audiences",
                &usual,
                &[],
                &written,
                false,
                &stranger,
                Causes::NONE,
            ),
            ("the same value counts", &usual, &[], &same, false, &member, Causes::ATTRIBUTE),
            ("unless it is ignored", &strict, &[], &same, false, &member, Causes::NONE),
            ("a new identity", &usual, &[], &[], true, &member, Causes::IDENTITY),
            ("a trigger switched off", &segment_only, &[], &written, true, &member, Causes::NONE),
            (
                "an exit with a write",
                &usual,
                &[mapped],
                &written,
                false,
                &stranger,
                Causes::SEGMENT.with(Causes::ATTRIBUTE),
            ),
        ];
        for (name, dataflow, flipped, touched, identities_changed, memberships, expected) in cases {
            let happened = Happened { flipped, touched, identities_changed };
            assert_eq!(dataflow.causes(&happened, memberships, &paths), expected, "{name}");
        }
    }
}
