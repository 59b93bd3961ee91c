//! A compiled pattern, and how it is answered.
//!
//! A pattern's object is asked of one object of the message: all its fields must hold there, and one of
//! the objects of its `$or`. Where the message has an array, it is asked of each element by itself, so what
//! it asks is never pieced together from two elements. A field holds when one value there does; a value
//! is what is no object and no array. That a field is absent is asked of the whole message: no value
//! stands at its path, whichever elements the path goes through.
//!
//! The recursion goes no deeper than the pattern does.

use std::cell::Cell;

use super::document::{Plain, Scalar, Value};
use super::number::Range;
use super::text::TextTest;

/// What is asked of one object.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) fields: Vec<Field>,
    /// One of these must hold; empty when there is no `$or`.
    pub(super) either: Vec<Object>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) ask: Ask,
}

#[derive(Debug)]
pub(super) enum Ask {
    Object(Object),
    Values(Values),
}

/// Alternatives, one of which must hold.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) exact: Exact,
    pub(super) tests: Vec<Test>,
    /// That there is none is an alternative, too.
    pub(super) absent: Option<Absent>,
}

#[derive(Debug)]
pub(super) struct Absent {
    /// Its number within the pattern, below 64.
    pub(super) id: u8,
    /// From the top of the message.
    pub(super) path: Box<[Box<str>]>,
}

/// Values that are compared as a whole; both lists are sorted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(super) struct Exact {
    pub(super) texts: Vec<Box<str>>,
    pub(super) plain: Vec<Plain>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Test {
    Exists,
    Text(TextTest),
    Numeric(Range),
    AnythingBut(Exact),
    /// None of the tests holds; what is no string passes.
    AnythingButText(Vec<TextTest>),
}

impl Exact {
    pub(super) fn holds(&self, value: Scalar<'_>) -> bool {
        match value {
            Scalar::Text(text) => self.texts.binary_search_by(|t| (**t).cmp(text)).is_ok(),
            Scalar::Plain(plain) => self.plain.binary_search(&plain).is_ok(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len() + self.plain.len()
    }
}

impl Test {
    pub(super) fn holds(&self, value: Scalar<'_>) -> bool {
        match (self, value) {
            (Test::Exists, _) => true,
            (Test::Text(test), Scalar::Text(text)) => test.holds(text),
            (Test::Numeric(range), Scalar::Plain(Plain::Number(number))) => range.holds(number),
            (Test::Text(_) | Test::Numeric(_), _) => false,
            (Test::AnythingBut(exact), value) => !exact.holds(value),
            (Test::AnythingButText(tests), Scalar::Text(text)) => {
                !tests.iter().any(|test| test.holds(text))
            }
            (Test::AnythingButText(_), Scalar::Plain(_)) => true,
        }
    }
}

impl Values {
    fn hold(&self, value: Scalar<'_>) -> bool {
        self.exact.holds(value) || self.tests.iter().any(|test| test.holds(value))
    }

    /// Only certain values hold: nothing else can, and absence cannot.
    pub(super) fn is_exact(&self) -> bool {
        self.tests.is_empty() && self.absent.is_none()
    }
}

/// A message while one pattern is asked about it.
pub(super) struct Question<'a> {
    root: Value<'a>,
    /// Which absences are known, and which of them hold, by their number: each is looked for once, however
    /// many elements ask.
    absences: Cell<(u64, u64)>,
}

impl<'a> Question<'a> {
    pub(super) fn about(root: Value<'a>) -> Question<'a> {
        Question { root, absences: Cell::new((0, 0)) }
    }

    pub(super) fn holds(&self, pattern: &Object) -> bool {
        self.object(pattern, Some(self.root))
    }

    /// Asked of every object in `value`; of none at all when there is none.
    fn object(&self, asked: &Object, value: Option<Value<'a>>) -> bool {
        let mut objects =
            value.into_iter().flat_map(Value::spread).filter(|value| value.is_object()).peekable();
        if objects.peek().is_none() {
            return self.one(asked, None);
        }
        objects.any(|object| self.one(asked, Some(object)))
    }

    fn one(&self, asked: &Object, object: Option<Value<'a>>) -> bool {
        asked.fields.iter().all(|field| {
            let value = object.and_then(|object| object.member(&field.name));
            match &field.ask {
                Ask::Object(inner) => self.object(inner, value),
                Ask::Values(values) => self.values(values, value),
            }
        }) && (asked.either.is_empty() || asked.either.iter().any(|or| self.one(or, object)))
    }

    fn values(&self, asked: &Values, value: Option<Value<'a>>) -> bool {
        let mut scalars = value.into_iter().flat_map(Value::spread).filter_map(Value::scalar);
        scalars.any(|scalar| asked.hold(scalar))
            || asked.absent.as_ref().is_some_and(|absent| self.is_absent(absent))
    }

    fn is_absent(&self, absent: &Absent) -> bool {
        let (bit, (mut known, mut holding)) = (1 << absent.id, self.absences.get());
        if known & bit == 0 {
            known |= bit;
            if !any_value(self.root, &absent.path) {
                holding |= bit;
            }
            self.absences.set((known, holding));
        }
        holding & bit != 0
    }
}

fn any_value(at: Value<'_>, path: &[Box<str>]) -> bool {
    let Some((name, below)) = path.split_first() else {
        return at.spread().any(|value| value.scalar().is_some());
    };
    at.spread().any(|value| value.member(name).is_some_and(|value| any_value(value, below)))
}
