//! Files of several row groups, and of texts that repeat.

use std::path::Path;
use std::sync::Arc;

use atoll_store::log::{Disk, RealDisk};

use super::*;
use crate::Kind;
use crate::columns::LogColumns;
use crate::words::needed;

const GROUP: u64 = 128 << 10;

fn written(dir: &Path, rows: u64) -> (Arc<dyn Disk>, ColdFile) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut columns = LogColumns::new();
    for number in 0..rows {
        let mut line = crate::record::tests::line("orders", &format!("order {number} of ada"));
        line.time = atoll_base::Timestamp::from_micros(i64::try_from(number).unwrap());
        line.attributes = "{\"a\":\"always the same\"}".to_owned();
        columns.push(number, &line.row());
    }
    let file = write(&disk, dir, Kind::Logs, (1, 1), &columns.finish()).unwrap();
    (disk, file)
}

#[test]
fn each_row_group_has_its_filter_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (_disk, file) = written(dir.path(), GROUP + 100);
    let groups: Vec<u64> = file
        .groups()
        .iter()
        .map(|group| group.rows as u64)
        .collect();
    assert_eq!(groups, [GROUP, 100]);
    let holds =
        |group, number: u64| file.group_may_hold(group, &needed(&format!("order {number} of")));
    assert!((0..GROUP).all(|number| holds(0, number)));
    assert!((GROUP..GROUP + 100).all(|number| holds(1, number)));
    assert!((1000..2000).filter(|number| holds(1, *number)).count() < 300);
    let last = file.read(1, &Kind::Logs.all_columns(), None).unwrap();
    assert_eq!(last.num_rows(), 100);
    // As long as each row's own texts are.
    assert!(
        file.memory_bytes() > (GROUP + 100) * 40,
        "{}",
        file.memory_bytes()
    );
}

#[test]
fn a_filter_that_is_not_there_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, file) = written(dir.path(), 1000);
    assert!(!file.group_may_hold(0, &needed("nobody said this")));
    let name = *file.name();
    let path = name.path(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"atoll.words";
    let at = bytes
        .windows(key.len())
        .rposition(|window| window == key)
        .unwrap();
    let digit = at + bytes[at..].iter().position(|byte| *byte == b'+').unwrap() - 1;
    bytes[digit] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let file = ColdFile::open(&disk, Kind::Logs, name, path).unwrap();
    assert!(file.group_may_hold(0, &needed("nobody said this")));
}
