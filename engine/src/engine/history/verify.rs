//! Verifying: the log is derived anew and compared with what the engine has (`SPEC.md` §10).
//!
//! ```text
//!  derive beside    almost to where the engine is
//!        │
//!  digest           of all that the engine has, between two of its jobs: one pass over the profiles
//!        │
//!  catch up         to just there, and digest that
//!        │
//!  compare          if they differ, both are looked at together, and the first difference is named
//! ```
//!
//! Sequence numbers of exports are not compared, nor profiles that are deleted: neither is derived
//! from the log alone.

use super::super::Engine;
use super::super::Progress;
use super::super::derivation::Derivation;
use super::super::deriver::Deriver;
use super::beside;
use crate::error::EngineError;
use crate::identity::ProfileId;
use crate::project::compare::{self, Difference, digest};
use crate::views::{DifferenceView, IdentityView, VerificationView};

impl Engine {
    /// Derives the whole log anew, beside the live work, and compares.
    ///
    /// Cost: a second set of profiles in memory, and the engine stands still for one pass over its
    /// profiles.
    pub fn verify(&self, progress: &dyn Progress) -> Result<VerificationView, EngineError> {
        let _turn = self.shared.log_turn();
        let begun = self.clock.moment();
        let (mut view, derived) = beside::at_low_priority(self, || self.compare(progress))?;
        let elapsed = self.clock.moment().since(begun);
        view.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        view.entries_per_second = per_second(view.next_offset, view.elapsed_ms);
        // A second set of profiles is large; the time to let it go is not part of the work.
        drop(derived);
        Ok(view)
    }

    fn compare(
        &self,
        progress: &dyn Progress,
    ) -> Result<(VerificationView, Box<Derivation>), EngineError> {
        let mut derived = beside::derive(self, progress)?;
        let (next, live) = self.ask(|deriver| {
            let derivation = &deriver.derivation;
            (derivation.next(), digest(&derivation.projection))
        })?;
        beside::follow(self, &mut derived, next)?;
        let anew = digest(&derived.projection);
        let profiles = anew.profiles();
        let mut view = VerificationView {
            equal: live == anew,
            next_offset: next,
            profiles,
            ..Default::default()
        };
        if !view.equal {
            let (found, kept) = self.ask(move |deriver| first_difference(deriver, derived))??;
            view.difference = Some(found);
            derived = kept;
        }
        Ok((view, derived))
    }
}

/// What differs first, on the deriver's own thread, so that both stand at the same offset.
fn first_difference(
    deriver: &mut Deriver,
    mut anew: Box<Derivation>,
) -> Result<(DifferenceView, Box<Derivation>), EngineError> {
    let next = deriver.derivation.next();
    anew.follow(&deriver.store, next, &|| true)?;
    let found = compare::first_difference(&deriver.derivation.projection, &anew.projection);
    let shown = found.map_or_else(|| gone(next), |difference| shown(next, difference));
    Ok((shown, anew))
}

fn shown(next_offset: u64, difference: Difference) -> DifferenceView {
    let Difference { profile, identities, field, one, other } = difference;
    let (merge_policy, profile) = profile.unzip();
    let identity = |(namespace, id)| IdentityView { namespace, id };
    DifferenceView {
        next_offset,
        merge_policy,
        profile: profile.map(ProfileId::as_u64),
        identities: identities.into_iter().map(identity).collect(),
        field,
        live: one,
        derived: other,
    }
}

/// There was one a moment ago, and what came since has set it right.
fn gone(next_offset: u64) -> DifferenceView {
    let field = "something that later entries have made equal again".to_owned();
    DifferenceView { next_offset, field, ..DifferenceView::default() }
}

