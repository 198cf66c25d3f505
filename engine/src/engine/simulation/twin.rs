//! A run that never crashed: the log of a world, derived once, in memory, as it grows.
//!
//! It is told of an entry only when that is acknowledged or was found after a crash, and sees each once.

use std::collections::BTreeMap;

use forebay_storage::Store;

use super::super::derivation::Derivation;
use super::super::profile_page::profile_view;
use super::super::replay::Replay;
use crate::clock::ClockKind;
use crate::config::Config;
use crate::project::projection::{DerivedExport, Erased, Outcome, Projection};

/// The run.
pub(super) struct Twin {
    pub(super) derivation: Derivation,
    /// The exports of each dataflow, in order.
    pub(super) exports: BTreeMap<String, Vec<DerivedExport>>,
    /// Whose exports may be missing.
    pub(super) erased: Vec<Erased>,
}

impl Twin {
    /// Knows all configurations that will come, so that it has seen all history for each.
    pub(super) fn new(kind: ClockKind, configs: &[Config]) -> Self {
        let coming = configs.iter().map(|config| config.definitions.clone()).collect();
        let projection = Projection::new(kind, coming).expect("the rules were checked");
        Self {
            derivation: Derivation::new(projection),
            exports: BTreeMap::new(),
            erased: Vec::new(),
        }
    }

    /// Derives the log of `store` up to `until`.
    pub(super) fn follow(&mut self, store: &Store, until: u64) {
        for played in Replay::new(store, self.derivation.next()..until) {
            let played = played.expect("the log can be read");
            let outcome = self.derivation.apply(&played, &|_| None, None);
            self.take(outcome.expect("the rules were checked"));
        }
    }

    fn take(&mut self, outcome: Outcome) {
        self.erased.extend(outcome.erased);
        for export in outcome.exports {
            self.exports.entry(export.dataflow.clone()).or_default().push(export);
        }
    }
}

/// Everything that can be asked of a projection, as text.
pub(super) fn knowledge(projection: &Projection, config: &Config) -> String {
    let mut all = format!("clock {}\n", projection.now());
    let policies = config.definitions.merge_policies.iter().map(|policy| Some(policy.id.as_str()));
    for policy in policies.chain([None]) {
        let Some(view) = projection.view(policy) else { continue };
        for id in view.ids() {
            let profile = profile_view(projection, view, id);
            let text = serde_json::to_string(&profile).expect("a view is JSON");
            all.push_str(&text);
            all.push('\n');
        }
    }
    all
}
