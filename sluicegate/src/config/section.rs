//! Reads one table of the tree key by key. Every key that is read is known, everything else in the
//! table is a problem; every value that is wrong is a problem, and its default is used to go on,
//! so that one run shows everything that is wrong.

mod named;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::context::{Context, Effective};
use super::problem::{Origin, Problem};
use super::suggest;
use super::tree::{Entry, Node};
use super::units::{self, Budget};

/// One table, half read.
pub(super) struct Section<'c> {
    path: String,
    entries: BTreeMap<String, Entry>,
    known: Vec<&'static str>,
    context: &'c mut Context,
}

/// The text of a leaf, if it can be text.
fn text_of(node: &Node) -> Option<&str> {
    match node {
        Node::String(text) | Node::Text(text) => Some(text),
        _ => None,
    }
}

fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

impl<'c> Section<'c> {
    pub(super) fn root(entries: BTreeMap<String, Entry>, context: &'c mut Context) -> Section<'c> {
        Section { path: String::new(), entries, known: Vec::new(), context }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.known.push(key);
        self.entries.remove(key)
    }

    fn note(&mut self, key: &'static str, value: Option<String>, origin: Origin) {
        let section = self.path.clone();
        self.context.effective.push(Effective { section, key, value, origin });
    }

    /// Adds a problem with a key that was read before.
    pub(super) fn refuse(&mut self, key: &str, found: impl Display, allowed: impl Display) {
        let origin = self.context.origin_of(&self.path, key);
        let path = self.path_of(key);
        self.context.problems.push(Problem::value(origin, &path, found.to_string(), allowed));
    }

    /// Adds that a key is missing.
    pub(super) fn missing(&mut self, key: &str, needed: impl Display) {
        let path = self.path_of(key);
        self.context.problems.push(Problem::missing(&path, needed));
    }

    /// Reads a leaf: `parse` says what is allowed when it refuses.
    fn read<T>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        parse: impl FnOnce(&Node) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (value, origin) = match self.take(key) {
            None => (default, Origin::Default),
            Some(entry) => match parse(&entry.node) {
                Ok(value) => (Some(value), entry.origin),
                Err(allowed) => {
                    let path = self.path_of(key);
                    let found = entry.node.describe();
                    self.context.problems.push(Problem::value(entry.origin, &path, found, allowed));
                    (default, Origin::Default)
                }
            },
        };
        self.note(key, value.as_ref().map(show), origin);
        value
    }

    /// A text that `parse` makes a value of.
    pub(super) fn parsed<T: Display + Clone>(
        &mut self,
        key: &'static str,
        default: T,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        self.optional_or(key, Some(default.clone()), allowed, parse).unwrap_or(default)
    }

