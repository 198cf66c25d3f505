//! What follows `forebay explain`.

use super::export_id;

/// `forebay explain`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["export", "profile"]))]
pub(crate) struct Explain {
    /// The export, by its id: the `webhook-id` of its request
    #[arg(value_name = "EXPORT_ID", conflicts_with_all = ["dataflow", "merge_policy"])]
    // One in 64 logs has ids that begin with a hyphen.
    #[arg(allow_hyphen_values = true, value_parser = export_id)]
    pub(crate) export: Option<String>,
    /// The profile that has this identity: why it is, or is not, exported to the dataflow
    #[arg(long, num_args = 2, value_names = ["NAMESPACE", "ID"], requires = "dataflow")]
    pub(crate) profile: Option<Vec<String>>,
    /// The dataflow
    #[arg(long, value_name = "ID", requires = "profile")]
    pub(crate) dataflow: Option<String>,
    /// The merge policy to see the profile under, if not the dataflow's
    #[arg(long, value_name = "ID", requires = "profile")]
    pub(crate) merge_policy: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;

    #[test]
    fn an_export_or_a_profile_and_a_dataflow_are_explained() {
        let cases = [
            ("explain --profile a b --dataflow c", true),
            ("explain --profile a b --dataflow c --merge-policy p", true),
            ("explain e1", true),
            ("explain -vr6-vr6-vr6-vr6-vr6-gAAAAAAAAAHZA", true),
            ("explain", false),
            ("explain -x", false),
            ("explain --profile a b", false),
            ("explain --profile a --dataflow c", false),
            ("explain e1 --dataflow c", false),
            ("explain e1 --profile a b --dataflow c", false),
        ];
        for (typed, understood) in cases {
            let parsed = Args::try_parse_from(["forebay"].into_iter().chain(typed.split(' ')));
            assert_eq!(parsed.is_ok(), understood, "{typed}: {parsed:?}");
        }
    }
}
