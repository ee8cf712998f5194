//! The records of a batch, one by one, as slices of its bytes.

use bytes::Bytes;

use super::varint::Cursor;
use super::{LOG_APPEND_TIME, RecordsError, Section};

/// The records of one batch. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Records {
    bytes: Bytes,
    at: usize,
    base_offset: i64,
    base_timestamp: i64,
    /// The time of all records, if the broker set it.
    appended_at: Option<i64>,
    count: i32,
    left: i32,
    previous: i32,
    failed: bool,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Its time in milliseconds since 1970; -1: none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none deletes what the key named, where topics are compacted.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

/// The headers of a record, already checked: as bytes, read when asked for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Headers {
    bytes: Bytes,
    count: usize,
}

/// One header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its name: UTF-8, if the client keeps the rules.
    pub name: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

impl Records {
    /// `bytes`: the records uncompressed.
    pub(super) fn new(section: &Section, bytes: Bytes) -> Result<Self, RecordsError> {
        let count = section.count;
        if usize::try_from(count).is_err() {
            return Err(RecordsError::Count(count));
        }
        let by_broker = section.attributes & LOG_APPEND_TIME != 0;
        Ok(Self {
            bytes,
            at: 0,
            base_offset: section.base_offset,
            base_timestamp: section.base_timestamp,
            appended_at: by_broker.then_some(section.max_timestamp),
            count,
            left: count,
            previous: -1,
            failed: false,
        })
    }

    /// The next record, and its bytes as they stand in the batch.
    pub fn next_with_bytes(&mut self) -> Option<Result<(Record, Bytes), RecordsError>> {
        let begin = self.at;
        let record = self.next()?;
        Some(record.map(|record| (record, self.bytes.slice(begin..self.at))))
    }

    fn read(&mut self) -> Result<Record, RecordsError> {
        let mut cursor = Cursor::new(&self.bytes, self.at, self.bytes.len());
        if cursor.rest() == 0 {
            return Err(RecordsError::Count(self.count));
        }
        let length = cursor.length(0)?.unwrap_or(0);
        let end = cursor.at() + length;
        let mut cursor = Cursor::new(&self.bytes, cursor.at(), end);
        cursor.byte()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let key = field(&self.bytes, &mut cursor)?;
        let value = field(&self.bytes, &mut cursor)?;
        let headers = Headers::read(&self.bytes, &mut cursor)?;
        if cursor.rest() > 0 {
            let (at, length) = (cursor.at(), length as i64);
            return Err(RecordsError::Length { at, length });
        }
        if offset_delta <= self.previous {
            return Err(RecordsError::Offsets {
                previous: self.previous,
                given: offset_delta,
            });
        }
        self.previous = offset_delta;
        self.at = end;
        let counted = self.base_timestamp.wrapping_add(timestamp_delta);
        Ok(Record {
            offset: self.base_offset.saturating_add(i64::from(offset_delta)),
            timestamp: self.appended_at.unwrap_or(counted),
            key,
            value,
            headers,
        })
    }

    /// After the last record there must be nothing.
    fn end(&self) -> Option<RecordsError> {
        (self.at < self.bytes.len()).then_some(RecordsError::Count(self.count))
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.left == 0 {
            self.failed = true;
            return self.end().map(Err);
        }
        self.left -= 1;
        let record = self.read();
        self.failed = record.is_err();
        Some(record)
    }
}

fn field(bytes: &Bytes, cursor: &mut Cursor<'_>) -> Result<Option<Bytes>, RecordsError> {
    let length = cursor.length(-1)?;
    Ok(length.map(|length| bytes.slice(cursor.field(length))))
}

impl Headers {
    /// Goes over all of them once, so that whoever reads them later finds no error.
    fn read(bytes: &Bytes, cursor: &mut Cursor<'_>) -> Result<Self, RecordsError> {
        let count = cursor.length(0)?.unwrap_or(0);
        let start = cursor.at();
        for _ in 0..count {
            let name = cursor.length(0)?.unwrap_or(0);
            cursor.field(name);
            if let Some(value) = cursor.length(-1)? {
                cursor.field(value);
            }
        }
        let bytes = bytes.slice(start..cursor.at());
        Ok(Self { bytes, count })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in their order. Names may repeat.
    pub fn iter(&self) -> impl Iterator<Item = Header> + '_ {
        let mut at = 0;
        (0..self.count).map_while(move |_| {
            let mut cursor = Cursor::new(&self.bytes, at, self.bytes.len());
            let name = field(&self.bytes, &mut cursor).ok()??;
            let value = field(&self.bytes, &mut cursor).ok()?;
            at = cursor.at();
            Some(Header { name, value })
        })
    }
}
