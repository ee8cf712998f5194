//! Sets of the kinds of JSON values, as `type` names them.
//!
//! A number is whole or broken: so `integer` is a part of `number`, and the two need no rules.

use serde_json::Value;

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u8);

const NAMES: [(&str, u8); 7] = [
    ("null", 1),
    ("boolean", 2),
    ("object", 4),
    ("array", 8),
    ("string", 16),
    ("integer", 32),
    ("number", 96),
];

impl Kinds {
    pub(super) const ALL: Self = Self(127);
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const OBJECT: Self = Self(4);
    pub(super) const ARRAY: Self = Self(8);
    pub(super) const STRING: Self = Self(16);
    pub(super) const INTEGER: Self = Self(32);
    pub(super) const NUMBER: Self = Self(96);

    /// What the keyword `type` says; all, if it says nothing that is understood.
    pub(super) fn of(keyword: &Value) -> Self {
        let kind = |name: &Value| {
            let name = name.as_str()?;
            NAMES
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, bits)| *bits)
        };
        let bits = match keyword {
            Value::Array(names) => names
                .iter()
                .map(kind)
                .try_fold(0, |all, own| Some(all | own?)),
            name => kind(name),
        };
        bits.map_or(Self::ALL, Self)
    }

    /// The kind of one value. A whole number is whole however it is written.
    pub(super) fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Object(_) => Self::OBJECT,
            Value::Array(_) => Self::ARRAY,
            Value::String(_) => Self::STRING,
            Value::Number(number) if number.as_f64().is_some_and(|own| own.fract() != 0.0) => {
                Self(64)
            }
            Value::Number(_) => Self::INTEGER,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of these are among the others.
    pub(super) fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether a value may be of one of the others.
    pub(super) fn meets(self, other: Self) -> bool {
        !self.and(other).is_empty()
    }

    /// Each kind on its own.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        (0..7)
            .map(|bit| Self(1 << bit))
            .filter(move |own| self.meets(*own))
    }

    /// The names of these kinds.
    pub(super) fn names(self) -> String {
        let whole = NAMES.iter().filter(|(name, bits)| {
            let within = bits & !self.0 == 0;
            within && (*name != "integer" || !Self::NUMBER.within(self))
        });
        let names: Vec<_> = whole.map(|(name, _)| *name).collect();
        if names.is_empty() {
            "number".to_owned()
        } else {
            names.join(", ")
        }
    }
}
