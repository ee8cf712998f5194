//! The environment of a process: what its specification gives, and very little of Atoll's own.
//!
//! Inheriting everything is what a shell does; here it would hand one person's tokens to every
//! service and make a service work on one machine only. What does pass is where programs are, who
//! and where the user is, and language and time zone.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// What passes from Atoll's own environment, beside `LC_*`.
const INHERITED: &[&str] = &["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// The search path where Atoll itself has none.
pub(crate) const PATH_DEFAULT: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole environment. Later ones win: Atoll's own, then `given`, then `fixed`.
pub(crate) fn build(
    own: impl Iterator<Item = (OsString, OsString)>,
    given: &[(String, String)],
    fixed: &[(&str, String)],
) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<OsString, OsString> =
        own.filter(|(name, _)| is_inherited(name)).collect();
    all.entry("PATH".into())
        .or_insert_with(|| PATH_DEFAULT.into());
    for (name, value) in given {
        all.insert(name.into(), value.into());
    }
    for (name, value) in fixed {
        all.insert(name.into(), value.into());
    }
    all
}

fn is_inherited(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_variables_pass_and_given_ones_win() {
        let own = [
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("LCD", "x"),
        ];
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let given = [
            ("PATH".to_owned(), "/opt".to_owned()),
            ("PORT".to_owned(), "1".to_owned()),
        ];
        let all = build(own.into_iter(), &given, &[("PORT", "20001".to_owned())]);
        let seen: Vec<_> = all
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(seen, ["LC_ALL=C", "PATH=/opt", "PORT=20001"]);
    }
}
