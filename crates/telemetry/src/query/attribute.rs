//! Looks for a key and its value in columns of JSON.
//!
//! The key is looked for as text in the whole column first; only rows that contain it are taken apart.

use std::borrow::Cow;
use std::fmt;

use arrow_array::{Array, StringArray};
use arrow_buffer::BooleanBufferBuilder;
use memchr::memmem::Finder;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::QueryError;
use super::compile::{mistake, wildcard};
use super::lexer::Op;
use super::parser::Field;
use super::text::rows_with;

/// A key and what its value must be.
#[derive(Debug)]
pub(super) struct AttributeTest {
    key: String,
    /// Finds the key in quotes.
    finder: Box<Finder<'static>>,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// As text, whatever its case.
    Text(String),
    Like(regex::Regex),
    /// A number from here to there, ends included or not.
    Numbers {
        from: (f64, bool),
        to: (f64, bool),
    },
}

impl AttributeTest {
    pub(super) fn new(field: &Field) -> Result<Self, QueryError> {
        let quoted = serde_json::to_string(&field.key).unwrap_or_default();
        Ok(Self {
            key: field.key.clone(),
            finder: Box::new(Finder::new(&quoted).into_owned()),
            wanted: Wanted::new(field)?,
        })
    }

    /// Marks the rows of `texts` whose JSON object has the key with such a value.
    pub(super) fn mark(&self, texts: &StringArray, found: &mut BooleanBufferBuilder) {
        let find = |text: &[u8], from: usize| {
            let begin = from + self.finder.find(&text[from..])?;
            Some(begin..begin + self.finder.needle().len())
        };
        rows_with(find, texts, &mut |row, _| {
            if self.fits(texts.value(row)) {
                found.set_bit(row, true);
            }
            true
        });
        debug_assert_eq!(found.len(), texts.len());
    }

    fn fits(&self, json: &str) -> bool {
        let json = json.trim_start();
        if !json.starts_with('{') {
            return false;
        }
        let search = Search {
            test: self,
            found: false,
        };
        let mut reader = serde_json::Deserializer::from_str(json);
        reader.deserialize_map(search).unwrap_or(false)
    }
}

impl Wanted {
    fn new(field: &Field) -> Result<Self, QueryError> {
        let text = &field.value.text;
        let number = |text: &str| -> Result<f64, QueryError> {
            let parsed = text.parse::<f64>().ok().filter(|number| !number.is_nan());
            parsed.ok_or_else(|| mistake(field, format!("`{text}` is no number")))
        };
        let (least, most) = ((f64::NEG_INFINITY, true), (f64::INFINITY, true));
        let (from, to) = match field.op {
            Op::Is => return Self::equal(field),
            Op::Less => (least, (number(text)?, false)),
            Op::LessOrIs => (least, (number(text)?, true)),
            Op::More => ((number(text)?, false), most),
            Op::MoreOrIs => ((number(text)?, true), most),
        };
        Ok(Self::Numbers { from, to })
    }

    fn equal(field: &Field) -> Result<Self, QueryError> {
        let text = &field.value.text;
        if let Some((from, to)) = text.split_once("..").filter(|_| !field.value.quoted)
            && let (Ok(from), Ok(to)) = (from.parse(), to.parse())
        {
            let (from, to) = ((from, true), (to, true));
            return Ok(Self::Numbers { from, to });
        }
        let Some(pattern) = wildcard(field) else {
            return Ok(Self::Text(text.clone()));
        };
        let regex = regex::Regex::new(&pattern);
        let regex = regex.map_err(|error| mistake(field, error.to_string()))?;
        Ok(Self::Like(regex))
    }

    fn fits(&self, value: &Scalar<'_>) -> bool {
        match self {
            Self::Text(text) => value.text().eq_ignore_ascii_case(text),
            Self::Like(regex) => regex.is_match(&value.text()),
            Self::Numbers { from, to } => value.number().is_some_and(|number| {
                let above = number > from.0 || (from.1 && number == from.0);
                let below = number < to.0 || (to.1 && number == to.0);
                above && below
            }),
        }
    }
}

/// A value of JSON that is compared.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(serde_json::Number),
    Flag(bool),
    Null,
    /// A list or an object: compared with nothing.
    Other,
}

impl Scalar<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Flag(true) => Cow::Borrowed("true"),
            Self::Flag(false) => Cow::Borrowed("false"),
            Self::Null => Cow::Borrowed("null"),
            Self::Other => Cow::Borrowed("\0"),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Number(number) => number.as_f64(),
            Self::Flag(_) | Self::Null | Self::Other => None,
        }
    }
}

/// Goes through an object and compares the values of the key.
struct Search<'a> {
    test: &'a AttributeTest,
    found: bool,
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if *key == *self.test.key {
                let value = map.next_value::<Scalar<'de>>()?;
                self.found |= self.test.wanted.fits(&value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self.found)
    }
}

impl<'de> serde::Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Self::Text(Cow::Owned(text)),
            serde_json::Value::Number(number) => Self::Number(number),
            serde_json::Value::Bool(flag) => Self::Flag(flag),
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => Self::Other,
        })
    }
}
