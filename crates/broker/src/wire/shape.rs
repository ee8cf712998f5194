//! Walks over a request before it is decoded, and holds every length in it against the bytes that
//! are there.
//!
//! The library that decodes makes room for as many elements as a list announces, before it looks for
//! the first of them: eight bytes from anyone could ask for more memory than the machine has, and end
//! the node. (It is known there, and open.) Each element is at least one byte, so a count above the
//! bytes that are left is a lie, and refused here. Tagged fields within lists, which the library would
//! read in a way of its own, are refused too: what was walked over is exactly what it reads.

use bytes::Buf;

use super::kinds::{Field, Kind, Shape};

/// Why a request cannot be what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadShape {
    /// It ends within something.
    #[error("the request is cut off")]
    Short,
    /// A list with more elements than bytes follow.
    #[error("a list of the request claims more elements than there are bytes")]
    Count,
    /// A number that goes on and on, or a length below zero that does not mean "none".
    #[error("a length of the request is malformed")]
    Length,
    /// A tagged field where none belongs.
    #[error("the request has a tagged field where no client puts one")]
    Tag,
}

/// Holds the body of a request against the shape of its kind.
pub fn check(kind: &Kind, version: i16, body: &[u8]) -> Result<(), BadShape> {
    let mut walk = Walk {
        rest: body,
        version,
        flexible: version >= kind.flexible,
    };
    walk.fields(kind.fields)?;
    if walk.flexible {
        walk.tags(true)?;
    }
    Ok(())
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    /// Lengths are compact and parts end in tagged fields (KIP-482).
    flexible: bool,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), BadShape> {
        for Field { from, to, shape } in fields {
            if (*from..=*to).contains(&self.version) {
                self.field(shape)?;
            }
        }
        Ok(())
    }

    fn field(&mut self, shape: &Shape) -> Result<(), BadShape> {
        match shape {
            Shape::Fixed(bytes) => self.skip(*bytes),
            Shape::Text => {
                let length = self.length(2)?;
                self.skip(length)
            }
            Shape::Bytes => {
                let length = self.length(4)?;
                self.skip(length)
            }
            Shape::Items(bytes) => {
                let count = self.count()?;
                self.skip(count.saturating_mul(*bytes))
            }
            Shape::Texts => {
                for _ in 0..self.count()? {
                    self.field(&Shape::Text)?;
                }
                Ok(())
            }
            Shape::List(fields) => {
                for _ in 0..self.count()? {
                    self.fields(fields)?;
                    if self.flexible {
                        self.tags(false)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn count(&mut self) -> Result<usize, BadShape> {
        let count = self.length(4)?;
        if count > self.rest.len() {
            return Err(BadShape::Count);
        }
        Ok(count)
    }

    /// A length; of "none", which is written as -1 or as 0 if compact, nothing.
    fn length(&mut self, width: usize) -> Result<usize, BadShape> {
        if self.flexible {
            return Ok(self.varint()?.saturating_sub(1) as usize);
        }
        let bytes = self.take(width)?;
        let length = match *bytes {
            [a, b] => i32::from(i16::from_be_bytes([a, b])),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
            _ => return Err(BadShape::Length),
        };
        match length {
            -1 => Ok(0),
            _ => usize::try_from(length).map_err(|_| BadShape::Length),
        }
    }

    fn tags(&mut self, at_end: bool) -> Result<(), BadShape> {
        let count = self.varint()?;
        if count > 0 && !at_end {
            return Err(BadShape::Tag);
        }
        for _ in 0..count {
            self.varint()?;
            let length = self.varint()? as usize;
            self.skip(length)?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, BadShape> {
        varint(&mut self.rest)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), BadShape> {
        self.take(bytes).map(|_| ())
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8], BadShape> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(BadShape::Short)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Takes a number of at most 32 bits, in at most five bytes, the lowest first.
pub(super) fn varint(bytes: &mut impl Buf) -> Result<u32, BadShape> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = bytes.try_get_u8().map_err(|_| BadShape::Short)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BadShape::Length)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiKey, MetadataRequest, ProduceRequest};

    use super::*;
    use crate::wire::kinds::kind;

    fn body(request: &impl kafka_protocol::protocol::Encodable, version: i16) -> Vec<u8> {
        let mut out = bytes::BytesMut::new();
        request.encode(&mut out, version).unwrap();
        out.to_vec()
    }

    #[test]
    fn a_list_of_more_elements_than_bytes_is_refused() {
        let metadata = kind(ApiKey::Metadata as i16).unwrap();
        let hostile = [0x03, 0x3c, 0x0c, 0x00, 0xb6];
        assert_eq!(check(metadata, 0, &hostile), Err(BadShape::Count));
        let compact = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        assert_eq!(check(metadata, 12, &compact), Err(BadShape::Count));
        let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(check(metadata, 12, &endless), Err(BadShape::Length));
    }

    #[test]
    fn every_cut_of_a_request_is_refused() {
        let produce = kind(ApiKey::Produce as i16).unwrap();
        for version in produce.versions() {
            let whole = body(&ProduceRequest::default(), version);
            assert_eq!(check(produce, version, &whole), Ok(()), "version {version}");
            for cut in 0..whole.len() {
                assert!(check(produce, version, &whole[..cut]).is_err());
            }
        }
    }

    #[test]
    fn none_is_no_list() {
        let metadata = kind(ApiKey::Metadata as i16).unwrap();
        for version in metadata.versions() {
            let all = MetadataRequest::default().with_topics(None);
            if version > 0 {
                let all = body(&all, version);
                assert_eq!(check(metadata, version, &all), Ok(()), "version {version}");
            }
        }
    }
}
