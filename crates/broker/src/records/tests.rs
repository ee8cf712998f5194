//! Records of others read, our own written and read, and everything that must be refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::txn::{Outcome, Producer};

const MIB: usize = 1024 * 1024;
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn unhex(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

/// The records of a whole batch, whose length and checksum must be right.
fn section(batch: &Bytes) -> Section {
    let i32_at = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().unwrap());
    let i64_at = |at: usize| i64::from_be_bytes(batch[at..at + 8].try_into().unwrap());
    assert_eq!(i32_at(8) as usize, batch.len() - 12, "length");
    assert_eq!(batch[16], 2, "magic");
    assert_eq!(
        i32_at(17).cast_unsigned(),
        crc32c::crc32c(&batch[21..]),
        "checksum"
    );
    Section {
        attributes: i16::from_be_bytes([batch[21], batch[22]]),
        base_offset: i64_at(0),
        base_timestamp: i64_at(27),
        max_timestamp: i64_at(35),
        count: i32_at(57),
        bytes: batch.slice(61..),
    }
}

fn all(section: &Section) -> Result<Vec<Record>, RecordsError> {
    read(section, MIB)?.collect()
}

/// A batch of records that are written by hand.
fn raw(count: i32, bytes: &[u8]) -> Section {
    Section {
        attributes: 0,
        base_offset: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        count,
        bytes: Bytes::copy_from_slice(bytes),
    }
}

const NAMED: [(&str, Option<&[u8]>); 2] = [("trace", Some(b"abc")), ("empty", None)];

/// What the samples contain.
fn sample_records(push: &mut dyn FnMut(i64, NewRecord<'_>)) {
    for number in 0..4_i64 {
        let key = format!("k{number}");
        let value = format!("{}{number}", "value ".repeat(20));
        let record = NewRecord {
            timestamp: 1_763_690_400_000 + number * 10,
            key: (number % 2 == 1).then_some(key.as_bytes()),
            value: (number != 2).then_some(value.as_bytes()),
            headers: if number == 1 { &NAMED } else { &[] },
        };
        push(number, record);
    }
}

#[test]
fn batches_of_another_implementation_are_read() {
    for (codec, text) in samples::BATCHES {
        let section = section(&unhex(text));
        assert_eq!(Compression::of(section.attributes).unwrap(), codec);
        let records = all(&section).unwrap();
        assert_eq!(records.len(), 4);
        sample_records(&mut |number, expected| {
            let found = &records[usize::try_from(number).unwrap()];
            assert_eq!(found.offset, number);
            assert_eq!(found.timestamp, expected.timestamp);
            assert_eq!(found.key.as_deref(), expected.key);
            assert_eq!(found.value.as_deref(), expected.value);
            let headers: Vec<Header> = found.headers.iter().collect();
            assert_eq!(headers.len(), expected.headers.len());
            for (header, (name, value)) in headers.iter().zip(expected.headers) {
                assert_eq!(header.name, name);
                assert_eq!(header.value.as_deref(), *value);
            }
        });
    }
}

#[test]
fn our_batch_is_byte_for_byte_that_of_another_implementation() {
    let producer = Producer { id: 7, epoch: 3 };
    let mut batch = BatchBuilder::new(Options {
        producer: Some((producer, 11)),
        ..Options::default()
    });
    sample_records(&mut |_, record| batch.push(&record).unwrap());
    let size = batch.size();
    let ours = batch.finish().unwrap();
    assert_eq!(ours.len(), size);
    let theirs = unhex(samples::BATCHES[0].1);
    assert_eq!(ours[..12], theirs[..12]);
    // The leader epoch between them is the broker's to set.
    assert_eq!(ours[16..], theirs[16..]);
}

#[test]
fn what_does_not_fit_the_limit_is_refused() {
    let (_, text) = samples::BATCHES[0];
    let size = unhex(text).len() - 61;
    for (codec, text) in samples::BATCHES {
        let section = section(&unhex(text));
        assert!(read(&section, size).is_ok(), "{codec:?}");
        let refused = read(&section, size - 1);
        assert!(
            matches!(refused, Err(RecordsError::TooLarge(_))),
            "{codec:?}: {refused:?}"
        );
    }
}

#[test]
fn a_few_bytes_never_become_many() {
    let zeros = vec![0; 64 * MIB];
    for codec in CODECS {
        let bomb = Bytes::from(compress(codec, &zeros).unwrap());
        let refused = decompress(codec, &bomb, MIB);
        assert!(
            matches!(refused, Err(RecordsError::TooLarge(MIB))),
            "{codec:?}"
        );
    }
    // A block that claims to become 4 GiB.
    let claims = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    let refused = decompress(Compression::Snappy, &claims, MIB);
    assert!(matches!(refused, Err(RecordsError::TooLarge(MIB))));
}

#[test]
fn snappy_is_read_without_frames_too() {
    let raw = snap::raw::Encoder::new().compress_vec(b"as librdkafka may send it");
    let bytes = decompress(Compression::Snappy, &raw.unwrap().into(), MIB).unwrap();
    assert_eq!(bytes, "as librdkafka may send it");
}

#[test]
fn zstd_is_read_from_its_highest_level() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 22).unwrap();
    std::io::Write::write_all(&mut encoder, b"of a size that it does not know").unwrap();
    let compressed = encoder.finish().unwrap();
    let bytes = decompress(Compression::Zstd, &compressed.into(), MIB).unwrap();
    assert_eq!(bytes, "of a size that it does not know");
}

