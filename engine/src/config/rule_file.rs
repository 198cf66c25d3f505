//! A rule in a file of its own, beside any configuration: what is wrong with it, shown where.

use std::path::Path;

use super::diagnostics::Diagnostic;
use super::report::Report;
use super::rules::PqlFault;
use super::source::{Place, Source};

/// What is wrong with the rule that stands alone in the file at `path`.
pub fn fault_in(path: &Path, text: &str, fault: PqlFault) -> Diagnostic {
    let source = Source::new(path, text.to_owned());
    let report = Report::default();
    report.error_with_help(&Place::new(&source, fault.span), fault.message, fault.help);
    report.finish().errors.pop().expect("one was noted")
}
