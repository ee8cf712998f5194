//! Files of several row groups, and of texts that repeat.

use std::path::Path;
use std::sync::Arc;

use atoll_store::log::{Disk, RealDisk};

use super::*;
use crate::Kind;
use crate::columns::{LogColumns, Row, log_record};
use crate::words::needed;

const GROUP: u64 = 128 << 10;

pub(super) fn written(dir: &Path, rows: u64) -> (Arc<dyn Disk>, ColdFile) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut columns = LogColumns::new();
    for number in 0..rows {
        let mut line = crate::record::tests::line("orders", &format!("order {number} of ada"));
        line.time = atoll_base::Timestamp::from_micros(i64::try_from(number).unwrap());
        line.attributes = "{\"a\":\"always the same\"}".to_owned();
        columns.push(number, &line.row());
    }
    let file = write(&disk, dir, Kind::Logs, (1, 1), vec![columns.finish()]).unwrap();
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
    let words = |number: u64| needed(&format!("order {number} of"));
    let holds = |group, number| file.group_may_hold(group, &words(number));
    // All at once: each look reads the filter.
    let holds_all = |group, numbers: std::ops::Range<u64>| {
        file.group_may_hold(group, &numbers.flat_map(words).collect::<Vec<u64>>())
    };
    assert!(holds_all(0, 0..GROUP));
    assert!(holds_all(1, GROUP..GROUP + 100));
    assert!((1000..2000).filter(|number| holds(1, *number)).count() < 300);
    let last = file.read(1, &Kind::Logs.all_columns(), None).unwrap();
    assert_eq!(last.num_rows(), 100);
    // As long as each row's own texts are.
    let row_bytes = file.memory_bytes() / (GROUP + 100);
    assert!((100..150).contains(&row_bytes), "{row_bytes}");
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

#[test]
fn rows_of_several_batches_stand_by_service_then_time_then_number() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut columns = LogColumns::new();
    let mut batch = |rows: &[(u64, &str, i64)]| {
        for (number, service, time) in rows {
            let mut line = crate::record::tests::line(service, &format!("line {number}"));
            line.time = atoll_base::Timestamp::from_micros(*time);
            columns.push(*number, &line.row());
        }
        columns.finish()
    };
    let batches = vec![
        batch(&[(6, "b", 5), (1, "a", 7), (4, "a", 6)]),
        batch(&[(3, "c", 1), (2, "a", 6), (5, "b", 4)]),
    ];
    let file = write(&disk, dir.path(), Kind::Logs, (1, 1), batches).unwrap();
    assert_eq!(file.extent().times, (1, 7));
    let rows = file.read(0, &Kind::Logs.all_columns(), None).unwrap();
    let told: Vec<String> = (0..rows.num_rows())
        .map(|row| log_record(Row { batch: &rows, row }).message)
        .collect();
    let wanted = [2, 4, 1, 5, 6, 3].map(|number| format!("line {number}"));
    assert_eq!(told, wanted);
}
