//! Frames of the Kafka protocol: four bytes of length, a head, a body.
//!
//! The library knows the messages; what is here bounds what it is given. A frame above
//! [`FRAME_BYTES_MAX`] ends the connection, because there is no way to skip it without reading it;
//! a body is held against the shape of its kind before it is decoded (`shape`).

pub mod kinds;
pub mod shape;

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use self::kinds::Kind;

/// The largest request. Kafka's default is 100 MiB; a record is 1 MiB at most unless a topic allows
/// more, and clients send a few of them at once.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// The largest request of a client that has not said yet who it is, as in Kafka
/// (`sasl.server.max.receive.size`).
pub const FRAME_BYTES_UNPROVEN_MAX: usize = 512 << 10;

/// Up to here, room for a request is made at once; for a larger one, as it comes: a length alone
/// costs nothing.
const FRAME_BYTES_TRUSTED: usize = 64 << 10;

/// A request whose head was read.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub kind: &'static Kind,
    /// In which version.
    pub version: i16,
    /// What the answer carries back.
    pub correlation: i32,
    /// What the client calls itself.
    pub client: String,
    /// The rest.
    pub body: Bytes,
}

/// A request that cannot be answered in its own terms.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not even a head.
    #[error("a request without a head")]
    Head,
    /// Of a kind that is not known here.
    #[error("requests of kind {0} are not known")]
    Kind(i16),
    /// Of a version that is not known here.
    #[error("version {version} of {kind:?} is not known")]
    Version {
        /// What was asked.
        kind: ApiKey,
        /// In which version.
        version: i16,
        /// What the answer carries back.
        correlation: i32,
    },
    /// Its lengths lie.
    #[error("{kind:?}: {source}")]
    Shape {
        /// What was asked.
        kind: ApiKey,
        /// What is wrong.
        source: shape::BadShape,
    },
    /// It does not decode.
    #[error("{kind:?} of version {version} does not decode: {reason}")]
    Body {
        /// What was asked.
        kind: ApiKey,
        /// In which version.
        version: i16,
        /// What the decoder says.
        reason: String,
    },
}

