//! Small records of a machine's state as bytes: what kind, which version, a checksum, and a reader
//! that never reads beyond them.
//!
//! Every machine here has a few numbers and names to keep, and some have many thousands of them. The
//! layout is our own and fixed: big-endian numbers, lengths before texts. JSON was refused because of
//! the size of those many, a codec library because a format that must be read forever should not
//! change with somebody else's release.
//!
//! ```text
//! kind: 4 bytes · version: u16 · body · crc32c of all before: u32
//! ```

use thiserror::Error;

/// Bytes before the body.
const HEAD: usize = 6;
/// Bytes after the body.
const TAIL: usize = 4;

/// Why stored state could not be read. The state is useless then: what it said must be found again
/// from the log, or the store is damaged.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SealError {
    /// Not written as this kind of state at all.
    #[error("these {0} bytes are not the state that was expected")]
    Foreign(usize),
    /// Written by a newer program.
    #[error("version {0} of this state is not known")]
    Version(u16),
    /// Bytes were lost or changed.
    #[error("the checksum of the state does not fit: {stored:08x} is stored, {found:08x} found")]
    Checksum {
        /// What the state says.
        stored: u32,
        /// What its bytes amount to.
        found: u32,
    },
    /// The checksum fits and the body makes no sense.
    #[error("the state breaks off or has too much at byte {0}")]
    Body(usize),
}

/// Writes the body of one state.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: [u8; 4], version: u16) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&kind);
        bytes.extend_from_slice(&version.to_be_bytes());
        Self(bytes)
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// How many of something follow.
    pub(crate) fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("a machine holds fewer than 2^32 of anything");
        self.0.extend_from_slice(&count.to_be_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        self.u8(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let checksum = crc32c::crc32c(&self.0);
        self.0.extend_from_slice(&checksum.to_be_bytes());
        self.0
    }
}

/// Reads the body of one state, whose checksum was found right.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Opens bytes that must be of this kind and of exactly this version, the only one so far.
    pub(crate) fn open(kind: [u8; 4], version: u16, bytes: &'a [u8]) -> Result<Self, SealError> {
        let body_end = bytes.len().checked_sub(TAIL).filter(|end| *end >= HEAD);
        let Some(body_end) = body_end.filter(|_| bytes.starts_with(&kind)) else {
            return Err(SealError::Foreign(bytes.len()));
        };
        let (sealed, tail) = bytes.split_at(body_end);
        let stored = u32::from_be_bytes(tail.try_into().expect("split at four from the end"));
        let found = crc32c::crc32c(sealed);
        if stored != found {
            return Err(SealError::Checksum { stored, found });
        }
        let written = u16::from_be_bytes([sealed[4], sealed[5]]);
        if written != version {
            return Err(SealError::Version(written));
        }
        Ok(Self {
            body: sealed,
            at: HEAD,
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SealError> {
        let bytes = self.slice(N)?;
        Ok(bytes.try_into().expect("a slice of that length"))
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], SealError> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let found = rest.get(..length).ok_or(SealError::Body(self.at))?;
        self.at += length;
        Ok(found)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, SealError> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, SealError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.nonsense()),
        }
    }

    pub(crate) fn i16(&mut self) -> Result<i16, SealError> {
        self.take().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, SealError> {
        self.take().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, SealError> {
        self.take().map(i64::from_be_bytes)
    }

    /// How many follow, each of at least `least` bytes: more than fit are refused before anybody
    /// makes room for them.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, SealError> {
        let count = u32::from_be_bytes(self.take()?) as usize;
        let room = (self.body.len() - self.at) / least.max(1);
        if count > room {
            return Err(self.nonsense());
        }
        Ok(count)
    }

    pub(crate) fn text(&mut self) -> Result<String, SealError> {
        let length = self.count(1)?;
        let bytes = self.slice(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.nonsense())
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>, SealError> {
        self.flag()?.then(|| self.text()).transpose()
    }

    /// The error for a value that was read and cannot be.
    pub(crate) fn nonsense(&self) -> SealError {
        SealError::Body(self.at)
    }

    /// All bytes must have been read.
    pub(crate) fn finish(self) -> Result<(), SealError> {
        if self.at == self.body.len() {
            Ok(())
        } else {
            Err(self.nonsense())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: [u8; 4] = *b"TEST";

    fn written() -> Vec<u8> {
        let mut writer = Writer::new(KIND, 3);
        writer.i64(-7);
        writer.optional_text(Some("nämlich"));
        writer.optional_text(None);
        writer.finish()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written();
        let mut reader = Reader::open(KIND, 3, &bytes).unwrap();
        assert_eq!(reader.i64(), Ok(-7));
        assert_eq!(reader.optional_text(), Ok(Some("nämlich".to_owned())));
        assert_eq!(reader.optional_text(), Ok(None));
        reader.finish().unwrap();
    }

    #[test]
    fn every_changed_or_missing_byte_is_seen() {
        let bytes = written();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(Reader::open(KIND, 3, &changed).is_err(), "byte {at}");
            assert!(Reader::open(KIND, 3, &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_version_and_another_kind_are_told_apart() {
        let bytes = written();
        assert_eq!(
            Reader::open(KIND, 2, &bytes).unwrap_err(),
            SealError::Version(3)
        );
        assert_eq!(
            Reader::open(*b"ELSE", 3, &bytes).unwrap_err(),
            SealError::Foreign(bytes.len())
        );
    }

    #[test]
    fn a_count_that_cannot_fit_is_refused_before_room_is_made() {
        let mut writer = Writer::new(KIND, 1);
        writer.count(4_000_000_000);
        let bytes = writer.finish();
        let mut reader = Reader::open(KIND, 1, &bytes).unwrap();
        assert_eq!(reader.count(8), Err(SealError::Body(10)));
    }
}
