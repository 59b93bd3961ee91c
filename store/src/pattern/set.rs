//! [`PatternSet`]: many patterns, asked about a message together.
//!
//! Equal patterns are asked once. Each pattern has, where it can, *anchors*: exact values one of which
//! any message that it matches must hold at a certain path. The message is walked once along the tree
//! of all anchors' paths, and only the patterns whose anchors it holds, and those that have none, are asked. So
//! the cost follows the message and the patterns that nearly match, not the number of patterns.

use std::collections::{BTreeMap, HashMap};

use super::Pattern;
use super::ask::{Ask, Exact, Object};
use super::document::{Document, Plain, Scalar, Value};

/// Patterns, each with the numbers of those who asked by it.
#[derive(Debug, Default)]
pub struct PatternSet {
    patterns: Vec<Asked>,
    /// Patterns that are asked about every message: they have no anchors.
    unanchored: Vec<u32>,
    /// The first is the top of the message.
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Asked {
    pattern: Pattern,
    by: Vec<u32>,
}

/// A path of anchors.
#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    /// Bit `min(length, 63)` for every child's name: most names of a message are passed by on it.
    lengths: u64,
    texts: HashMap<Box<str>, Vec<u32>>,
    plain: HashMap<Plain, Vec<u32>>,
}

/// The exact values of one field, and the field's path.
struct Anchor<'p> {
    path: Vec<&'p str>,
    values: &'p Exact,
}

/// Anchors of one pattern, and how many patterns share them.
type Anchors<'p> = (usize, Vec<Anchor<'p>>);

/// How many patterns have a value at a path among what could be their anchors.
#[derive(Default)]
struct Popularity<'p>(HashMap<(Vec<&'p str>, Key<'p>), usize>);

#[derive(PartialEq, Eq, Hash)]
enum Key<'p> {
    Text(&'p str),
    Plain(Plain),
}

impl PatternSet {
    /// Compiles patterns; each comes with the number that [`matching`](Self::matching) gives for it.
    pub fn new(asked: impl IntoIterator<Item = (u32, Pattern)>) -> PatternSet {
        let mut by_json: BTreeMap<String, Asked> = BTreeMap::new();
        for (number, pattern) in asked {
            let json = pattern.as_json().to_owned();
            let one = by_json.entry(json).or_insert_with(|| Asked { pattern, by: Vec::new() });
            one.by.push(number);
        }
        let patterns: Vec<Asked> = by_json.into_values().collect();
        let mut popularity = Popularity::default();
        for Asked { pattern, .. } in &patterns {
            popularity.count(pattern.root(), &mut Vec::new());
        }
        let (mut nodes, mut unanchored) = (vec![Node::default()], Vec::new());
        for (id, Asked { pattern, .. }) in (0..).zip(&patterns) {
            match popularity.anchors(pattern.root(), &mut Vec::new()) {
                Some((_, anchors)) => anchors.iter().for_each(|a| add(&mut nodes, a, id)),
                None => unanchored.push(id),
            }
        }
        PatternSet { patterns, unanchored, nodes }
    }

    /// No pattern is in it.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Adds the numbers of all patterns that match to `found`, in no order.
    pub fn matching(&self, document: &Document<'_>, found: &mut Vec<u32>) {
        let first = found.len();
        found.extend_from_slice(&self.unanchored);
        if let Some(top) = self.nodes.first().filter(|top| top.lengths != 0) {
            self.walk(top, document.root(), found);
        }
        // What is behind `first` are patterns until here, and then the numbers of those that match.
        found[first..].sort_unstable();
        let candidates = dedup(found, first);
        for at in first..candidates {
            let asked = &self.patterns[found[at] as usize];
            if asked.pattern.matches(document) {
                found.extend_from_slice(&asked.by);
            }
        }
        found.drain(first..candidates);
    }

