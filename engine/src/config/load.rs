//! Loads a configuration: from the path of a file to what holds.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use toml::de::DeTable;

use super::audience;
use super::audience_file;
use super::dataflow::{self, Referable};
use super::destination::{self, Destination};
use super::diagnostics::{Diagnostic, Diagnostics};
use super::identifier::Identifiers;
use super::merge_policy;
use super::report::Report;
use super::rules::{self, PqlCheck, PqlFacts};
use super::settings;
use super::source::{Place, Source};
use super::table::{Reader, Table};
use crate::clock::ClockKind;
use crate::definitions::Definitions;
use crate::deliver::settings::DataflowSettings;

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// What `now` means.
    pub clock: ClockKind,
    /// The part that is history, sorted.
    pub definitions: Definitions,
    /// The ids of all audiences, each after those that its rule names.
    pub audience_order: Vec<String>,
    /// Where exports go, in the order of the file.
    pub destinations: Vec<Destination>,
    /// How each dataflow's exports are sent, in the order of the file.
    pub dataflows: Vec<DataflowSettings>,
    /// Memory that profiles may take, in bytes; unlimited if absent.
    pub state_memory: Option<u64>,
    /// How long delivered exports are remembered.
    pub export_retention: Duration,
    /// What is allowed and probably not meant, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

impl Config {
    /// Loads a configuration without looking into its rules.
    ///
    /// For those who only need endpoints and settings; an engine starts with [`Config::load_with`].
    pub fn load(
        path: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Diagnostics> {
        Self::load_with(path, environment, &|_, _| Ok(PqlFacts::default()))
    }

    /// Loads a configuration whose rules `pql` can check. `environment` looks variables up.
    ///
    /// Files are read, nothing is written and no connection is made. The error has every fault that
    /// can be found in one run.
    pub fn load_with(
        path: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
        pql: &PqlCheck<'_>,
    ) -> Result<Self, Diagnostics> {
        let source = Source::read(path)?;
        let report = Report::default();
        let config =
            read(&Reader { source: Rc::clone(&source), environment, report: &report }, pql);
        let findings = report.finish();
        match config {
            Some(config) if findings.errors.is_empty() => {
                Ok(Self { warnings: findings.warnings, ..config })
            }
            _ => Err(Diagnostics(findings.errors)),
        }
    }

    /// The destination with this id.
    pub fn destination(&self, id: &str) -> Option<&Destination> {
        self.destinations.iter().find(|destination| destination.settings.id == id)
    }

    /// How the exports of the dataflow with this id are sent.
    pub fn dataflow(&self, id: &str) -> Option<&DataflowSettings> {
        self.dataflows.iter().find(|dataflow| dataflow.id == id)
    }
}

/// Reads the file. `None` if it is no TOML, else as much as was right.
fn read(reader: &Reader<'_>, pql: &PqlCheck<'_>) -> Option<Config> {
    let (document, faults) = DeTable::parse_recoverable(reader.source.text());
    for fault in &faults {
        let end = reader.source.text().len();
        let span = fault.span().unwrap_or(end..end);
        reader.report.error(&Place::new(&reader.source, span), fault.message());
    }
    if !faults.is_empty() {
        return None;
    }
    let mut top = Table::top(reader, document.get_ref());
    let settings = settings::settings(&mut top);
    let policies = merge_policy::merge_policies(&mut top);
    let mut audience_ids = Identifiers::of("audience");
    let mut drafts = audience::audiences(&mut top, &mut audience_ids, &policies);
    drafts.extend(audience_file::audiences(&mut top, &mut audience_ids, &policies));
    let audience_order = rules::check(&drafts, (&audience_ids, pql), reader.report);
    let (destinations, destination_ids) = destination::destinations(&mut top);
    let referable = Referable {
        audiences: &audience_ids,
        destination_ids: &destination_ids,
        destinations: &destinations,
    };
    let (dataflows, sending): (Vec<_>, Vec<_>) =
        dataflow::dataflows(&mut top, &referable).into_iter().unzip();
    top.finish();
    let definitions = Definitions {
        settings: settings.history,
        merge_policies: policies.policies,
        audiences: drafts.into_iter().map(|draft| draft.audience).collect(),
        dataflows,
    };
    Some(Config {
        path: reader.source.path().to_owned(),
        clock: settings.clock,
        definitions: definitions.sorted(),
        audience_order,
        destinations,
        dataflows: sending,
        state_memory: settings.state_memory,
        export_retention: settings.export_retention,
        warnings: Vec::new(),
    })
}
