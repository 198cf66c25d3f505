//! Importing an audience: a file becomes its whole membership (`SPEC.md` §5).
//!
//! A begin entry, one record a member, and an end entry go through the appender like everything else, so
//! their order among other records is that of the log. Only the end lets anybody leave: an import that is
//! cut off, by a signal, a crash, or a file that cannot be read to its end, has none, and a second run
//! completes it.

use std::io::Read;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::control::Control;
use super::{Engine, Progress};
use crate::definitions::{Audience, AudienceKind, Definitions};
use crate::error::EngineError;
use crate::input::InputError;
use crate::record::{MemberColumn, MemberList, MemberListError, ParseRules};
use crate::views::ImportSummary;

/// What is imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The upload audience.
    pub audience: String,
    /// The column of the file that holds the members' ids.
    pub column: String,
    /// The namespace of the ids.
    pub namespace: String,
    /// What the file is called in rejects and messages.
    pub source: String,
}

impl Import {
    /// Says what is wrong with a file that begins with `head`, before anything else is done.
    pub fn check_head(&self, head: &[u8]) -> Result<(), EngineError> {
        self.list(head).map(drop)
    }

    fn list<R: Read>(&self, input: R) -> Result<MemberList<R>, EngineError> {
        let column = MemberColumn {
            audience: &self.audience,
            column: &self.column,
            namespace: &self.namespace,
        };
        MemberList::open(input, &column).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: MemberListError) -> EngineError {
        let source_name = self.source.clone();
        match error {
            MemberListError::Io(source) => InputError::Io { source_name, source }.into(),
            MemberListError::Header(why) | MemberListError::Refused(why) => {
                EngineError::Usage(format!("cannot import {source_name}: {why}"))
            }
        }
    }
}

impl Engine {
    /// Makes the members that `input` (CSV) lists the whole membership of an upload audience. Returns
    /// when that is accepted and derived.
    ///
    /// # Errors
    ///
    /// - [`EngineError::Usage`] if there is no such upload audience or column: nothing was written.
    /// - [`EngineError::Interrupted`] if the engine was asked to stop, another import of the audience
    ///   began, or it stopped being an upload audience, before this one was complete: nobody left, members
    ///   read so far are in.
    pub fn import_audience(
        &self,
        import: &Import,
        input: &mut dyn Read,
        progress: &dyn Progress,
    ) -> Result<ImportSummary, EngineError> {
        let definitions = self.ask(|deriver| deriver.definitions().clone())?;
        check_audience(&definitions, &import.audience)?;
        let mut list = import.list(input)?;
        let audience = import.audience.clone();
        let begin = self.control(Control::ImportBegin { audience: audience.clone() })?.offset;
        let mut feed = self.feed(&import.source);
        loop {
            let rules = self.still_imported(&audience)?;
            let next = list.next_block(&rules).map_err(|error| import.failed(error))?;
            let Some(block) = next else { break };
            if !feed.send(block, rules, None)? {
                return Err(EngineError::Interrupted(format!(
                    "the import of `{audience}` was stopped before its end; nobody left it, and \
                     another import completes it"
                )));
            }
            progress.input(&import.source, list.read(), None, feed.records);
        }
        let next_offset = begin + 1;
        let records = feed.finish()?.ingest(next_offset);
        self.still_imported(&audience)?;
        let ended = self.control(Control::ImportEnd { audience: audience.clone(), begin })?;
        let Some(exited) = ended.exited else {
            self.still_imported(&audience)?;
            return Err(EngineError::Interrupted(format!(
                "another import of `{audience}` began, or its definition changed, before this one was \
                 complete; nobody left at the end of this one"
            )));
        };
        Ok(ImportSummary { records, exited })
    }

    /// What lines are checked against; an error if `audience` is no upload audience any more.
    fn still_imported(&self, audience: &str) -> Result<Arc<ParseRules>, EngineError> {
        let rules = self.shared.parse_rules();
        if rules.upload_audiences.contains(audience) {
            return Ok(rules);
        }
        Err(EngineError::Interrupted(format!(
            "`{audience}` stopped being an upload audience before its import was complete; nobody left \
             it at the end of this one. Define it again with type = \"upload\" and import again"
        )))
    }
}

/// An error that says which audiences can be imported, if `id` is none of them.
pub fn check_audience(definitions: &Definitions, id: &str) -> Result<(), EngineError> {
    let is_upload = |audience: &&Audience| matches!(audience.kind, AudienceKind::Upload { .. });
    if definitions.is_upload(id) {
        return Ok(());
    }
    let uploads: Vec<String> = definitions
        .audiences
        .iter()
        .filter(is_upload)
        .map(|audience| format!("`{}`", audience.id))
        .collect();
    let what = match definitions.audience(id) {
        Some(_) => format!("the members of audience `{id}` are decided by its rule"),
        None => format!("there is no audience `{id}`"),
    };
    let help = match uploads.as_slice() {
        [] => "there is no upload audience; configure one with type = \"upload\"".to_owned(),
        _ => format!("these can be imported: {}", uploads.join(", ")),
    };
    Err(EngineError::Usage(format!("{what}; {help}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(id: &str, kind: AudienceKind) -> Audience {
        Audience {
            id: id.to_owned(),
            name: id.to_owned(),
            description: String::new(),
            merge_policy: "default".to_owned(),
            kind,
        }
    }

    #[test]
    fn only_upload_audiences_can_be_imported() {
        let upload = |id| audience(id, AudienceKind::Upload { ttl_ms: 1 });
        let rule = |id| audience(id, AudienceKind::Rule { pql: "x".to_owned() });
        let of = |audiences| Definitions { audiences, ..Definitions::default() }.sorted();
        let all = of(vec![upload("vip"), rule("big"), upload("b")]);
        // (what it shows, the definitions, the audience, what is said)
        let cases = [
            ("an upload audience", &all, "vip", None),
            (
                "a rule",
                &all,
                "big",
                Some(
                    "the members of audience `big` are decided by its rule; these can be imported: `b`, `vip`",
                ),
            ),
            (
                "no audience",
                &all,
                "vips",
                Some("there is no audience `vips`; these can be imported: `b`, `vip`"),
            ),
            (
                "no upload audience",
                &of(vec![rule("big")]),
                "vip",
                Some(
                    "there is no audience `vip`; there is no upload audience; configure one with type = \"upload\"",
                ),
            ),
        ];
        for (name, definitions, id, expected) in cases {
            let said = check_audience(definitions, id).err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), expected, "{name}");
        }
    }
}
