//! Files of metrics: written, cut anywhere, rewritten, removed.

use std::sync::Arc;

use super::*;
use crate::metrics::point::{Kind, Labels};
use crate::metrics::{Explicit, Histogram};

const NOON_MINUTE: i64 = 29_395_440;

fn key(name: &str) -> Key {
    let labels: Labels = [("service", "orders")].into_iter().collect();
    Key {
        name: name.into(),
        kind: if name == "h" {
            Kind::Histogram
        } else {
            Kind::Counter
        },
        labels: Arc::new(labels),
    }
}

fn item(name: &str, minute: i64, value: u32) -> (Pending, Meaning) {
    let cell = if name == "h" {
        Cell::Histogram(Histogram::Explicit(Explicit {
            bounds: [0.5].into(),
            counts: vec![value.into(), 1],
            sum: value.into(),
            min: None,
            max: None,
        }))
    } else {
        Cell::Counter(value.into())
    };
    let meaning = Meaning {
        unit: "s".into(),
        help: "what it is".into(),
    };
    let minute = NOON_MINUTE + minute;
    (
        Pending {
            key: key(name),
            minute,
            cell,
        },
        meaning,
    )
}

/// Puts these into the files of their days.
fn append(history: &mut History, items: &[(Pending, Meaning)]) {
    history.note(items.to_vec()).unwrap();
    history.flush().unwrap();
}

/// The counters that a new start finds, in minutes after noon.
fn counters(dir: &Path) -> Vec<(i64, f64)> {
    let mut history = History::open(dir.to_owned()).unwrap();
    let mut found = Vec::new();
    history.restore(|pending, meaning| {
        assert_eq!(meaning.unit.as_ref(), "s");
        if let Cell::Counter(value) = pending.cell {
            found.push((pending.minute - NOON_MINUTE, value));
        }
    });
    found
}

fn file_in(dir: &Path, ending: &str) -> PathBuf {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut wanted = names.filter(|path| path.extension().unwrap() == ending);
    wanted.next().unwrap()
}

#[test]
fn parts_of_a_minute_add_up_over_a_new_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    append(
        &mut history,
        &[item("a", 0, 1), item("h", 0, 5), item("a", 1, 2)],
    );
    drop(history);
    let mut history = History::open(dir.path().to_owned()).unwrap();
    append(&mut history, &[item("a", 1, 3), item("b", 2, 9)]);
    assert_eq!(counters(dir.path()), [(0, 1.0), (1, 5.0), (2, 9.0)]);
}

#[test]
fn a_file_that_is_cut_anywhere_keeps_what_is_before_and_can_be_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    let mut whole = vec![0];
    for minute in 0..4 {
        append(&mut history, &[item("a", minute, 1), item("h", minute, 2)]);
        whole.push(fs::metadata(file_in(dir.path(), "minutes")).unwrap().len());
    }
    drop(history);
    let path = file_in(dir.path(), "minutes");
    let bytes = fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let kept = whole[1..].iter().filter(|end| **end <= cut as u64).count();
        let mut history = History::open(dir.path().to_owned()).unwrap();
        assert_eq!(counters(dir.path()).len(), kept, "cut at {cut}");
        append(&mut history, &[item("a", 10, 7)]);
        let found = counters(dir.path());
        assert_eq!(
            (found.len(), found.last()),
            (kept + 1, Some(&(10, 7.0))),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_broken_byte_ends_the_file_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    for minute in 0..3 {
        append(&mut history, &[item("a", minute, 1)]);
    }
    let path = file_in(dir.path(), "minutes");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(counters(dir.path()), [(0, 1.0), (1, 1.0)]);
}

#[test]
fn past_days_are_rewritten_coarser_with_the_same_sums_and_removed_when_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    let items: Vec<_> = (0..60)
        .flat_map(|minute| [item("a", minute, 2), item("h", minute, 1)])
        .collect();
    append(&mut history, &items);
    let noon = Timestamp::from_micros(MINUTES.begin(NOON_MINUTE));
    let month = Duration::from_secs(30 * 24 * 3600);
    let days = |count: u64| noon.after(Duration::from_secs(count * 24 * 3600));
    history.tidy(days(1), month).unwrap();
    assert_eq!(counters(dir.path()).len(), 60, "yesterday stays in minutes");
    history.tidy(days(2), month).unwrap();
    assert!(counters(dir.path()).is_empty());
    let read = |history: &History, name: &str| {
        let (wanted, mut found) = (key(name), Vec::new());
        let (since, until) = (noon.as_micros(), days(1).as_micros());
        for part in history.parts(since, until) {
            part.read(
                since,
                until,
                |key| *key == wanted,
                |_, micros, cell| {
                    found.push((micros - noon.as_micros(), cell.clone()));
                },
            );
        }
        found
    };
    let found = read(&history, "a");
    let wanted: Vec<_> = (0..6)
        .map(|at| (at * 600_000_000, Cell::Counter(20.0)))
        .collect();
    assert_eq!(found, wanted);
    let found = read(&history, "h");
    let Some((_, Cell::Histogram(own))) = found.first() else {
        panic!("a histogram: {found:?}")
    };
    assert_eq!((own.count(), own.sum()), (20, 10.0));
    history.tidy(days(31), month).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_being_read_does_not_change_by_what_is_written_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    let noon = Timestamp::from_micros(MINUTES.begin(NOON_MINUTE));
    let (month, after) = (Duration::from_secs(30 * 24 * 3600), |days: u64| {
        noon.after(Duration::from_secs(days * 24 * 3600))
    });
    append(&mut history, &[item("a", 0, 2)]);
    let (since, until) = (noon.as_micros(), after(1).as_micros());
    let read = |parts: Vec<Part>| {
        let mut found = Vec::new();
        for part in parts {
            part.read(
                since,
                until,
                |_| true,
                |_, _, cell| found.push(cell.clone()),
            );
        }
        found
    };
    let before = history.parts(since, until);
    append(&mut history, &[item("a", 0, 3)]);
    let both = history.parts(since, until);
    history.tidy(after(2), month).unwrap();
    let coarse = history.parts(since, until);
    history.tidy(after(31), month).unwrap();
    assert_eq!(read(before), [Cell::Counter(2.0)]);
    assert_eq!(read(both), [Cell::Counter(5.0)]);
    assert_eq!(read(coarse), [Cell::Counter(5.0)]);
    assert!(history.parts(since, until).is_empty());
}

