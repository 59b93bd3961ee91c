//! A condition on a message: one field and one test.
//!
//! Comparing is by value: a string with its escapes undone, a number by its magnitude. A
//! condition never converts between kinds: `equals = 1` does not match `"1"`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Pointer;

/// One condition: `{ pointer = "/type", equals = "order" }` or
/// `{ cloud_event = "type", prefix = "com.example." }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Condition {
    /// What is looked at.
    pub field: Field,
    /// What must hold.
    pub test: Test,
}

/// The field that a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A field anywhere in the message.
    Pointer(Pointer),
    /// An attribute of a CloudEvent in structured mode; never holds for a message that is not one
    /// (has no string `specversion`).
    CloudEvent(CloudEventAttribute),
}

/// The CloudEvents attributes that a condition can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloudEventAttribute {
    /// `type`: what happened.
    Type,
    /// `source`: where.
    Source,
    /// `subject`: to what.
    Subject,
}

/// What must hold of the field.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It equals this value.
    Equals(Scalar),
    /// It equals one of these values; at least one.
    In(Vec<Scalar>),
    /// It is a string that begins with this; not empty.
    Prefix(String),
    /// It is there (`true`; null counts as being there) or it is not (`false`).
    Exists(bool),
}

/// A value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other finite number.
    Float(f64),
    /// A string.
    String(String),
}

/// Why a condition in the configuration is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Not exactly one field.
    #[error(
        "a condition looks at exactly one field: `pointer` (like \"/type\") or `cloud_event` (\"type\", \"source\" or \"subject\"), but {found} given"
    )]
    Field {
        /// "none is" or "both are".
        found: &'static str,
    },
    /// Not exactly one test.
    #[error(
        "a condition makes exactly one test of `equals`, `in`, `prefix` and `exists`, but {found} are given"
    )]
    Test {
        /// How many there are.
        found: usize,
    },
    /// A test that no message can pass, or that every message passes.
    #[error("`{test}` must not be empty")]
    Empty {
        /// The test's key.
        test: &'static str,
    },
}

/// A condition as it stands in the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pointer: Option<Pointer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cloud_event: Option<CloudEventAttribute>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<Scalar>,
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<Scalar>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exists: Option<bool>,
}

impl TryFrom<Form> for Condition {
    type Error = ConditionError;

    fn try_from(form: Form) -> Result<Condition, ConditionError> {
        let field = match (form.pointer, form.cloud_event) {
            (Some(pointer), None) => Field::Pointer(pointer),
            (None, Some(attribute)) => Field::CloudEvent(attribute),
            (None, None) => return Err(ConditionError::Field { found: "none is" }),
            (Some(_), Some(_)) => return Err(ConditionError::Field { found: "both are" }),
        };
        let mut tests: Vec<Test> = [
            form.equals.map(Test::Equals),
            form.one_of.map(Test::In),
            form.prefix.map(Test::Prefix),
            form.exists.map(Test::Exists),
        ]
        .into_iter()
        .flatten()
        .collect();
        let test = match (tests.pop(), tests.len()) {
            (Some(test), 0) => test,
            (None, _) => return Err(ConditionError::Test { found: 0 }),
            (Some(_), others) => return Err(ConditionError::Test { found: others + 1 }),
        };
        match &test {
            Test::In(values) if values.is_empty() => Err(ConditionError::Empty { test: "in" }),
            Test::Prefix(p) if p.is_empty() => Err(ConditionError::Empty { test: "prefix" }),
            _ => Ok(Condition { field, test }),
        }
    }
}

impl From<Condition> for Form {
    fn from(condition: Condition) -> Form {
        let mut form = Form::default();
        match condition.field {
            Field::Pointer(pointer) => form.pointer = Some(pointer),
            Field::CloudEvent(attribute) => form.cloud_event = Some(attribute),
        }
        match condition.test {
            Test::Equals(value) => form.equals = Some(value),
            Test::In(values) => form.one_of = Some(values),
            Test::Prefix(prefix) => form.prefix = Some(prefix),
            Test::Exists(exists) => form.exists = Some(exists),
        }
        form
    }
}

/// A field's value as a message shows it. Numbers are their text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldValue<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(Cow<'a, str>),
    Array,
    Object,
}

impl FieldValue<'_> {
    /// The kind of value, as a sentence needs it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            FieldValue::Null => "null",
            FieldValue::Bool(_) => "a boolean",
            FieldValue::Number(_) => "a number",
            FieldValue::String(_) => "a string",
            FieldValue::Array => "an array",
            FieldValue::Object => "an object",
        }
    }
}

impl Test {
    /// Whether the test holds of a field's value; `None` for a field that is not there.
    pub(crate) fn holds(&self, value: Option<&FieldValue<'_>>) -> bool {
        match (self, value) {
            (Test::Exists(wanted), found) => *wanted == found.is_some(),
            (_, None) => false,
            (Test::Equals(wanted), Some(found)) => wanted.equals(found),
            (Test::In(wanted), Some(found)) => wanted.iter().any(|w| w.equals(found)),
            (Test::Prefix(prefix), Some(found)) => {
                matches!(found, FieldValue::String(s) if s.starts_with(prefix.as_str()))
            }
        }
    }
}

impl Scalar {
    fn equals(&self, found: &FieldValue<'_>) -> bool {
        match (self, found) {
            (Scalar::Bool(wanted), FieldValue::Bool(found)) => wanted == found,
            (Scalar::String(wanted), FieldValue::String(found)) => wanted == found,
            (Scalar::Integer(wanted), FieldValue::Number(text)) => match text.parse::<i64>() {
                Ok(found) => *wanted == found,
                // `1.0` and `1e0` are the number 1; beyond 2^53 only whole texts are compared.
                Err(_) => wanted.unsigned_abs() < 1 << 53 && number(text) == Some(*wanted as f64),
            },
            (Scalar::Float(wanted), FieldValue::Number(text)) => number(text) == Some(*wanted),
            _ => false,
        }
    }
}

/// The magnitude of a JSON number.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}
