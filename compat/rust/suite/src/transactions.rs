//! Transactions: whole or nothing, alone and with the offsets of what was read.

use anyhow::ensure;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{PATIENCE, config, consume, name, publish, read, same, topic, values};

/// A producer of transactions.
fn producer(address: &str, id: &str) -> anyhow::Result<FutureProducer> {
    let producer: FutureProducer = config(address, &[("transactional.id", id)]).create()?;
    producer.init_transactions(PATIENCE)?;
    Ok(producer)
}

fn send(producer: &FutureProducer, topic: &str, value: &str) -> anyhow::Result<()> {
    let record = FutureRecord::<(), _>::to(topic).payload(value);
    // Whether it was delivered is told by the commit.
    drop(producer.send_result(record).map_err(|(error, _)| error)?);
    Ok(())
}

pub(crate) async fn are_whole_or_nothing(address: &str) -> anyhow::Result<()> {
    let (own, id) = (topic(address, 1).await?, name("transaction"));
    let first = producer(address, &id)?;
    let mut wanted = Vec::new();
    for (word, commits) in [("a", true), ("b", false), ("c", true)] {
        first.begin_transaction()?;
        for number in 0..20 {
            let value = format!("{word}{number}");
            send(&first, &own, &value)?;
            wanted.extend(commits.then_some(value));
        }
        first.flush(PATIENCE)?;
        if commits {
            first.commit_transaction(PATIENCE)?;
        } else {
            first.abort_transaction(PATIENCE)?;
        }
    }
    let committed = [("isolation.level", "read_committed")];
    same(
        &values(&consume(address, &own, 40, &committed).await?),
        &wanted,
        "what was committed",
    )?;
    let all = [("isolation.level", "read_uncommitted")];
    same(
        &consume(address, &own, 60, &all).await?.len(),
        &60,
        "all that was written",
    )?;
    let _successor = producer(address, &id)?;
    first.begin_transaction()?;
    send(&first, &own, "late")?;
    ensure!(
        first.commit_transaction(PATIENCE).is_err(),
        "a fenced producer could commit"
    );
    Ok(())
}

pub(crate) async fn commit_offsets_with_the_records(address: &str) -> anyhow::Result<()> {
    let (source, target) = (topic(address, 1).await?, topic(address, 1).await?);
    let three: Vec<String> = ["1", "2", "3"].map(str::to_owned).to_vec();
    publish(address, &source, &three, 1, &[]).await?;
    let group = [
        ("group.id", &*name("group")),
        ("enable.auto.commit", "false"),
    ];
    let consumer: StreamConsumer = config(address, &group)
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[&source])?;
    let writer = producer(address, &name("transaction"))?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&source, 0, Offset::Offset(3))?;
    for (commits, expected) in [(false, Offset::Invalid), (true, Offset::Offset(3))] {
        writer.begin_transaction()?;
        for value in values(&read(&consumer, 3).await?) {
            send(&writer, &target, &value.repeat(2))?;
        }
        let member = consumer
            .group_metadata()
            .ok_or_else(|| anyhow::anyhow!("no member"))?;
        writer.send_offsets_to_transaction(&offsets, &member, PATIENCE)?;
        if commits {
            writer.commit_transaction(PATIENCE)?;
        } else {
            writer.abort_transaction(PATIENCE)?;
        }
        let mut places = TopicPartitionList::new();
        places.add_partition(&source, 0);
        let committed = consumer.committed_offsets(places, PATIENCE)?;
        same(
            &committed.elements()[0].offset(),
            &expected,
            "the committed offset",
        )?;
        consumer.seek(&source, 0, Offset::Beginning, PATIENCE)?;
    }
    Ok(())
}
