//! From JSON to what is asked: every part checked, every refusal with its place.

use super::ask::{Absent, Ask, Exact, Field, Object, Test, Values};
use super::document::{Plain, Reader, Scalar, Value};
use super::error::PatternError;
use super::number::{Bound, Number, Range};
use super::text::{TextTest, Wildcard, lower};
use super::{MAX_PATTERN_ALTERNATIVES, MAX_PATTERN_BYTES, MAX_PATTERN_DEPTH, MAX_PATTERN_FIELDS};
use crate::identity::shown;

type Result<T> = std::result::Result<T, PatternError>;

const OBJECT: &str =
    "an object of at least one field is allowed, like {\"type\": [\"earthquake\"]}";
const FIELD: &str =
    "an array of alternatives is allowed, or an object that asks for fields inside this one";
const ALTERNATIVE: &str =
    "a string, a number, true, false, null or an object of one operator is allowed";
const OPERATOR: &str = "the operators are prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric and exists";
const STRING: &str = "a string is allowed";
const ANY_CASE: &str = "a string is allowed, or {\"equals-ignore-case\": a string}";
const BUT: &str = "a string, a number, true, false, null, an array of those, or an object of prefix, suffix, equals-ignore-case or wildcard is allowed";
const BUT_TEXT: &str = "one of prefix, suffix, equals-ignore-case and wildcard, with a string or an array of strings, is allowed";
const NUMERIC: &str = "one or two comparisons are allowed, like [\">\", 0, \"<=\", 5]: one of =, <, <=, > and >=, then a number";
const NUMERIC_TWO: &str =
    "two comparisons must bound from below and from above, with numbers in between";
const OR: &str = "an array of at least two patterns is allowed";

pub(super) fn parse(json: &str) -> Result<Object> {
    at_most("bytes", json.len(), MAX_PATTERN_BYTES)?;
    let mut reader = Reader::default();
    let document = reader
        .read(json.as_bytes())
        .map_err(|unreadable| PatternError::NotJson { detail: unreadable.detail })?;
    Parser::default().object(document.root())
}

fn at_most(what: &'static str, found: usize, max: usize) -> Result<()> {
    if found <= max { Ok(()) } else { Err(PatternError::TooLarge { what, found, max }) }
}

/// A pattern that is being parsed.
#[derive(Default)]
struct Parser {
    /// Where in the pattern, by reference tokens.
    at: Vec<String>,
    /// The field of the message that is asked for here.
    path: Vec<Box<str>>,
    depth: usize,
    fields: usize,
    alternatives: usize,
}

impl Parser {
    fn object(&mut self, value: Value<'_>) -> Result<Object> {
        self.depth += 1;
        at_most("levels", self.depth, MAX_PATTERN_DEPTH)?;
        let mut object = Object::default();
        for (name, value) in value.members() {
            let is_or = name == "$or";
            let is_twice = object.fields.iter().any(|field| &*field.name == name)
                || (is_or && !object.either.is_empty());
            self.within(name, |parser| {
                if is_twice {
                    return parser.refuse("this field twice", "each field once is allowed");
                }
                if is_or {
                    object.either = parser.either(value)?;
                } else {
                    object.fields.push(parser.field(name, value)?);
                }
                Ok(())
            })?;
        }
        if object.fields.is_empty() && object.either.is_empty() {
            return self.refuse_value(value, OBJECT);
        }
        self.depth -= 1;
        Ok(object)
    }

    fn either(&mut self, value: Value<'_>) -> Result<Vec<Object>> {
        if value.elements().nth(1).is_none() {
            return self.refuse_value(value, OR);
        }
        let patterns = value.elements().enumerate();
        patterns.map(|(n, value)| self.within(&n.to_string(), |p| p.object(value))).collect()
    }

    fn field(&mut self, name: &str, value: Value<'_>) -> Result<Field> {
        self.path.push(name.into());
        let ask = if value.is_object() {
            Ask::Object(self.object(value)?)
        } else {
            Ask::Values(self.values(value)?)
        };
        self.path.pop();
        Ok(Field { name: name.into(), ask })
    }

