//! The JSON Schema of a topic: what its records must be, and whether a new one breaks who reads it.
//!
//! Drafts 2020-12 (the default), 2019-09 and 07. Formats are checked, in every draft: who writes
//! `"format": "date"` means it. Nothing is fetched, and patterns are matched in linear time (no
//! look-around), as values come from the network. A schema that refers to itself without going
//! deeper into the document says nothing, and is refused: checking by it would never end.
//!
//! [`breaks`] compares two schemas; see there for what it promises.

mod breaks;
mod facts;
mod kinds;
mod refer;
mod simple;
#[cfg(test)]
mod tests;

use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

pub use self::breaks::{Break, breaks};

/// How many mismatches are told.
const MISMATCHES_MAX: usize = 5;

/// How much of one mismatch is told: it may hold a part of the value.
const MISMATCH_LENGTH_MAX: usize = 300;

/// A schema that can be checked by.
#[derive(Clone)]
pub struct Schema {
    value: Value,
    draft: Draft,
    validator: std::sync::Arc<Validator>,
}

/// Why a text is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is not JSON.
    #[error("{name} is not JSON: {why}")]
    Json {
        /// The schema's name.
        name: String,
        /// What is wrong, and where.
        why: String,
    },
    /// It is of a draft that is not known.
    #[error(
        "{name} says $schema '{found}'; write https://json-schema.org/draft/2020-12/schema, or 2019-09, or http://json-schema.org/draft-07/schema#"
    )]
    Draft {
        /// The schema's name.
        name: String,
        /// What it says.
        found: String,
    },
    /// It refers to something that is not in it.
    #[error(
        "{name}: {pointer} refers to '{target}', which is not in the file; nothing is fetched: put it into $defs"
    )]
    Reference {
        /// The schema's name.
        name: String,
        /// Where it refers.
        pointer: String,
        /// To what.
        target: String,
    },
    /// A part of it refers to itself.
    #[error(
        "{name}: {pointer} refers to itself without going deeper into the document, so it says nothing; remove the reference"
    )]
    Circle {
        /// The schema's name.
        name: String,
        /// Which part.
        pointer: String,
    },
    /// A keyword is used as it cannot be.
    #[error("{name}: {pointer}: {why}")]
    Invalid {
        /// The schema's name.
        name: String,
        /// Where.
        pointer: String,
        /// What is wrong.
        why: String,
    },
}

impl Schema {
    /// Reads a schema. `name` is what errors call it: the path of its file.
    ///
    /// # Errors
    /// When it is none, with the place and what to do.
    pub fn parse(text: &str, name: &str) -> Result<Self, SchemaError> {
        let name = name.to_owned();
        let value: Value = serde_json::from_str(text).map_err(|error| SchemaError::Json {
            name: name.clone(),
            why: error.to_string(),
        })?;
        let draft = draft(&value, &name)?;
        refer::check(&value, draft, &name)?;
        let options = jsonschema::options()
            .with_draft(draft)
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex())
            .offline();
        let validator = options
            .build(&value)
            .map_err(|error| SchemaError::Invalid {
                name,
                pointer: place(&error.instance_path().to_string()),
                why: cut(&error.to_string()),
            })?;
        Ok(Self {
            value,
            draft,
            validator: validator.into(),
        })
    }

    /// Whether a value is JSON as the schema has it.
    ///
    /// # Errors
    /// The first mismatches, one a line, each with the place (a JSON pointer; `/` is the whole).
    pub fn check(&self, value: &[u8]) -> Result<(), String> {
        let value: Value =
            serde_json::from_slice(value).map_err(|e| format!("it is not JSON: {e}"))?;
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        let mismatches = self.validator.iter_errors(&value).take(MISMATCHES_MAX);
        let line = |error: jsonschema::ValidationError<'_>| {
            format!(
                "{}: {}",
                place(&error.instance_path().to_string()),
                cut(&error.to_string())
            )
        };
        Err(mismatches.map(line).collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

fn draft(value: &Value, name: &str) -> Result<Draft, SchemaError> {
    let Some(said) = value.get("$schema") else {
        return Ok(Draft::Draft202012);
    };
    let said = said.as_str().unwrap_or_default();
    match said.trim_end_matches('#') {
        "https://json-schema.org/draft/2020-12/schema" => Ok(Draft::Draft202012),
        "https://json-schema.org/draft/2019-09/schema" => Ok(Draft::Draft201909),
        "http://json-schema.org/draft-07/schema" => Ok(Draft::Draft7),
        _ => Err(SchemaError::Draft {
            name: name.to_owned(),
            found: cut(said),
        }),
    }
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() {
        "/".to_owned()
    } else {
        pointer.to_owned()
    }
}

/// One line, not too long.
fn cut(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cut: String = line.take(MISMATCH_LENGTH_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
