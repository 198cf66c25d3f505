//! Checks the rules of all audiences together.
//!
//! The language itself is known elsewhere: a rule's text goes to a [`PqlCheck`], and what comes back
//! is put at its place in the file. What a single rule cannot know is checked here: that the
//! audiences it names are there, that they have the same merge policy, and that no rule depends on
//! itself (`SPEC.md` §5).

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::audience::AudienceDraft;
use super::identifier::Identifiers;
use super::report::Report;
use crate::definitions::AudienceKind;

/// Steps that a chain should not exceed.
const STEPS_ADVISED: usize = 3;

/// What the check of one rule's text finds out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PqlFacts {
    /// The audiences it names, each with the bytes of the text that name it.
    pub segments: Vec<(String, Range<usize>)>,
    /// Steps of its longest chain; 0 without one.
    pub chain_steps: usize,
}

/// What is wrong with one rule's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PqlFault {
    /// The bytes of the text that are meant.
    pub span: Range<usize>,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// What decides who is in the audience with an id; `None` if there is none.
pub type KindOf<'a> = dyn Fn(&str) -> Option<&'a AudienceKind> + 'a;

/// Checks the text of one rule, told what the audiences are that it may name.
pub type PqlCheck<'a> = dyn Fn(&str, &KindOf<'_>) -> Result<PqlFacts, PqlFault> + 'a;

/// Checks every rule and returns the ids of all audiences, each after those it depends on.
pub(super) fn check(
    drafts: &[AudienceDraft],
    (ids, pql): (&Identifiers, &PqlCheck<'_>),
    report: &Report,
) -> Vec<String> {
    let kind_of = |id: &str| {
        let named = drafts.iter().find(|other| other.audience.id == id)?;
        Some(&named.audience.kind)
    };
    let dependencies: Vec<Vec<usize>> = drafts
        .iter()
        .map(|draft| {
            let segments = check_rule(draft, (pql, &kind_of), report);
            let known = segments
                .iter()
                .filter_map(|segment| resolve(drafts, draft, (ids, segment), report));
            known.collect()
        })
        .collect();
    let order = order(&dependencies);
    if order.len() < drafts.len() {
        for (at, draft) in drafts.iter().enumerate() {
            if let Some(ring) = ring(&dependencies, at) {
                let names: Vec<&str> =
                    ring.iter().map(|&at| drafts[at].audience.id.as_str()).collect();
                let id = &draft.audience.id;
                let message = format!("audience `{id}` depends on itself: {}", names.join(" -> "));
                report.error(draft.rule.as_ref().map_or(&draft.place, |rule| &rule.place), message);
            }
        }
    }
    order.into_iter().map(|at| drafts[at].audience.id.clone()).collect()
}

/// The segments a rule names; a fault in it is reported.
fn check_rule(
    draft: &AudienceDraft,
    (pql, kind_of): (&PqlCheck<'_>, &KindOf<'_>),
    report: &Report,
) -> Vec<(String, Range<usize>)> {
    let Some(rule) = &draft.rule else { return Vec::new() };
    match pql(&rule.value, kind_of) {
        Ok(facts) => {
            if facts.chain_steps > STEPS_ADVISED {
                let message = format!(
                    "audience `{}`: a chain of {} sequential steps, more than the {STEPS_ADVISED} \
                     advised",
                    draft.audience.id, facts.chain_steps
                );
                report.warn(&rule.place, message, None);
            }
            facts.segments
        }
        Err(fault) => {
            let message = format!("audience `{}`: {}", draft.audience.id, fault.message);
            report.error_with_help(&rule.place.within(&fault.span), message, fault.help);
            Vec::new()
        }
    }
}

/// The audience that a rule names, if it may; else that is reported.
fn resolve(
    drafts: &[AudienceDraft],
    draft: &AudienceDraft,
    (ids, (id, span)): (&Identifiers, &(String, Range<usize>)),
    report: &Report,
) -> Option<usize> {
    let place = draft.rule.as_ref()?.place.within(span);
    let Some(at) = drafts.iter().position(|other| other.audience.id == *id) else {
        let message = format!("audience `{}`: there is no audience `{id}`", draft.audience.id);
        report.error_with_help(&place, message, ids.suggest(id));
        return None;
    };
    let (own, other) = (&draft.audience.merge_policy, &drafts[at].audience.merge_policy);
    if own != other {
        let message = format!("audience `{id}` has merge policy `{other}`, this one has `{own}`");
        let help = Some("a rule may name audiences of its own merge policy only".to_owned());
        report.error_with_help(&place, message, help);
        return None;
    }
    Some(at)
}

/// Every node that depends on no ring, each after those it depends on; among equals by number.
fn order(dependencies: &[Vec<usize>]) -> Vec<usize> {
    let mut dependents = vec![Vec::new(); dependencies.len()];
    let mut open: Vec<usize> = vec![0; dependencies.len()];
    for (at, needed) in dependencies.iter().enumerate() {
        open[at] = needed.len();
        for &other in needed {
            dependents[other].push(at);
        }
    }
    let mut ready: BTreeSet<usize> = (0..open.len()).filter(|&at| open[at] == 0).collect();
    let mut order = Vec::new();
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for &other in &dependents[at] {
            open[other] -= 1;
            if open[other] == 0 {
                ready.insert(other);
            }
        }
    }
    order
}

/// The shortest way from a node back to itself, both ends included.
fn ring(dependencies: &[Vec<usize>], start: usize) -> Option<Vec<usize>> {
    let mut came_from: Vec<Option<usize>> = vec![None; dependencies.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for &next in &dependencies[at] {
            if next == start {
                let mut ring = vec![start, at];
                while let Some(before) = came_from[ring[ring.len() - 1]] {
                    ring.push(before);
                }
                ring.reverse();
                return Some(ring);
            }
            if came_from[next].is_none() {
                came_from[next] = Some(at);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'a> = (&'a str, &'a [&'a [usize]], &'a [usize], &'a [Option<&'a [usize]>]);

    #[test]
    fn what_is_needed_comes_first_and_rings_are_found() {
        // (what it shows, who needs whom, the order, the ring of each)
        let cases: [Case; 6] = [
            ("nothing needed keeps the order", &[&[], &[], &[]], &[0, 1, 2], &[None, None, None]),
            ("a chain is turned around", &[&[1], &[2], &[]], &[2, 1, 0], &[None, None, None]),
            ("named twice is needed once", &[&[1, 1], &[]], &[1, 0], &[None, None]),
            ("a rule that names itself is a ring", &[&[0]], &[], &[Some(&[0, 0])]),
            (
                "two that name each other are one",
                &[&[1], &[0]],
                &[],
                &[Some(&[0, 1, 0]), Some(&[1, 0, 1])],
            ),
            (
                "what only leads to a ring is none",
                &[&[1], &[2], &[3], &[1], &[]],
                &[4],
                &[None, Some(&[1, 2, 3, 1]), Some(&[2, 3, 1, 2]), Some(&[3, 1, 2, 3]), None],
            ),
        ];
        for (name, needs, expected, rings) in cases {
            let needs: Vec<Vec<usize>> = needs.iter().map(|needed| needed.to_vec()).collect();
            assert_eq!(order(&needs), expected, "{name}");
            for (at, expected) in rings.iter().enumerate() {
                assert_eq!(ring(&needs, at).as_deref(), *expected, "{name}: {at}");
            }
        }
    }
}
