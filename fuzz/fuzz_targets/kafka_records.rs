//! A batch of records as a client sent it: bounded memory, never a panic; what was read is written
//! and read again the same, in each compression.
#![no_main]

use atoll_broker::records::{self, BatchBuilder, Compression, NewRecord, Options, Record, Section};
use atoll_store::log::Header;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// What the records may take uncompressed.
const LIMIT: usize = 1 << 20;
const HEAD: usize = 61;

// The attributes, the number of records, and what follows the header.
fuzz_target!(|input: &[u8]| {
    // As a whole batch, too, though its checksum is seldom right.
    let _ = Header::verify(input);
    let Some((&[attributes, count], rest)) = input.split_first_chunk() else {
        return;
    };
    let section = Section {
        attributes: i16::from(attributes),
        base_offset: 7,
        base_timestamp: 1_000,
        max_timestamp: 2_000,
        count: i32::from(count),
        bytes: Bytes::copy_from_slice(rest),
    };
    let Ok(read) = records::read(&section, LIMIT) else {
        return;
    };
    let Ok(read) = read.collect::<Result<Vec<_>, _>>() else {
        return;
    };
    assert_eq!(read.len(), usize::from(count));
    assert!(read.iter().map(size).sum::<usize>() <= LIMIT);
    if read.is_empty() {
        return;
    }
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    let codec = [None, Gzip, Snappy, Lz4, Zstd][usize::from(count) % 5];
    assert_eq!(written(&read, codec).len(), read.len());
});

fn size(record: &Record) -> usize {
    let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers.map(|own| own.name.len() + length(&own.value)).sum();
    assert_eq!(record.headers.iter().count(), record.headers.len());
    length(&record.key) + length(&record.value) + headers
}

/// The records, through the disk's format and back.
fn written(wanted: &[Record], compression: Compression) -> Vec<Record> {
    let mut options = Options::default();
    options.compression = compression;
    let mut batch = BatchBuilder::new(options);
    for record in wanted {
        let record = NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &[],
        };
        batch.push(&record).expect("it is small");
    }
    let batch = batch.finish().expect("it has records");
    let header = Header::verify(&batch).expect("a sound batch");
    let section = Section {
        attributes: header.attributes,
        base_offset: 0,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        count: header.records,
        bytes: batch.slice(HEAD..),
    };
    let read = records::read(&section, 2 * LIMIT).expect("what was written is read");
    let read: Vec<_> = read.map(|record| record.expect("a sound record")).collect();
    for (own, wanted) in read.iter().zip(wanted) {
        assert_eq!((&own.key, &own.value), (&wanted.key, &wanted.value));
        assert_eq!(own.timestamp, wanted.timestamp);
    }
    read
}
