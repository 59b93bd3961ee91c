//! What the patterns of a set ask of single fields: each condition once, however many patterns ask it.
//!
//! A pattern without `$or` is a list of conditions, as long as the objects on the way to its fields are no
//! arrays' elements: then no two of them must hold of one element. Lists are numbers in one stretch of memory, and what
//! is asked by more than one pattern is answered once a message. Answers are kept in [`Answers`].

use std::collections::HashMap;
use std::ops::Range;

use super::ask::{Ask, Exact, Object, Test, Values};
use super::document::{Scalar, Value};

/// A field's node in the tree of a set's paths.
pub(super) type FieldId = u32;

/// The conditions of a set, and the lists of its patterns.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// Those before `shared` are in more than one list.
    all: Vec<Condition>,
    shared: u32,
    /// All lists, one behind the other.
    lists: Vec<u32>,
}

/// Where a pattern's list stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    start: u32,
    end: u32,
}

/// One of these must hold of a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Condition {
    field: FieldId,
    exact: Exact,
    tests: Box<[Test]>,
    /// Or there must be no value.
    or_absent: bool,
}

/// Conditions and lists while they are collected.
#[derive(Default)]
pub(super) struct Draft {
    numbers: HashMap<Condition, u32>,
    all: Vec<Condition>,
    uses: Vec<u32>,
    lists: Vec<u32>,
}

impl Draft {
    /// Adds what a pattern asks. `field` gives the node below a node for a name, and the first node is the top. What
    /// `known` asks is left out: who looks at the list knows that it holds. `None`: it cannot be a list.
    pub(super) fn add(
        &mut self,
        asked: &Object,
        known: Option<&Exact>,
        field: &mut dyn FnMut(FieldId, &str) -> FieldId,
    ) -> Option<List> {
        if has_or(asked) {
            return None;
        }
        let start = self.lists.len() as u32;
        self.fields(asked, 0, known, field);
        Some(List { start, end: self.lists.len() as u32 })
    }

    fn fields(
        &mut self,
        asked: &Object,
        at: FieldId,
        known: Option<&Exact>,
        field: &mut dyn FnMut(FieldId, &str) -> FieldId,
    ) {
        for one in &asked.fields {
            let node = field(at, &one.name);
            match &one.ask {
                Ask::Object(inner) => self.fields(inner, node, known, field),
                Ask::Values(values) if known.is_some_and(|k| std::ptr::eq(k, &values.exact)) => {}
                Ask::Values(values) => self.condition(node, values),
            }
        }
    }

    fn condition(&mut self, field: FieldId, values: &Values) {
        let condition = Condition {
            field,
            exact: values.exact.clone(),
            tests: values.tests.as_slice().into(),
            or_absent: values.absent.is_some(),
        };
        let next = self.all.len() as u32;
        let number = *self.numbers.entry(condition).or_insert_with_key(|condition| {
            self.all.push(condition.clone());
            self.uses.push(0);
            next
        });
        self.uses[number as usize] += 1;
        self.lists.push(number);
    }

    /// Puts the shared conditions first, in each list as well: they are answered already, mostly.
    pub(super) fn compile(mut self, lists: impl Iterator<Item = List>) -> Conditions {
        drop(std::mem::take(&mut self.numbers));
        let mut order: Vec<u32> = (0..self.all.len() as u32).collect();
        order.sort_by_key(|old| self.uses[*old as usize] < 2);
        let shared = self.uses.iter().filter(|uses| **uses > 1).count() as u32;
        let mut new_of = vec![0; order.len()];
        for (new, old) in (0..).zip(&order) {
            new_of[*old as usize] = new;
        }
        self.lists.iter_mut().for_each(|number| *number = new_of[*number as usize]);
        for list in lists {
            self.lists[list.range()].sort_unstable();
        }
        let mut by_old: Vec<Option<Condition>> = self.all.into_iter().map(Some).collect();
        let all = order.iter().filter_map(|old| by_old[*old as usize].take()).collect();
        Conditions { all, shared, lists: self.lists }
    }
}

fn has_or(asked: &Object) -> bool {
    let below = |ask: &Ask| matches!(ask, Ask::Object(inner) if has_or(inner));
    !asked.either.is_empty() || asked.fields.iter().any(|field| below(&field.ask))
}

impl List {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Conditions {
    /// Whether all of a list hold of the message whose values `answers` has.
    pub(super) fn hold(&self, list: List, root: Value<'_>, answers: &mut Answers) -> bool {
        self.lists[list.range()].iter().all(|number| {
            let condition = &self.all[*number as usize];
            match *number < self.shared {
                true => {
                    answers.of(*number, |values| condition.holds(values.at(condition.field, root)))
                }
                false => condition.holds(answers.values.at(condition.field, root)),
            }
        })
    }

    pub(super) fn shared(&self) -> usize {
        self.shared as usize
    }
}

impl Condition {
    fn holds(&self, value: Option<Value<'_>>) -> bool {
        let mut is_absent = true;
        for scalar in value.into_iter().flat_map(Value::spread).filter_map(Value::scalar) {
            if self.takes(scalar) {
                return true;
            }
            is_absent = false;
        }
        is_absent && self.or_absent
    }

    fn takes(&self, value: Scalar<'_>) -> bool {
        self.exact.holds(value) || self.tests.iter().any(|test| test.holds(value))
    }
}

/// What is known of one message while a set is asked about it: kept from one message to the next for its room alone.
#[derive(Debug, Default)]
pub struct Answers {
    values: Found,
    /// For each shared condition twice the message's number, and one more if it holds.
    answered: Vec<u32>,
}

/// Where the values of fields stand in the document.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The message's number.
    message: u32,
    /// For each field the message in which it was found last, and where.
    at: Vec<(u32, Range<u32>)>,
}

impl Answers {
    /// Nothing is known of the next message, of which a set of so many fields and shared conditions is asked.
    pub(super) fn next(&mut self, fields: usize, shared: usize) {
        let Answers { values, answered } = self;
        values.message += 1;
        if values.message > u32::MAX / 2 {
            values.message = 1;
            values.at.clear();
            answered.clear();
        }
        if values.at.len() < fields {
            values.at.resize(fields, (0, 0..0));
        }
        if answered.len() < shared {
            answered.resize(shared, 0);
        }
    }

    pub(super) fn values(&mut self) -> &mut Found {
        &mut self.values
    }

    fn of(&mut self, number: u32, ask: impl FnOnce(&Found) -> bool) -> bool {
        let (no, answer) = (self.values.message * 2, &mut self.answered[number as usize]);
        if *answer & !1 != no {
            *answer = no + u32::from(ask(&self.values));
        }
        *answer != no
    }
}

impl Found {
    /// Notes where a field's value stands; false if there was one already.
    pub(super) fn note(&mut self, field: FieldId, place: Range<u32>) -> bool {
        let noted = &mut self.at[field as usize];
        let is_first = noted.0 != self.message;
        *noted = (self.message, place);
        is_first
    }

    fn at<'a>(&self, field: FieldId, root: Value<'a>) -> Option<Value<'a>> {
        let (message, place) = &self.at[field as usize];
        if *message != self.message {
            return None;
        }
        root.within(place.start as usize..place.end as usize)
    }
}
