//! DescribeLogDirs: how large partitions are, and how much room there is. There is one folder, and
//! nothing is ever moved from one to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};

use super::text;
use crate::access::Right;
use crate::connection::Session;
use crate::partition::Partition;
use crate::wire::{BadRequest, Request};

/// Who may not set up topics is not told how large those of others are. Before version 3 there is no
/// place for the reason.
pub(crate) fn describe(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: DescribeLogDirsRequest = request.decode()?;
    let access = session.broker.access();
    if !access.permits(&session.who, Right::Manage, "") {
        let denied = ResponseError::ClusterAuthorizationFailed.code();
        let code = if request.version < 3 { 0 } else { denied };
        return request.answer(&DescribeLogDirsResponse::default().with_error_code(code));
    }
    let catalog = session.broker.catalog();
    let topics = match asked.topics {
        None => {
            let all = catalog.topics();
            let all = all.iter().map(|topic| {
                let name = TopicName(text(&*topic.name));
                described(name, topic.partitions.iter())
            });
            all.collect()
        }
        Some(listed) => {
            let mut wanted: BTreeMap<TopicName, BTreeSet<i32>> = BTreeMap::new();
            for topic in listed {
                let places = wanted.entry(topic.topic).or_default();
                places.extend(topic.partitions);
            }
            // What is in no folder is left out: there is no place for a reason.
            let known = wanted.into_iter().filter_map(|(name, places)| {
                let topic = catalog.get(&name)?;
                let of_it = topic.partitions.iter();
                let of_it = of_it.filter(|own| places.contains(&own.index));
                Some(described(name, of_it))
            });
            known.collect()
        }
    };
    let (total, usable) = tokio::task::block_in_place(|| room(session));
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(session.broker.folder().to_string_lossy()))
        .with_topics(topics)
        .with_total_bytes(total)
        .with_usable_bytes(usable);
    request.answer(&DescribeLogDirsResponse::default().with_results(vec![result]))
}

fn described<'a>(
    name: TopicName,
    partitions: impl Iterator<Item = &'a Arc<Partition>>,
) -> DescribeLogDirsTopic {
    let partitions = partitions.map(|own| {
        DescribeLogDirsPartition::default()
            .with_partition_index(own.index)
            .with_partition_size(i64::try_from(own.bytes()).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}

/// The bytes of the volume, and those that may still be written; -1 if the system does not say.
fn room(session: &Session) -> (i64, i64) {
    let Ok(volume) = rustix::fs::statvfs(session.broker.folder()) else {
        return (-1, -1);
    };
    let bytes = |blocks: u64| {
        let bytes = blocks.saturating_mul(volume.f_frsize);
        i64::try_from(bytes).unwrap_or(i64::MAX)
    };
    (bytes(volume.f_blocks), bytes(volume.f_bavail))
}
