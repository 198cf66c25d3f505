//! Why a profile was exported, cause by cause: the mapped audiences and attributes behind each.

use crate::detect::Causes;
use crate::identity::ProfileId;
use crate::project::projection::Projection;
use crate::views::export::{CauseView, ChangesView};

/// A profile, a dataflow, and what is known of both.
type Asked<'a> = (&'a Projection, &'a str, &'a str, ProfileId);

/// The causes of an export of a profile whose step did these `changes`.
pub(super) fn causes(
    caused: Causes,
    changes: &ChangesView,
    (projection, dataflow, policy, profile): Asked<'_>,
) -> Vec<CauseView> {
    let asked = (projection, dataflow, policy, profile);
    let is_replay = caused.contains(Causes::REPLAY);
    let view = |name: &str| match name {
        "replay" => cause(name, "a dead letter was sent again as its profile was then".to_owned()),
        _ if is_replay => cause(name, "of the dead letter that was sent again".to_owned()),
        "segment" => segment(changes),
        "attribute" => attribute(changes, asked),
        "identity" => identity(changes),
        _ => backfill(asked),
    };
    caused.names().into_iter().map(view).map(told).collect()
}

/// A marked profile has the causes of all the steps that its one export stands for.
fn told(cause: CauseView) -> CauseView {
    if !cause.text.is_empty() {
        return cause;
    }
    let text = "in a later step, while the profile was only marked".to_owned();
    CauseView { text, ..cause }
}

fn cause(name: &str, text: String) -> CauseView {
    CauseView { cause: name.to_owned(), audiences: Vec::new(), attributes: Vec::new(), text }
}

fn segment(changes: &ChangesView) -> CauseView {
    let flipped = changes.memberships.iter().filter(|change| change.mapped);
    let flipped: Vec<_> = flipped.filter(|change| change.after.is_some()).collect();
    let words = flipped.iter().map(|change| {
        let status = change.after.as_ref().map_or("", |after| after.status.as_str());
        let how = if status == "realized" { "entered" } else { "left" };
        format!("{how} {}", change.audience)
    });
    CauseView {
        audiences: flipped.iter().map(|change| change.audience.clone()).collect(),
        ..cause("segment", words.collect::<Vec<_>>().join(", "))
    }
}

fn attribute(
    changes: &ChangesView,
    (projection, dataflow, policy, profile): Asked<'_>,
) -> CauseView {
    let look = projection.look(policy, profile);
    let planned = look.as_ref().and_then(|look| look.dataflow(dataflow));
    let mapped = planned.map_or(&[][..], |planned| &planned.interest.attributes);
    let is_touched = |path: &String| {
        changes.attributes.iter().any(|change| is_within(&change.path, path))
            || changes.attributes.iter().any(|change| is_within(path, &change.path))
    };
    let mapped = mapped.iter().map(|path| projection.paths().dotted(*path));
    let attributes: Vec<String> = mapped.filter(is_touched).collect();
    let text = match attributes.as_slice() {
        [] => String::new(),
        some => format!("wrote {}", some.join(", ")),
    };
    CauseView { attributes, ..cause("attribute", text) }
}

/// Whether a dotted path is another one, or lies below it.
fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn identity(changes: &ChangesView) -> CauseView {
    let mut words = Vec::new();
    if !changes.joined.is_empty() {
        let joined = changes.joined.iter().map(|i| format!("{} {}", i.namespace, i.id));
        words.push(format!("joined: {}", joined.collect::<Vec<_>>().join(", ")));
    }
    if !changes.dropped.is_empty() {
        let dropped = changes.dropped.iter().map(|i| format!("{} {}", i.namespace, i.id));
        words.push(format!("dropped: {}", dropped.collect::<Vec<_>>().join(", ")));
    }
    if !changes.merged.is_empty() {
        let merged = changes.merged.iter().map(u64::to_string);
        words.push(format!("merged with profile {}", merged.collect::<Vec<_>>().join(", ")));
    }
    cause("identity", words.join("; "))
}

fn backfill((projection, dataflow, policy, profile): Asked<'_>) -> CauseView {
    let Some(lane) = projection.backfill_of(dataflow, policy, profile) else {
        return cause("backfill", "the dataflow, or a mapping of it, was new".to_owned());
    };
    let audiences = &lane.purpose.audiences;
    let audiences: Vec<String> =
        audiences.iter().map(|audience| projection.catalog().id(*audience).to_owned()).collect();
    let text = format!(
        "{} newly mapped by the configuration at offset {}",
        audiences.join(", "),
        lane.opened_at()
    );
    CauseView { audiences, ..cause("backfill", text) }
}

#[cfg(test)]
mod tests {
    use super::is_within;

    #[test]
    fn a_path_lies_below_another_by_whole_segments() {
        // (path, other, whether it is it or lies below it)
        let cases = [
            ("person.name", "person.name", true),
            ("person.name.firstName", "person.name", true),
            ("person.names", "person.name", false),
            ("person", "person.name", false),
        ];
        for (path, other, expected) in cases {
            assert_eq!(is_within(path, other), expected, "{path} {other}");
        }
    }
}
