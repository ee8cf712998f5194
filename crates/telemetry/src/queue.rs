//! What waits for the writer: bounded in bytes, filled by anybody without waiting, emptied as a whole. Who can
//! wait may ask for room first.
//!
//! A list under a lock, not a channel: a message of a channel costs more than the copy of a line, and
//! the writer wants many at once. It is woken when there is a batch's worth or half of the room is taken, when
//! the first has waited long enough, or when somebody asks; so a quiet node wakes it a few times a second at most.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_base::clock;
use tokio::sync::{Notify, oneshot};

use crate::{NewRecord, Records, Spans};

/// A row waits so long at most before it is written and can be found.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Rows that are written at once, at most.
pub(crate) const BATCH_ROWS: usize = 8 << 10;

/// Bytes of rows that may wait, beside what was offered last. Beyond it, rows are dropped and counted.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// If nothing was taken out for so long, nobody waits for room any more until something is.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a row takes beside its texts.
pub(crate) const ROW_BYTES: usize = 160;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    came: Condvar,
    /// Told each time that something was taken out.
    taken: Notify,
}

#[derive(Debug, Default)]
struct State {
    work: Work,
    /// Records and spans that wait, and the bytes that they are reckoned with.
    rows: usize,
    bytes: usize,
    /// When the first row came that waits.
    first_at: Option<Instant>,
    /// How often something was taken out.
    takes: u64,
    /// Somebody has waited for room in vain, and nothing was taken out since.
    is_stuck: bool,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    Some,
    /// For a batch, or so much that others should have room soon.
    Enough,
}

/// Records as they came.
#[derive(Debug)]
pub(crate) enum Logged {
    One(NewRecord),
    /// In a form of somebody else.
    Many(Box<dyn Records>),
}

