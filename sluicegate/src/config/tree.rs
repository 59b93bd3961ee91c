//! The configuration before anything is known about its meaning: one tree, merged from the file,
//! the environment and the command line, in which every value remembers where it came from.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::integrations::Written;
use super::problem::{Origin, Problem};

/// Variables start with this; what follows is a key path with `__` between its parts.
pub(super) const ENV_PREFIX: &str = "SLUICEGATE_";
/// Read by the command line itself.
const RESERVED: [&str; 1] = ["SLUICEGATE_CONFIG"];
/// Set by Kubernetes in every pod beside a service named `sluicegate`.
const FOREIGN: [&str; 3] = ["SLUICEGATE_SERVICE_", "SLUICEGATE_PORT", "SLUICEGATE_CLIENT_"];

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// Where the key stands, which in a file is not where the value does.
    pub(super) key: Origin,
    pub(super) node: Node,
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Table(BTreeMap<String, Entry>),
    List(Vec<Entry>),
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    /// From the environment or the command line: whatever the key wants it to be.
    Text(String),
    /// What no key of ours can hold: an integer beyond 64 bits, say.
    Odd(String),
}

impl Node {
    /// The value in the words of an error.
    pub(super) fn describe(&self) -> String {
        match self {
            Node::Table(_) => "a table".to_owned(),
            Node::List(entries) => format!("a list of {}", entries.len()),
            Node::String(text) | Node::Text(text) => format!("{:?}", cut(text)),
            Node::Integer(number) => format!("the number {number}"),
            Node::Float(number) => format!("the number {number}"),
            Node::Boolean(value) => value.to_string(),
            Node::Datetime(text) => format!("the time {text}"),
            Node::Odd(text) => text.clone(),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// All layers, merged.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) root: BTreeMap<String, Entry>,
    /// `[[integrations]]`, which the processor reads with its own types.
    pub(super) integrations: Written,
}

impl Tree {
    /// Reads the file's text. Syntax errors become problems; what could be read is kept.
    pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Tree {
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = Origin::in_file(text, error.span().unwrap_or(0..0));
            problems.push(Problem::syntax(origin, error.message()));
        }
        let mut tree = Tree::default();
        for (key, value) in document.into_inner() {
            if key.get_ref() == "integrations" {
                tree.integrations = Written::read(value, |span| Origin::in_file(text, span));
                continue;
            }
            tree.root.insert(key.get_ref().to_string(), convert(text, &key.span(), value));
        }
        tree
    }

    /// Lays the environment over the tree.
    pub(super) fn overlay_env(
        &mut self,
        env: impl Iterator<Item = (String, String)>,
        problems: &mut Vec<Problem>,
    ) {
        // Sorted, so that the same environment gives the same errors in the same order.
        let variables: BTreeMap<_, _> =
            env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        for (name, value) in variables {
            let is_foreign = FOREIGN.iter().any(|prefix| name.starts_with(prefix));
            if RESERVED.contains(&name.as_str()) || (is_foreign && !name.contains("__")) {
                continue;
            }
            let path = name[ENV_PREFIX.len()..].to_ascii_lowercase();
            let origin = Origin::Env(name);
            if path == "integrations" || path.contains("__") {
                let parts: Vec<_> = path.split("__").collect();
                self.set(&parts, value, origin, problems);
            } else {
                let hint =
                    "two underscores stand between the parts of a key, as in SLUICEGATE_APP__NAME";
                problems.push(Problem::unknown_key(origin, &path, None).with_hint(hint));
            }
        }
    }

    /// Lays what the command line says over the tree: dotted paths.
    pub(super) fn overlay_flags(
        &mut self,
        flags: &[(String, String)],
        problems: &mut Vec<Problem>,
    ) {
        for (path, value) in flags {
            let parts: Vec<_> = path.split('.').collect();
            self.set(&parts, value.clone(), Origin::Flag(path.clone()), problems);
        }
    }

    fn set(&mut self, parts: &[&str], text: String, origin: Origin, problems: &mut Vec<Problem>) {
        let path = parts.join(".");
        if parts.iter().any(|part| part.is_empty()) {
            let allowed = "a key path such as app.name, without empty parts";
            problems.push(Problem::value(origin, &path, "an empty part".to_owned(), allowed));
            return;
        }
        if parts[0] == "integrations" {
            match (parts.len(), DeValue::parse(&text)) {
                (1, Ok(value)) => self.integrations = Written::read(value, |_| origin.clone()),
                _ => problems.push(Problem::value(
                    origin,
                    &path,
                    format!("{:?}", cut(&text)),
                    "all integrations at once, as a TOML list of tables; better in the file",
                )),
            }
            return;
        }
        if let Err((found, allowed)) = insert(&mut self.root, parts, text, &origin) {
            problems.push(Problem::value(origin, &path, found, allowed));
        }
    }
}

/// Sets the value at a path, making tables on the way.
fn insert(
    table: &mut BTreeMap<String, Entry>,
    parts: &[&str],
    text: String,
    origin: &Origin,
) -> Result<(), (String, &'static str)> {
    let [first, rest @ ..] = parts else { return Ok(()) };
    let new = |node| Entry { origin: origin.clone(), key: origin.clone(), node };
    if rest.is_empty() {
        table.insert((*first).to_owned(), new(Node::Text(text)));
        return Ok(());
    }
    // A number behind the first part counts the tables of a list: streams.0.name
    let is_list = rest[0].bytes().all(|b| b.is_ascii_digit());
    let empty = if is_list { Node::List(Vec::new()) } else { Node::Table(BTreeMap::new()) };
    let entry = table.entry((*first).to_owned()).or_insert_with(|| new(empty));
    match (&mut entry.node, is_list) {
        (Node::Table(inner), false) => insert(inner, rest, text, origin),
        (Node::List(entries), true) => insert_in_list(entries, rest, text, origin),
        (other, _) => Err((other.describe(), "a table where the path goes on")),
    }
}

fn insert_in_list(
    entries: &mut Vec<Entry>,
    parts: &[&str],
    text: String,
    origin: &Origin,
) -> Result<(), (String, &'static str)> {
    let (index, rest) = (parts[0].parse().unwrap_or(usize::MAX), &parts[1..]);
    if index > entries.len() || rest.is_empty() {
        let found = format!("the path {}", parts.join("."));
        return Err((found, "the number of a table that exists or is the next, and a key in it"));
    }
    if index == entries.len() {
        entries.push(Entry {
            origin: origin.clone(),
            key: origin.clone(),
            node: Node::Table(BTreeMap::new()),
        });
    }
    match &mut entries[index].node {
        Node::Table(inner) => insert(inner, rest, text, origin),
        other => Err((other.describe(), "a table where the path goes on")),
    }
}

fn convert(text: &str, key: &Range<usize>, value: Spanned<DeValue<'_>>) -> Entry {
    let span = value.span();
    let node = match value.into_inner() {
        DeValue::String(text) => Node::String(text.into_owned()),
        DeValue::Integer(number) => {
            match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => Node::Integer(number),
                Err(_) => Node::Odd(format!("the number {number}")),
            }
        }
        DeValue::Float(number) => match number.as_str().replace('_', "").parse() {
            Ok(number) => Node::Float(number),
            Err(_) => Node::Odd(format!("the number {number}")),
        },
        DeValue::Boolean(value) => Node::Boolean(value),
        DeValue::Datetime(time) => Node::Datetime(time.to_string()),
        DeValue::Array(values) => Node::List(
            values.into_iter().map(|value| convert(text, &value.span(), value)).collect(),
        ),
        DeValue::Table(table) => {
            let entry = |(key, value): (Spanned<_>, _)| {
                let span = key.span();
                let name: std::borrow::Cow<'_, str> = key.into_inner();
                (name.into_owned(), convert(text, &span, value))
            };
            Node::Table(table.into_iter().map(entry).collect())
        }
    };
    // A table's own span is its header or braces; its key says better where it is.
    let place = if matches!(node, Node::Table(_)) { key.clone() } else { span };
    Entry { origin: Origin::in_file(text, place), key: Origin::in_file(text, key.clone()), node }
}
