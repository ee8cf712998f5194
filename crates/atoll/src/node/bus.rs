//! The embedded broker as the bus of pushes, HTTP and jobs.

use std::sync::Arc;
use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration, Timestamp};
use atoll_broker::config::TopicConfig;
use atoll_broker::inside::{Inside, Outgoing, committed};
use atoll_broker::records;
use atoll_events::bus::{Bus, BusError, Chunk, Ends, Mark, Marks, Progress};
use atoll_events::record::{Header, NewRecord, Place, Record};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// Dead letters are kept this long: somebody has to look at them.
const DEAD_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// A dead letter is as large as its record, and says why beside that.
const DEAD_BATCH_MAX: u64 = 32 << 20;

/// The broker of this node.
#[derive(Debug, Clone)]
pub(super) struct BrokerBus(pub(super) Inside);

impl Bus for BrokerBus {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>, BusError>> {
        let topics = self.0.broker().catalog().topics();
        let names = topics.iter().map(|topic| topic.name.to_string());
        std::future::ready(Ok(names.collect())).boxed()
    }

    fn partitions(&self, topic: &str) -> BoxFuture<'_, Result<i32, BusError>> {
        let found = self.0.topic(topic).map_err(|error| told(&error));
        let count = found.map(|topic| topic.config.partitions);
        std::future::ready(count).boxed()
    }

    fn ensure(&self, topic: &str) -> BoxFuture<'_, Result<(), BusError>> {
        let topic = topic.to_owned();
        async move {
            let config = TopicConfig {
                retention: HumanDuration(DEAD_KEPT),
                max_batch: ByteCount(DEAD_BATCH_MAX),
                ..TopicConfig::default()
            };
            let made = self.0.ensure(&topic, config).await;
            made.map_err(|error| told(&error))
        }
        .boxed()
    }

    fn check(&self, record: &NewRecord) -> Result<(), BusError> {
        let outgoing = outgoing(record.clone());
        self.0.check(&outgoing).map_err(|error| told(&error))
    }

    fn publish(&self, new: Vec<NewRecord>) -> BoxFuture<'_, Result<Vec<Place>, BusError>> {
        async move {
            let topics: Vec<_> = new.iter().map(|own| Arc::clone(&own.topic)).collect();
            let records: Vec<_> = new.into_iter().map(outgoing).collect();
            let places = self.0.publish(&records).await;
            let places = places.map_err(|error| told(&error))?;
            let places = places.into_iter().zip(topics);
            let places = places.map(|((partition, offset), topic)| Place {
                topic,
                partition,
                offset,
            });
            Ok(places.collect())
        }
        .boxed()
    }

    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Chunk, BusError>> {
        let topic: Arc<str> = topic.into();
        async move {
            match self.0.read(&topic, partition, from, bytes_max).await {
                Ok(part) => {
                    let records = part.records.into_iter();
                    let records = records.map(|own| record(&topic, partition, own)).collect();
                    Ok(Chunk {
                        records,
                        next: part.next,
                        trouble: part.trouble,
                    })
                }
                Err(error) => Err(self.gone(&topic, partition, from, &error).await),
            }
        }
        .boxed()
    }

    fn wait(&self, topic: &str, partition: i32, from: i64) -> BoxFuture<'_, ()> {
        let topic = topic.to_owned();
        async move { self.0.wait(&topic, partition, from).await }.boxed()
    }

    fn ends(&self, topic: &str, partition: i32) -> BoxFuture<'_, Result<Ends, BusError>> {
        let topic = topic.to_owned();
        async move {
            let ends = self.fetch_ends(&topic, partition).await;
            ends.map_err(|error| told(&error))
        }
        .boxed()
    }

    fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        time: i64,
    ) -> BoxFuture<'_, Result<Option<i64>, BusError>> {
        let topic = topic.to_owned();
        async move {
            let found = self.0.broker().catalog().partition(&topic, partition);
            let partition = found.map_err(|error| told(&error))?;
            let found = tokio::task::block_in_place(|| partition.offset_for_time(time));
            let found = found.map_err(|error| told(&error))?;
            Ok(found.map(|(offset, _)| offset))
        }
        .boxed()
    }

    fn progress(&self, group: &str) -> BoxFuture<'_, Result<Marks, BusError>> {
        let offsets = self.0.broker().groups().offsets(group);
        let marks = offsets.into_iter().map(|(place, own)| {
            let mark = Mark {
                offset: own.next,
                metadata: own.metadata,
            };
            (place, mark)
        });
        std::future::ready(Ok(marks.collect())).boxed()
    }

    fn settle(
        &self,
        group: &str,
        progress: Vec<Progress>,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'_, Result<(), BusError>> {
        let group = group.to_owned();
        async move {
            let marks = progress.into_iter().map(|own| {
                let Mark { offset, metadata } = own.mark;
                committed(own.topic, own.partition, offset, metadata)
            });
            let records: Vec<_> = records.into_iter().map(outgoing).collect();
            let settled = self.0.settle(&group, marks.collect(), &records).await;
            settled.map_err(|error| told(&error))
        }
        .boxed()
    }
}

impl BrokerBus {
    async fn fetch_ends(&self, topic: &str, partition: i32) -> Result<Ends, atoll_broker::Error> {
        let partition = self.0.broker().catalog().partition(topic, partition)?;
        partition.ready().await?;
        let ends = partition.ends()?;
        Ok(Ends {
            start: ends.start,
            end: ends.last_stable,
        })
    }

    /// An offset that is not there is told with those that are.
    async fn gone(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        error: &atoll_broker::Error,
    ) -> BusError {
        match self.fetch_ends(topic, partition).await {
            Ok(ends) if offset < ends.start || offset > ends.end => BusError::Gone {
                offset,
                start: ends.start,
                end: ends.end,
            },
            _ => told(error),
        }
    }
}

fn told(error: &atoll_broker::Error) -> BusError {
    use atoll_broker::Error;
    match error {
        Error::NoTopic(topic) => BusError::NoTopic(topic.clone()),
        Error::TopicName(_) | Error::Setting { .. } | Error::Partitions { .. } => {
            BusError::Refused(error.to_string())
        }
        Error::Refused(..) if error.is_of_the_record() => BusError::Refused(error.to_string()),
        _ => BusError::Unavailable(error.to_string()),
    }
}

fn record(topic: &Arc<str>, partition: i32, own: records::Record) -> Record {
    let headers = own.headers.iter().map(|header| Header {
        name: String::from_utf8_lossy(&header.name).into_owned(),
        value: header.value,
    });
    Record {
        place: Place {
            topic: Arc::clone(topic),
            partition,
            offset: own.offset,
        },
        time: own.timestamp,
        headers: headers.collect(),
        key: own.key,
        value: own.value,
    }
}

fn outgoing(new: NewRecord) -> Outgoing {
    let now = || Timestamp::now().as_micros() / 1000;
    let headers = new.headers.into_iter();
    Outgoing {
        topic: new.topic,
        partition: new.partition,
        time: new.time.unwrap_or_else(now),
        key: new.key,
        value: new.value,
        headers: headers.map(|own| (own.name, own.value)).collect(),
    }
}
