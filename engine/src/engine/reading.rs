//! Reading inputs: on the caller's thread, parsed in parallel, handed to the appender.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::appender::{Append, Block};
use super::notice::Notice;
use super::tally::Tally;
use super::{Engine, Progress};
use crate::clock::{ClockKind, Timestamp};
use crate::error::EngineError;
use crate::input::{
    Input, InputError, LastLine, LineBlock, LineReader, Pace, Position, Resumed, canonical_source,
};
use crate::record::{AHEAD_MAX_MS, ParseRules, ParsedBlock, RecordRef, parse_lines};
use crate::views::{IngestSummary, RecordCounts};

/// Records older than this under the wall clock are history, most likely: a day and a half.
const OLD_INPUT_MS: i64 = 36 * 60 * 60 * 1000;

impl Engine {
    /// Reads a file from where it was accepted to its end. Returns when its records are accepted and
    /// derived; their counts.
    pub fn read_file(
        &self,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<RecordCounts, EngineError> {
        let known =
            canonical_source(path).ok().and_then(|source| self.positions().get(&source).cloned());
        let mut input = Input::resume(path, known.as_ref())?;
        let name = input.name().to_owned();
        self.tell_resumed(&name, input.resumed());
        let read = input.progress();
        let mut feed = self.feed(&name);
        while let Some(block) = input.next_block()? {
            let position = input.position_after(&block);
            if !feed.take(block, position)? {
                break;
            }
            progress.input(&name, read.read(), read.total(), feed.records);
        }
        if let Some(unfinished) = input.unfinished() {
            let line = unfinished.line;
            self.shared.notice(Notice::PartialLine { source: name, line });
        }
        Ok(feed.finish()?.records())
    }

    /// Reads everything that `input` holds; `name` stands in rejects as the source. Returns when its
    /// records are accepted and derived.
    pub fn read_stream(
        &self,
        name: &str,
        input: &mut dyn Read,
        progress: &dyn Progress,
    ) -> Result<IngestSummary, EngineError> {
        let failed =
            |source| EngineError::from(InputError::Io { source_name: name.to_owned(), source });
        let mut reader = LineReader::new(input, Pace::AsItComes, LastLine::Taken);
        let mut feed = self.feed(name);
        while let Some(block) = reader.next_block().map_err(failed)? {
            let read = block.end_byte;
            if !feed.take(block, None)? {
                break;
            }
            progress.input(name, read, None, feed.records);
        }
        let next_offset = self.store.log().next_offset().as_u64();
        Ok(feed.finish()?.ingest(next_offset))
    }

    /// Reads a file whole, whatever was read of it before.
    pub fn ingest_file(
        &self,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<IngestSummary, EngineError> {
        let mut input = Input::whole(path)?;
        let name = input.name().to_owned();
        let read = input.progress();
        let mut feed = self.feed(&name);
        while let Some(block) = input.next_block()? {
            if !feed.take(block, None)? {
                break;
            }
            progress.input(&name, read.read(), read.total(), feed.records);
        }
        let next_offset = self.store.log().next_offset().as_u64();
        Ok(feed.finish()?.ingest(next_offset))
    }

    /// A way to hand over the blocks of the input called `name`.
    pub(super) fn feed(&self, name: &str) -> Feed<'_> {
        let tally = self.tallies.lock().expect("no thread panics with this lock").begin();
        Feed { engine: self, source: name.into(), tally, records: 0, is_first: true }
    }

    fn positions(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, Position>> {
        self.positions.lock().expect("no thread panics with this lock")
    }

    fn tell_resumed(&self, name: &str, resumed: Resumed) {
        let source = name.to_owned();
        match resumed {
            Resumed::New => {}
            Resumed::GoesOn { byte, line } => {
                self.shared.notice(Notice::Resumed { source, line, byte });
            }
            Resumed::OtherBeginning => self.shared.notice(Notice::OtherBeginning { source }),
        }
    }

    fn tell_time(&self, name: &str, first: Timestamp) {
        let source = name.to_owned();
        match self.kind {
            ClockKind::Wall => {
                let now = self.clock.now();
                if first.plus_millis(OLD_INPUT_MS) < now {
                    self.shared.notice(Notice::OldInput { source, first: first.to_string() });
                }
            }
            ClockKind::Event => {
                let clock = self.now();
                if let Ok(clock) = clock
                    && first < clock.plus_millis(-AHEAD_MAX_MS)
                {
                    self.shared.notice(Notice::BehindClock {
                        source,
                        first: first.to_string(),
                        clock: clock.to_string(),
                    });
                }
            }
        }
    }
}

/// Hands the blocks of one input to the appender.
pub(super) struct Feed<'a> {
    engine: &'a Engine,
    source: Arc<str>,
    tally: Arc<Tally>,
    /// Records handed over so far.
    pub(super) records: u64,
    is_first: bool,
}

impl Feed<'_> {
    /// Parses a block and sends it on; whether reading should go on.
    fn take(&mut self, block: LineBlock, position: Option<Position>) -> Result<bool, EngineError> {
        self.engine.shared.check()?;
        let rules = self.engine.shared.parse_rules();
        let parsed = parse_lines(block, &rules);
        if self.is_first
            && let Some(first) = parsed.batch.iter().find_map(RecordRef::timestamp)
        {
            self.is_first = false;
            self.engine.tell_time(&self.source, first);
        }
        if let Some(position) = &position {
            self.engine.positions().insert(position.source.clone(), position.clone());
        }
        self.send(parsed, rules, position)
    }

    /// Sends on what was parsed by `rules`; whether reading should go on.
    pub(super) fn send(
        &mut self,
        parsed: ParsedBlock,
        rules: Arc<ParseRules>,
        position: Option<Position>,
    ) -> Result<bool, EngineError> {
        self.records += parsed.batch.len() as u64;
        self.tally.open();
        let block = Block {
            parsed,
            rules,
            position,
            source: Arc::clone(&self.source),
            tally: Arc::clone(&self.tally),
        };
        self.engine.append(Append::Block(Box::new(block)))?;
        Ok(!self.engine.shared.is_stopping())
    }

    /// Waits until everything sent on is derived.
    pub(super) fn finish(self) -> Result<Arc<Tally>, EngineError> {
        self.tally.wait(|| self.engine.shared.check().is_err());
        self.engine.shared.check()?;
        Ok(self.tally)
    }
}
