//! Paths made of parts of other paths: `/v2/orders/{id}`.
//!
//! A parameter is found by the number of its segment, which was decided when the route was built:
//! filling a template neither searches nor decodes. What a client sent escaped stays escaped.

use super::PolicyError;

/// Text with places for parts of the request's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The segment of this number.
    Segment(usize),
    /// Everything behind the slash after so many segments.
    Rest(usize),
}

impl Template {
    /// Reads a template for requests that match `path`.
    pub(super) fn parse(template: &str, path: &str) -> Result<Self, PolicyError> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let unknown = |place: &str| PolicyError::Template {
            place: place.to_owned(),
            template: template.to_owned(),
            path: path.to_owned(),
        };
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '*']) {
            text.push_str(&rest[..at]);
            let (part, length) = if let Some(tail) = rest[at..].strip_prefix("**") {
                let below = segments.last() == Some(&"**") && tail.is_empty();
                let count = segments.len().saturating_sub(1);
                (below.then_some(Part::Rest(count)), 2)
            } else {
                let end = rest[at..].find('}').map_or(rest.len() - at, |end| end + 1);
                let named = segments.iter().position(|own| *own == &rest[at..at + end]);
                (named.map(Part::Segment), end)
            };
            let part = part.ok_or_else(|| unknown(&rest[at..at + length]))?;
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
            rest = &rest[at + length..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    /// Fills it from the normalized path of a request.
    pub(crate) fn fill(&self, path: &str) -> String {
        let inner = path.strip_prefix('/').unwrap_or(path);
        let mut out = String::with_capacity(path.len() + 16);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Segment(number) => {
                    out.push_str(inner.split('/').nth(*number).unwrap_or_default());
                }
                Part::Rest(count) => {
                    let mut tail = Some(inner);
                    for _ in 0..*count {
                        tail = tail.and_then(|tail| Some(tail.split_once('/')?.1));
                    }
                    match tail {
                        Some(tail) => out.push_str(tail),
                        // The path ends where `/**` begins: so does what is made of it.
                        None if out.len() > 1 && out.ends_with('/') => {
                            out.pop();
                        }
                        None => {}
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_path_go_where_the_template_says() {
        for (template, route, path, expected) in [
            (
                "/v2/orders/{id}",
                "/orders/{id}",
                "/orders/7",
                "/v2/orders/7",
            ),
            ("/{b}/{a}", "/x/{a}/{b}", "/x/1/2%2F3", "/2%2F3/1"),
            ("/v2/**", "/v1/**", "/v1/a/b", "/v2/a/b"),
            ("/v2/**", "/v1/**", "/v1/", "/v2/"),
            ("/v2/**", "/v1/**", "/v1", "/v2"),
            ("/**", "/v1/**", "/v1", "/"),
            ("/**", "/v1/**", "/v1/a", "/a"),
            ("/all/**", "/**", "/a/b", "/all/a/b"),
            (
                "https://x.example/{id}?from={id}",
                "/o/{id}",
                "/o/9",
                "https://x.example/9?from=9",
            ),
            ("/same", "/o/{id}", "/o/9", "/same"),
        ] {
            let filled = Template::parse(template, route).unwrap().fill(path);
            assert_eq!(filled, expected, "{template} for {route}");
        }
    }

    #[test]
    fn places_that_stand_for_nothing_are_mistakes() {
        for (template, route) in [
            ("/{x}", "/{y}"),
            ("/{y", "/{y}"),
            ("/**", "/a"),
            ("/**/b", "/a/**"),
            ("/*", "/a/**"),
        ] {
            assert!(
                Template::parse(template, route).is_err(),
                "{template} for {route}"
            );
        }
    }
}