/// How many of `count` there were in a second.
pub(super) fn per_second(count: u64, elapsed_ms: u64) -> u64 {
    count.saturating_mul(1000) / elapsed_ms.max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::check;
    use crate::clock::{SystemClock, Timestamp};
    use crate::engine::{Mode, Options};
    use crate::profile::attributes::Attributes;
    use crate::profile::membership::{AudienceNo, Membership, Status};
    use crate::profile::state::Profile;
    use crate::project::projection::Projection;

    struct Silent;

    impl Progress for Silent {
        fn replay(&self, _done: u64, _total: u64) {}
        fn input(&self, _name: &str, _read: u64, _total: Option<u64>, _records: u64) {}
        fn delivering(&self, _waiting: u64) {}
    }

    /// What damages a projection.
    type Damage = fn(&mut Projection, Membership);

    /// What it shows, the damage, the field that differs, what is there, what the log leads to.
    type Case = (&'static str, Damage, &'static str, Option<&'static str>, Option<&'static str>);

    /// The offset of the first record: the definitions stand before it.
    const ANA: ProfileId = ProfileId::from_offset(1);

    fn engine(directory: &std::path::Path) -> Engine {
        let path = directory.join("forebay.toml");
        let rule = "[[audience]]\nid = \"any\"\nname = \"Any\"\npql = 'n > 1'\n";
        std::fs::write(&path, format!("clock = \"event\"\n{rule}")).unwrap();
        let config = Some(check::load(&path, &|_| None).unwrap());
        let (data, clock) = (directory.join("data"), Arc::new(SystemClock::new()));
        let options = Options { data, config, mode: Mode::Derive, clock };
        let engine = Engine::open(options, &Silent).unwrap();
        let record = |id: &str, n: u64| {
            let who = format!("\"identityMap\":{{\"CRMID\":[{{\"id\":\"{id}\"}}]}}");
            format!("{{\"profile\":{{{who},\"n\":{n}}},\"timestamp\":\"2026-01-01T00:00:00Z\"}}\n")
        };
        let lines = [record("ana", 2), record("bob", 1)].concat();
        engine.read_stream("-", &mut lines.as_bytes(), &Silent).unwrap();
        engine
    }

    fn ana(projection: &mut Projection) -> &mut Profile {
        projection.profile_mut(ANA).expect("she is known")
    }

    #[test]
    fn what_is_damaged_is_named_and_a_rebuild_repairs_it() {
        let directory = tempfile::tempdir().unwrap();
        let engine = engine(directory.path());
        let exited = Membership {
            status: Some(Status::Exited),
            since: Timestamp::from_millis(7),
            ..Membership::absent(AudienceNo(0))
        };
        let cases: [Case; 5] = [
            (
                "an attribute",
                |p, _| ana(p).attributes = Attributes::default(),
                "attributes.n",
                None,
                Some("2"),
            ),
            (
                "a membership",
                |p, exited| ana(p).memberships.set(exited),
                "memberships.any",
                Some("exited since 1970-01-01T00:00:00.007Z"),
                Some("realized since 2026-01-01T00:00:00.000Z"),
            ),
            (
                "a missing membership",
                |p, _| ana(p).memberships.set(Membership::absent(AudienceNo(0))),
                "memberships.any",
                None,
                Some("realized since 2026-01-01T00:00:00.000Z"),
            ),
            (
                "identities",
                |p, _| ana(p).identities.clear(),
                "identities",
                Some(""),
                Some("crmid:ana"),
            ),
            (
                "the clock",
                |p, _| p.set_now(Timestamp::EPOCH),
                "clock",
                Some("1970-01-01T00:00:00.000Z"),
                Some("2026-01-01T00:00:00.000Z"),
            ),
        ];
        for (name, damage, field, live, derived) in cases {
            assert!(engine.verify(&Silent).unwrap().equal, "before {name}");
            engine.ask(move |d| damage(&mut d.derivation.projection, exited)).unwrap();
            let view = engine.verify(&Silent).unwrap();
            let found = view.difference.expect(name);
            assert!(!view.equal, "{name}");
            let values = (found.live.as_deref(), found.derived.as_deref());
            assert_eq!((found.field.as_str(), values), (field, (live, derived)), "{name}");
            assert_eq!(found.next_offset, 3, "{name}");
            let whose = (field != "clock").then_some(1);
            assert_eq!(found.profile, whose, "{name}");
            assert_eq!(engine.rebuild(&Silent).unwrap().next_offset, 3, "{name}");
        }
        assert!(engine.verify(&Silent).unwrap().equal, "all is repaired");
        engine.close().unwrap();
    }
}
