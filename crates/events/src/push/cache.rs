//! Records that were read and are not done, as far as memory allows.
//!
//! Whoever is not here is read again when it is its turn: a key that fails for hours costs offsets,
//! not payloads.

use std::collections::BTreeMap;

use crate::record::Record;

/// Payloads of one subscription take about this much, and what is under way.
const BYTES_MAX: usize = 16 << 20;

/// Records of one subscription, by partition and offset.
#[derive(Debug, Default)]
pub(super) struct Cache {
    records: BTreeMap<(i32, i64), Record>,
    bytes: usize,
}

impl Cache {
    /// Keeps a record; if there is no room, the latest of the partition goes.
    pub(super) fn put(&mut self, record: Record) {
        let place = (record.place.partition, record.place.offset);
        self.bytes += size(&record);
        if let Some(before) = self.records.insert(place, record) {
            self.bytes -= size(&before);
        }
        while self.bytes > BYTES_MAX {
            let Some((_, last)) = self.records.pop_last() else {
                return;
            };
            self.bytes -= size(&last);
        }
    }

    pub(super) fn take(&mut self, partition: i32, offset: i64) -> Option<Record> {
        let record = self.records.remove(&(partition, offset))?;
        self.bytes -= size(&record);
        Some(record)
    }

    /// Forgets a partition.
    pub(super) fn clear(&mut self, partition: i32) {
        self.records.retain(|(own, _), _| *own != partition);
        self.bytes = self.records.values().map(size).sum();
    }

    pub(super) fn first(&self) -> Option<&Record> {
        self.records.values().min_by_key(|record| record.time)
    }
}

fn size(record: &Record) -> usize {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|header| header.name.len() + length(&header.value) + 64)
        .sum();
    length(&record.key) + length(&record.value) + headers + 128
}
