//! Shares that people write with their sign: `"50%"`.
//!
//! A bare number is refused, as for every quantity in a manifest: nobody should have to guess whether
//! `0.5` or `50` was meant.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A share, written `"50%"`: a whole number from 0 to 100 and the sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u8);

/// A text is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no share: write a whole number from 0 to 100 and a percent sign, as \"50%\"")]
pub struct BadPercent(String);

impl Percent {
    /// A share; more than 100 is none.
    pub const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 {
            Some(Self(percent))
        } else {
            None
        }
    }

    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.0) / 100;
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Whether `part` of `whole` is this share or more.
    pub fn is_reached(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 100 >= u128::from(whole) * u128::from(self.0)
    }

    /// From 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = BadPercent;

    fn from_str(text: &str) -> Result<Self, BadPercent> {
        let number = text.strip_suffix('%').filter(|number| {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            digits && number.len() <= 3
        });
        let percent = number.and_then(|number| number.parse().ok());
        percent
            .and_then(Self::new)
            .ok_or_else(|| BadPercent(text.to_owned()))
    }
}

impl TryFrom<String> for Percent {
    type Error = BadPercent;

    fn try_from(text: String) -> Result<Self, BadPercent> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.to_string()
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Debug for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "percent",
            "pattern": "^(100|[0-9]{1,2})%$",
            "examples": ["20%", "50%"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_number_and_its_sign() {
        for bad in ["", "%", "101%", "-1%", "+1%", "1.5%", "50", "50 %", "0050%"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad}");
        }
        for good in ["0%", "7%", "100%"] {
            assert_eq!(good.parse::<Percent>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn shares_of_a_whole() {
        let fifth = Percent::new(20).unwrap();
        assert_eq!((fifth.of(0), fifth.of(9), fifth.of(100)), (0, 1, 20));
        assert!(fifth.is_reached(1, 5) && !fifth.is_reached(1, 6));
        assert_eq!(Percent::new(100).unwrap().of(u64::MAX), u64::MAX);
        assert_eq!(Percent::new(101), None);
    }
}
