//! Changes to header fields on their way.

use super::PolicyError;
use crate::config::EditConfig;
use crate::http::field::{FieldSet, Fields};

/// Changes, ready to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    /// Names of fields that do not pass.
    without: Vec<Box<str>>,
    /// Lines that are written behind the fields that pass.
    lines: Vec<u8>,
    /// Names, and the line for each where there is no such field.
    missing: Vec<(Box<str>, Box<[u8]>)>,
    host: bool,
}

/// What frames, routes or traces a message is the proxy's. `Host` of a request may be set.
const OWN: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
    "tracestate",
    "x-trace-id",
    "forwarded",
    "x-forwarded-for",
];

impl Edits {
    pub(crate) fn compile(config: Option<&EditConfig>) -> Result<Self, PolicyError> {
        let mut edits = Self::default();
        let Some(config) = config else {
            return Ok(edits);
        };
        for name in config.remove.iter().chain(config.set.keys()) {
            check_name(name)?;
            edits.without.push(name.as_str().into());
        }
        edits.host = config
            .set
            .keys()
            .any(|name| name.eq_ignore_ascii_case("host"));
        for (name, value) in config.set.iter().chain(&config.add) {
            edits.lines.extend_from_slice(&line(name, value)?);
        }
        for (name, value) in &config.default {
            let line = line(name, value)?.into();
            edits.missing.push((name.as_str().into(), line));
        }
        Ok(edits)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.without.is_empty() && self.lines.is_empty() && self.missing.is_empty()
    }

    /// The names of all fields that it may take out, write or change.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let lines = self.lines.split(|byte| *byte == b'\n');
        let written = lines.filter_map(|line| {
            let end = line.iter().position(|byte| *byte == b':')?;
            std::str::from_utf8(line.get(..end)?).ok()
        });
        let missing = self.missing.iter().map(|(name, _)| &**name);
        let without = self.without.iter().map(|name| &**name);
        without.chain(missing).chain(written)
    }

    /// Whether it says which host the request is for.
    pub(crate) fn set_host(&self) -> bool {
        self.host
    }

    /// Writes what an answer gets that has no fields of its own.
    pub(crate) fn write_alone(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lines);
        for (_, line) in &self.missing {
            out.extend_from_slice(line);
        }
    }

    /// The fields that do not pass.
    pub(crate) fn without(&self, fields: &Fields<'_, '_>) -> FieldSet {
        fields.named_any(&self.without)
    }

    /// Writes what comes behind the fields that pass, which are all but `without`.
    pub(crate) fn write(&self, fields: &Fields<'_, '_>, without: FieldSet, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lines);
        for (name, line) in &self.missing {
            if fields.named_any(std::slice::from_ref(name)) & !without == 0 {
                out.extend_from_slice(line);
            }
        }
    }
}

fn line(name: &str, value: &str) -> Result<Vec<u8>, PolicyError> {
    check_name(name)?;
    check_value(name, value)?;
    Ok(format!("{name}: {value}\r\n").into_bytes())
}

fn check_name(name: &str) -> Result<(), PolicyError> {
    http::HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| PolicyError::FieldName(name.to_owned()))?;
    if OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Err(PolicyError::OwnField(name.to_owned()));
    }
    Ok(())
}

/// Checks the value of a field.
pub(super) fn check_value(name: &str, value: &str) -> Result<(), PolicyError> {
    let fits = http::HeaderValue::from_str(value).is_ok() && value.trim() == value;
    fits.then_some(())
        .ok_or_else(|| PolicyError::FieldValue(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> EditConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn what_frames_a_message_cannot_be_set() {
        for bad in [
            "set = { Content-Length = '1' }",
            "add = { Transfer-Encoding = 'x' }",
            "remove = ['Connection']",
            "default = { traceparent = 'x' }",
            "set = { 'a b' = 'x' }",
            "set = { a = \"x\\r\\nb: y\" }",
        ] {
            assert!(Edits::compile(Some(&config(bad))).is_err(), "{bad}");
        }
        assert!(Edits::compile(None).unwrap().is_empty());
    }
}
