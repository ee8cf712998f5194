//! Files of several row groups, and of texts that repeat.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::UInt64Array;
use arrow_buffer::BooleanBuffer;
use arrow_select::take::take_record_batch;
use atoll_base::{RevisionNumber, ServiceName, SpanId, Timestamp, TraceId};
use atoll_store::log::{Disk, RealDisk};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::columns::{LogColumns, Row, SpanColumns, log_record, unfold};
use crate::schema::{self, FORMAT_KEY};
use crate::words::needed;
use crate::{Kind, Span, SpanKind, SpanStatus};

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
fn ids_of_logs_that_have_none_stay_none() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut columns = LogColumns::new();
    for number in 0..300 {
        let mut line = crate::record::tests::line("orders", "x");
        line.trace = TraceId::new(u128::from(number % 3));
        line.span = SpanId::new(number % 2);
        columns.push(number, &line.row());
    }
    let rows = columns.finish();
    let file = write(&disk, dir.path(), Kind::Logs, (1, 1), vec![rows.clone()]).unwrap();
    let read = file.read(0, &Kind::Logs.all_columns(), None).unwrap();
    assert_eq!(read, unfold(Kind::Logs, &rows).unwrap());
}

/// Whatever a disk makes of a file, it is an error or rows, and the process goes on.
#[test]
fn no_damaged_byte_is_more_than_a_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut columns = SpanColumns::new();
    (0..40).for_each(|number| columns.push(number, &span(number).row()));
    let file = write(
        &disk,
        dir.path(),
        Kind::Spans,
        (1, 1),
        vec![columns.finish()],
    )
    .unwrap();
    let (name, path) = (*file.name(), file.name().path(dir.path()));
    let sound = std::fs::read(&path).unwrap();
    let read = || {
        let file = ColdFile::open(&disk, Kind::Spans, name, path.clone())?;
        file.groups_with(&[TraceId::new(7).unwrap()])?;
        file.read(0, &Kind::Spans.all_columns(), None)
    };
    read().unwrap();
    let mut damaged = 0;
    for at in 0..sound.len() {
        for byte in [sound[at] ^ 0x80, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] = byte;
            std::fs::write(&path, bytes).unwrap();
            damaged += usize::from(read().is_err());
        }
    }
    assert!(damaged > sound.len() / 4, "{damaged} of {}", sound.len());
}

fn span(number: u64) -> Span {
    Span {
        trace: TraceId::new(1 + u128::from(number / 7)).unwrap(),
        span: SpanId::new(1 + number).unwrap(),
        parent: SpanId::new(number % 3),
        start: Timestamp::from_micros(i64::try_from(number).unwrap()),
        duration: Duration::from_millis(number),
        service: ServiceName::new("orders").unwrap(),
        instance: format!("orders-r1-{}", number % 2),
        revision: RevisionNumber(1),
        name: "GET /orders/{id}".to_owned(),
        kind: SpanKind::Server,
        status: SpanStatus::Unset,
        message: String::new(),
        caller: Some("edge".to_owned()),
        http_status: Some(200),
        inferred: false,
        attributes: format!("{{\"n\":{number}}}"),
        events: String::new(),
        links: String::new(),
    }
}

#[test]
fn a_file_of_the_format_before_is_read_and_becomes_one_of_this() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut columns = SpanColumns::new();
    for number in 0..5000 {
        columns.push(number, &span(number).row());
    }
    let rows = unfold(Kind::Spans, &columns.finish()).unwrap();
    let name = Name {
        min: 0,
        max: 0,
        first: 1,
        last: 1,
    };
    let path = name.path(dir.path());
    disk.create_dir(&name.folder(dir.path())).unwrap();
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![KeyValue::new(
            FORMAT_KEY.to_owned(),
            "1".to_owned(),
        )]))
        .set_column_bloom_filter_enabled("trace".into(), true)
        .build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();

    let all = |file: &ColdFile| file.read(0, &Kind::Spans.all_columns(), None).unwrap();
    let before = ColdFile::open(&disk, Kind::Spans, name, path).unwrap();
    assert_eq!(all(&before).columns(), rows.columns());
    let now = write(&disk, dir.path(), Kind::Spans, (2, 2), vec![all(&before)]).unwrap();
    assert_eq!(all(&now).columns(), rows.columns());
    let both = vec![all(&before), all(&now)];
    let both = write(&disk, dir.path(), Kind::Spans, (3, 3), both).unwrap();
    for half in [0, 1] {
        let own = UInt64Array::from_iter_values((0..5000).map(|row| 2 * row + half));
        let own = take_record_batch(&all(&both), &own).unwrap();
        assert_eq!(own.columns(), rows.columns());
    }
    let trace = TraceId::new(1 + 4999 / 7).unwrap();
    let absent = TraceId::new(u128::MAX).unwrap();
    for file in [before, now, both] {
        assert_eq!(file.groups_with(&[absent, trace]).unwrap(), [0]);
        assert_eq!(file.groups_with(&[absent]).unwrap(), [0; 0]);
        let none = BooleanBuffer::new_unset(5000);
        let none = file.read(0, &[schema::TRACE], Some(none)).unwrap();
        let own = Kind::Spans.schema().field(schema::TRACE).data_type();
        assert_eq!((none.num_rows(), none.column(0).data_type()), (0, own));
    }
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
