//! Which files go, and which become one. Pure: files and the time in, decisions out.

use std::time::Duration;

use atoll_base::Timestamp;

use crate::TelemetryConfig;
use crate::schema::Kind;

/// Files smaller than this, of an hour that is over, are put together.
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// A file whose rows take as much in memory is as large as they are made, however well it is packed: to write it once more
/// would cost what it cost at first, and win nothing.
const SMALL_MEMORY_MAX: u64 = 16 << 20;

/// So many bytes of small files become one at most.
const TOGETHER_BYTES_MAX: u64 = 8 << 20;

/// What their rows take in memory, at most: all of them are there for it.
const TOGETHER_MEMORY_MAX: u64 = 128 << 20;

/// Files that become one, at most.
const TOGETHER_MAX: usize = 64;

const HOUR: Duration = Duration::from_secs(3600);

/// What is known of a file for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) kind: Kind,
    /// The place among the files of its kind, which are in the order of their generations.
    pub(crate) place: usize,
    /// The times of the oldest and the newest row, in microseconds since 1970.
    pub(crate) times: (i64, i64),
    pub(crate) bytes: u64,
    /// What the rows take in memory.
    pub(crate) memory_bytes: u64,
    /// Whether it was found damaged.
    pub(crate) broken: bool,
}

/// The files that go: the old ones, and as many of the oldest as are too much. `other`: bytes of the store that
/// are in no such file.
pub(crate) fn surplus(
    files: &[Kept],
    other: u64,
    config: &TelemetryConfig,
    now: Timestamp,
) -> Vec<Kept> {
    let oldest = now.before(config.max_age.0).as_micros();
    let (mut gone, mut kept): (Vec<Kept>, Vec<Kept>) =
        files.iter().partition(|file| file.times.1 < oldest);
    // A span that claims to be from tomorrow must not outlive what came after it.
    let age = |file: &Kept| (file.times.1.min(now.as_micros()), file.place);
    kept.sort_by_key(age);
    let mut total = kept.iter().map(|file| file.bytes).sum::<u64>() + other;
    for file in kept {
        if total <= config.max_size.0 {
            break;
        }
        total -= file.bytes;
        gone.push(file);
    }
    gone
}

/// Files of one kind that become one: neighbours, small and sound, of one hour that is over. By their places.
pub(crate) fn together(files: &[Kept], now: Timestamp) -> Vec<Vec<usize>> {
    let hour = |file: &Kept| Timestamp::from_micros(file.times.0).as_micros() / micros(HOUR);
    let over = now.as_micros() / micros(HOUR);
    let is_small =
        |file: &Kept| file.bytes < SMALL_BYTES_MAX && file.memory_bytes < SMALL_MEMORY_MAX;
    let fits = |file: &Kept| is_small(file) && !file.broken && hour(file) < over;
    let mut groups: Vec<Vec<&Kept>> = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let joins = groups.last().is_some_and(|group| {
            let bytes: u64 = group.iter().map(|file| file.bytes).sum();
            let memory: u64 = group.iter().map(|file| file.memory_bytes).sum();
            let last = group[group.len() - 1];
            at > 0
                && last.place == files[at - 1].place
                && hour(last) == hour(file)
                && bytes + file.bytes <= TOGETHER_BYTES_MAX
                && memory + file.memory_bytes <= TOGETHER_MEMORY_MAX
                && group.len() < TOGETHER_MAX
        });
        match groups.last_mut() {
            _ if !fits(file) => {}
            Some(group) if joins => group.push(file),
            _ => groups.push(vec![file]),
        }
    }
    let several = groups.into_iter().filter(|group| group.len() > 1);
    several
        .map(|group| group.iter().map(|file| file.place).collect())
        .collect()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_base::{ByteCount, HumanDuration};

    const NOW: i64 = 1_000_000 * 3_600_000_000;

    fn file(place: usize, hours_ago: i64, bytes: u64) -> Kept {
        let newest = NOW - hours_ago * micros(HOUR);
        Kept {
            kind: Kind::Logs,
            place,
            times: (newest, newest),
            bytes,
            memory_bytes: 10 * bytes,
            broken: false,
        }
    }

    fn places(files: &[Kept]) -> Vec<usize> {
        files.iter().map(|file| file.place).collect()
    }

    fn config(max_size: u64, hours: u64) -> TelemetryConfig {
        TelemetryConfig {
            max_size: ByteCount(max_size),
            max_age: HumanDuration::secs(hours * 3600),
            ..TelemetryConfig::default()
        }
    }

    #[test]
    fn the_old_go_then_the_oldest_of_too_many() {
        let files = [
            file(0, 30, 5),
            file(1, 3, 40),
            file(2, 2, 40),
            file(3, 1, 40),
        ];
        let now = Timestamp::from_micros(NOW);
        let gone = |size, hours| places(&surplus(&files, 10, &config(size, hours), now));
        assert_eq!(gone(1000, 100), [0usize; 0]);
        assert_eq!(gone(1000, 24), [0]);
        assert_eq!(gone(130, 24), [0]);
        assert_eq!(gone(129, 24), [0, 1]);
        assert_eq!(gone(49, 100), [0, 1, 2, 3]);
    }

    #[test]
    fn what_claims_to_be_from_the_future_is_as_old_as_its_place() {
        let mut files = [file(0, 0, 40), file(1, 0, 40)];
        files[0].times.1 = i64::MAX;
        let now = Timestamp::from_micros(NOW);
        assert_eq!(places(&surplus(&files, 0, &config(40, 1), now)), [0]);
    }

    #[test]
    fn small_neighbours_of_an_hour_that_is_over_become_one() {
        let now = Timestamp::from_micros(NOW);
        let files = [
            file(0, 3, 1),
            file(1, 3, 1),
            file(2, 3, SMALL_BYTES_MAX),
            file(3, 3, 1),
            file(4, 2, 1),
            file(5, 2, 1),
            file(6, 0, 1),
            file(7, 0, 1),
        ];
        assert_eq!(together(&files, now), [vec![0, 1], vec![4, 5]]);
        let mut broken = [0, 1, 2, 3, 4].map(|place| file(place, 3, 1));
        broken[2].broken = true;
        assert_eq!(together(&broken, now), [vec![0, 1], vec![3, 4]]);
        let full = |place| Kept {
            memory_bytes: SMALL_MEMORY_MAX,
            ..file(place, 3, 1)
        };
        assert_eq!(together(&[0, 1, 2].map(full), now), [[0; 0]; 0]);
        // As much as may be there at once, to the byte, and the rest.
        let nearly = TOGETHER_MEMORY_MAX / SMALL_MEMORY_MAX;
        let mut memory = vec![SMALL_MEMORY_MAX - 1; usize::try_from(nearly).unwrap()];
        memory.extend([nearly, 1, 1]);
        let files = memory.iter().enumerate().map(|(place, bytes)| Kept {
            memory_bytes: *bytes,
            ..file(place, 3, 1)
        });
        let lengths = together(&files.collect::<Vec<_>>(), now);
        let lengths: Vec<usize> = lengths.iter().map(Vec::len).collect();
        assert_eq!(lengths, [memory.len() - 2, 2]);
        let all: Vec<Kept> = (0..TOGETHER_MAX + 2)
            .map(|place| file(place, 3, 1))
            .collect();
        let lengths: Vec<usize> = together(&all, now).iter().map(Vec::len).collect();
        assert_eq!(lengths, [TOGETHER_MAX, 2]);
    }
}