    /// No deeper than the paths of anchors.
    fn walk(&self, node: &Node, value: Value<'_>, found: &mut Vec<u32>) {
        for value in value.spread() {
            let hit = match value.scalar() {
                Some(Scalar::Text(text)) => node.texts.get(text),
                Some(Scalar::Plain(plain)) => node.plain.get(&plain),
                None => None,
            };
            found.extend(hit.into_iter().flatten());
            for (name, value) in value.members() {
                if node.lengths & length_bit(name) == 0 {
                    continue;
                }
                if let Some(child) = node.children.get(name) {
                    self.walk(&self.nodes[*child], value, found);
                }
            }
        }
    }
}

/// Removes repetitions behind `first` and what is left over behind them; where it ends now.
fn dedup(sorted: &mut Vec<u32>, first: usize) -> usize {
    let mut end = first;
    for at in first..sorted.len() {
        if at == first || sorted[at] != sorted[end - 1] {
            sorted[end] = sorted[at];
            end += 1;
        }
    }
    sorted.truncate(end);
    end
}

fn length_bit(name: &str) -> u64 {
    1 << name.len().min(63)
}

fn add(nodes: &mut Vec<Node>, anchor: &Anchor<'_>, id: u32) {
    let mut at = 0;
    for name in &anchor.path {
        let next = nodes.len();
        nodes[at].lengths |= length_bit(name);
        at = *nodes[at].children.entry((*name).into()).or_insert(next);
        if at == next {
            nodes.push(Node::default());
        }
    }
    for text in &anchor.values.texts {
        nodes[at].texts.entry(text.clone()).or_default().push(id);
    }
    for plain in &anchor.values.plain {
        nodes[at].plain.entry(*plain).or_default().push(id);
    }
}

impl<'p> Anchor<'p> {
    fn keys(&self) -> impl Iterator<Item = (Vec<&'p str>, Key<'p>)> {
        let texts = self.values.texts.iter().map(|text| Key::Text(text));
        let plain = self.values.plain.iter().map(|plain| Key::Plain(*plain));
        texts.chain(plain).map(|key| (self.path.clone(), key))
    }
}

impl<'p> Popularity<'p> {
    fn count(&mut self, object: &'p Object, path: &mut Vec<&'p str>) {
        for field in &object.fields {
            path.push(&field.name);
            match &field.ask {
                Ask::Object(inner) => self.count(inner, path),
                Ask::Values(values) if values.is_exact() => {
                    let anchor = Anchor { path: path.clone(), values: &values.exact };
                    anchor.keys().for_each(|key| *self.0.entry(key).or_default() += 1);
                }
                Ask::Values(_) => {}
            }
            path.pop();
        }
        object.either.iter().for_each(|or| self.count(or, path));
    }

    /// The anchors that the fewest patterns share, with how many do; `None` if there are none. One field's
    /// anchors are enough; of an `$or` each of its patterns needs some.
    fn anchors(&self, object: &'p Object, path: &mut Vec<&'p str>) -> Option<Anchors<'p>> {
        let mut best: Option<Anchors<'p>> = None;
        let mut take = |found: Option<Anchors<'p>>| {
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| found.0 < best.0)
            {
                best = Some(found);
            }
        };
        for field in &object.fields {
            path.push(&field.name);
            take(match &field.ask {
                Ask::Object(inner) => self.anchors(inner, path),
                Ask::Values(values) if values.is_exact() => {
                    let anchor = Anchor { path: path.clone(), values: &values.exact };
                    let sharing =
                        anchor.keys().map(|key| self.0.get(&key).copied().unwrap_or(0)).sum();
                    Some((sharing, vec![anchor]))
                }
                Ask::Values(_) => None,
            });
            path.pop();
        }
        if !object.either.is_empty() {
            take(together(object.either.iter().map(|or| self.anchors(or, path))));
        }
        best
    }
}

/// All of them together, or none if one is missing.
fn together<'p>(mut each: impl Iterator<Item = Option<Anchors<'p>>>) -> Option<Anchors<'p>> {
    each.try_fold((0, Vec::new()), |(sharing, mut all), one| {
        let (more, anchors) = one?;
        all.extend(anchors);
        Some((sharing + more, all))
    })
}
