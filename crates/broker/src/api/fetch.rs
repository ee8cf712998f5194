//! Fetch: records from offsets on, waited for if there are none yet.
//!
//! Sessions (KIP-227) are not kept: a client is told so by the session id 0, and names its partitions
//! each time. On one machine that costs less than remembering.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProducerId};
use tokio::sync::Notify;

use crate::Error;
use crate::access::Right;
use crate::catalog::Topic;
use crate::connection::Session;
use crate::partition::{Fetched, Partition};
use crate::wire::{BadRequest, Request};

/// The longest that a client may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The most that one answer carries, whatever the client wants.
const BYTES_MAX: usize = 64 << 20;

/// A partition that is asked for.
struct Wanted {
    asked: FetchPartition,
    found: Result<Arc<Partition>, ResponseError>,
}

pub(crate) async fn answer(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: FetchRequest = request.decode()?;
    let wait = u64::try_from(asked.max_wait_ms).unwrap_or(0);
    let until = tokio::time::Instant::now() + Duration::from_millis(wait).min(WAIT_MAX);
    let least = usize::try_from(asked.min_bytes).unwrap_or(0);
    let most = usize::try_from(asked.max_bytes).unwrap_or(0).min(BYTES_MAX);
    let committed = asked.isolation_level == 1;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        topics.push(find(session, request.version, topic).await);
    }
    let waiter = Arc::new(Notify::new());
    loop {
        for wanted in topics.iter().flat_map(|(_, wanted)| wanted) {
            if let Ok(partition) = &wanted.found {
                partition.watch(&waiter);
            }
        }
        let (responses, bytes, urgent) =
            tokio::task::block_in_place(|| read(&topics, most, committed));
        let late = tokio::time::Instant::now() >= until;
        if bytes >= least || urgent || late || topics.is_empty() {
            let response = FetchResponse::default().with_responses(responses);
            return request.answer(&response);
        }
        tokio::select! {
            () = waiter.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

async fn find(
    session: &Session,
    version: i16,
    asked: FetchTopic,
) -> (FetchableTopicResponse, Vec<Wanted>) {
    let catalog = session.broker.catalog();
    let (topic, unknown) = if version >= 13 {
        let topic = catalog.by_id(asked.topic_id.as_bytes());
        (topic, ResponseError::UnknownTopicId)
    } else {
        let topic = catalog.get(&asked.topic);
        (topic, ResponseError::UnknownTopicOrPartition)
    };
    let name = topic.as_ref().map_or(&**asked.topic, |topic| &topic.name);
    let permitted = session
        .broker
        .access()
        .permits(&session.who, Right::Read, name);
    let topic = match (topic, permitted) {
        (_, false) => Err(ResponseError::TopicAuthorizationFailed),
        (Some(topic), true) => Ok(topic),
        (None, true) => Err(unknown),
    };
    let mut wanted = Vec::with_capacity(asked.partitions.len());
    for partition in asked.partitions {
        let found = open(&topic, partition.partition).await;
        wanted.push(Wanted {
            asked: partition,
            found,
        });
    }
    let response = FetchableTopicResponse::default()
        .with_topic(asked.topic)
        .with_topic_id(asked.topic_id);
    (response, wanted)
}

async fn open(
    topic: &Result<Arc<Topic>, ResponseError>,
    index: i32,
) -> Result<Arc<Partition>, ResponseError> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    let partition = topic.partition(index);
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.ready().await.map_err(|error| error.response())?;
    Ok(partition)
}

/// What there is, how many bytes, and whether something of it should be known at once. May block.
fn read(
    topics: &[(FetchableTopicResponse, Vec<Wanted>)],
    most: usize,
    committed: bool,
) -> (Vec<FetchableTopicResponse>, usize, bool) {
    let (mut total, mut urgent) = (0, false);
    let mut responses = Vec::with_capacity(topics.len());
    for (head, wanted) in topics {
        let mut partitions = Vec::with_capacity(wanted.len());
        for own in wanted {
            let left = most.saturating_sub(total);
            let fetched = fetch(own, left, total == 0, committed);
            match &fetched {
                Ok(fetched) => total += fetched.batches.len(),
                Err(_) => urgent = true,
            }
            partitions.push(response(own, fetched, committed));
        }
        responses.push(head.clone().with_partitions(partitions));
    }
    (responses, total, urgent)
}

/// The first that has something gives one batch at least, whatever its size (KIP-74).
fn fetch(own: &Wanted, left: usize, first: bool, committed: bool) -> Result<Fetched, Error> {
    let named = |response: ResponseError| Error::Refused(response, String::new());
    let partition = own.found.as_ref().map_err(|error| named(*error))?;
    let most = usize::try_from(own.asked.partition_max_bytes).unwrap_or(0);
    if left == 0 {
        return partition.ends();
    }
    let mut fetched = partition.fetch(own.asked.fetch_offset, most.min(left), committed)?;
    if !first && fetched.batches.len() > left {
        fetched.batches = Bytes::new();
        fetched.aborted.clear();
    }
    Ok(fetched)
}

fn response(own: &Wanted, fetched: Result<Fetched, Error>, committed: bool) -> PartitionData {
    let response = PartitionData::default().with_partition_index(own.asked.partition);
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => {
            let ends = own.found.as_ref().ok().and_then(|own| own.ends().ok());
            let ends = ends.unwrap_or(Fetched {
                high_watermark: -1,
                last_stable: -1,
                start: -1,
                ..Fetched::default()
            });
            return marks(response, &ends)
                .with_error_code(error.response().code())
                .with_records(Some(Bytes::new()));
        }
    };
    let aborted = committed.then(|| {
        let aborted = fetched.aborted.iter().map(|own| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(own.producer_id))
                .with_first_offset(own.first_offset)
        });
        aborted.collect()
    });
    marks(response, &fetched)
        .with_aborted_transactions(aborted)
        .with_records(Some(fetched.batches))
}

fn marks(response: PartitionData, ends: &Fetched) -> PartitionData {
    response
        .with_high_watermark(ends.high_watermark)
        .with_last_stable_offset(ends.last_stable)
        .with_log_start_offset(ends.start)
}
