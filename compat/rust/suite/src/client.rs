//! What all checks need: names, settings, publishing and reading.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};

/// Only a broken broker takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A name that nobody else has used.
pub(crate) fn name(kind: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("rdkafka.{kind}.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The settings of a client, with these beside the address.
pub(crate) fn config(address: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

pub(crate) fn admin(address: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(config(address, &[]).create()?)
}

pub(crate) async fn topic(address: &str, partitions: i32) -> anyhow::Result<String> {
    let name = name("topic");
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let made = admin(address)?
        .create_topics(&[new], &AdminOptions::new())
        .await?;
    for one in made {
        one.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(name)
}

/// Publishes to the partitions in turn; the offsets, when all are acknowledged.
pub(crate) async fn publish(
    address: &str,
    topic: &str,
    values: &[String],
    partitions: usize,
    more: &[(&str, &str)],
) -> anyhow::Result<Vec<(i32, i64)>> {
    let producer: FutureProducer = config(address, more).set("linger.ms", "5").create()?;
    let mut sent = Vec::with_capacity(values.len());
    for (number, value) in values.iter().enumerate() {
        let partition = i32::try_from(number % partitions)?;
        let record = FutureRecord::<(), _>::to(topic)
            .payload(value)
            .partition(partition);
        let waiting = producer.send_result(record);
        sent.push(
            waiting
                .map_err(|(error, _)| error)
                .context("the queue of the producer")?,
        );
    }
    let mut offsets = Vec::with_capacity(sent.len());
    for one in try_join_all(sent).await? {
        let delivery = one.map_err(|(error, _)| error)?;
        offsets.push((delivery.partition, delivery.offset));
    }
    Ok(offsets)
}

/// So many records from the beginning.
pub(crate) async fn consume(
    address: &str,
    topic: &str,
    count: usize,
    more: &[(&str, &str)],
) -> anyhow::Result<Vec<OwnedMessage>> {
    let consumer: StreamConsumer = config(address, more)
        .set("group.id", name("reader"))
        .set("auto.offset.reset", "earliest")
        .set("check.crcs", "true")
        .create()?;
    consumer.subscribe(&[topic])?;
    read(&consumer, count).await
}

/// So many records more.
pub(crate) async fn read(
    consumer: &StreamConsumer,
    count: usize,
) -> anyhow::Result<Vec<OwnedMessage>> {
    let mut read = Vec::with_capacity(count);
    while read.len() < count {
        let message = tokio::time::timeout(PATIENCE, consumer.recv()).await;
        let message = message.with_context(|| format!("only {} of {count} records", read.len()))?;
        read.push(message?.detach());
    }
    Ok(read)
}

pub(crate) fn values(read: &[OwnedMessage]) -> Vec<String> {
    let text =
        |one: &OwnedMessage| String::from_utf8_lossy(one.payload().unwrap_or(b"")).into_owned();
    read.iter().map(text).collect()
}

/// As `assert_eq!`, but the other checks go on.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    seen: &T,
    wanted: &T,
    what: &str,
) -> anyhow::Result<()> {
    ensure!(seen == wanted, "{what}: {seen:?} instead of {wanted:?}");
    Ok(())
}