/// What was waiting.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// In the order in which they came.
    pub(crate) records: Vec<Logged>,
    pub(crate) spans: Vec<Box<dyn Spans>>,
    /// Who wants to know when all of it can be found.
    pub(crate) flushes: Vec<oneshot::Sender<()>>,
    /// Records and spans that found no room.
    pub(crate) dropped: (u64, u64),
    /// Nothing more will come.
    pub(crate) closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records; answers how many found no room.
    pub(crate) fn put_records(&self, records: impl IntoIterator<Item = NewRecord>) -> u64 {
        let mut state = self.lock();
        let before = state.waiting();
        let mut dropped = 0;
        for record in records {
            let texts = record.message.len() + record.attributes.len() + record.instance.len();
            if state.has_room(1, texts + ROW_BYTES) {
                state.work.records.push(Logged::One(record));
            } else {
                dropped += 1;
            }
        }
        state.work.dropped.0 += dropped;
        self.wake(state, before);
        dropped
    }

    /// Adds records as they are, all or none; answers how many found no room.
    pub(crate) fn put_record_batch(&self, batch: Box<dyn Records>) -> u64 {
        let mut state = self.lock();
        let before = state.waiting();
        let rows = batch.count();
        let dropped = if state.has_room(rows, batch.bytes() + rows * ROW_BYTES) {
            state.work.records.push(Logged::Many(batch));
            0
        } else {
            rows as u64
        };
        state.work.dropped.0 += dropped;
        self.wake(state, before);
        dropped
    }

    /// Adds spans, all or none; answers how many found no room.
    pub(crate) fn put_spans(&self, spans: Box<dyn Spans>) -> u64 {
        let mut state = self.lock();
        let before = state.waiting();
        let rows = spans.count();
        let dropped = if state.has_room(rows, spans.bytes()) {
            state.work.spans.push(spans);
            0
        } else {
            rows as u64
        };
        state.work.dropped.1 += dropped;
        self.wake(state, before);
        dropped
    }

    /// Adds records, if not much waits: then they may be any number. If they are not added, nothing is counted:
    /// who offers them has them still.
    pub(crate) fn offer_records(&self, batch: Box<dyn Records>) -> bool {
        let mut state = self.lock();
        let before = state.waiting();
        let taken = !state.is_busy();
        if taken {
            let rows = batch.count();
            state.add(rows, batch.bytes() + rows * ROW_BYTES);
            state.work.records.push(Logged::Many(batch));
        }
        self.wake(state, before);
        taken
    }

    /// The same for spans.
    pub(crate) fn offer_spans(&self, spans: Box<dyn Spans>) -> bool {
        let mut state = self.lock();
        let before = state.waiting();
        let taken = !state.is_busy();
        if taken {
            state.add(spans.count(), spans.bytes());
            state.work.spans.push(spans);
        }
        self.wake(state, before);
        taken
    }

    /// Asks to be told when what waits now can be found; not if nothing is taken any more.
    pub(crate) fn flush(&self, done: oneshot::Sender<()>) {
        let mut state = self.lock();
        if !state.work.closed {
            state.work.flushes.push(done);
            self.came.notify_one();
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().work.closed = true;
        self.came.notify_one();
        self.taken.notify_waiters();
    }

    /// Completes when it is not more than half full; see [`PATIENCE`].
    pub(crate) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            tokio::pin!(taken);
            // Before the look: what is taken out right after it is told.
            taken.as_mut().enable();
            let takes = {
                let state = self.lock();
                if !state.is_busy() || state.is_stuck || state.work.closed {
                    return;
                }
                state.takes
            };
            // Others may be faster, and it is full again: that is no standstill.
            if tokio::time::timeout(PATIENCE, taken).await.is_err() {
                let mut state = self.lock();
                if state.takes == takes {
                    state.is_stuck = true;
                    drop(state);
                    self.taken.notify_waiters();
                    return;
                }
            }
        }
    }

    /// Whether it is more than half full.
    pub(crate) fn is_busy(&self) -> bool {
        self.lock().is_busy()
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, before: Waiting) {
        let now = state.waiting();
        if before == Waiting::Nothing && now != before {
            state.first_at = Some(clock::monotonic());
        }
        drop(state);
        if now != before {
            self.came.notify_one();
        }
    }

    /// Waits until there is something to do, at most until `tick`, and exchanges what waits with `work`, which is
    /// empty. `full`: rows are left where they are, because nobody can take them.
    pub(crate) fn take(&self, work: &mut Work, tick: Instant, full: bool) {
        let mut state = self.lock();
        loop {
            let now = clock::monotonic();
            let asked = state.work.closed || !state.work.flushes.is_empty();
            let due = state.first_at.map(|first| first + FLUSH_INTERVAL);
            let enough = state.waiting() == Waiting::Enough;
            let ready = enough || due.is_some_and(|due| now >= due);
            if asked || (ready && !full) || now >= tick {
                break;
            }
            let until = due.filter(|_| !full).map_or(tick, |due| due.min(tick));
            let waited = self.came.wait_timeout(state, until - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        work.closed = state.work.closed;
        std::mem::swap(&mut work.flushes, &mut state.work.flushes);
        if !full || work.closed {
            std::mem::swap(&mut work.records, &mut state.work.records);
            std::mem::swap(&mut work.spans, &mut state.work.spans);
            state.rows = 0;
            work.dropped = std::mem::take(&mut state.work.dropped);
            state.bytes = 0;
            state.first_at = None;
            state.is_stuck = false;
            state.takes = state.takes.wrapping_add(1);
            drop(state);
            self.taken.notify_waiters();
        }
    }
}

impl State {
    /// Takes room for rows of so many bytes together, if there is enough.
    fn has_room(&mut self, rows: usize, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= QUEUE_BYTES_MAX;
        if fits {
            self.add(rows, bytes);
        }
        fits
    }

    fn add(&mut self, rows: usize, bytes: usize) {
        self.rows += rows;
        self.bytes += bytes;
    }

    /// Whether it is more than half full.
    fn is_busy(&self) -> bool {
        self.bytes > QUEUE_BYTES_MAX / 2
    }

    fn waiting(&self) -> Waiting {
        match self.rows {
            0 => Waiting::Nothing,
            rows if rows >= BATCH_ROWS || self.is_busy() => Waiting::Enough,
            _ => Waiting::Some,
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_base::ServiceName;
    use atoll_base::Timestamp;

    use super::*;
    use crate::Stream;

    /// More than half of what may wait.
    fn fill(queue: &Queue) {
        let service = ServiceName::new("loud").unwrap();
        let line = "x".repeat(1 << 20);
        let lines = (0..20).map(|_| {
            NewRecord::new(
                Timestamp::from_micros(1),
                service.clone(),
                Stream::Stdout,
                line.clone(),
            )
        });
        assert_eq!(queue.put_records(lines), 0);
    }

    /// So many lines of a number of bytes each.
    #[derive(Debug)]
    struct Alike(usize, usize);

    impl Records for Alike {
        fn count(&self) -> usize {
            self.0
        }

        fn bytes(&self) -> usize {
            self.0 * self.1
        }

        fn each(&self, _: &mut dyn FnMut(crate::RecordRow<'_>)) {}
    }

    #[test]
    fn records_that_come_together_are_taken_in_their_turn_all_or_none() {
        let queue = Queue::default();
        fill(&queue);
        let few = Alike(3, 1 << 10);
        assert_eq!(queue.put_record_batch(Box::new(few)), 0);
        let many = Alike(30, 1 << 20);
        assert_eq!(queue.put_record_batch(Box::new(many)), 30);
        let empty = Alike(200_000, 0);
        assert_eq!(queue.put_record_batch(Box::new(empty)), 200_000);
        let service = ServiceName::new("a").unwrap();
        let after = NewRecord::new(
            Timestamp::from_micros(1),
            service,
            Stream::Stdout,
            "x".into(),
        );
        assert_eq!(queue.put_records([after]), 0);
        let mut work = Work::default();
        queue.take(&mut work, clock::monotonic(), false);
        assert_eq!(work.dropped, (200_030, 0));
        let counts = work.records.iter().map(|own| match own {
            Logged::One(_) => 1,
            Logged::Many(many) => many.count(),
        });
        let counts: Vec<usize> = counts.collect();
        assert_eq!(counts[19..], [1, 3, 1], "as they came");
        assert_eq!(queue.lock().rows, 0);
    }

    fn empty(queue: &Queue) {
        queue.take(&mut Work::default(), clock::monotonic(), false);
    }

    async fn waits(queue: &Queue) -> bool {
        let soon = tokio::time::timeout(PATIENCE / 2, queue.room());
        soon.await.is_err()
    }

    #[test]
    fn what_is_offered_is_taken_whole_or_stays_with_who_has_it() {
        let queue = Queue::default();
        let large = || Box::new(Alike(2, QUEUE_BYTES_MAX));
        assert_eq!(queue.lock().waiting(), Waiting::Nothing);
        assert!(queue.offer_records(large()), "nothing waits");
        assert_eq!(
            queue.lock().waiting(),
            Waiting::Enough,
            "two rows, but much"
        );
        assert!(!queue.offer_records(large()) && !queue.offer_records(Box::new(Alike(1, 1))));
        let mut work = Work::default();
        queue.take(&mut work, clock::monotonic(), false);
        assert_eq!((work.records.len(), work.dropped), (1, (0, 0)));
        let spans = || Box::new(vec![crate::sample::tests::of(1)]);
        assert!(queue.offer_spans(spans()));
        fill(&queue);
        assert!(!queue.offer_spans(spans()));
        queue.take(&mut work, clock::monotonic(), false);
        assert_eq!((work.spans.len(), work.dropped), (1, (0, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_room_waits_until_something_is_taken_out() {
        let queue = Queue::default();
        assert!(!waits(&queue).await);
        fill(&queue);
        assert!(waits(&queue).await);
        let asked = queue.room();
        tokio::pin!(asked);
        let now = Duration::ZERO;
        assert!(tokio::time::timeout(now, asked.as_mut()).await.is_err());
        empty(&queue);
        assert!(tokio::time::timeout(now, asked.as_mut()).await.is_ok());
        // Somebody else was faster: it is full again, and goes on.
        fill(&queue);
        let asked = queue.room();
        tokio::pin!(asked);
        for _ in 0..3 {
            let most = PATIENCE * 9 / 10;
            assert!(tokio::time::timeout(most, asked.as_mut()).await.is_err());
            empty(&queue);
            fill(&queue);
        }
        queue.close();
        assert!(!waits(&queue).await, "nothing is taken out any more");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_again_for_a_disk_that_takes_nothing() {
        let queue = Queue::default();
        fill(&queue);
        // One has waited for all: who asks a moment later waits no longer.
        let begun = tokio::time::Instant::now();
        tokio::join!(queue.room(), async {
            tokio::time::sleep(PATIENCE / 2).await;
            queue.room().await;
        });
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
        assert!(!waits(&queue).await);
        empty(&queue);
        fill(&queue);
        assert!(waits(&queue).await, "it was written again");
    }
}
