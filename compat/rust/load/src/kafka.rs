//! librdkafka, through the crate `rdkafka`.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings;
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::VALUE;

const PATIENCE: Duration = Duration::from_secs(60);

/// Counts what was acknowledged, and what was not.
#[derive(Clone, Default)]
struct Counts {
    done: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

impl ClientContext for Counts {}

impl ProducerContext for Counts {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() {
            &self.done
        } else {
            &self.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn produce(
    address: &str,
    topic: &str,
    partitions: i32,
    count: usize,
) -> anyhow::Result<f64> {
    make(address, &[topic.to_owned()], partitions)?;
    let counts = Counts::default();
    let producer: ThreadedProducer<Counts> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("batch.num.messages", "10000")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "500000")
        .create_with_context(counts.clone())?;
    // Connected, and the leader known, before the time counts.
    producer.client().fetch_metadata(Some(topic), PATIENCE)?;
    let begun = Instant::now();
    for number in 0..count {
        // A whole batch for one partition, then for the next.
        let partition = (number / 1000) as i32 % partitions;
        let mut record = BaseRecord::<(), _>::to(topic)
            .payload(&VALUE[..])
            .partition(partition);
        while let Err((error, back)) = producer.send(record) {
            ensure!(
                error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            record = back;
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    producer.flush(PATIENCE)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (done, failed) = (
        counts.done.load(Ordering::Relaxed),
        counts.failed.load(Ordering::Relaxed),
    );
    ensure!(
        (done, failed) == (count, 0),
        "{done} of {count} were acknowledged, {failed} refused"
    );
    Ok(count as f64 / seconds)
}

pub(crate) fn consume(
    address: &str,
    topic: &str,
    partitions: i32,
    count: usize,
) -> anyhow::Result<f64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "load")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "4000000")
        .set("queued.max.messages.kbytes", "65536")
        .set("queued.min.messages", "500000")
        .set("fetch.queue.backoff.ms", "1")
        .create()?;
    let mut places = TopicPartitionList::new();
    for partition in 0..partitions {
        places.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.client().fetch_metadata(Some(topic), PATIENCE)?;
    let begun = Instant::now();
    consumer.assign(&places)?;
    // The crate gives one message at a time, at half a microsecond each; librdkafka has batches.
    // SAFETY: the consumer lives longer than its queue, which is destroyed below.
    let queue = unsafe { bindings::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    let mut messages = vec![ptr::null_mut(); 10_000];
    let mut read = 0;
    while read < count {
        // SAFETY: there is room for as many pointers as are asked for.
        let some = unsafe {
            bindings::rd_kafka_consume_batch_queue(
                queue,
                1000,
                messages.as_mut_ptr(),
                messages.len(),
            )
        };
        let some = usize::try_from(some).context("the queue of the consumer")?;
        for message in &messages[..some] {
            // SAFETY: each is a message of librdkafka, read once and then destroyed.
            unsafe {
                let own = &**message;
                let sound = own.err == bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                ensure!(
                    sound && own.len == VALUE.len(),
                    "a message with {:?}",
                    own.err
                );
                bindings::rd_kafka_message_destroy(*message);
            }
        }
        read += some;
    }
    let seconds = begun.elapsed().as_secs_f64();
    // SAFETY: it was got above, and is not used any more.
    unsafe { bindings::rd_kafka_queue_destroy(queue) };
    Ok(read as f64 / seconds)
}

pub(crate) fn topics(address: &str, count: usize, partitions: i32) -> anyhow::Result<f64> {
    let names: Vec<String> = (0..count).map(|number| format!("idle-{number}")).collect();
    for some in names.chunks(100) {
        make(address, some, partitions)?;
    }
    Ok(count as f64)
}

/// Makes topics.
pub(crate) fn make(address: &str, names: &[String], partitions: i32) -> anyhow::Result<()> {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", address).create()?;
    let new = names
        .iter()
        .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
    let new: Vec<_> = new.collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    for made in futures_executor::block_on(admin.create_topics(&new, &options))? {
        made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}
