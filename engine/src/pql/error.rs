//! What is wrong with an expression, and where.

use std::ops::Range;

/// Why a text is no rule that forebay evaluates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PqlError {
    /// The bytes of the expression that the message is about; empty at the end of the text.
    pub span: Range<usize>,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// What to write instead, where there is something to say.
    pub help: Option<String>,
}

impl PqlError {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
