//! Fetch: records from offsets on, waited for if there are none yet.
//!
//! A client that wants it is remembered (`kept`). One that names all its partitions each time, as
//! librdkafka does, goes the same way without a look at what is remembered.

mod kept;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{FetchRequest, ProducerId, TopicName};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::Error;
use crate::access::Right;
use crate::catalog;
use crate::connection::Session;
use crate::fetch_session::{Ends, Told, Topic, Want};
use crate::partition::{Fetched, Partition};
use crate::passed;
use crate::wire::{BadRequest, Request};

/// The longest that a client may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The most that one answer carries, whatever the client wants.
const BYTES_MAX: usize = 64 << 20;

/// Partitions of one topic, as they are asked for or follow each other in a session.
struct Group {
    head: Head,
    wanted: Vec<Wanted>,
}

/// What a topic is called in the answer.
enum Head {
    Asked(TopicName, Uuid),
    Kept(Arc<Topic>),
}

/// A partition that is asked for.
struct Wanted {
    index: i32,
    want: Want,
    found: Result<Arc<Partition>, ResponseError>,
    /// In a session: its place, and what was told of it last.
    kept: Option<(u64, Ends)>,
}

/// What there is.
#[derive(Default)]
struct Found {
    responses: Vec<FetchableTopicResponse>,
    bytes: usize,
    /// Something of it should be known at once.
    urgent: bool,
    /// What of it is to be remembered in a session.
    told: Vec<Told>,
    /// How many records of which topics.
    records: Vec<(Arc<str>, u64)>,
}

