//! A log whose files are not as they were written: it opens, what is read is sound and in order,
//! and it goes on behind what is there.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use atoll_store::log::sim::SimDisk;
use atoll_store::log::{
    Disk, Durability, Error, Header, Log, Partition, PartitionConfig, batch,
};
use libfuzzer_sys::fuzz_target;

const ROOT: &str = "/log";
const NAME: &str = "orders-0";
const CONFIG: PartitionConfig = PartitionConfig { segment_bytes: 400 };

/// A log of three segments, that was closed, and its files.
static WRITTEN: LazyLock<(SimDisk, Vec<(PathBuf, usize)>)> = LazyLock::new(|| {
    let disk = SimDisk::new(1, Path::new(ROOT));
    let (log, own) = open(&disk);
    for number in 0..12 {
        let batch = batch::sample(2, &[number; 20], i64::from(number));
        own.append(batch.into(), Durability::Synced).expect("the disk is sound");
    }
    log.close();
    let (log, own) = open(&disk);
    own.advance_start(3).expect("the disk is sound");
    log.close();
    let files = disk.files().into_iter();
    let files = files.map(|(path, length)| (path, usize::try_from(length).expect("small")));
    let files = files.collect();
    (disk, files)
});

// Bytes that are changed (file, place, bits), the content of one file, and what is added to one.
fuzz_target!(|input: (Vec<(u8, u16, u8)>, (u8, Vec<u8>), (u8, Vec<u8>))| {
    let (changes, content, added) = input;
    let (written, files) = &*WRITTEN;
    let disk = written.copy();
    let choose = |file: u8| &files[usize::from(file) % files.len()];
    for (file, place, bits) in changes {
        let (path, length) = choose(file);
        disk.damage(path, usize::from(place) % length, bits);
    }
    for (replaces, (file, bytes)) in [(true, content), (false, added)] {
        let (path, length) = choose(file);
        if !bytes.is_empty() {
            let file = disk.open(path, false).expect("the file is there");
            let place = if replaces { 0 } else { *length };
            file.set_len(place as u64).expect("the disk is sound");
            file.write_at(&bytes, place as u64).expect("the disk is sound");
        }
    }
    let (log, own) = open(&disk);
    look(&own);
    let end = own.end_offset();
    let more = batch::sample(1, b"more", 0);
    let appended = own.append(more.into(), Durability::Synced);
    log.close();
    if appended.is_ok() && end < i64::MAX {
        let (log, own) = open(&disk);
        assert_eq!(own.end_offset(), end + 1);
        look(&own);
        log.close();
    }
});

fn open(disk: &SimDisk) -> (Log, Partition) {
    let (log, _) = Log::open(Path::new(ROOT), Arc::new(disk.clone())).expect("a log opens");
    let own = log.partition(NAME, CONFIG).expect("the disk is sound");
    (log, own)
}

/// Reads until there is an error.
fn look(own: &Partition) {
    let mut next = own.start_offset();
    while next < own.durable_offset() {
        match own.read(next, 100, i64::MAX) {
            Ok(read) => {
                let mut rest = &read.batches[..];
                while !rest.is_empty() {
                    let header = Header::verify(rest).expect("what is read is sound");
                    assert!(header.last_offset() >= next);
                    next = header.next_offset();
                    rest = &rest[header.bytes..];
                }
                assert!(next <= read.next);
                next = read.next;
            }
            Err(Error::Corrupt { .. } | Error::Lost { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let _ = own.offset_for_time(5);
}