#[test]
fn a_compression_of_the_future_is_named() {
    let mut section = raw(1, &[]);
    section.attributes = 5;
    let refused = read(&section, MIB);
    assert!(matches!(refused, Err(RecordsError::UnknownCompression(5))));
}

#[test]
fn a_cut_batch_is_never_taken_for_a_whole_one() {
    for (codec, text) in samples::BATCHES {
        let whole = section(&unhex(text));
        for end in 0..whole.bytes.len() {
            let cut = Section {
                bytes: whole.bytes.slice(..end),
                ..whole.clone()
            };
            let outcome = all(&cut);
            // The last bytes of a frame tell only that it ends.
            let complete = outcome.as_ref().is_ok_and(|records| records.len() == 4);
            let end_mark = codec == Compression::Lz4 && end >= whole.bytes.len() - 4;
            assert!(
                outcome.is_err() || (complete && end_mark),
                "{codec:?} {end}"
            );
        }
    }
}

#[test]
fn the_count_of_the_header_must_be_right() {
    let record = [12, 0, 0, 0, 1, 1, 0];
    assert_eq!(all(&raw(1, &record)).unwrap().len(), 1);
    for count in [-1, 0, 2, i32::MAX] {
        let refused = all(&raw(count, &record));
        assert!(matches!(refused, Err(RecordsError::Count(found)) if found == count));
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for (record, at) in [
        // The record's own: more than is there, negative.
        (&[14, 0, 0, 0, 1, 1, 0][..], 0),
        (&[1, 0, 0, 0, 1, 1, 0], 0),
        // The key: too long, below null.
        (&[12, 0, 0, 0, 6, 1, 0], 4),
        (&[12, 0, 0, 0, 3, 1, 0], 4),
        // The value.
        (&[12, 0, 0, 0, 1, 4, 0], 5),
        // More headers than bytes, fewer than none.
        (&[12, 0, 0, 0, 1, 1, 2], 6),
        (&[12, 0, 0, 0, 1, 1, 1], 6),
        // A header without a name, and one that goes beyond the end.
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], 7),
        (&[16, 0, 0, 0, 1, 1, 2, 0, 2], 8),
        // A byte too many within the record.
        (&[14, 0, 0, 0, 1, 1, 0, 0], 7),
    ] {
        let refused = all(&raw(1, record));
        assert!(
            matches!(refused, Err(RecordsError::Length { at: found, .. }) if found == at),
            "{record:?}: {refused:?}"
        );
    }
    let cut = all(&raw(1, &[4, 0, 0]));
    assert!(matches!(cut, Err(RecordsError::Truncated(3))));
}

#[test]
fn a_field_does_not_reach_into_the_next_record() {
    // The key claims two bytes; its record has one left, the batch many more.
    let refused = all(&raw(2, &[10, 0, 0, 0, 4, 7, 12, 0, 0, 2, 1, 1, 0]));
    assert!(matches!(refused, Err(RecordsError::Length { at: 4, .. })));
}

