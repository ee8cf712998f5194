//! A bus in memory, for tests: whoever uses a bus is tested without a disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use tokio::sync::Notify;

use super::{Bus, BusError, Chunk, Ends, Marks, Progress};
use crate::record::{NewRecord, Place, Record};

/// Topics that are gone with the process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<Arc<str>, Vec<Vec<Record>>>,
    /// Where topics begin that do not begin at nothing.
    starts: HashMap<Arc<str>, i64>,
    groups: HashMap<String, Marks>,
    failing: Option<BusError>,
    now: i64,
}

impl Memory {
    /// Makes a topic, empty. (Another one of the same name, if there was one.)
    pub fn create(&self, topic: &str, partitions: usize) {
        let partitions = vec![Vec::new(); partitions];
        let mut state = self.lock();
        state.topics.insert(topic.into(), partitions);
        state.starts.remove(topic);
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        self.lock().topics.remove(topic);
    }

    /// Takes the records before an offset from each partition of a topic, as retention does.
    pub fn retain_from(&self, topic: &str, start: i64) {
        self.lock().starts.insert(topic.into(), start);
    }

    /// Gives a topic one more partition.
    pub fn grow(&self, topic: &str) {
        self.lock()
            .topics
            .entry(topic.into())
            .or_default()
            .push(Vec::new());
    }

    /// Everything fails in this way from now on, or nothing.
    pub fn fail(&self, error: Option<BusError>) {
        self.lock().failing = error;
    }

    /// The time that records get which have none.
    pub fn set_now(&self, millis: i64) {
        self.lock().now = millis;
    }

    /// All records of a topic, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let state = self.lock();
        let partitions = state.topics.get(topic).into_iter().flatten();
        let start = state.start(topic);
        let there = partitions.flatten().filter(|own| own.place.offset >= start);
        there.cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<'a, T: Send + 'a>(
        &self,
        does: impl FnOnce(&mut State) -> Result<T, BusError>,
    ) -> BoxFuture<'a, Result<T, BusError>> {
        let mut state = self.lock();
        let result = match state.failing.clone() {
            Some(error) => Err(error),
            None => does(&mut state),
        };
        ready(result).boxed()
    }
}

impl State {
    fn start(&self, topic: &str) -> i64 {
        self.starts.get(topic).copied().unwrap_or(0)
    }

    fn partition(&mut self, topic: &str, partition: i32) -> Result<&mut Vec<Record>, BusError> {
        let partitions = self
            .topics
            .get_mut(topic)
            .ok_or_else(|| BusError::NoTopic(topic.to_owned()))?;
        let index = usize::try_from(partition).ok();
        let found = index.and_then(|index| partitions.get_mut(index));
        found.ok_or_else(|| BusError::NoPartition {
            topic: topic.to_owned(),
            partition,
        })
    }

    fn append(&mut self, new: NewRecord) -> Result<Place, BusError> {
        let count = self.topics.get(&new.topic).map_or(0, Vec::len);
        let by_key = new.key.as_ref().map_or(0, |key| {
            key.iter().map(|byte| usize::from(*byte)).sum::<usize>() % count.max(1)
        });
        let partition = new
            .partition
            .unwrap_or_else(|| i32::try_from(by_key).unwrap_or(0));
        let now = self.now;
        let records = self.partition(&new.topic, partition)?;
        let place = Place {
            topic: Arc::clone(&new.topic),
            partition,
            offset: i64::try_from(records.len()).unwrap_or(i64::MAX),
        };
        records.push(Record {
            place: place.clone(),
            time: new.time.unwrap_or(now),
            key: new.key,
            value: new.value,
            headers: new.headers,
        });
        Ok(place)
    }
}

impl Bus for Memory {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>, BusError>> {
        self.answer(|state| {
            let mut names: Vec<_> = state.topics.keys().map(|name| name.to_string()).collect();
            names.sort_unstable();
            Ok(names)
        })
    }

    fn partitions(&self, topic: &str) -> BoxFuture<'_, Result<i32, BusError>> {
        self.answer(|state| {
            let found = state.topics.get(topic);
            let found = found.ok_or_else(|| BusError::NoTopic(topic.to_owned()))?;
            Ok(i32::try_from(found.len()).unwrap_or(i32::MAX))
        })
    }

    fn ensure(&self, topic: &str) -> BoxFuture<'_, Result<(), BusError>> {
        self.answer(|state| {
            let topic = state.topics.entry(topic.into());
            topic.or_insert_with(|| vec![Vec::new()]);
            Ok(())
        })
    }

    fn check(&self, record: &NewRecord) -> Result<(), BusError> {
        self.lock().partition(&record.topic, 0).map(drop)
    }

    fn publish(&self, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Vec<Place>, BusError>> {
        let done = self.answer(|state| records.into_iter().map(|new| state.append(new)).collect());
        self.0.changed.notify_waiters();
        done
    }

    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Chunk, BusError>> {
        self.answer(|state| {
            let start = state.start(topic);
            let records = state.partition(topic, partition)?;
            let end = i64::try_from(records.len()).unwrap_or(i64::MAX);
            if from < start || from > end {
                return Err(BusError::Gone {
                    offset: from,
                    start,
                    end,
                });
            }
            let mut chunk = Chunk {
                records: Vec::new(),
                next: from,
                trouble: None,
            };
            let mut bytes = 0;
            for record in records.iter().skip(usize::try_from(from).unwrap_or(0)) {
                if bytes >= bytes_max {
                    break;
                }
                bytes += record.value.as_ref().map_or(0, bytes::Bytes::len) + 64;
                chunk.next = record.place.offset + 1;
                chunk.records.push(record.clone());
            }
            Ok(chunk)
        })
    }

    fn wait(&self, topic: &str, partition: i32, from: i64) -> BoxFuture<'_, ()> {
        let topic: Arc<str> = topic.into();
        async move {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let there = {
                    let mut state = self.lock();
                    let found = state.partition(&topic, partition);
                    found.map_or(0, |records| records.len())
                };
                if i64::try_from(there).unwrap_or(i64::MAX) > from {
                    return;
                }
                changed.await;
            }
        }
        .boxed()
    }

    fn ends(&self, topic: &str, partition: i32) -> BoxFuture<'_, Result<Ends, BusError>> {
        self.answer(|state| {
            let end = state.partition(topic, partition)?.len();
            let end = i64::try_from(end).unwrap_or(i64::MAX);
            let start = state.start(topic);
            Ok(Ends { start, end })
        })
    }

    fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        time: i64,
    ) -> BoxFuture<'_, Result<Option<i64>, BusError>> {
        self.answer(|state| {
            let start = state.start(topic);
            let records = state.partition(topic, partition)?.iter();
            let mut there = records.skip_while(|record| record.place.offset < start);
            let found = there.find(|record| record.time >= time);
            Ok(found.map(|record| record.place.offset))
        })
    }

    fn progress(&self, group: &str) -> BoxFuture<'_, Result<Marks, BusError>> {
        self.answer(|state| Ok(state.groups.get(group).cloned().unwrap_or_default()))
    }

    fn settle(
        &self,
        group: &str,
        progress: Vec<Progress>,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'_, Result<(), BusError>> {
        let done = self.answer(|state| {
            for new in records {
                state.append(new)?;
            }
            let marks = state.groups.entry(group.to_owned()).or_default();
            for own in progress {
                marks.insert((own.topic, own.partition), own.mark);
            }
            Ok(())
        });
        self.0.changed.notify_waiters();
        done
    }
}
