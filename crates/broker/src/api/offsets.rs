//! ListOffsets, DeleteRecords, OffsetForLeaderEpoch: where a partition begins and ends.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use crate::access::Right;
use crate::connection::Session;
use crate::partition::Partition;
use crate::wire::{BadRequest, Request};

/// What stands for a time in ListOffsets.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const OF_LATEST_TIME: i64 = -3;

pub(crate) async fn list(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: ListOffsetsRequest = request.decode()?;
    let committed = asked.isolation_level == 1;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for own in topic.partitions {
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(own.partition_index)
                .with_timestamp(-1)
                .with_offset(-1);
            let right = Right::Describe;
            let found = open(session, right, &topic.name, own.partition_index).await;
            let listed = found.and_then(|partition| offset(&partition, own.timestamp, committed));
            partitions.push(match listed {
                Ok((offset, timestamp)) => response
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(epoch(offset, request.version)),
                Err(code) => response.with_error_code(code.code()),
            });
        }
        let name = topic.name;
        let topic = ListOffsetsTopicResponse::default().with_name(name);
        topics.push(topic.with_partitions(partitions));
    }
    request.answer(&ListOffsetsResponse::default().with_topics(topics))
}

/// There is one epoch. Before version 4 nothing is said of it, and -1 stands for nothing.
fn epoch(offset: i64, version: i16) -> i32 {
    if offset < 0 || version < 4 { -1 } else { 0 }
}

/// An offset and its time; both -1 if there is none.
fn offset(
    partition: &Arc<Partition>,
    timestamp: i64,
    committed: bool,
) -> Result<(i64, i64), ResponseError> {
    let ends = partition.ends().map_err(|error| error.response())?;
    match timestamp {
        LATEST if committed => Ok((ends.last_stable, -1)),
        LATEST => Ok((ends.high_watermark, -1)),
        EARLIEST => Ok((ends.start, -1)),
        OF_LATEST_TIME => Err(ResponseError::UnsupportedVersion),
        ..=-1 => Err(ResponseError::InvalidRequest),
        time => {
            let found = tokio::task::block_in_place(|| partition.offset_for_time(time));
            let found = found.map_err(|error| error.response())?;
            Ok(found.unwrap_or((-1, -1)))
        }
    }
}

pub(crate) async fn delete_records(
    session: &Session,
    request: &Request,
) -> Result<Bytes, BadRequest> {
    let asked: DeleteRecordsRequest = request.decode()?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for own in topic.partitions {
            let right = Right::Manage;
            let found = open(session, right, &topic.name, own.partition_index).await;
            let deleted = found.and_then(|partition| delete(&partition, own.offset));
            let (low, code) = match deleted {
                Ok(start) => (start, 0),
                Err(error) => (-1, error.code()),
            };
            let result = DeleteRecordsPartitionResult::default()
                .with_partition_index(own.partition_index)
                .with_low_watermark(low)
                .with_error_code(code);
            partitions.push(result);
        }
        let result = DeleteRecordsTopicResult::default().with_name(topic.name);
        topics.push(result.with_partitions(partitions));
    }
    request.answer(&DeleteRecordsResponse::default().with_topics(topics))
}

/// -1 stands for the end.
fn delete(partition: &Arc<Partition>, before: i64) -> Result<i64, ResponseError> {
    let ends = partition.ends().map_err(|error| error.response())?;
    let before = if before == -1 {
        ends.high_watermark
    } else {
        before
    };
    if before < 0 || before > ends.high_watermark {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let deleted = tokio::task::block_in_place(|| partition.delete_before(before));
    deleted.map_err(|error| error.response())
}

/// There is one epoch, and it does not end.
pub(crate) async fn leader_epoch(
    session: &Session,
    request: &Request,
) -> Result<Bytes, BadRequest> {
    let asked: OffsetForLeaderEpochRequest = request.decode()?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for own in topic.partitions {
            let end = EpochEndOffset::default()
                .with_partition(own.partition)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            let found = open(session, Right::Describe, &topic.topic, own.partition).await;
            let ends = found.and_then(|own| own.ends().map_err(|error| error.response()));
            partitions.push(match ends {
                Ok(ends) if own.leader_epoch == 0 => end
                    .with_leader_epoch(0)
                    .with_end_offset(ends.high_watermark),
                Ok(_) => end,
                Err(code) => end.with_error_code(code.code()),
            });
        }
        let result = OffsetForLeaderTopicResult::default().with_topic(topic.topic);
        topics.push(result.with_partitions(partitions));
    }
    request.answer(&OffsetForLeaderEpochResponse::default().with_topics(topics))
}

pub(super) async fn open(
    session: &Session,
    right: Right,
    topic: &str,
    index: i32,
) -> Result<Arc<Partition>, ResponseError> {
    if !session.broker.access().permits(&session.who, right, topic) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    let found = session.broker.catalog().partition(topic, index);
    let partition = found.map_err(|error| error.response())?;
    partition.ready().await.map_err(|error| error.response())?;
    Ok(partition)
}
