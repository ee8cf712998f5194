//! Files that are not as they were written: every byte flipped, every file cut off at every length,
//! every file gone. What is read is what was written, or an error; and nothing that was acknowledged
//! before the checkpoint goes without a word.

use std::path::{Path, PathBuf};

use super::super::sim::SimDisk;
use super::super::{Disk as _, Error, Finding, Partition, Rewrite, batch};
use super::{ROOT, Rig, at};

const NAME: &str = "orders-0";

/// A log that was closed, and what is in it: four segments, a gap, a start.
fn written() -> (SimDisk, Vec<(i64, Vec<u8>)>) {
    let disk = SimDisk::new(1, Path::new(ROOT));
    let (mut rig, _) = Rig::open(&disk).unwrap();
    let own = rig.partition(NAME, 300).unwrap();
    let mut out = Vec::new();
    for number in 0..14 {
        let batch = batch::sample(2, &[number; 12], i64::from(number));
        let base = rig.append(&own, &batch).unwrap();
        out.push((base, at(base, &batch)));
    }
    own.compact(
        &mut |bytes| match super::Header::verify(bytes).unwrap().base_offset {
            6 => Rewrite::Drop,
            _ => Rewrite::Keep,
        },
    )
    .unwrap();
    own.advance_start(11).unwrap();
    out.retain(|(base, _)| *base >= 10);
    rig.close();
    (disk, out)
}

/// Reads all that can be read, over what cannot; tells whether there was an error.
fn read(own: &Partition, expected: &[(i64, Vec<u8>)]) -> (usize, bool) {
    let (mut found, mut errors) = (0, false);
    let mut next = own.start_offset();
    while next < own.durable_offset() {
        match own.read(next, 1, i64::MAX) {
            Ok(read) if read.batches.is_empty() => next = read.next,
            Ok(read) => {
                let base = super::Header::verify(&read.batches).unwrap().base_offset;
                let same = expected
                    .iter()
                    .any(|(own, bytes)| *own == base && read.batches == bytes);
                assert!(same, "{base} is not what was written");
                assert!(read.next > next);
                next = read.next;
                found += 1;
            }
            Err(Error::Lost { until, .. }) => (next, errors) = (until, true),
            Err(Error::Corrupt { .. }) => (next, errors) = (next + 1, true),
            Err(error) => panic!("{error}"),
        }
    }
    (found, errors)
}

/// Starts on a damaged disk, looks, and appends something.
fn look(disk: &SimDisk, expected: &[(i64, Vec<u8>)], what: &str) -> (Vec<Finding>, (i64, Vec<u8>)) {
    let (mut rig, findings) = Rig::open(disk).unwrap();
    let own = rig.partition(NAME, 300).unwrap();
    // What was deleted may be back, and that is told.
    let all = written_ever();
    let (found, errors) = read(&own, &all);
    let complete = found >= expected.len();
    assert!(
        complete || errors || !findings.is_empty(),
        "{what}: nobody tells"
    );
    // It goes on, at offsets that nobody has had.
    let base = rig.append(&own, &expected[0].1).unwrap();
    let lost = findings
        .iter()
        .any(|own| matches!(own, Finding::Lost { .. }));
    assert!(
        base >= 28 || (!findings.is_empty() && !lost),
        "{what}: {base} was given twice"
    );
    (findings, (base, at(base, &expected[0].1)))
}

fn written_ever() -> Vec<(i64, Vec<u8>)> {
    (0..14_u8)
        .map(|number| (i64::from(number) * 2, [number; 12]))
        .map(|(base, payload)| (base, at(base, &batch::sample(2, &payload, base / 2))))
        .collect()
}

fn files(disk: &SimDisk) -> Vec<(PathBuf, usize)> {
    let files = disk.files().into_iter();
    files
        .map(|(path, length)| (path, usize::try_from(length).unwrap()))
        .collect()
}

#[test]
fn a_flipped_byte_is_never_given_out() {
    let (disk, expected) = written();
    assert_eq!(look(&disk.copy(), &expected, "sound").0, []);
    let mut told = 0;
    for (path, length) in files(&disk) {
        for place in 0..length {
            for bits in [0x01, 0x80] {
                let what = format!("byte {place} of {} by {bits:x}", path.display());
                let damaged = disk.copy();
                damaged.damage(&path, place, bits);
                told += look(&damaged, &expected, &what).0.len();

                // While it is open.
                let damaged = disk.copy();
                let (rig, _) = Rig::open(&damaged).unwrap();
                let own = rig.partition(NAME, 300).unwrap();
                damaged.damage(&path, place, bits);
                let (found, errors) = read(&own, &expected);
                assert!(found == expected.len() || errors, "{what}: nobody tells");
            }
        }
    }
    assert!(told > 100, "{told}");
}

#[test]
fn a_file_that_was_cut_off_or_is_gone_is_told() {
    let (disk, expected) = written();
    for (path, length) in files(&disk) {
        for place in 0..length {
            let damaged = disk.copy();
            damaged.truncate(&path, place);
            let what = format!("{} cut off at {place}", path.display());
            let (_, more) = look(&damaged, &expected, &what);
            // And at every later start.
            let (rig, findings) = Rig::open(&damaged).unwrap();
            let mut all = written_ever();
            all.retain(|(base, _)| *base != more.0);
            all.push(more);
            let (found, errors) = read(&rig.log.known(NAME).unwrap(), &all);
            assert!(
                found > expected.len() || errors || !findings.is_empty(),
                "{what}: forgotten"
            );
        }
        let damaged = disk.copy();
        damaged.remove(&path).unwrap();
        look(&damaged, &expected, &format!("{} gone", path.display()));
    }
    // The whole folder.
    disk.remove_dir(&Path::new(ROOT).join(NAME)).unwrap();
    let (findings, _) = look(&disk, &expected, "the folder gone");
    assert!(matches!(
        findings[..],
        [Finding::Lost {
            from: 11,
            until: 28,
            ..
        }]
    ));
}

#[test]
fn a_flipped_byte_behind_the_checkpoint_is_cut_off_and_kept() {
    let disk = SimDisk::new(1, Path::new(ROOT));
    let (mut rig, _) = Rig::open(&disk).unwrap();
    let own = rig.partition(NAME, 1 << 20).unwrap();
    let batch = batch::sample(1, b"payload", 0);
    for _ in 0..3 {
        rig.append(&own, &batch).unwrap();
    }
    drop(rig);
    let (path, length) = files(&disk).remove(0);
    for place in 16..length {
        let damaged = disk.copy();
        damaged.damage(&path, place, 0x10);
        let (rig, findings) = Rig::open(&damaged).unwrap();
        let whole = (place - 16) / batch.len();
        let own = rig.log.known(NAME).unwrap();
        let found = super::read_all(&own, 0, 1 << 20).unwrap();
        assert_eq!(found.len(), whole, "byte {place}");
        let [Finding::Cut { bytes, kept, .. }] = &findings[..] else {
            panic!("byte {place}: {findings:?}");
        };
        assert_eq!(*bytes, (length - 16 - whole * batch.len()) as u64);
        assert!(damaged.files().contains(&(kept.clone(), *bytes)));
    }
}
