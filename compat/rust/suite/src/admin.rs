//! Administration: topics, their settings, groups.

use anyhow::{Context as _, ensure};
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, StreamConsumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{PATIENCE, admin, config, name, publish, read, same, topic};

pub(crate) async fn makes_changes_and_deletes_topics(address: &str) -> anyhow::Result<()> {
    let (own, client, options) = (
        topic(address, 2).await?,
        admin(address)?,
        AdminOptions::new(),
    );
    let more = client
        .create_partitions(&[NewPartitions::new(&own, 5)], &options)
        .await?;
    ensure!(more.iter().all(Result::is_ok), "{more:?}");
    let reader: BaseConsumer = config(address, &[]).create()?;
    let known = reader.fetch_metadata(Some(&own), PATIENCE)?;
    same(&known.topics()[0].partitions().len(), &5, "partitions")?;
    let change = AlterConfig::new(ResourceSpecifier::Topic(&own)).set("retention.ms", "120000");
    let changed = client.alter_configs(&[change], &options).await?;
    ensure!(changed.iter().all(Result::is_ok), "{changed:?}");
    let described = client
        .describe_configs(&[ResourceSpecifier::Topic(&own)], &options)
        .await?;
    let described = described
        .into_iter()
        .next()
        .context("an answer")?
        .map_err(|code| anyhow::anyhow!("{code}"))?;
    let retention = described
        .get("retention.ms")
        .and_then(|entry| entry.value.clone());
    same(&retention.as_deref(), &Some("120000"), "retention.ms")?;
    let deleted = client.delete_topics(&[&own], &options).await?;
    ensure!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let known = reader.fetch_metadata(None, PATIENCE)?;
    ensure!(
        known.topics().iter().all(|topic| topic.name() != own),
        "the deleted topic is listed"
    );
    Ok(())
}

pub(crate) async fn lists_and_deletes_groups(address: &str) -> anyhow::Result<()> {
    let (own, group) = (topic(address, 1).await?, name("group"));
    publish(address, &own, &["x".to_owned()], 1, &[]).await?;
    let more = [
        ("group.id", &*group),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
    ];
    let consumer: StreamConsumer = config(address, &more).create()?;
    consumer.subscribe(&[&own])?;
    read(&consumer, 1).await?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&own, 0, Offset::Offset(1))?;
    consumer.commit(&offsets, CommitMode::Sync)?;
    let listed = consumer.fetch_group_list(Some(&group), PATIENCE)?;
    let state = listed.groups().first().map(|own| own.state().to_owned());
    same(&state.as_deref(), &Some("Stable"), "the group")?;
    drop(consumer);
    let client = admin(address)?;
    let deleted = client
        .delete_groups(&[&group], &AdminOptions::new())
        .await?;
    ensure!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let reader: BaseConsumer = config(address, &[]).create()?;
    let left = reader.fetch_group_list(None, PATIENCE)?;
    ensure!(
        left.groups().iter().all(|own| own.name() != group),
        "the deleted group is listed"
    );
    Ok(())
}
