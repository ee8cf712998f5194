//! Compression of answers on their way to a client (RFC 9110, 8.4 and 12.5.3).
//!
//! What is compressed: text and what is like it, of a kilobyte and more, if the client takes it, the
//! service did not do so itself and nobody forbade it (`no-transform`). Answers stream through: what
//! came in one read goes out in one flush, so nothing waits for more. Levels are those that cost
//! little per byte; who wants the last percent compresses ahead of time.

use std::fmt;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::field::Fields;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

/// Compresses one body.
pub(crate) enum Encoder {
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

/// Smaller bodies gain nothing.
pub(crate) const BYTES_MIN: u64 = 1024;

const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: u32 = 4;
const BROTLI_WINDOW_BITS: u32 = 20;
const BROTLI_BUFFER: usize = 16 << 10;
const GZIP_LEVEL: u32 = 5;

/// In the order in which they are preferred, where a client does not mind.
const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

impl Coding {
    /// The best coding that all `Accept-Encoding` of a request agree to; none if the body is to stay
    /// as it is.
    pub(crate) fn negotiate(fields: &Fields<'_, '_>) -> Option<Self> {
        let values = fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok());
        Self::choose(values)
    }

    fn choose<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        // In thousandths; none where nothing was said.
        let mut said: [Option<u16>; CODINGS.len()] = [None; CODINGS.len()];
        let (mut any, mut identity) = (None, None);
        for element in values.flat_map(|value| value.split(',')) {
            let mut parts = element.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(weight).unwrap_or(1000);
            let coding = CODINGS.iter().position(|coding| coding.is(name));
            if let Some(slot) = coding.and_then(|coding| said.get_mut(coding)) {
                *slot = Some(weight);
            } else if name == "*" {
                any = Some(weight);
            } else if name.eq_ignore_ascii_case("identity") {
                identity = Some(weight);
            }
        }
        let least = identity.unwrap_or(1);
        CODINGS
            .into_iter()
            .zip(said)
            .map(|(coding, said)| (coding, said.or(any).unwrap_or(0)))
            .filter(|(_, weight)| *weight > 0 && *weight >= least)
            // Of equal weights, the first.
            .rev()
            .max_by_key(|(_, weight)| *weight)
            .map(|(coding, _)| coding)
    }

    fn is(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name()) || (self == Self::Gzip && name == "x-gzip")
    }

    /// Its name in `Content-Encoding`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// Begins a body. Fails if there is no memory.
    pub(crate) fn encoder(self) -> io::Result<Encoder> {
        Ok(match self {
            Self::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                Encoder::Zstd(Box::new(encoder))
            }
            Self::Brotli => Encoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW_BITS,
            ))),
            Self::Gzip => {
                let level = Compression::new(GZIP_LEVEL);
                Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
        })
    }
}

/// `q=0.5` in thousandths.
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="))?;
    let weight: f32 = value.trim().parse().ok()?;
    (0.0..=1.0)
        .contains(&weight)
        .then_some((weight * 1000.0) as u16)
}

impl Encoder {
    /// Takes part of the body; gives what is to be sent for it, at once.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Brotli(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// Gives what ends the body.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zstd(_) => "Zstd",
            Self::Brotli(_) => "Brotli",
            Self::Gzip(_) => "Gzip",
        })
    }
}

/// Whether bodies of a media type are worth it. Pictures, sounds, films and archives are compressed
/// by nature; of a stream of events nothing may wait.
pub(crate) fn is_worth_it(content_type: &[u8]) -> bool {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let kind = content_type[..end].trim_ascii().to_ascii_lowercase();
    let Ok(kind) = std::str::from_utf8(&kind) else {
        return false;
    };
    let (family, name) = kind.split_once('/').unwrap_or((kind, ""));
    match family {
        "text" => name != "event-stream",
        "application" => {
            name.ends_with("json")
                || name.ends_with("xml")
                || name.ends_with("javascript")
                || matches!(
                    name,
                    "graphql" | "wasm" | "manifest" | "x-ndjson" | "yaml" | "toml" | "sql"
                )
        }
        "image" => name == "svg+xml" || name == "bmp",
        "font" => matches!(name, "ttf" | "otf"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn choose(value: &str) -> Option<&'static str> {
        Coding::choose(std::iter::once(value)).map(Coding::name)
    }

    #[test]
    fn the_client_decides_and_then_what_is_best() {
        for (value, expected) in [
            ("gzip", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("gzip, deflate, br", Some("br")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip;q=1.0, br;q=0.5", Some("gzip")),
            ("gzip;q=0.5, br;q=0.5", Some("br")),
            ("*", Some("zstd")),
            ("zstd;q=0, *", Some("br")),
            ("gzip;q=0", None),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.8", Some("gzip")),
            ("", None),
            ("deflate", None),
            ("gzip;q=2", Some("gzip")),
            ("GZIP ; Q=0.3", Some("gzip")),
        ] {
            assert_eq!(choose(value), expected, "{value}");
        }
    }

    #[test]
    fn every_part_can_be_read_before_the_next_is_there() {
        for coding in CODINGS {
            let mut encoder = coding.encoder().unwrap();
            let mut sent = Vec::new();
            for part in ["one ", "two ", "three"] {
                let bytes = encoder.add(part.as_bytes()).unwrap();
                assert!(!bytes.is_empty(), "{coding:?}");
                sent.extend(bytes);
            }
            sent.extend(encoder.finish().unwrap());
            let mut text = String::new();
            match coding {
                Coding::Zstd => zstd::Decoder::new(&sent[..])
                    .unwrap()
                    .read_to_string(&mut text),
                Coding::Brotli => {
                    brotli::Decompressor::new(&sent[..], 4096).read_to_string(&mut text)
                }
                Coding::Gzip => flate2::read::GzDecoder::new(&sent[..]).read_to_string(&mut text),
            }
            .unwrap();
            assert_eq!(text, "one two three", "{coding:?}");
        }
    }

    #[test]
    fn text_is_worth_it_and_pictures_are_not() {
        for (kind, worth) in [
            ("text/html; charset=utf-8", true),
            ("application/json", true),
            ("application/problem+json", true),
            ("Application/Vnd.Api+JSON", true),
            ("image/svg+xml", true),
            ("image/png", false),
            ("text/event-stream", false),
            ("application/octet-stream", false),
            ("application/zip", false),
            ("application/grpc", false),
            ("", false),
        ] {
            assert_eq!(is_worth_it(kind.as_bytes()), worth, "{kind}");
        }
    }
}