    /// A text that `parse` makes a value of, or nothing.
    pub(super) fn optional<T: Display>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.optional_or(key, None, allowed, parse)
    }

    fn optional_or<T: Display>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let parse = |node: &Node| {
            let text = match node {
                Node::Datetime(text) => Some(text.as_str()),
                other => text_of(other),
            };
            text.and_then(parse).ok_or_else(|| allowed.to_owned())
        };
        self.read(key, default, parse, |value| quoted(value))
    }

    /// A list of texts, each made a value of; from the environment: separated by commas.
    pub(super) fn list<T: Clone>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Vec<T> {
        let item = |node: &Node| match node {
            Node::Integer(number) => parse(&number.to_string()),
            other => text_of(other).and_then(&parse),
        };
        let read = |node: &Node| {
            let list = match node {
                Node::List(entries) => entries.iter().map(|entry| item(&entry.node)).collect(),
                Node::Text(text) if text.trim().is_empty() => Some(Vec::new()),
                Node::Text(text) => text.split(',').map(|part| parse(part.trim())).collect(),
                _ => None,
            };
            list.ok_or_else(|| format!("a list, each item {allowed}"))
        };
        let show =
            |list: &Vec<T>| format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(", "));
        self.read(key, Some(default.clone()), read, show).unwrap_or(default)
    }

    /// One of several words.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&'static str, T)],
    ) -> T {
        let allowed = || {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            words.join(" or ")
        };
        let parse = |node: &Node| {
            let text = text_of(node).ok_or_else(allowed)?;
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
                .ok_or_else(allowed)
        };
        let show =
            |value: &T| quoted(words.iter().find(|(_, v)| v == value).map_or("", |(w, _)| w));
        self.read(key, Some(default), parse, show).unwrap_or(default)
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let parse = |node: &Node| match node {
            Node::Boolean(value) => Ok(*value),
            Node::Text(text) if text == "true" => Ok(true),
            Node::Text(text) if text == "false" => Ok(false),
            _ => Err("true or false".to_owned()),
        };
        self.read(key, Some(default), parse, bool::to_string).unwrap_or(default)
    }

    /// A whole number within a range.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let parse = |node: &Node| {
            let number = match node {
                Node::Integer(number) => Some(*number),
                Node::Text(text) => text.parse().ok(),
                _ => None,
            };
            let number = number.and_then(|number| T::try_from(number).ok());
            number
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
        };
        self.read(key, Some(default), parse, T::to_string).unwrap_or(default)
    }

    /// A duration within a range, such as `"10s"`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |node: &Node| {
            let duration = text_of(node).and_then(units::parse_duration);
            duration.filter(|duration| range.contains(duration)).ok_or_else(|| {
                let (low, high) = (range.start(), range.end());
                let (low, high) = (units::duration_text(*low), units::duration_text(*high));
                format!("a duration in ms, s, m, h or d, from {low:?} to {high:?}")
            })
        };
        let show = |duration: &Duration| quoted(units::duration_text(*duration));
        self.read(key, Some(default), parse, show).unwrap_or(default)
    }

    /// A number of bytes within a range, such as `"8MiB"`.
    pub(super) fn bytes<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + TryFrom<u64> + TryInto<u64>,
    {
        let text = |value: T| units::bytes_text(value.try_into().unwrap_or(u64::MAX));
        let parse = |node: &Node| {
            let bytes = match node {
                Node::Integer(number) => u64::try_from(*number).ok(),
                other => text_of(other).and_then(units::parse_bytes),
            };
            let bytes = bytes.and_then(|bytes| T::try_from(bytes).ok());
            bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
                let (low, high) = (text(*range.start()), text(*range.end()));
                format!("a size in B, KiB, MiB or GiB, from {low:?} to {high:?}")
            })
        };
        self.read(key, Some(default), parse, |value| quoted(text(*value))).unwrap_or(default)
    }

    /// Bytes or a share of the memory; bytes not below `least`.
    pub(super) fn budget(&mut self, key: &'static str, default: Budget, least: u64) -> Budget {
        let parse = |node: &Node| {
            let budget = text_of(node).and_then(Budget::parse);
            let is_enough =
                |budget: &Budget| !matches!(budget, Budget::Bytes(bytes) if *bytes < least);
            budget.filter(is_enough).ok_or_else(|| {
                let least = units::bytes_text(least);
                format!("a size such as \"256MiB\", at least {least:?}, or a share from \"1%\" to \"80%\"")
            })
        };
        self.read(key, Some(default), parse, |budget| quoted(budget.text())).unwrap_or(default)
    }

    /// A table within this one; an absent one is empty. `read` must not leave it unfinished.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let path = self.path_of(key);
        let entries = match self.take(key) {
            None => BTreeMap::new(),
            Some(Entry { node: Node::Table(entries), .. }) => entries,
            Some(entry) => {
                let allowed = format!("a table: [{path}]");
                let found = entry.node.describe();
                self.context.problems.push(Problem::value(entry.origin, &path, found, allowed));
                BTreeMap::new()
            }
        };
        self.sub(path, entries, read)
    }

    /// A list of tables.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let path = self.path_of(key);
        let entries = match self.take(key) {
            None => Vec::new(),
            Some(Entry { node: Node::List(entries), .. }) => entries,
            Some(entry) => vec![entry],
        };
        let mut values = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            match entry.node {
                Node::Table(table) => {
                    values.extend(self.sub(format!("{path}[{index}]"), table, &read))
                }
                other => {
                    let allowed = format!("a list of tables: [[{path}]]");
                    let problem = Problem::value(entry.origin, &path, other.describe(), allowed);
                    self.context.problems.push(problem);
                }
            }
        }
        values
    }

    fn sub<T>(
        &mut self,
        path: String,
        entries: BTreeMap<String, Entry>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section { path, entries, known: Vec::new(), context: self.context };
        let value = read(&mut section);
        section.finish();
        value
    }

    /// Takes a key's text and says nothing about it anywhere: for secrets.
    pub(super) fn secret_text(&mut self, key: &'static str) -> Option<(String, Origin)> {
        let entry = self.take(key)?;
        match (entry.node, entry.origin) {
            (Node::Text(text), origin @ Origin::Env(_)) => Some((text, origin)),
            (_, origin) => {
                let path = self.path_of(key);
                let text = format!(
                    "a secret stands in the environment ({}{}) or in a file that {path}_file names, nowhere else",
                    super::tree::ENV_PREFIX,
                    path.replace('.', "__").to_ascii_uppercase()
                );
                self.context.problems.push(Problem::message(origin, &path, text));
                None
            }
        }
    }

    /// Notes that a secret is set, without its value.
    pub(super) fn note_secret(&mut self, key: &'static str, origin: Origin) {
        self.note(key, None, origin);
    }

    /// Adds that a secret is too short or too long, and nothing more about it.
    pub(super) fn refuse_length(
        &mut self,
        key: &str,
        found: usize,
        allowed: RangeInclusive<usize>,
    ) {
        let origin = self.context.origin_of(&self.path, key);
        let (least, most) = (allowed.start(), allowed.end());
        let text = format!("found {found} bytes; allowed is {least} to {most} bytes");
        self.context.problems.push(Problem::message(origin, &self.path_of(key), text));
    }

    /// What is left is unknown.
    pub(super) fn finish(self) {
        for (key, entry) in self.entries {
            let path =
                if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let meant = suggest::closest(&key, self.known.iter().copied());
            let mut problem = Problem::unknown_key(entry.key, &path, meant);
            if meant.is_none() {
                problem = problem.with_hint(&format!("known are {}", self.known.join(", ")));
            }
            self.context.problems.push(problem);
        }
    }
}
