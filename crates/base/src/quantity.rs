//! Quantities that people write with a unit: `"256MiB"`, `"1.5s"`, `"99.9%"`.
//!
//! A bare number is refused: a reader of a manifest must never have to guess the unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// No number, or one that does not fit.
    #[error("'{0}' does not start with a number that fits")]
    Number(String),
    /// More than the whole.
    #[error("'{0}' is more than 100%")]
    MoreThanAll(String),
    /// The unit is missing or unknown.
    #[error("'{text}' needs a unit, one of: {units}")]
    Unit {
        /// What was written.
        text: String,
        /// The units there are.
        units: &'static str,
    },
}

/// A number of bytes, written with a unit: `B`, `KB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB`,
/// `MiB`, `GiB`, `TiB` (powers of 1024).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteCount(pub u64);

const BYTE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl ByteCount {
    /// So many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }
}

impl FromStr for ByteCount {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let (number, unit) = split(text)?;
        let factor = BYTE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor);
        let factor = factor.ok_or_else(|| BadQuantity::Unit {
            text: text.to_owned(),
            units: "B, KB, MB, GB, TB, KiB, MiB, GiB, TiB",
        })?;
        scale(number, factor as f64)
            .map(Self)
            .ok_or_else(|| BadQuantity::Number(text.to_owned()))
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in binary {
            if self.0 >= 1 << shift {
                let whole = self.0 >> shift;
                return if whole << shift == self.0 {
                    write!(f, "{whole}{unit}")
                } else {
                    write!(f, "{:.1}{unit}", self.0 as f64 / (1u64 << shift) as f64)
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A span of time, written with a unit: `us`, `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

const TIME_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl HumanDuration {
    /// So many milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// So many seconds.
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for HumanDuration {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let (number, unit) = split(text)?;
        let factor = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor);
        let factor = factor.ok_or_else(|| BadQuantity::Unit {
            text: text.to_owned(),
            units: "us, ms, s, m, h, d",
        })?;
        scale(number, factor as f64)
            .map(|micros| Self(Duration::from_micros(micros)))
            .ok_or_else(|| BadQuantity::Number(text.to_owned()))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in TIME_UNITS.iter().rev() {
            let factor = u128::from(*factor);
            if micros >= factor && micros.is_multiple_of(factor) {
                return write!(f, "{}{unit}", micros / factor);
            }
        }
        write!(f, "{micros}us")
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

/// A part of a whole, written in percent, to a millionth: `"99.95%"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent {
    millionths: u32,
}

impl Percent {
    /// The whole.
    pub const ALL: Self = Self {
        millionths: 1_000_000,
    };

    /// So many millionths; at most the whole.
    pub const fn of_millionths(count: u32) -> Self {
        let all = Self::ALL.millionths;
        Self {
            millionths: if count < all { count } else { all },
        }
    }

    /// The part in millionths.
    pub const fn millionths(self) -> u32 {
        self.millionths
    }

    /// The part, between 0 and 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }
}

impl FromStr for Percent {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let (number, unit) = split(text)?;
        if unit != "%" {
            return Err(BadQuantity::Unit {
                text: text.to_owned(),
                units: "%",
            });
        }
        let millionths = scale(number, 10_000.0).and_then(|own| u32::try_from(own).ok());
        match millionths {
            Some(millionths) if millionths <= Self::ALL.millionths => Ok(Self { millionths }),
            _ => Err(BadQuantity::MoreThanAll(text.to_owned())),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.millionths) / 1e4)
    }
}

impl fmt::Debug for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! text_forms {
    ($name:ident, $format:literal, $pattern:literal, $examples:expr) => {
        impl TryFrom<String> for $name {
            type Error = BadQuantity;

            fn try_from(text: String) -> Result<Self, BadQuantity> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "format": $format,
                    "pattern": $pattern,
                    "examples": $examples,
                })
            }
        }
    };
}

text_forms!(
    ByteCount,
    "byte-count",
    "^[0-9]+(\\.[0-9]+)?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$",
    ["256MiB", "1GB"]
);
text_forms!(
    HumanDuration,
    "duration",
    "^[0-9]+(\\.[0-9]+)?(us|ms|s|m|h|d)$",
    ["500ms", "10s"]
);
text_forms!(
    Percent,
    "percent",
    "^[0-9]+(\\.[0-9]+)?%$",
    ["10%", "99.9%"]
);

fn split(text: &str) -> Result<(f64, &str), BadQuantity> {
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    let number = number
        .parse()
        .map_err(|_| BadQuantity::Number(text.to_owned()))?;
    Ok((number, unit.trim_start()))
}

fn scale(number: f64, factor: f64) -> Option<u64> {
    let value = (number * factor).round();
    (value.is_finite() && value < u64::MAX as f64).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_need_a_number_and_a_unit() {
        assert_eq!("256MiB".parse(), Ok(ByteCount::mib(256)));
        assert_eq!("1.5GB".parse(), Ok(ByteCount(1_500_000_000)));
        assert_eq!("250 ms".parse(), Ok(HumanDuration::millis(250)));
        assert_eq!("1.5s".parse(), Ok(HumanDuration::millis(1500)));
        assert!(matches!(
            "256".parse::<ByteCount>(),
            Err(BadQuantity::Unit { .. })
        ));
        assert!(matches!(
            "10".parse::<HumanDuration>(),
            Err(BadQuantity::Unit { .. })
        ));
        assert!(matches!(
            "10 parsecs".parse::<HumanDuration>(),
            Err(BadQuantity::Unit { .. })
        ));
        assert!(matches!(
            "MiB".parse::<ByteCount>(),
            Err(BadQuantity::Number(_))
        ));
        assert!(matches!(
            "1e99TB".parse::<ByteCount>(),
            Err(BadQuantity::Unit { .. })
        ));
        assert!(matches!(
            "99999999999TiB".parse::<ByteCount>(),
            Err(BadQuantity::Number(_))
        ));
    }

    #[test]
    fn a_percentage_is_a_part_of_the_whole() {
        let percent = |text: &str| text.parse::<Percent>();
        assert_eq!(percent("99.95%").unwrap().fraction(), 0.9995);
        assert_eq!(percent("99.95 %").unwrap().to_string(), "99.95%");
        assert_eq!(percent("100%"), Ok(Percent::ALL));
        assert_eq!(percent("0%").unwrap().fraction(), 0.0);
        for more in ["100.001%", "99999999999%"] {
            assert_eq!(
                percent(more),
                Err(BadQuantity::MoreThanAll(more.to_owned()))
            );
        }
        assert!(matches!(percent("0.5"), Err(BadQuantity::Unit { .. })));
    }

    proptest! {
        #[test]
        fn a_percentage_survives_being_written(millionths in 0u32..=1_000_000) {
            let percent = Percent { millionths };
            prop_assert_eq!(percent.to_string().parse(), Ok(percent));
        }

        #[test]
        fn a_duration_survives_being_written(micros in 0u64..1 << 50) {
            let duration = HumanDuration(Duration::from_micros(micros));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,20}") {
            let _ = text.parse::<ByteCount>();
            let _ = text.parse::<HumanDuration>();
            let _ = text.parse::<Percent>();
        }
    }
}
