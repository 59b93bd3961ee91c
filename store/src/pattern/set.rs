//! [`PatternSet`]: many patterns, asked about a message together.
//!
//! Equal patterns are asked once. Each pattern has, where it can, *anchors*: exact values one of which
//! any message that it matches must hold at a certain path. The message is walked once along the tree
//! of all paths that are asked for, and only the patterns whose anchors it holds, and those that have none, are asked: by
//! their [`Conditions`] where that is possible. So the cost follows the message and the patterns that nearly match, not
//! the number of patterns.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::Pattern;
use super::ask::{Ask, Exact, Object};
use super::conditions::{Answers, Conditions, Draft, FieldId, List};
use super::document::{Document, Plain, Scalar, Value};

/// Patterns, each with the numbers of those who asked by it.
#[derive(Debug, Default)]
pub struct PatternSet {
    patterns: Vec<Asked>,
    /// Who asked by them, one after the other.
    numbers: Vec<u32>,
    /// Patterns that are asked about every message: they have no anchors.
    unanchored: Vec<u32>,
    /// The first is the top of the message.
    nodes: Vec<Node>,
    conditions: Conditions,
}

#[derive(Debug)]
struct Asked {
    /// Its conditions but for its anchor; without them the pattern itself is asked.
    list: Option<List>,
    /// In the set's numbers.
    by: Range<u32>,
    pattern: Pattern,
}

/// A field that patterns ask for, or an object on the way to one.
#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, FieldId>,
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
        let mut by_json: BTreeMap<String, (Pattern, Vec<u32>)> = BTreeMap::new();
        for (number, pattern) in asked {
            let json = pattern.as_json().to_owned();
            by_json.entry(json).or_insert_with(|| (pattern, Vec::new())).1.push(number);
        }
        let mut popularity = Popularity::default();
        for (pattern, _) in by_json.values() {
            popularity.count(pattern.root(), &mut Vec::new());
        }
        let mut set = PatternSet { nodes: vec![Node::default()], ..PatternSet::default() };
        let mut draft = Draft::default();
        for (id, (pattern, by)) in (0..).zip(by_json.values()) {
            let anchors = popularity.anchors(pattern.root(), &mut Vec::new());
            let anchors = anchors.map(|(_, anchors)| anchors).unwrap_or_default();
            if anchors.is_empty() {
                set.unanchored.push(id);
            }
            anchors.iter().for_each(|anchor| add(&mut set.nodes, anchor, id));
            let known = anchors.first().map(|anchor| anchor.values);
            let mut field = |at, name: &str| child(&mut set.nodes, at, name);
            let list = draft.add(pattern.root(), known, &mut field);
            let start = set.numbers.len() as u32;
            set.numbers.extend(by);
            let by = start..set.numbers.len() as u32;
            set.patterns.push(Asked { list, by, pattern: pattern.clone() });
        }
        set.conditions = draft.compile(set.patterns.iter().filter_map(|asked| asked.list));
        set
    }

    /// No pattern is in it.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Adds the numbers of all patterns that match to `found`, in no order.
    pub fn matching(&self, document: &Document<'_>, answers: &mut Answers, found: &mut Vec<u32>) {
        if self.is_empty() {
            return;
        }
        let (first, root) = (found.len(), document.root());
        found.extend_from_slice(&self.unanchored);
        answers.next(self.nodes.len(), self.conditions.shared());
        let mut walk = Walk { set: self, root, answers, found, is_plain: true };
        walk.value(0, root);
        let is_plain = walk.is_plain;
        // What is behind `first` are patterns until here, and then the numbers of those that match.
        found[first..].sort_unstable();
        let candidates = dedup(found, first);
        for at in first..candidates {
            let asked = &self.patterns[found[at] as usize];
            let matches = match asked.list {
                Some(list) if is_plain => self.conditions.hold(list, root, answers),
                _ => asked.pattern.matches(document),
            };
            if matches {
                let by = asked.by.start as usize..asked.by.end as usize;
                found.extend_from_slice(&self.numbers[by]);
            }
        }
        found.drain(first..candidates);
    }
}

/// A message while it is walked.
struct Walk<'w, 'd> {
    set: &'w PatternSet,
    root: Value<'d>,
    answers: &'w mut Answers,
    found: &'w mut Vec<u32>,
    /// No array stands where an object was asked for, and no field comes twice: a condition has one value to ask.
    is_plain: bool,
}

impl Walk<'_, '_> {
    /// One value at a node, no deeper than what is asked for.
    fn value(&mut self, at: FieldId, value: Value<'_>) {
        let set = self.set;
        let node = &set.nodes[at as usize];
        self.is_plain &= self.answers.values().note(at, value.place_in(self.root))
            && (node.children.is_empty() || !value.is_array());
        for value in value.spread() {
            match value.scalar() {
                Some(scalar) => self.found.extend(node.anchored(scalar)),
                None => self.members(node, value),
            }
        }
    }

    fn members(&mut self, node: &Node, object: Value<'_>) {
        if node.children.is_empty() {
            return;
        }
        for (name, value) in object.members() {
            if node.lengths & length_bit(name) == 0 {
                continue;
            }
            if let Some(child) = node.children.get(name) {
                self.value(*child, value);
            }
        }
    }
}

impl Node {
    /// The patterns that have this value as an anchor here.
    fn anchored(&self, value: Scalar<'_>) -> &[u32] {
        let hit = match value {
            Scalar::Text(text) if !self.texts.is_empty() => self.texts.get(text),
            Scalar::Plain(plain) if !self.plain.is_empty() => self.plain.get(&plain),
            Scalar::Text(_) | Scalar::Plain(_) => None,
        };
        hit.map_or(&[], Vec::as_slice)
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

/// The node for a name below a node, made if there is none.
fn child(nodes: &mut Vec<Node>, at: FieldId, name: &str) -> FieldId {
    let next = nodes.len() as FieldId;
    let parent = &mut nodes[at as usize];
    parent.lengths |= length_bit(name);
    if let Some(child) = parent.children.get(name) {
        return *child;
    }
    parent.children.insert(name.into(), next);
    nodes.push(Node::default());
    next
}

fn add(nodes: &mut Vec<Node>, anchor: &Anchor<'_>, id: u32) {
    let at = anchor.path.iter().fold(0, |at, name| child(nodes, at, name)) as usize;
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
