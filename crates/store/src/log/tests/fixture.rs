//! A log that version 1 of the format wrote is read for ever: `tests/fixtures/log-v1`.
//!
//! Do not write it anew when the format changes: add one beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{
    Durability, Finding, Log, Partition, PartitionConfig, RealDisk, Rewrite, batch,
};
use super::{at, read_all};

const CONFIG: PartitionConfig = PartitionConfig { segment_bytes: 400 };

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-v1")
}

fn batch(number: u8) -> Vec<u8> {
    batch::sample(2, &[number; 20], 1_000 + i64::from(number))
}

#[test]
fn version_1_is_read() {
    let copy = tempfile::tempdir().unwrap();
    for name in ["", "orders-0", "points-0"] {
        let (from, to) = (fixture().join(name), copy.path().join(name));
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }
    let (log, findings) = Log::open(copy.path(), Arc::new(RealDisk)).unwrap();
    let [
        Finding::Cut {
            bytes: 30, path, ..
        },
    ] = &findings[..]
    else {
        panic!("{findings:?}");
    };
    assert!(path.starts_with(copy.path().join("points-0")));
    assert_eq!(log.partitions(), ["orders-0", "points-0"]);

    let orders = log.partition("orders-0", CONFIG).unwrap();
    assert_eq!((orders.start_offset(), orders.end_offset()), (12, 40));
    let mut expected: Vec<_> = (6..20_u8)
        .map(|own| (i64::from(own) * 2, batch(own)))
        .collect();
    expected.retain(|(base, _)| *base != 16);
    let expected = expected
        .into_iter()
        .map(|(base, own)| (base, at(base, &own)));
    assert_eq!(
        read_all(&orders, 12, 1 << 20).unwrap(),
        expected.collect::<Vec<_>>()
    );
    assert_eq!(orders.offset_for_time(1_008).unwrap(), Some((18, 1_009)));

    let points = log.partition("points-0", CONFIG).unwrap();
    assert_eq!(
        read_all(&points, 0, 1 << 20).unwrap(),
        [(0, batch(1)), (2, at(2, &batch(2)))]
    );
}

#[tokio::test]
#[ignore = "has written the fixture, once; what is committed stays"]
async fn write_the_fixture() {
    let put = async |to: &Partition, number| {
        let pending = to.append(batch(number).into(), Durability::Synced).unwrap();
        pending.acknowledged().await.unwrap();
    };
    let dir = fixture();
    fs::create_dir_all(&dir).unwrap();
    let (log, _) = Log::open(&dir, Arc::new(RealDisk)).unwrap();
    let orders = log.partition("orders-0", CONFIG).unwrap();
    for number in 0..20 {
        put(&orders, number).await;
    }
    orders.advance_start(12).unwrap();
    orders
        .compact(
            &mut |bytes| match super::Header::verify(bytes).unwrap().base_offset {
                16 => Rewrite::Drop,
                _ => Rewrite::Keep,
            },
        )
        .unwrap();
    let points = log.partition("points-0", CONFIG).unwrap();
    put(&points, 1).await;
    put(&points, 2).await;
    log.close();
    // As a crash leaves it.
    let path = dir.join("points-0/00000000000000000000.log");
    let torn = [fs::read(&path).unwrap(), batch(3)[..30].to_vec()].concat();
    fs::write(path, torn).unwrap();
}
