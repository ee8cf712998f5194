//! OffsetCommit, OffsetFetch, OffsetDelete: how far groups have read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atoll_base::Timestamp;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::{group, text};
use crate::Error;
use crate::access::Right;
use crate::connection::Session;
use crate::groups::Committer;
use crate::journal::Committed;
use crate::wire::{BadRequest, Request};

/// What a client may keep with an offset, in bytes. Kafka's default.
const METADATA_MAX: usize = 4096;

pub(crate) async fn commit(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: OffsetCommitRequest = request.decode()?;
    let who = Committer {
        member: asked.member_id.to_string(),
        instance: asked.group_instance_id.map(|id| id.to_string()),
        generation: asked.generation_id_or_member_epoch,
    };
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for own in topic.partitions {
            let place = (topic.name.as_str(), own.partition_index);
            let metadata = own.committed_metadata.as_deref().unwrap_or_default();
            let offset = (own.committed_offset, own.committed_leader_epoch);
            let checked = offset_of(session, place, offset, metadata);
            let code = checked.as_ref().map_or_else(|code| code.code(), |_| 0);
            offsets.extend(checked);
            partitions.push((own.partition_index, code));
        }
        topics.push((topic.name, partitions));
    }
    let failed = match group::check(session, &asked.group_id) {
        Err(code) => code.code(),
        Ok(()) => {
            let committed = session
                .broker
                .groups()
                .commit(&asked.group_id, &who, offsets);
            match committed.await {
                Ok(()) => 0,
                Err(error) => Error::from(error).response().code(),
            }
        }
    };
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(if code == 0 { failed } else { code })
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    request.answer(&OffsetCommitResponse::default().with_topics(topics))
}

/// An offset to be kept, if its place is one that the client reads.
pub(crate) fn offset_of(
    session: &Session,
    (topic, partition): (&str, i32),
    (next, leader_epoch): (i64, i32),
    metadata: &str,
) -> Result<Committed, ResponseError> {
    if !session
        .broker
        .access()
        .permits(&session.who, Right::Read, topic)
    {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    let found = session.broker.catalog().get(topic);
    let found = found.filter(|topic| topic.partition(partition).is_some());
    let found = found.ok_or(ResponseError::UnknownTopicOrPartition)?;
    if metadata.len() > METADATA_MAX {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok(Committed {
        topic: Arc::clone(&found.name),
        partition,
        next,
        leader_epoch,
        metadata: metadata.to_owned(),
        at: Timestamp::now().as_micros() / 1000,
    })
}

/// Topics and partitions that are asked for; none: all.
type Places = Option<Vec<(TopicName, Vec<i32>)>>;
/// What is known of them.
type Known = Vec<(TopicName, Vec<Found>)>;

/// How far a group has read a partition.
struct Found {
    index: i32,
    /// Why it cannot be told.
    code: i16,
    own: Committed,
}

pub(crate) fn fetch(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: OffsetFetchRequest = request.decode()?;
    if request.version < 8 {
        let places = asked.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|own| (own.name, own.partition_indexes))
                .collect()
        });
        let known = find(session, &asked.group_id, places, asked.require_stable);
        return request.answer(&one_group(known));
    }
    let groups = asked.groups.into_iter().map(|own| {
        let places = own.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|own| (own.name, own.partition_indexes))
                .collect()
        });
        let known = find(session, &own.group_id, places, asked.require_stable);
        let response = OffsetFetchResponseGroup::default().with_group_id(own.group_id);
        let known = match known {
            Ok(known) => known,
            Err(code) => return response.with_error_code(code.code()),
        };
        let topics = known.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|found| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(found.index)
                    .with_error_code(found.code)
                    .with_committed_offset(found.own.next)
                    .with_committed_leader_epoch(found.own.leader_epoch)
                    .with_metadata(Some(text(found.own.metadata)))
            });
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_partitions(partitions.collect())
        });
        response.with_topics(topics.collect())
    });
    let groups = groups.collect();
    request.answer(&OffsetFetchResponse::default().with_groups(groups))
}

fn one_group(known: Result<Known, ResponseError>) -> OffsetFetchResponse {
    let known = match known {
        Ok(known) => known,
        Err(code) => return OffsetFetchResponse::default().with_error_code(code.code()),
    };
    let topics = known.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|found| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(found.index)
                .with_error_code(found.code)
                .with_committed_offset(found.own.next)
                .with_committed_leader_epoch(found.own.leader_epoch)
                .with_metadata(Some(text(found.own.metadata)))
        });
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn find(
    session: &Session,
    group: &str,
    places: Places,
    stable: bool,
) -> Result<Known, ResponseError> {
    group::check(session, group)?;
    // First what is not settled: what settles meanwhile is then seen as it is after that.
    let unsettled = match stable {
        true => session.broker.transactions().unsettled(group),
        false => BTreeSet::new(),
    };
    let mut offsets = session.broker.groups().offsets(group);
    let all: BTreeSet<_> = offsets.keys().chain(&unsettled).cloned().collect();
    let mut found = |place: &(Arc<str>, i32)| {
        let known = offsets.remove(place).filter(|_| !unsettled.contains(place));
        let code = match unsettled.contains(place) {
            true => ResponseError::UnstableOffsetCommit.code(),
            false => 0,
        };
        Found {
            index: place.1,
            code,
            own: known.unwrap_or_else(|| nothing(place.1)),
        }
    };
    if let Some(places) = places {
        let known = places.into_iter().map(|(name, indexes)| {
            let topic: Arc<str> = name.as_str().into();
            let own = indexes.into_iter();
            let own = own.map(|index| found(&(Arc::clone(&topic), index)));
            let own = own.collect();
            (name, own)
        });
        return Ok(known.collect());
    }
    let mut topics: BTreeMap<Arc<str>, Vec<Found>> = BTreeMap::new();
    for place in all {
        let own = found(&place);
        topics.entry(place.0).or_default().push(own);
    }
    let topics = topics.into_iter();
    Ok(topics
        .map(|(name, own)| (TopicName(text(&*name)), own))
        .collect())
}

fn nothing(partition: i32) -> Committed {
    Committed {
        topic: "".into(),
        partition,
        next: -1,
        leader_epoch: -1,
        metadata: String::new(),
        at: 0,
    }
}

pub(crate) async fn delete(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: OffsetDeleteRequest = request.decode()?;
    let response = OffsetDeleteResponse::default();
    if let Err(code) = group::check(session, &asked.group_id) {
        return request.answer(&response.with_error_code(code.code()));
    }
    let groups = session.broker.groups();
    // A member that reads on would write them again.
    let in_use = groups
        .describe(&asked.group_id)
        .is_some_and(|view| !view.members.is_empty());
    if in_use {
        let code = ResponseError::NonEmptyGroup.code();
        return request.answer(&response.with_error_code(code));
    }
    let mut places = Vec::new();
    let topics = asked.topics.into_iter().map(|topic| {
        let name: Arc<str> = topic.name.as_str().into();
        let partitions = topic.partitions.into_iter().map(|own| {
            places.push((Arc::clone(&name), own.partition_index));
            OffsetDeleteResponsePartition::default().with_partition_index(own.partition_index)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    let forgotten = groups.forget(&asked.group_id, places).await;
    let code = forgotten.map_or(ResponseError::KafkaStorageError.code(), |()| 0);
    request.answer(&response.with_error_code(code).with_topics(topics))
}