#[test]
fn offsets_rise_and_may_have_gaps() {
    let two = |second: u8| raw(2, &[12, 0, 0, 2, 1, 1, 0, 12, 0, 0, second, 1, 1, 0]);
    let offsets: Vec<i64> = all(&two(8)).unwrap().iter().map(|one| one.offset).collect();
    assert_eq!(offsets, [1, 4], "compaction leaves gaps");
    for second in [2, 0] {
        assert!(matches!(
            all(&two(second)),
            Err(RecordsError::Offsets { previous: 1, .. })
        ));
    }
}

#[test]
fn after_an_error_there_are_no_more_records() {
    let mut records = read(&raw(2, &[0xff; 8]), MIB).unwrap();
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none());
}

#[test]
fn the_brokers_time_is_that_of_all_records() {
    let mut section = raw(1, &[12, 0, 80, 0, 1, 1, 0]);
    section.base_timestamp = 1_000;
    section.max_timestamp = 5_000;
    assert_eq!(all(&section).unwrap()[0].timestamp, 1_040);
    section.attributes = LOG_APPEND_TIME;
    assert_eq!(all(&section).unwrap()[0].timestamp, 5_000);
}

#[test]
fn a_marker_says_how_a_transaction_ends() {
    let producer = Producer { id: 9, epoch: 2 };
    for (outcome, code) in [(Outcome::Abort, 0), (Outcome::Commit, 1)] {
        let batch = control_batch(producer, outcome, 1_000);
        let section = section(&batch);
        assert_eq!(section.attributes, 0x30, "transactional and control");
        assert_eq!(batch[43..57], unhex("00000000000000090002ffffffff"));
        let record = all(&section).unwrap().remove(0);
        assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, code][..]));
        assert_eq!(record.value.as_deref(), Some(&[0; 6][..]));
        assert_eq!(outcome_of(&record).unwrap(), Some(outcome));
        let other = Record {
            key: Some(Bytes::from_static(&[0, 0, 0, 2])),
            ..record.clone()
        };
        assert_eq!(outcome_of(&other).unwrap(), None);
        let short = Record {
            key: None,
            ..record
        };
        assert!(outcome_of(&short).is_err());
    }
}

#[test]
fn a_batch_has_a_record() {
    let empty = BatchBuilder::new(Options::default());
    assert!(empty.is_empty());
    assert!(matches!(empty.finish(), Err(RecordsError::Empty)));
}

type Fields = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
);

fn any_fields() -> impl Strategy<Value = Fields> {
    let field = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let headers = prop::collection::vec((".{0,8}", field()), 0..4);
    (any::<i64>(), field(), field(), headers)
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        fields in prop::collection::vec(any_fields(), 1..20),
        codec in prop::sample::select(&CODECS[..]),
    ) {
        let mut batch = BatchBuilder::new(Options { compression: codec, ..Options::default() });
        for (timestamp, key, value, headers) in &fields {
            let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            let headers: Vec<_> = named.collect();
            batch.push(&NewRecord {
                timestamp: *timestamp,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            }).unwrap();
        }
        let section = section(&batch.finish().unwrap());
        prop_assert_eq!(section.max_timestamp, fields.iter().map(|one| one.0).max().unwrap());
        let records = all(&section).unwrap();
        let found: Vec<Fields> = records.iter().map(|record| {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let value = |value: Option<Bytes>| value.map(|value| value.to_vec());
            let headers = record.headers.iter();
            let headers = headers.map(|one| (text(&one.name), value(one.value)));
            (
                record.timestamp,
                value(record.key.clone()),
                value(record.value.clone()),
                headers.collect(),
            )
        }).collect();
        prop_assert_eq!(found, fields);
    }

    /// Damaged batches are read or refused, and never panic or take more than was allowed.
    #[test]
    fn no_bytes_are_too_strange(
        sample in 0..5_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut section = section(&unhex(samples::BATCHES[sample].1));
        let mut bytes = section.bytes.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        section.bytes = bytes.into();
        if let Ok(records) = read(&section, 64 * 1024) {
            for record in records.flatten() {
                prop_assert_eq!(record.headers.iter().count(), record.headers.len());
            }
        }
    }

    #[test]
    fn noise_is_refused_or_read(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        attributes in 0..8_i16,
        count in 0..20_i32,
    ) {
        let section = Section { attributes, ..raw(count, &bytes) };
        if let Ok(records) = read(&section, 64 * 1024) {
            prop_assert!(records.count() <= 21);
        }
    }
}