#[test]
fn a_rewriting_that_was_cut_short_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    append(&mut history, &[item("a", 0, 1)]);
    let fine = file_in(dir.path(), "minutes");
    fs::write(fine.with_extension("coarse"), b"half").unwrap();
    fs::write(fine.with_extension("tmp"), b"half").unwrap();
    assert_eq!(counters(dir.path()), [(0, 1.0)]);
}

#[test]
fn what_was_noted_is_there_after_a_kill_once_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    append(&mut history, &[item("a", 0, 1)]);
    // Over midnight: two days, with a journal for each.
    history
        .note(vec![item("a", 0, 2), item("h", 800, 5)])
        .unwrap();
    history
        .note(vec![item("a", 0, 4), item("a", 800, 8)])
        .unwrap();
    drop(history);
    let expected = [(0, 7.0), (800, 8.0)];
    // Each start finds the same, however often it is killed before the next second.
    assert_eq!(counters(dir.path()), expected);
    assert_eq!(counters(dir.path()), expected);
    let mut history = History::open(dir.path().to_owned()).unwrap();
    history.restore(|_, _| ());
    history.note(vec![item("a", 1, 16)]).unwrap();
    drop(history);
    let expected = [(0, 7.0), (1, 16.0), (800, 8.0)];
    assert_eq!(counters(dir.path()), expected);
    let mut history = History::open(dir.path().to_owned()).unwrap();
    history.restore(|_, _| ());
    history.flush().unwrap();
    assert_eq!(counters(dir.path()), expected);
    assert!(journals(dir.path()).is_empty());
}

#[test]
fn a_journal_that_came_to_its_file_does_not_count_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    append(&mut history, &[item("a", 0, 1)]);
    history.note(vec![item("a", 1, 2)]).unwrap();
    let journal = journals(dir.path()).pop().unwrap();
    let bytes = fs::read(&journal).unwrap();
    history.flush().unwrap();
    drop(history);
    // It was killed before it was removed.
    fs::write(&journal, &bytes).unwrap();
    assert_eq!(counters(dir.path()), [(0, 1.0), (1, 2.0)]);
    assert!(journals(dir.path()).is_empty());
    // It was killed while the file was written: what is torn there is in the journal.
    let path = file_in(dir.path(), "minutes");
    let whole = fs::read(&path).unwrap();
    let length: usize = {
        let name = journal.file_name().unwrap().to_str().unwrap();
        name.split('.').nth(1).unwrap().parse().unwrap()
    };
    for cut in length..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        fs::write(&journal, &bytes).unwrap();
        assert_eq!(counters(dir.path()), [(0, 1.0), (1, 2.0)], "cut at {cut}");
    }
}

#[test]
fn a_kill_while_much_is_written_leaves_it_to_the_journal() {
    const SERIES: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    append(&mut history, &[item("a", 0, 1)]);
    let path = file_in(dir.path(), "minutes");
    let before = fs::read(&path).unwrap().len();
    let names = (0..SERIES).map(|number| format!("a_metric_with_a_long_name_{number}"));
    let items: Vec<_> = names.map(|name| item(&name, 1, 2)).collect();
    history.note(items).unwrap();
    let journal = journals(dir.path()).pop().unwrap();
    let bytes = fs::read(&journal).unwrap();
    history.flush().unwrap();
    drop(history);
    let whole = fs::read(&path).unwrap();
    for cut in (before..whole.len()).step_by((whole.len() - before) / 7) {
        fs::write(&path, &whole[..cut]).unwrap();
        fs::write(&journal, &bytes).unwrap();
        assert_eq!(counters(dir.path()).len(), SERIES + 1, "cut at {cut}");
    }
}

#[test]
fn a_journal_that_is_cut_keeps_what_is_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path().to_owned()).unwrap();
    let mut ends = Vec::new();
    for minute in 0..3 {
        history.note(vec![item("a", minute, 1)]).unwrap();
        let journal = journals(dir.path()).pop().unwrap();
        ends.push(fs::metadata(journal).unwrap().len());
    }
    drop(history);
    let journal = journals(dir.path()).pop().unwrap();
    let bytes = fs::read(&journal).unwrap();
    for cut in 0..=bytes.len() {
        fs::write(&journal, &bytes[..cut]).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut as u64).count();
        assert_eq!(counters(dir.path()).len(), kept, "cut at {cut}");
    }
}

fn journals(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|own| own == JOURNAL))
        .collect()
}