    fn values(&mut self, value: Value<'_>) -> Result<Values> {
        if value.elements().next().is_none() {
            return self.refuse_value(value, FIELD);
        }
        self.fields += 1;
        at_most("fields", self.fields, MAX_PATTERN_FIELDS)?;
        let mut values = Values::default();
        for (n, value) in value.elements().enumerate() {
            self.within(&n.to_string(), |parser| parser.alternative(value, &mut values))?;
        }
        sort(&mut values.exact);
        Ok(values)
    }

    fn alternative(&mut self, value: Value<'_>, values: &mut Values) -> Result<()> {
        if let Some(scalar) = value.scalar() {
            return self.exact(scalar, &mut values.exact);
        }
        let mut members = value.members();
        let (Some((operator, operand)), None) = (members.next(), members.next()) else {
            return self.refuse_value(value, ALTERNATIVE);
        };
        self.count()?;
        self.within(operator, |parser| {
            let test = match operator {
                "exists" => match operand.scalar() {
                    Some(Scalar::Plain(Plain::Bool(true))) => Test::Exists,
                    Some(Scalar::Plain(Plain::Bool(false))) => {
                        // There are no more of them than fields, of which there are up to 64.
                        let id = (parser.fields - 1) as u8;
                        let path = parser.path.clone().into_boxed_slice();
                        values.absent = Some(Absent { id, path });
                        return Ok(());
                    }
                    _ => return parser.refuse_value(operand, "true or false is allowed"),
                },
                "numeric" => Test::Numeric(parser.numeric(operand)?),
                "anything-but" => parser.anything_but(operand)?,
                "prefix" | "suffix" | "equals-ignore-case" | "wildcard" => {
                    Test::Text(parser.text_test(operator, operand)?)
                }
                _ => return parser.refuse("no operator", OPERATOR),
            };
            values.tests.push(test);
            Ok(())
        })
    }

    fn exact(&mut self, scalar: Scalar<'_>, exact: &mut Exact) -> Result<()> {
        self.count()?;
        match scalar {
            Scalar::Text(text) => exact.texts.push(text.into()),
            Scalar::Plain(plain) => exact.plain.push(plain),
        }
        Ok(())
    }

    fn text_test(&mut self, operator: &str, operand: Value<'_>) -> Result<TextTest> {
        if matches!(operator, "prefix" | "suffix") && operand.is_object() {
            let mut members = operand.members();
            let (Some(("equals-ignore-case", text)), None) = (members.next(), members.next())
            else {
                return self.refuse_value(operand, ANY_CASE);
            };
            return self.within("equals-ignore-case", |parser| {
                let text = lower(parser.string(text, STRING)?).collect();
                Ok(match operator {
                    "prefix" => TextTest::PrefixIgnoringCase(text),
                    _ => TextTest::SuffixIgnoringCase(text),
                })
            });
        }
        let text =
            self.string(operand, if operator.ends_with("fix") { ANY_CASE } else { STRING })?;
        Ok(match operator {
            "prefix" => TextTest::Prefix(text.into()),
            "suffix" => TextTest::Suffix(text.into()),
            "equals-ignore-case" => TextTest::EqualIgnoringCase(lower(text).collect()),
            _ => match Wildcard::parse(text) {
                Ok(wildcard) => TextTest::Wildcard(wildcard),
                Err(allowed) => return self.refuse_value(operand, allowed),
            },
        })
    }

    fn anything_but(&mut self, operand: Value<'_>) -> Result<Test> {
        if operand.is_object() {
            return self.anything_but_text(operand);
        }
        let mut exact = Exact::default();
        for value in one_or_more(operand) {
            match value.scalar() {
                Some(scalar) => self.exact(scalar, &mut exact)?,
                None => return self.refuse_value(value, BUT),
            }
        }
        if exact.len() == 0 {
            return self.refuse_value(operand, BUT);
        }
        sort(&mut exact);
        Ok(Test::AnythingBut(exact))
    }

    fn anything_but_text(&mut self, operand: Value<'_>) -> Result<Test> {
        let mut members = operand.members();
        let (Some((operator, texts)), None) = (members.next(), members.next()) else {
            return self.refuse_value(operand, BUT_TEXT);
        };
        if !matches!(operator, "prefix" | "suffix" | "equals-ignore-case" | "wildcard") {
            return self.within(operator, |p| p.refuse("no operator that fits here", BUT_TEXT));
        }
        self.within(operator, |parser| {
            let mut tests = Vec::new();
            for text in one_or_more(texts) {
                parser.count()?;
                tests.push(parser.text_test(operator, text)?);
            }
            if tests.is_empty() {
                return parser.refuse_value(texts, BUT_TEXT);
            }
            Ok(Test::AnythingButText(tests))
        })
    }

