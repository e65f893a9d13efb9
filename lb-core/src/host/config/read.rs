//! Reading keys of one table: types, ranges and unknown keys, each mistake noted with its place.

use core::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problems, suggestion};

/// A value and the byte offset where it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    /// The value.
    pub value: T,
    /// Its byte offset.
    pub offset: usize,
}

/// One table of the file while it is read.
pub(super) struct Section<'a> {
    /// As people write it, for messages: `[[vip]]`.
    name: &'static str,
    table: &'a DeTable<'a>,
    /// Where the table begins.
    pub offset: usize,
}

impl<'a> Section<'a> {
    /// A table whose keys must all be among `known`; the others are noted at once.
    pub(super) fn new(
        name: &'static str,
        table: &'a DeTable<'a>,
        offset: usize,
        known: &[&str],
        problems: &mut Problems,
    ) -> Self {
        for key in table.keys() {
            let word: &str = key.get_ref();
            if !known.contains(&word) {
                let mend = suggestion(word, known);
                let list = known.join(", ");
                problems.add(
                    key.span().start,
                    format!("unknown key {word:?} in {name}; known keys: {list}{mend}"),
                );
            }
        }
        Self { name, table, offset }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    fn wrong_type(&self, key: &str, wanted: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        problems.add(value.span().start, format!("{key} in {} must be {wanted}, not {found}", self.name));
    }

    /// A string, if the key is there.
    pub(super) fn text(&self, key: &str, problems: &mut Problems) -> Option<At<&'a str>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { value: text.as_ref(), offset: value.span().start }),
            _ => {
                self.wrong_type(key, "a string in quotes", value, problems);
                None
            }
        }
    }

    /// Whether the key is there and its value a string.
    pub(super) fn is_text(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| matches!(value.get_ref(), DeValue::String(_)))
    }

    /// True or false, if the key is there.
    pub(super) fn boolean(&self, key: &str, problems: &mut Problems) -> Option<At<bool>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(At { value: *flag, offset: value.span().start }),
            _ => {
                self.wrong_type(key, "true or false without quotes", value, problems);
                None
            }
        }
    }

    /// A string that has to be there; the absence is noted with `example`.
    pub(super) fn required(&self, key: &str, example: &str, problems: &mut Problems) -> Option<At<&'a str>> {
        if self.value(key).is_none() {
            problems.add(self.offset, format!("{} has no {key}; add {key} = {example}", self.name));
        }
        self.text(key, problems)
    }

    /// A whole number of any size, if the key is there.
    pub(super) fn integer(&self, key: &str, problems: &mut Problems) -> Option<At<i64>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Integer(number) => {
                // Beyond 64 bits the sign is all that a range check needs.
                let beyond = if number.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
                let number = i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(beyond);
                Some(At { value: number, offset: value.span().start })
            }
            _ => {
                self.wrong_type(key, "a whole number without quotes", value, problems);
                None
            }
        }
    }

    /// A whole number within `range`, or `default` if the key is not there or its value was noted as a mistake.
    pub(super) fn number(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
        default: u32,
        problems: &mut Problems,
    ) -> u32 {
        let Some(At { value, offset }) = self.integer(key, problems) else { return default };
        if let Some(number) = u32::try_from(value).ok().filter(|number| range.contains(number)) {
            return number;
        }
        let (low, high) = (range.start(), range.end());
        problems.add(offset, format!("{key} = {value} in {} is outside {low}..={high}", self.name));
        default
    }

    /// One of the words of `choices`, or `default`.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
        default: T,
        problems: &mut Problems,
    ) -> At<T> {
        let Some(At { value, offset }) = self.text(key, problems) else {
            return At { value: default, offset: self.offset };
        };
        match pick(key, value, choices) {
            Ok(value) => At { value, offset },
            Err(message) => {
                problems.add(offset, message);
                At { value: default, offset }
            }
        }
    }

    /// A list of strings; absent is empty.
    pub(super) fn texts(&self, key: &str, problems: &mut Problems) -> Vec<At<&'a str>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, "a list of strings", value, problems);
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(At { value: text.as_ref(), offset: item.span().start }),
                _ => self.wrong_type(key, "a list of strings", item, problems),
            }
        }
        texts
    }

    /// A sub-table `[key]`, if it is there.
    pub(super) fn table(
        &self,
        key: &str,
        name: &'static str,
        known: &[&str],
        problems: &mut Problems,
    ) -> Option<Section<'a>> {
        let value = self.value(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(key, &format!("a table {name}"), value, problems);
            return None;
        };
        Some(Section::new(name, table, value.span().start, known, problems))
    }

    /// The tables `[[key]]`, in file order; absent is empty, and `None` means that it is something else (noted).
    pub(super) fn tables(
        &self,
        key: &str,
        name: &'static str,
        known: &[&str],
        problems: &mut Problems,
    ) -> Option<Vec<Section<'a>>> {
        let Some(value) = self.value(key) else { return Some(Vec::new()) };
        let wanted = format!("a list of tables, each begun by {name} with double brackets");
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, &wanted, value, problems);
            return None;
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(name, table, item.span().start, known, problems));
                }
                _ => self.wrong_type(key, &wanted, item, problems),
            }
        }
        Some(sections)
    }

    /// Whether the key is there, and where its value is.
    pub(super) fn has(&self, key: &str) -> Option<usize> {
        self.value(key).map(|value| value.span().start)
    }
}

/// Looks `word` up in `choices`; the message of a failure lists them.
pub(super) fn pick<T: Copy>(key: &str, word: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let list: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    Err(format!("{key} {word:?} is not known; choose {}{}", list.join(" or "), suggestion(word, &names)))
}