/// Frames out of a stream. Nothing is lost when waiting for one is given up.
#[derive(Debug)]
pub struct Frames<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Of this stream.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame, of `max` bytes at most; none at the end of the stream.
    ///
    /// # Errors
    /// When the stream fails, ends within a frame, or a frame is larger.
    pub async fn next(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        loop {
            let wanted = match self.buffer.first_chunk::<4>() {
                None => 4,
                Some(length) => {
                    let whole = 4 + frame_length(*length, max)?;
                    if self.buffer.len() >= whole {
                        self.buffer.advance(4);
                        return Ok(Some(self.buffer.split_to(whole - 4).freeze()));
                    }
                    whole
                }
            };
            if self.read(wanted).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Completes when the client has closed the stream. What it sends meanwhile is kept.
    pub async fn ended(&mut self) {
        while self.buffer.len() < READ_AHEAD_MAX {
            let wanted = self.buffer.len() + 1;
            if !matches!(self.read(wanted).await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Reads something, with room for `wanted` bytes: at once if that is little, else as it comes, as
    /// a length alone should cost nothing.
    async fn read(&mut self, wanted: usize) -> io::Result<usize> {
        let missing = wanted.saturating_sub(self.buffer.len());
        let room = missing.min(self.buffer.len().max(FRAME_BYTES_TRUSTED));
        self.buffer.reserve(room.max(READ_BYTES_MIN));
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// Room for reading.
const READ_BYTES_MIN: usize = 4 << 10;
/// So much is read of what a client sends while it waits for an answer.
const READ_AHEAD_MAX: usize = 1 << 20;

fn frame_length(bytes: [u8; 4], max: usize) -> io::Result<usize> {
    let length = i32::from_be_bytes(bytes);
    let sound = usize::try_from(length).ok();
    sound.filter(|length| *length <= max).ok_or_else(|| {
        let reason = format!("a frame of {length} bytes");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

impl Request {
    /// Reads the head of a frame and walks over its body.
    pub fn parse(mut frame: Bytes) -> Result<Self, BadRequest> {
        if frame.len() < 8 {
            return Err(BadRequest::Head);
        }
        let (key, version) = (frame.get_i16(), frame.get_i16());
        let correlation = frame.get_i32();
        let kind = kinds::kind(key).ok_or(BadRequest::Kind(key))?;
        if !kind.versions().contains(&version) {
            return Err(BadRequest::Version {
                kind: kind.key,
                version,
                correlation,
            });
        }
        let client = client_id(&mut frame)?;
        if kind.key.request_header_version(version) >= 2 {
            skip_tags(&mut frame)?;
        }
        shape::check(kind, version, &frame).map_err(|source| BadRequest::Shape {
            kind: kind.key,
            source,
        })?;
        Ok(Self {
            kind,
            version,
            correlation,
            client,
            body: frame,
        })
    }

    /// Decodes the body.
    pub fn decode<R: Decodable>(&self) -> Result<R, BadRequest> {
        R::decode(&mut self.body.clone(), self.version).map_err(|error| BadRequest::Body {
            kind: self.kind.key,
            version: self.version,
            reason: error.to_string(),
        })
    }

    /// A whole frame with the answer.
    pub fn answer(&self, response: &impl Encodable) -> Result<Bytes, BadRequest> {
        encode(self.kind.key, self.version, self.correlation, response)
    }
}

/// A whole frame with the answer to a request of this kind and version.
pub fn encode(
    kind: ApiKey,
    version: i16,
    correlation: i32,
    response: &impl Encodable,
) -> Result<Bytes, BadRequest> {
    let failed = |reason: String| BadRequest::Body {
        kind,
        version,
        reason,
    };
    let size = response
        .compute_size(version)
        .map_err(|error| failed(error.to_string()))?;
    let mut out = BytesMut::with_capacity(size + 16);
    out.put_i32(0);
    let head = ResponseHeader::default().with_correlation_id(correlation);
    head.encode(&mut out, kind.response_header_version(version))
        .map_err(|error| failed(error.to_string()))?;
    response
        .encode(&mut out, version)
        .map_err(|error| failed(error.to_string()))?;
    let length = i32::try_from(out.len() - 4).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(..4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(out.freeze())
}

/// A text with a length of two bytes, or none.
fn client_id(frame: &mut Bytes) -> Result<String, BadRequest> {
    if frame.len() < 2 {
        return Err(BadRequest::Head);
    }
    let Ok(length) = usize::try_from(frame.get_i16()) else {
        return Ok(String::new());
    };
    if length > frame.len() {
        return Err(BadRequest::Head);
    }
    Ok(String::from_utf8_lossy(&frame.split_to(length)).into_owned())
}

fn skip_tags(frame: &mut Bytes) -> Result<(), BadRequest> {
    let count = shape::varint(frame).map_err(|_| BadRequest::Head)?;
    for _ in 0..count {
        shape::varint(frame).map_err(|_| BadRequest::Head)?;
        let length = shape::varint(frame).map_err(|_| BadRequest::Head)? as usize;
        if length > frame.len() {
            return Err(BadRequest::Head);
        }
        frame.advance(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn request(key: ApiKey, version: i16, body: &impl Encodable) -> Bytes {
        let mut out = BytesMut::new();
        let head = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("me")));
        head.encode(&mut out, key.request_header_version(version))
            .unwrap();
        body.encode(&mut out, version).unwrap();
        out.freeze()
    }

    #[test]
    fn a_head_is_read_in_every_version() {
        for version in 0..=4 {
            let asked = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("test"));
            let frame = request(ApiKey::ApiVersions, version, &asked);
            for cut in 0..frame.len() {
                // Version 0 to 2 have no body.
                let whole = version < 3 && cut == frame.len();
                assert_eq!(Request::parse(frame.slice(..cut)).is_ok(), whole);
            }
            let read = Request::parse(frame).unwrap();
            assert_eq!(
                (read.version, read.correlation, &*read.client),
                (version, 7, "me")
            );
            let body: ApiVersionsRequest = read.decode().unwrap();
            assert_eq!(body.client_software_name.is_empty(), version < 3);
        }
    }

    #[test]
    fn what_is_not_known_is_told_apart() {
        let frame = |key: i16, version: i16| {
            let mut out = BytesMut::new();
            out.put_i16(key);
            out.put_i16(version);
            out.put_i32(9);
            out.put_i16(-1);
            Request::parse(out.freeze())
        };
        assert!(matches!(frame(999, 0), Err(BadRequest::Kind(999))));
        assert!(matches!(
            frame(18, 99),
            Err(BadRequest::Version {
                kind: ApiKey::ApiVersions,
                version: 99,
                correlation: 9
            })
        ));
        assert!(frame(18, 0).is_ok());
        assert!(matches!(frame(18, -1), Err(BadRequest::Version { .. })));
    }

    #[tokio::test]
    async fn frames_of_absurd_lengths_are_refused() {
        for length in [-1, i32::MIN, i32::MAX] {
            let bytes = i32::to_be_bytes(length);
            assert!(Frames::new(&bytes[..]).next(FRAME_BYTES_MAX).await.is_err());
        }
        let cut = &[0, 0, 0, 3, 1, 2][..];
        assert!(Frames::new(cut).next(FRAME_BYTES_MAX).await.is_err());
        let mut whole = Frames::new(&[0, 0, 0, 2, 1, 2, 0, 0, 0, 0][..]);
        assert_eq!(
            &whole.next(FRAME_BYTES_MAX).await.unwrap().unwrap()[..],
            [1, 2]
        );
        assert!(
            whole
                .next(FRAME_BYTES_MAX)
                .await
                .unwrap()
                .unwrap()
                .is_empty()
        );
        assert!(whole.next(FRAME_BYTES_MAX).await.unwrap().is_none());
        assert!(
            Frames::new(&[][..])
                .next(FRAME_BYTES_MAX)
                .await
                .unwrap()
                .is_none()
        );
    }
}