pub(crate) async fn answer(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let mut asked: FetchRequest = request.decode()?;
    let wait = u64::try_from(asked.max_wait_ms).unwrap_or(0);
    let until = tokio::time::Instant::now() + Duration::from_millis(wait).min(WAIT_MAX);
    let least = usize::try_from(asked.min_bytes).unwrap_or(0);
    let most = usize::try_from(asked.max_bytes).unwrap_or(0).min(BYTES_MAX);
    let committed = asked.isolation_level == 1;
    let mut mode = match kept::begin(session, request.version, &mut asked) {
        Ok(mode) => mode,
        Err(refused) => return request.answer(&kept::refusal(refused)),
    };
    let topics = match &mut mode {
        kept::Mode::Continue(round) => kept::topics(session, round).await,
        kept::Mode::Alone | kept::Mode::Make => {
            let mut topics = Vec::with_capacity(asked.topics.len());
            for topic in asked.topics {
                topics.push(find(session, request.version, topic).await);
            }
            topics
        }
    };
    let waiter = Arc::new(Notify::new());
    loop {
        for wanted in topics.iter().flat_map(|group| &group.wanted) {
            if let Ok(partition) = &wanted.found {
                partition.watch(&waiter);
            }
        }
        let found = tokio::task::block_in_place(|| read(&topics, most, committed));
        let late = tokio::time::Instant::now() >= until;
        if found.bytes >= least || found.urgent || late || topics.is_empty() {
            for (topic, records) in &found.records {
                session
                    .broker
                    .counters()
                    .read(&session.who, topic, *records);
            }
            return request.answer(&kept::end(session, request.version, mode, &topics, found));
        }
        tokio::select! {
            () = waiter.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

async fn find(session: &Session, version: i16, asked: FetchTopic) -> Group {
    let topic = if version >= 13 {
        by_id(session, asked.topic_id.as_bytes(), None)
    } else {
        by_name(session, &asked.topic)
    };
    let mut wanted = Vec::with_capacity(asked.partitions.len());
    for partition in asked.partitions {
        wanted.push(Wanted {
            index: partition.partition,
            want: Want {
                offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
            },
            found: open(&topic, partition.partition).await,
            kept: None,
        });
    }
    Group {
        head: Head::Asked(asked.topic, asked.topic_id),
        wanted,
    }
}

fn by_name(session: &Session, name: &str) -> Result<Arc<catalog::Topic>, ResponseError> {
    let access = session.broker.access();
    if !access.permits(&session.who, Right::Read, name) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    let topic = session.broker.catalog().get(name);
    topic.ok_or(ResponseError::UnknownTopicOrPartition)
}

/// `name`: what it was called when the client began with it. Another may be called so now.
fn by_id(
    session: &Session,
    id: &[u8; 16],
    name: Option<&str>,
) -> Result<Arc<catalog::Topic>, ResponseError> {
    let (access, catalog) = (session.broker.access(), session.broker.catalog());
    let may = |name: &str| access.permits(&session.who, Right::Read, name);
    match catalog.by_id(id) {
        Some(topic) if may(&topic.name) => Ok(topic),
        Some(_) => Err(ResponseError::TopicAuthorizationFailed),
        None if name.is_some_and(|name| may(name) && catalog.get(name).is_some()) => {
            Err(ResponseError::InconsistentTopicId)
        }
        None => Err(ResponseError::UnknownTopicId),
    }
}

async fn open(
    topic: &Result<Arc<catalog::Topic>, ResponseError>,
    index: i32,
) -> Result<Arc<Partition>, ResponseError> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    let partition = topic.partition(index);
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.ready().await.map_err(|error| error.response())?;
    Ok(partition)
}

/// What there is to tell: in a session, of what has changed. May block.
fn read(topics: &[Group], most: usize, committed: bool) -> Found {
    let mut found = Found {
        responses: Vec::with_capacity(topics.len()),
        ..Found::default()
    };
    let mut left = most;
    for group in topics {
        let asked = matches!(group.head, Head::Asked(..));
        // In a session most have nothing to tell.
        let mut partitions = Vec::with_capacity(if asked { group.wanted.len() } else { 0 });
        for own in &group.wanted {
            let fetched = fetch(own, &mut left, found.bytes == 0, committed);
            match &fetched {
                Ok(fetched) => {
                    found.bytes += fetched.batches.len();
                    left = left.saturating_sub(fetched.batches.len());
                    if let Ok(partition) = &own.found
                        && !fetched.batches.is_empty()
                    {
                        let records = passed::records(&fetched.batches, own.want.offset);
                        found.records.push((Arc::clone(&partition.topic), records));
                    }
                }
                Err(_) => found.urgent = true,
            }
            match own
                .kept
                .map(|(place, before)| (before, told(place, &fetched)))
            {
                Some((before, told)) if fetched.is_ok() && !told.gave && told.ends == before => {
                    continue;
                }
                Some((_, told)) => found.told.push(told),
                None => {}
            }
            partitions.push(response(own, fetched, committed));
        }
        if asked || !partitions.is_empty() {
            found.responses.push(group.head.response(partitions));
        }
    }
    found
}

/// An error tells nothing of the ends: what comes after it is news in any case.
fn told(place: u64, fetched: &Result<Fetched, Error>) -> Told {
    match fetched {
        Err(_) => Told {
            place,
            ends: Ends::UNKNOWN,
            gave: false,
        },
        Ok(fetched) => Told {
            place,
            ends: Ends {
                high_watermark: fetched.high_watermark,
                last_stable: fetched.last_stable,
                start: fetched.start,
            },
            gave: !fetched.batches.is_empty(),
        },
    }
}

impl Head {
    fn response(&self, partitions: Vec<PartitionData>) -> FetchableTopicResponse {
        let response = FetchableTopicResponse::default().with_partitions(partitions);
        match self {
            Self::Asked(name, id) => response.with_topic(name.clone()).with_topic_id(*id),
            Self::Kept(topic) => match &**topic {
                Topic::Name(name) => response.with_topic(TopicName(super::text(&**name))),
                Topic::Id { id, .. } => response.with_topic_id(Uuid::from_bytes(*id)),
            },
        }
    }
}

/// The first that has something gives one batch at least, whatever its size (KIP-74). What does not
/// fit any more ends it for all that follow: a client that names thousands of partitions must not
/// have a batch of each read for nothing.
fn fetch(own: &Wanted, left: &mut usize, first: bool, committed: bool) -> Result<Fetched, Error> {
    let named = |response: ResponseError| Error::Refused(response, String::new());
    let partition = own.found.as_ref().map_err(|error| named(*error))?;
    let most = usize::try_from(own.want.bytes_max).unwrap_or(0);
    if *left == 0 {
        return partition.ends();
    }
    let mut fetched = partition.fetch(own.want.offset, most.min(*left), committed)?;
    if !first && fetched.batches.len() > *left {
        *left = 0;
        fetched.batches = Bytes::new();
        fetched.aborted.clear();
    }
    Ok(fetched)
}

fn response(own: &Wanted, fetched: Result<Fetched, Error>, committed: bool) -> PartitionData {
    let response = PartitionData::default().with_partition_index(own.index);
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
