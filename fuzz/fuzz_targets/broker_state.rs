//! The broker's own state as it is kept on disk, under a checksum that fits: no panic, no memory
//! for what is not there; and what was read is written and read again the same.
#![no_main]

use atoll_broker::open_txns::OpenTxns;
use atoll_broker::producers::{Limits, Producers};
use atoll_broker::{group, txn};
use libfuzzer_sys::fuzz_target;

// The first byte says which kind, the rest is the body.
fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else {
        return;
    };
    let kinds: [(&[u8; 4], fn(&[u8]) -> Option<Vec<u8>>); 4] = [
        (b"AGRP", |bytes| Some(group::Snapshot::from_bytes(bytes).ok()?.to_bytes())),
        (b"ATXN", |bytes| Some(txn::Snapshot::from_bytes(bytes).ok()?.to_bytes())),
        (b"APRD", |bytes| {
            let (producers, next) = Producers::restore(Limits::default(), bytes).ok()?;
            Some(producers.snapshot(next))
        }),
        (b"ATXP", |bytes| {
            let (open, next) = OpenTxns::restore(bytes).ok()?;
            Some(open.snapshot(next))
        }),
    ];
    let (name, again) = kinds[usize::from(*kind) % kinds.len()];
    let mut bytes = [&name[..], &1_u16.to_be_bytes(), body].concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    if let Some(first) = again(&bytes) {
        assert_eq!(again(&first).as_ref(), Some(&first));
    }
});
