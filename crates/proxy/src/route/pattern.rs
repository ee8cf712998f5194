//! What may stand in `path`, `host` and `methods` of a route, with messages that say what to
//! write instead.

use crate::path;

/// A route's path, host or method that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A path without a slash at its start.
    #[error("the path '{0}' must start with '/': write '/{0}'")]
    NoSlash(String),
    /// A path with a query or fragment.
    #[error("the path '{0}' must be a path alone: leave out '?' or '#' and what follows")]
    Query(String),
    /// A brace in a segment that is no parameter.
    #[error(
        "'{segment}' in '{path}' is no parameter: one takes a whole segment, as in '/orders/{{id}}'"
    )]
    Parameter {
        /// The whole path.
        path: String,
        /// The segment.
        segment: String,
    },
    /// The same parameter twice.
    #[error("'{path}' has two parameters called '{name}': give each a name of its own")]
    Twice {
        /// The whole path.
        path: String,
        /// The name.
        name: String,
    },
    /// A star in the wrong place.
    #[error(
        "'*' in '{0}': for any one segment write '{{name}}', for everything below end with '/**'"
    )]
    Star(String),
    /// A path that no request can have once it is normalized.
    #[error("no request has the path '{path}' after normalization: write '{normal}'")]
    NotNormal {
        /// The path as written.
        path: String,
        /// Its normal form.
        normal: String,
    },
    /// A character that a path cannot have.
    #[error("'{character}' in '{path}' must be escaped: write '{escaped}'")]
    Character {
        /// The whole path.
        path: String,
        /// The character.
        character: char,
        /// What to write instead.
        escaped: String,
    },
    /// A percent sign without two hexadecimal digits.
    #[error(
        "'{0}' has a '%' that is not followed by two hexadecimal digits; for the sign itself write '%25'"
    )]
    Escape(String),
    /// A host that is none.
    #[error(
        "'{0}' is no host: write a name such as 'shop.example.com', or '*.example.com' for every host below it, without scheme, port or path"
    )]
    Host(String),
    /// A method that is none.
    #[error("'{0}' is no method: methods are written in capitals, as in \"GET\"")]
    Method(String),
}

/// The path of a route, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    pub(super) segments: Vec<Segment>,
    /// Ends with `/**`.
    pub(super) prefix: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Text(String),
    Parameter,
}

/// The host of a route, in lower case.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum HostPattern {
    Exact(String),
    /// Every host that ends with this; it starts with a dot.
    Below(String),
}

/// Checks the path of one route alone.
pub fn check_pattern(path: &str) -> Result<(), PatternError> {
    PathPattern::parse(path).map(drop)
}

/// Checks the host of a route.
pub fn check_host(host: &str) -> Result<(), PatternError> {
    HostPattern::parse(host).map(drop)
}

/// Checks a method of a route. Any token in capitals is one; the set of methods is open.
pub fn check_method(method: &str) -> Result<(), PatternError> {
    let fits = |byte: u8| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    if !method.is_empty() && method.len() <= 32 && method.bytes().all(fits) && method != "CONNECT" {
        Ok(())
    } else {
        Err(PatternError::Method(method.to_owned()))
    }
}

impl PathPattern {
    pub(super) fn parse(path: &str) -> Result<Self, PatternError> {
        let Some(inner) = path.strip_prefix('/') else {
            return Err(PatternError::NoSlash(path.to_owned()));
        };
        if path.contains(['?', '#']) {
            return Err(PatternError::Query(path.to_owned()));
        }
        let (inner, prefix) = match inner.strip_suffix("**") {
            Some("") => ("", true),
            Some(rest) => match rest.strip_suffix('/') {
                Some(rest) => (rest, true),
                None => return Err(PatternError::Star(path.to_owned())),
            },
            None => (inner, false),
        };
        let mut pattern = Self {
            segments: Vec::new(),
            prefix,
        };
        let mut names = Vec::new();
        // `/**` has no segment before its prefix, while `/` has one, the empty one.
        let whole = (!(prefix && inner.is_empty())).then_some(inner);
        for segment in whole.into_iter().flat_map(|inner| inner.split('/')) {
            pattern
                .segments
                .push(parse_segment(path, segment, &mut names)?);
        }
        check_normal(path)?;
        Ok(pattern)
    }

    /// What decides whether two patterns match the same paths: the names of parameters don't.
    pub(super) fn shape(&self) -> Vec<String> {
        let mut shape: Vec<_> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Text(text) => text.clone(),
                Segment::Parameter => "{}".to_owned(),
            })
            .collect();
        if self.prefix {
            shape.push("**".to_owned());
        }
        shape
    }
}

fn parse_segment<'a>(
    path: &str,
    segment: &'a str,
    names: &mut Vec<&'a str>,
) -> Result<Segment, PatternError> {
    if segment.contains('*') {
        return Err(PatternError::Star(path.to_owned()));
    }
    if !segment.contains(['{', '}']) {
        check_characters(path, segment)?;
        return Ok(Segment::Text(segment.to_owned()));
    }
    let name = segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            !name.is_empty() && name.bytes().all(fits)
        })
        .ok_or_else(|| PatternError::Parameter {
            path: path.to_owned(),
            segment: segment.to_owned(),
        })?;
    if names.contains(&name) {
        return Err(PatternError::Twice {
            path: path.to_owned(),
            name: name.to_owned(),
        });
    }
    names.push(name);
    Ok(Segment::Parameter)
}

fn check_characters(path: &str, segment: &str) -> Result<(), PatternError> {
    let bad = segment
        .chars()
        .find(|character| !character.is_ascii_graphic() || *character == '\\');
    match bad {
        None => Ok(()),
        Some(character) => {
            let mut bytes = [0; 4];
            let escaped = character
                .encode_utf8(&mut bytes)
                .bytes()
                .map(|byte| format!("%{byte:02X}"))
                .collect();
            Err(PatternError::Character {
                path: path.to_owned(),
                character,
                escaped,
            })
        }
    }
}

/// A pattern that is not in normal form would silently never match.
fn check_normal(path: &str) -> Result<(), PatternError> {
    let normal = path::normalize(path).map_err(|_| PatternError::Escape(path.to_owned()))?;
    if normal == path {
        Ok(())
    } else {
        Err(PatternError::NotNormal {
            path: path.to_owned(),
            normal,
        })
    }
}

impl HostPattern {
    pub(super) fn parse(host: &str) -> Result<Self, PatternError> {
        let (name, below) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host, false),
        };
        let label = |label: &str| {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(inside)
        };
        let ip_literal = !below && host.starts_with('[') && host.ends_with(']');
        if name.len() > 253 || !(ip_literal || name.split('.').all(label)) {
            return Err(PatternError::Host(host.to_owned()));
        }
        let name = name.to_ascii_lowercase();
        Ok(if below {
            Self::Below(format!(".{name}"))
        } else {
            Self::Exact(name)
        })
    }
}
