//! One audience in full: what `forebay audience show` answers.

use super::Engine;
use crate::check;
use crate::error::EngineError;
use crate::views::AudiencePage;

impl Engine {
    /// One audience, as the definitions in effect have it; `None` if there is none with this id.
    pub fn audience_page(&self, id: &str) -> Result<Option<AudiencePage>, EngineError> {
        let Some(audience) = self.audiences()?.into_iter().find(|audience| audience.id == id)
        else {
            return Ok(None);
        };
        let asked = id.to_owned();
        let (definitions, open_import) = self.ask(move |deriver| {
            (deriver.definitions().clone(), deriver.derivation.projection.imports().open(&asked))
        })?;
        // A change of the definitions between the two questions may have removed it.
        let Some(defined) = definitions.audience(id) else { return Ok(None) };
        let maps = |dataflow: &&crate::definitions::Dataflow| {
            dataflow.audiences.iter().any(|mapped| mapped == id)
        };
        Ok(Some(AudiencePage {
            audience,
            description: defined.description.clone(),
            plan: check::plan(&definitions, defined),
            dataflows: definitions.dataflows.iter().filter(maps).map(|d| d.id.clone()).collect(),
            open_import,
        }))
    }
}