    fn numeric(&mut self, operand: Value<'_>) -> Result<Range> {
        let parts: Vec<_> = operand.elements().map(Value::scalar).take(5).collect();
        let mut range = Range { from: None, to: None };
        if !matches!(parts.len(), 2 | 4) {
            return self.refuse_value(operand, NUMERIC);
        }
        for comparison in parts.chunks(2) {
            let [Some(Scalar::Text(sign)), Some(Scalar::Plain(Plain::Number(number)))] = comparison
            else {
                return self.refuse_value(operand, NUMERIC);
            };
            self.bound(&mut range, sign, *number, operand)?;
        }
        let bounds_twice = parts.len() == 4 && (range.from.is_none() || range.to.is_none());
        if bounds_twice || !range.is_possible() {
            return self.refuse("bounds that fit no number", NUMERIC_TWO);
        }
        Ok(range)
    }

    fn bound(
        &mut self,
        range: &mut Range,
        sign: &str,
        number: Number,
        all: Value<'_>,
    ) -> Result<()> {
        let bound = Some(Bound { number, is_within: sign.ends_with('=') });
        match sign {
            ">" | ">=" if range.from.is_none() => range.from = bound,
            "<" | "<=" if range.to.is_none() => range.to = bound,
            "=" if range.from.is_none() && range.to.is_none() => {
                (range.from, range.to) = (bound, bound);
            }
            "<" | "<=" | ">" | ">=" | "=" => return self.refuse_value(all, NUMERIC_TWO),
            _ => return self.refuse_value(all, NUMERIC),
        }
        Ok(())
    }

    fn string<'v>(&self, value: Value<'v>, allowed: &'static str) -> Result<&'v str> {
        match value.scalar() {
            Some(Scalar::Text(text)) => Ok(text),
            _ => self.refuse_value(value, allowed),
        }
    }

    fn count(&mut self) -> Result<()> {
        self.alternatives += 1;
        at_most("alternatives", self.alternatives, MAX_PATTERN_ALTERNATIVES)
    }

    fn within<T>(
        &mut self,
        token: &str,
        parse: impl FnOnce(&mut Parser) -> Result<T>,
    ) -> Result<T> {
        self.at.push(token.to_owned());
        let parsed = parse(self)?;
        self.at.pop();
        Ok(parsed)
    }

    fn refuse_value<T>(&self, value: Value<'_>, allowed: &'static str) -> Result<T> {
        self.refuse(&describe(value), allowed)
    }

    fn refuse<T>(&self, found: &str, allowed: &'static str) -> Result<T> {
        let escaped = |token: &String| format!("/{}", token.replace('~', "~0").replace('/', "~1"));
        let at = self.at.iter().map(escaped).collect();
        Err(PatternError::NotAPattern { at, found: found.to_owned(), allowed })
    }
}

/// The elements of an array, or the value itself.
fn one_or_more(value: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    let itself = (!value.is_array()).then_some(value);
    itself.into_iter().chain(value.elements())
}

fn sort(exact: &mut Exact) {
    exact.texts.sort_unstable();
    exact.texts.dedup();
    exact.plain.sort_unstable();
    exact.plain.dedup();
}

fn describe(value: Value<'_>) -> String {
    match value.scalar() {
        Some(Scalar::Text(text)) => format!("{:?}", shown(text)),
        Some(Scalar::Plain(Plain::Null)) => "null".to_owned(),
        Some(Scalar::Plain(Plain::Bool(bool))) => bool.to_string(),
        Some(Scalar::Plain(Plain::Number(Number::Integer(number)))) => number.to_string(),
        Some(Scalar::Plain(Plain::Number(Number::Double(number)))) => number.to_string(),
        None if value.is_array() => match value.elements().count() {
            0 => "an empty array".to_owned(),
            n => format!("an array of {n}"),
        },
        None => match value.members().count() {
            0 => "an empty object".to_owned(),
            n => format!("an object of {n}"),
        },
    }
}
