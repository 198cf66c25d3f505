//! Reads the tables of a TOML file, each key by the type it must have.
//!
//! Every key that is asked for is known; what is left at [`Table::finish`] is an error. So the keys a
//! table may have stand in one place, the code that reads them. A value that is wrong is reported and
//! then treated as absent, so that reading goes on to the next error.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::quantity;
use super::report::Report;
use super::source::{Place, Source};
use super::suggestion::did_you_mean;

/// Looks up environment variables.
pub(super) type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What every table of one file is read with.
pub(super) struct Reader<'a> {
    /// The file.
    pub(super) source: Rc<Source>,
    /// Where `${env:NAME}` looks.
    pub(super) environment: &'a Environment<'a>,
    /// Where findings go.
    pub(super) report: &'a Report,
}

/// A value, and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    /// The value.
    pub(super) value: T,
    /// The value's text in the file, quotes included.
    pub(super) place: Place,
}

/// One table being read.
pub(super) struct Table<'a> {
    /// What it is read with.
    pub(super) reader: &'a Reader<'a>,
    /// Its header, or all of an inline table.
    pub(super) place: Place,
    name: &'static str,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The table at the top of a file.
    pub(super) fn top(reader: &'a Reader<'a>, entries: &'a DeTable<'a>) -> Self {
        let place = Place::new(&reader.source, 0..0);
        Self { reader, place, name: "the configuration", entries, known: Vec::new() }
    }

    /// Where findings go.
    pub(super) fn report(&self) -> &'a Report {
        self.reader.report
    }

    /// Whether the key is there, whatever it holds.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where the key's name stands, if it is there.
    pub(super) fn key_place(&self, key: &str) -> Option<Place> {
        self.entries.get_key_value(key).map(|(name, _)| self.at(name.span()))
    }

    /// Reads a key that must be there, with one of the methods below.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.report().error(&self.place, format!("{} needs `{key}`", self.name));
        }
        read(self, key)
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        let value = self.get(key)?;
        self.as_text(value)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(value, "`true` or `false`");
        }
        flag
    }

    /// A whole number in `range`.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.get(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(value, "a whole number");
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = range.into_inner();
            let message = format!("`{key}` is a whole number from {low} to {high}");
            self.report().error(&self.at(value.span()), message);
        }
        number
    }

    /// A duration in `range`, such as `"15s"`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = self.text(key)?;
        self.as_duration(key, &text, &range)
    }

    /// Several durations in `range`.
    pub(super) fn durations(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Vec<Duration>> {
        let texts = self.texts(key)?;
        texts.iter().map(|text| self.as_duration(key, text, &range)).collect()
    }

    /// A size in bytes, such as `"10GB"`.
    pub(super) fn size(&mut self, key: &'static str) -> Option<u64> {
        let text = self.text(key)?;
        match quantity::size(&text.value) {
            Ok(0) => self.report().error(&text.place, format!("`{key}` is at least 1B")),
            Ok(size) => return Some(size),
            Err(message) => self.report().error(&text.place, message),
        }
        None
    }

    /// One of a few words, each with what it stands for.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(key)?;
        self.as_choice(&text, words)
    }

    /// Several of a few words.
    pub(super) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<Vec<T>> {
        let texts = self.distinct_texts(key)?;
        Some(texts.iter().filter_map(|text| self.as_choice(text, words)).collect())
    }

    /// Several strings.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, "a list of strings");
            return None;
        };
        Some(array.iter().filter_map(|item| self.as_text(item)).collect())
    }

    /// Several strings, no two the same.
    pub(super) fn distinct_texts(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let mut distinct: Vec<Located<String>> = Vec::new();
        for text in self.texts(key)? {
            if distinct.iter().any(|other| other.value == text.value) {
                self.report().error(&text.place, format!("`{}` is listed twice", text.value));
            } else {
                distinct.push(text);
            }
        }
        Some(distinct)
    }

    /// A table below this one, called `name` in messages.
    pub(super) fn table(&mut self, key: &'static str, name: &'static str) -> Option<Table<'a>> {
        let value = self.get(key)?;
        let table = self.as_table(value, name);
        if table.is_none() {
            self.wrong_type(value, "a table");
        }
        table
    }

    /// The tables `[[key]]`, in the order of the file; none if there are none.
    pub(super) fn tables(&mut self, key: &'static str, name: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let help = Some(format!("each one starts with its own line `[[{key}]]`"));
            let message = format!("`{key}` is a list of tables, not {}", described(value));
            self.report().error_with_help(&self.at(value.span()), message, help);
            return Vec::new();
        };
        let tables = array.iter().filter_map(|item| {
            let table = self.as_table(item, name);
            if table.is_none() {
                self.wrong_type(item, "a table");
            }
            table
        });
        tables.collect()
    }

    /// The value under a key, whatever it is.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.entries.get(key)
    }

    /// All keys with their values in the order of the file, for tables whose keys are data.
    pub(super) fn entries(&self) -> Vec<(Located<String>, &'a Spanned<DeValue<'a>>)> {
        let entries = self.entries.iter().map(|(key, value)| {
            let place = self.at(key.span());
            (Located { value: key.get_ref().to_string(), place }, value)
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(key, _)| key.place.span().start);
        entries
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.entries() {
            if !self.known.contains(&key.value.as_str()) {
                let help = did_you_mean(&key.value, self.known.iter().copied());
                let message = format!("unknown key `{}` in {}", key.value, self.name);
                self.report().error_with_help(&key.place, message, help);
            }
        }
    }

    /// The stretch `span` of this table's file.
    pub(super) fn at(&self, span: std::ops::Range<usize>) -> Place {
        Place::new(&self.reader.source, span)
    }

    /// The string `value` is, or an error.
    pub(super) fn as_text(&self, value: &Spanned<DeValue<'_>>) -> Option<Located<String>> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, "a string");
            return None;
        };
        Some(Located { value: text.to_owned(), place: self.at(value.span()) })
    }

    /// Reports that `value` is not `expected`.
    pub(super) fn wrong_type(&self, value: &Spanned<DeValue<'_>>, expected: &str) {
        let message = format!("expected {expected}, found {}", described(value));
        self.report().error(&self.at(value.span()), message);
    }

    fn as_table(&self, value: &'a Spanned<DeValue<'a>>, name: &'static str) -> Option<Table<'a>> {
        let entries = value.get_ref().as_table()?;
        let place = self.at(value.span());
        Some(Table { reader: self.reader, place, name, entries, known: Vec::new() })
    }

    fn as_duration(
        &self,
        key: &str,
        text: &Located<String>,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        match quantity::duration(&text.value) {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(_) => {
                let low = quantity::duration_text(*range.start());
                let high = quantity::duration_text(*range.end());
                self.report().error(&text.place, format!("`{key}` is from {low} to {high}"));
            }
            Err(message) => self.report().error(&text.place, message),
        }
        None
    }

    fn as_choice<T: Copy>(&self, text: &Located<String>, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let names: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let message = format!("expected {}, found `{}`", names.join(" or "), text.value);
            let help = did_you_mean(&text.value, words.iter().map(|(word, _)| *word));
            self.report().error_with_help(&text.place, message, help);
        }
        found.map(|(_, meaning)| *meaning)
    }
}

/// What a value is, with its article.
fn described(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
