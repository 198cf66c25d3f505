//! `forebay dataflow`: how deliveries go.

use super::suggestion::check_known;
use crate::args::{Dataflow, Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, dataflow_page, dataflow_table, dataflow_tables};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{ask_once, confused};

/// Does `forebay dataflow …`.
pub(crate) fn run(command: &Dataflow, global: &Global) -> Result<Outcome, CliError> {
    let answer = ask_once(&global.data, &Question::Dataflows)?;
    let Answer::Dataflows(mut views) = answer else { return Err(confused(&answer)) };
    match command {
        Dataflow::List | Dataflow::Status { id: None } => {}
        Dataflow::Status { id: Some(id) } => {
            let known: Vec<_> = views.iter().map(|view| view.id.clone()).collect();
            check_known("dataflow", id, &known)?;
            views.retain(|view| view.id == *id);
        }
        Dataflow::Runs(_) => return Err(CliError::not_built("this command")),
    }
    match (command, global.output) {
        (_, Format::Json) => output::json_lines(&views)?,
        (_, Format::Text) if views.is_empty() => output::text("no dataflows are configured")?,
        (Dataflow::Status { id: Some(_) }, Format::Text) => {
            views.iter().try_for_each(|view| output::text(&dataflow_page(view)))?;
        }
        (Dataflow::Status { id: None }, Format::Text) => {
            output::text(&dataflow_tables(&views))?;
        }
        (_, Format::Text) => output::text(&dataflow_table(&views))?,
    }
    Ok(Outcome::Ok)
}
