//! Progress bars: on stderr, and only when it is a terminal.
//!
//! The engine calls from its own threads and often; a bar redraws itself at most some 20 times a
//! second, so a call costs an atomic store. One bar is shown at a time, for the stage the engine is in.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use forebay_engine::engine::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::counted;

/// A stage whose end is known.
const BAR: &str = "{prefix:<12} {bar:32} {percent:>3}% {msg} {elapsed}";
/// A stage whose end is not known.
const SPINNER: &str = "{prefix:<12} {spinner} {msg} {elapsed}";

/// What the engine is busy with, as one bar.
pub(crate) struct Bars {
    bar: ProgressBar,
    stage: Mutex<Stage>,
}

/// What the bar stands for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Nothing,
    Replay,
    Input(String),
    Delivering,
}

impl Bars {
    /// A bar that shows nothing until the engine reports something.
    pub(crate) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        Self { bar, stage: Mutex::default() }
    }

    /// Removes the bar from the screen.
    pub(crate) fn clear(&self) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Nothing;
        self.bar.finish_and_clear();
    }

    /// Shows how far an input was sent to a running engine, which counts its records.
    pub(crate) fn sent(&self, name: &str, sent: u64, total: Option<u64>) {
        if self.bar.is_hidden() {
            return;
        }
        let template = if total.is_some() { BAR } else { SPINNER };
        self.enter(&Stage::Input(name.to_owned()), "sending", (template, total.unwrap_or(sent)));
        self.bar.set_length(total.unwrap_or(sent));
        self.bar.set_position(sent);
        self.bar.set_message(name.to_owned());
    }

    /// Prints a line to stderr without tearing the bar.
    pub(crate) fn tell(&self, line: &str) {
        self.bar.suspend(|| tell!("{line}"));
    }

    /// Shows `stage`, starting its bar anew if another one was shown.
    fn enter(&self, stage: &Stage, prefix: &str, (template, length): (&str, u64)) {
        let mut shown = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == *stage {
            return;
        }
        *shown = stage.clone();
        let style = ProgressStyle::with_template(template).expect("the templates are constants");
        self.bar.set_style(style);
        self.bar.set_prefix(prefix.to_owned());
        self.bar.set_message("");
        self.bar.set_length(length);
        self.bar.reset();
    }
}

impl Progress for Bars {
    fn replay(&self, done: u64, total: u64) {
        if self.bar.is_hidden() {
            return;
        }
        self.enter(&Stage::Replay, "replaying", (BAR, total));
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(format!("{done} of {}", counted(total, "entry")));
    }

    fn input(&self, name: &str, read: u64, total: Option<u64>, records: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let template = if total.is_some() { BAR } else { SPINNER };
        self.enter(&Stage::Input(name.to_owned()), "reading", (template, total.unwrap_or(read)));
        self.bar.set_length(total.unwrap_or(read));
        self.bar.set_position(read);
        self.bar.set_message(format!("{name}: {}", counted(records, "record")));
    }

    fn delivering(&self, waiting: u64) {
        if self.bar.is_hidden() {
            return;
        }
        self.enter(&Stage::Delivering, "delivering", (BAR, waiting));
        // The bar is as long as the most exports that were seen waiting.
        let most = self.bar.length().unwrap_or(0).max(waiting);
        self.bar.set_length(most);
        self.bar.set_position(most - waiting);
        self.bar.set_message(format!("{} to send", counted(waiting, "export")));
    }
}
