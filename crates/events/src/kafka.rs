//! A real Kafka as the bus, for applications that have outgrown the embedded broker.
//!
//! What a subscription has done is kept in the node's SQL state, together with what came of it
//! (answers, dead letters): one commit, so that both hold or neither does. From there the records go
//! to Kafka. Those that were on their way when the node died are looked for by a header before they
//! are sent again.
//!
//! The client ([`rskafka`]) is small: it takes no part in transactions, so records of a transaction
//! that some other producer has aborted are seen, too; and of headers with one name it keeps the last.

mod kept;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use atoll_base::Timestamp;
use atoll_base::clock::monotonic;
use atoll_base::hash::Spread;
use atoll_store::{Migration, Sql};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error as KafkaError, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};

use self::kept::{Kept, SETTLED, fresh_mark, with_mark};
use crate::bus::{Bus, BusError, Chunk, Ends, Mark, Marks, Progress};
use crate::record::{Header, NewRecord, Place, Record};
use crate::registry::Registry;

/// Progress, and records that are on their way.
pub const MIGRATION: Migration = Migration {
    subsystem: "events_kafka",
    steps: &["
        CREATE TABLE events_kafka_progress (
            grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
            offset INTEGER NOT NULL, metadata TEXT NOT NULL,
            PRIMARY KEY (grp, topic, partition)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE events_kafka_outgoing (
            number INTEGER PRIMARY KEY, grp TEXT NOT NULL, mark TEXT NOT NULL, at INTEGER NOT NULL,
            record TEXT NOT NULL
        ) STRICT;
    "],
};

/// How a Kafka is reached.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// Some of its brokers, as `HOST:PORT`.
    pub brokers: Vec<String>,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Who this is, if it asks.
    pub login: Option<Login>,
}

/// Who this is.
#[derive(Clone)]
pub struct Login {
    /// How it is proved.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// How a user is proved (SASL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password as it is; with TLS only.
    Plain,
    /// A proof of the password (RFC 7677).
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

/// A Kafka.
pub struct KafkaBus {
    client: Client,
    sql: Sql,
    schemas: Registry,
    partitions: Mutex<HashMap<At, Arc<PartitionClient>>>,
    /// How many partitions topics have, and when that was seen.
    counts: Mutex<(HashMap<String, i32>, Option<Instant>)>,
    spread: Spread,
    sending: tokio::sync::Mutex<()>,
}

/// A topic and one of its partitions.
type At = (Arc<str>, i32);

/// What is not answered within this has failed; whoever asked tries again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many partitions there are is asked anew after this: anybody may add some.
const COUNTS_KEPT: Duration = Duration::from_secs(10);
/// So long may one request take, with all that the client tries by itself.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// The largest record.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// The records of one request take so many bytes, about.
const REQUEST_BYTES_MAX: usize = 900 << 10;
/// How far the clocks of this node and of Kafka may be apart, in milliseconds.
const SKEW: i64 = 5 * 60 * 1000;
const LONG_POLL_MILLIS: i32 = 500;

impl KafkaBus {
    /// Connects. [`MIGRATION`] was run in `sql`.
    ///
    /// # Errors
    /// When no broker is reached within ten seconds.
    pub async fn connect(way: Way, sql: Sql, schemas: Registry) -> Result<Self, BusError> {
        let mut builder = ClientBuilder::new(way.brokers)
            .client_id("atoll")
            .backoff_config(BackoffConfig {
                deadline: Some(PATIENCE),
                ..BackoffConfig::default()
            });
        if let Some(tls) = way.tls {
            builder = builder.tls_config(tls);
        }
        if let Some(Login {
            mechanism,
            user,
            password,
        }) = way.login
        {
            let who = Credentials::new(user, password);
            builder = builder.sasl_config(match mechanism {
                Mechanism::Plain => SaslConfig::Plain(who),
                Mechanism::ScramSha256 => SaslConfig::ScramSha256(who),
                Mechanism::ScramSha512 => SaslConfig::ScramSha512(who),
            });
        }
        let connected = tokio::time::timeout(PATIENCE, builder.build()).await;
        let late = |_| BusError::Unavailable("Kafka does not answer".to_owned());
        let client = connected.map_err(late)?.map_err(|error| told("", &error))?;
        Ok(Self {
            client,
            sql,
            schemas,
            partitions: Mutex::default(),
            counts: Mutex::default(),
            spread: Spread::default(),
            sending: tokio::sync::Mutex::default(),
        })
    }

    /// Makes a topic with so many partitions, unless there is one of the name.
    ///
    /// # Errors
    /// When Kafka does not make it.
    pub async fn declare(&self, topic: &str, partitions: i32) -> Result<(), BusError> {
        if self.list().await?.contains_key(topic) {
            return Ok(());
        }
        let controller = self
            .client
            .controller_client()
            .map_err(|error| told(topic, &error))?;
        // -1: as many replicas as Kafka thinks right (KIP-464).
        match controller.create_topic(topic, partitions, -1, 10_000).await {
            Err(KafkaError::ServerError {
                protocol_error: ProtocolError::TopicAlreadyExists,
                ..
            })
            | Ok(()) => {}
            Err(error) => return Err(told(topic, &error)),
        }
        self.list().await.map(drop)
    }

    async fn list(&self) -> Result<BTreeMap<String, i32>, BusError> {
        let topics = within(self.client.list_topics()).await?;
        let topics = topics.map_err(|error| told("", &error))?;
        let counts = topics.into_iter().map(|topic| {
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            (topic.name, count)
        });
        let counts: BTreeMap<String, i32> = counts.collect();
        let known = counts.clone().into_iter().collect();
        let mut kept = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = (known, Some(monotonic()));
        drop(kept);
        Ok(counts)
    }

    async fn count(&self, topic: &str) -> Result<i32, BusError> {
        let known = self.known(topic);
        if let Some(count) = known {
            return Ok(count);
        }
        let listed = self.list().await?.get(topic).copied();
        listed.ok_or_else(|| BusError::NoTopic(topic.to_owned()))
    }

    fn known(&self, topic: &str) -> Option<i32> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (counts, seen) = &*counts;
        let fresh = seen.is_some_and(|seen| monotonic().duration_since(seen) < COUNTS_KEPT);
        counts.get(topic).copied().filter(|_| fresh)
    }

    async fn partition(&self, topic: &str, index: i32) -> Result<Arc<PartitionClient>, BusError> {
        let place = (Arc::<str>::from(topic), index);
        let lock = || {
            self.partitions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let known = lock().get(&place).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        if index < 0 || index >= self.count(topic).await? {
            return Err(BusError::NoPartition {
                topic: topic.to_owned(),
                partition: index,
            });
        }
        let made = self
            .client
            .partition_client(topic, index, UnknownTopicHandling::Error);
        let made = Arc::new(made.await.map_err(|error| told(topic, &error))?);
        lock().insert(place, Arc::clone(&made));
        Ok(made)
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        bytes_max: usize,
    ) -> Result<Chunk, BusError> {
        let client = self.partition(topic, partition).await?;
        let most = i32::try_from(bytes_max).unwrap_or(i32::MAX - 1).max(1);
        let fetched = within(client.fetch_records(from, 1..most + 1, 0)).await?;
        let (records, _) = match fetched {
            Ok(fetched) => fetched,
            Err(KafkaError::ServerError {
                protocol_error: ProtocolError::OffsetOutOfRange,
                ..
            }) => {
                let Ends { start, end } = self.reach(topic, partition).await?;
                return Err(BusError::Gone {
                    offset: from,
                    start,
                    end,
                });
            }
            Err(error) => return Err(told(topic, &error)),
        };
        let name: Arc<str> = topic.into();
        // An answer without records is the end, perhaps with marks of transactions before it: those
        // are passed over when the next record comes.
        let next = records.last().map_or(from, |last| last.offset + 1);
        let records = records.into_iter().map(|own| Record {
            place: Place {
                topic: Arc::clone(&name),
                partition,
                offset: own.offset,
            },
            time: own.record.timestamp.timestamp_millis(),
            key: own.record.key.map(Bytes::from),
            value: own.record.value.map(Bytes::from),
            headers: headers(own.record.headers),
        });
        Ok(Chunk {
            records: records.collect(),
            next,
            trouble: None,
        })
    }

    async fn reach(&self, topic: &str, partition: i32) -> Result<Ends, BusError> {
        let client = self.partition(topic, partition).await?;
        let at = |at| within(client.get_offset(at));
        let start = at(OffsetAt::Earliest).await?;
        let start = start.map_err(|error| told(topic, &error))?;
        let end = at(OffsetAt::Latest).await?;
        let end = end.map_err(|error| told(topic, &error))?;
        Ok(Ends { start, end })
    }

    async fn wait_for(&self, topic: &str, partition: i32, from: i64) {
        loop {
            let Ok(client) = self.partition(topic, partition).await else {
                // Whoever reads then is told why not.
                return;
            };
            let fetched = within(client.fetch_records(from, 1..2, LONG_POLL_MILLIS)).await;
            let Ok(fetched) = fetched else { return };
            match fetched {
                Ok((records, _)) if !records.is_empty() => return,
                // Marks of transactions are there at once, and again.
                // Who reads then gets what lies behind them.
                Ok((_, end)) if end > from => {
                    return tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    async fn send(&self, records: Vec<NewRecord>) -> Result<Vec<Place>, BusError> {
        for record in &records {
            self.check(record)?;
        }
        let mut sorted: BTreeMap<At, Vec<(usize, NewRecord)>> = BTreeMap::new();
        let total = records.len();
        for (number, record) in records.into_iter().enumerate() {
            let count = self.count(&record.topic).await?;
            let chosen = || self.spread.choose(record.key.as_deref(), count);
            let index = record.partition.unwrap_or_else(chosen);
            let place = (Arc::clone(&record.topic), index);
            sorted.entry(place).or_default().push((number, record));
        }
        let mut places = vec![None; total];
        for ((topic, partition), members) in sorted {
            let client = self.partition(&topic, partition).await?;
            let mut rest = members.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut numbers, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
                while let Some((number, record)) = rest
                    .next_if(|(_, own)| batch.is_empty() || bytes + size(own) < REQUEST_BYTES_MAX)
                {
                    bytes += size(&record);
                    numbers.push(number);
                    batch.push(outgoing(record));
                }
                let sent = within(client.produce(batch, Compression::NoCompression)).await?;
                let offsets = sent.map_err(|error| told(&topic, &error))?;
                for (number, offset) in numbers.into_iter().zip(offsets) {
                    let place = Place {
                        topic: Arc::clone(&topic),
                        partition,
                        offset,
                    };
                    if let Some(own) = places.get_mut(number) {
                        *own = Some(place);
                    }
                }
            }
        }
        Ok(places.into_iter().flatten().collect())
    }

    async fn keep(
        &self,
        group: &str,
        progress: Vec<Progress>,
        records: Vec<NewRecord>,
    ) -> Result<(), BusError> {
        records.iter().try_for_each(|record| self.check(record))?;
        // Earlier ones first: otherwise the order would be lost, and there could be ever more.
        self.send_kept(group).await?;
        let (group_name, at) = (group.to_owned(), Timestamp::now().as_micros() / 1000);
        let count = records.len();
        let rows = records
            .iter()
            .map(|record| (fresh_mark(), Kept::of(record)));
        let rows: Vec<(String, Kept)> = rows.collect();
        let marks: Vec<String> = rows.iter().map(|(mark, _)| mark.clone()).collect();
        let written = self.sql.call(move |db| {
            for own in progress {
                let row = (&group_name, &*own.topic, own.partition, own.mark.offset, own.mark.metadata);
                db.execute("INSERT OR REPLACE INTO events_kafka_progress VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
            }
            for (mark, record) in rows {
                let text = serde_json::to_string(&record).unwrap_or_default();
                let sql = "INSERT INTO events_kafka_outgoing (grp, mark, at, record) VALUES (?1, ?2, ?3, ?4)";
                db.execute(sql, (&group_name, mark, at, text))?;
            }
            Ok(())
        });
        written
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        if count == 0 {
            return Ok(());
        }
        // They are sure to go out. If not now, then before anything else of this group.
        let marked = records
            .into_iter()
            .zip(&marks)
            .map(|(record, mark)| with_mark(record, mark));
        if self.send(marked.collect()).await.is_ok() {
            self.forget(marks).await?;
        }
        Ok(())
    }

    /// Sends what an earlier attempt may or may not have sent.
    async fn send_kept(&self, group: &str) -> Result<(), BusError> {
        let _one = self.sending.lock().await;
        let group = group.to_owned();
        let read = self.sql.call(move |db| {
            let sql =
                "SELECT mark, at, record FROM events_kafka_outgoing WHERE grp = ?1 ORDER BY number";
            let mut rows = db.prepare(sql)?;
            let rows =
                rows.query_map([group], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<Result<Vec<(String, i64, String)>, _>>()
        });
        let rows = read
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        let Some(since) = rows.iter().map(|(_, at, _)| *at).min() else {
            return Ok(());
        };
        let mut left = Vec::new();
        let mut topics = HashSet::new();
        for (mark, _, text) in &rows {
            let Some(record) = serde_json::from_str::<Kept>(text).ok().map(Kept::record) else {
                continue;
            };
            topics.insert(Arc::clone(&record.topic));
            left.push((mark.clone(), record));
        }
        let mut sent = HashSet::new();
        for topic in topics {
            self.marks_of(&topic, since - SKEW, &mut sent).await?;
        }
        let missing = left.into_iter().filter(|(mark, _)| !sent.contains(mark));
        let missing = missing.map(|(mark, record)| with_mark(record, &mark));
        for record in missing {
            self.send_or_set_aside(record).await?;
        }
        self.forget(rows.into_iter().map(|(mark, ..)| mark).collect())
            .await
    }

    /// What Kafka will never take must not hold up all that follows.
    async fn send_or_set_aside(&self, record: NewRecord) -> Result<(), BusError> {
        let (topic, key) = (Arc::clone(&record.topic), record.key.clone());
        match self.send(vec![record]).await {
            Err(BusError::Refused(why)) => {
                let key = key.as_deref().map(String::from_utf8_lossy);
                tracing::error!(%topic, ?key, why, "a record is lost: Kafka refuses it");
                Ok(())
            }
            sent => sent.map(drop),
        }
    }

    /// The marks of the records of a topic since a time.
    async fn marks_of(
        &self,
        topic: &str,
        since: i64,
        found: &mut HashSet<String>,
    ) -> Result<(), BusError> {
        for partition in 0..self.count(topic).await? {
            let Some(mut at) = self.first_since(topic, partition, since).await? else {
                continue;
            };
            loop {
                let chunk = self.fetch(topic, partition, at, REQUEST_BYTES_MAX).await?;
                found.extend(
                    chunk
                        .records
                        .iter()
                        .filter_map(|own| own.text(SETTLED).map(str::to_owned)),
                );
                if chunk.next <= at {
                    break;
                }
                at = chunk.next;
            }
        }
        Ok(())
    }

    async fn first_since(
        &self,
        topic: &str,
        partition: i32,
        time: i64,
    ) -> Result<Option<i64>, BusError> {
        let client = self.partition(topic, partition).await?;
        let at = DateTime::from_timestamp_millis(time.max(0)).unwrap_or_default();
        let offset = within(client.get_offset(OffsetAt::Timestamp(at))).await?;
        let offset = offset.map_err(|error| told(topic, &error))?;
        Ok((offset >= 0).then_some(offset))
    }

    async fn forget(&self, marks: Vec<String>) -> Result<(), BusError> {
        let gone = self.sql.call(move |db| {
            for mark in marks {
                db.execute("DELETE FROM events_kafka_outgoing WHERE mark = ?1", [mark])?;
            }
            Ok(())
        });
        gone.await
            .map_err(|error| BusError::Unavailable(error.to_string()))
    }

    async fn marks(&self, group: String) -> Result<Marks, BusError> {
        let read = self.sql.call(move |db| {
            let sql = "SELECT topic, partition, offset, metadata FROM events_kafka_progress WHERE grp = ?1";
            let mut rows = db.prepare(sql)?;
            let rows = rows.query_map([group], |row| {
                let mark = Mark {
                    offset: row.get(2)?,
                    metadata: row.get(3)?,
                };
                let topic: String = row.get(0)?;
                Ok(((Arc::from(topic), row.get(1)?), mark))
            })?;
            rows.collect()
        });
        read.await
            .map_err(|error| BusError::Unavailable(error.to_string()))
    }
}

impl Bus for KafkaBus {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>, BusError>> {
        async move { Ok(self.list().await?.into_keys().collect()) }.boxed()
    }

    fn partitions(&self, topic: &str) -> BoxFuture<'_, Result<i32, BusError>> {
        let topic = topic.to_owned();
        async move { self.count(&topic).await }.boxed()
    }

    fn ensure(&self, topic: &str) -> BoxFuture<'_, Result<(), BusError>> {
        let topic = topic.to_owned();
        async move { self.declare(&topic, 1).await }.boxed()
    }

    fn check(&self, record: &NewRecord) -> Result<(), BusError> {
        let bytes = size(record);
        if bytes > RECORD_BYTES_MAX {
            let reason = format!("a record of {bytes} bytes, and {RECORD_BYTES_MAX} are taken");
            return Err(BusError::Refused(reason));
        }
        let value = record.value.as_deref();
        let checked = self.schemas.check(&record.topic, value);
        checked.map_err(BusError::Refused)
    }

    fn publish(&self, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Vec<Place>, BusError>> {
        self.send(records).boxed()
    }

    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Chunk, BusError>> {
        let topic = topic.to_owned();
        async move { self.fetch(&topic, partition, from, bytes_max).await }.boxed()
    }

    fn wait(&self, topic: &str, partition: i32, from: i64) -> BoxFuture<'_, ()> {
        let topic = topic.to_owned();
        async move { self.wait_for(&topic, partition, from).await }.boxed()
    }

    fn ends(&self, topic: &str, partition: i32) -> BoxFuture<'_, Result<Ends, BusError>> {
        let topic = topic.to_owned();
        async move { self.reach(&topic, partition).await }.boxed()
    }

    fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        time: i64,
    ) -> BoxFuture<'_, Result<Option<i64>, BusError>> {
        let topic = topic.to_owned();
        async move { self.first_since(&topic, partition, time).await }.boxed()
    }

    fn progress(&self, group: &str) -> BoxFuture<'_, Result<Marks, BusError>> {
        self.marks(group.to_owned()).boxed()
    }

    fn settle(
        &self,
        group: &str,
        progress: Vec<Progress>,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'_, Result<(), BusError>> {
        let group = group.to_owned();
        async move { self.keep(&group, progress, records).await }.boxed()
    }
}

impl std::fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBus").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The client itself waits for ever.
async fn within<T>(work: impl Future<Output = T>) -> Result<T, BusError> {
    let done = tokio::time::timeout(REQUEST_PATIENCE, work).await;
    done.map_err(|_| BusError::Unavailable("Kafka does not answer".to_owned()))
}

fn headers(map: BTreeMap<String, Vec<u8>>) -> Vec<Header> {
    let headers = map.into_iter().map(|(name, value)| Header {
        name,
        value: Some(value.into()),
    });
    headers.collect()
}

fn outgoing(record: NewRecord) -> rskafka::record::Record {
    let now = || Timestamp::now().as_micros() / 1000;
    let time = DateTime::from_timestamp_millis(record.time.unwrap_or_else(now));
    let headers = record.headers.into_iter();
    rskafka::record::Record {
        key: record.key.map(|own| own.to_vec()),
        value: record.value.map(|own| own.to_vec()),
        headers: headers
            .map(|own| (own.name, own.value.unwrap_or_default().to_vec()))
            .collect(),
        timestamp: time.unwrap_or_default(),
    }
}

fn size(record: &NewRecord) -> usize {
    let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|own| own.name.len() + length(&own.value) + 10)
        .sum();
    length(&record.key) + length(&record.value) + headers + 100
}

fn told(topic: &str, error: &KafkaError) -> BusError {
    use ProtocolError::{InvalidRecord, MessageTooLarge, UnknownTopicOrPartition};
    match error {
        KafkaError::ServerError { protocol_error, .. } => match protocol_error {
            UnknownTopicOrPartition => BusError::NoTopic(topic.to_owned()),
            MessageTooLarge | InvalidRecord => {
                BusError::Refused(format!("Kafka refuses it: {error}"))
            }
            _ => BusError::Unavailable(format!("Kafka: {error}")),
        },
        _ => BusError::Unavailable(format!("Kafka: {error}")),
    }
}
