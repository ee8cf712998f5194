//! Sessions of Fetch at the rim: where requests become steps of [`crate::fetch_session`], and what they
//! answer becomes responses. Chance and the clock come in here; whether somebody may read a topic and
//! whether there is one is asked anew for each request.

use std::collections::HashMap;
use std::sync::Arc;

use atoll_base::clock::monotonic;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;

use super::{Found, Group, Head, Wanted, by_id, by_name, open};
use crate::catalog::check_name;
use crate::connection::Session;
use crate::fetch_session::{Ends, FIRST, Increment, NONE, Refused, Round, Topic, Want};

/// What a request does with sessions.
pub(super) enum Mode {
    /// Nothing, any more.
    Alone,
    /// It wants one.
    Make,
    /// It continues one.
    Continue(Round),
}

/// What the request does with sessions. If it continues one, its topics are taken out of it.
pub(super) fn begin(
    session: &Session,
    version: i16,
    asked: &mut FetchRequest,
) -> Result<Mode, Refused> {
    let id = asked.session_id;
    if id != 0 && matches!(asked.session_epoch, FIRST | NONE) {
        session.broker.fetches().end(id, &session.who);
    }
    match asked.session_epoch {
        NONE => Ok(Mode::Alone),
        FIRST => Ok(Mode::Make),
        _ => {
            let Some(increment) = increment(session, version, asked) else {
                session.broker.fetches().end(id, &session.who);
                return Err(Refused::NotFound(id));
            };
            let mut sessions = session.broker.fetches();
            let round = sessions.next(&session.who, increment, monotonic())?;
            Ok(Mode::Continue(round))
        }
    }
}

/// None: it has a name that no topic can have, and that could be of any length. Such a client is not
/// remembered.
fn increment(session: &Session, version: i16, asked: &mut FetchRequest) -> Option<Increment> {
    let mut changed = Vec::with_capacity(asked.topics.len());
    for topic in std::mem::take(&mut asked.topics) {
        let partitions = topic.partitions.iter().map(|own| {
            let want = Want {
                offset: own.fetch_offset,
                bytes_max: own.partition_max_bytes,
            };
            (own.partition, want)
        });
        let partitions = partitions.collect();
        changed.push((
            called(session, version, &topic.topic, topic.topic_id)?,
            partitions,
        ));
    }
    let mut forgotten = Vec::with_capacity(asked.forgotten_topics_data.len());
    for topic in std::mem::take(&mut asked.forgotten_topics_data) {
        let own = called(session, version, &topic.topic, topic.topic_id)?;
        forgotten.push((own, topic.partitions));
    }
    Some(Increment {
        id: asked.session_id,
        epoch: asked.session_epoch,
        by_id: version >= 13,
        changed,
        forgotten,
    })
}

/// None: no topic can have this name.
fn called(session: &Session, version: i16, name: &str, id: Uuid) -> Option<Topic> {
    let catalog = session.broker.catalog();
    if version >= 13 {
        let id = id.into_bytes();
        let name = catalog.by_id(&id).map(|topic| Arc::clone(&topic.name));
        return Some(Topic::Id { id, name });
    }
    if let Some(topic) = catalog.get(name) {
        return Some(Topic::Name(Arc::clone(&topic.name)));
    }
    check_name(name).ok()?;
    Some(Topic::Name(name.into()))
}

/// The partitions of a session, those of one topic together where they follow each other.
pub(super) async fn topics(session: &Session, round: &mut Round) -> Vec<Group> {
    let mut located = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for own in std::mem::take(&mut round.wanted) {
        let topic = located
            .entry(Arc::clone(&own.topic))
            .or_insert_with(|| match &*own.topic {
                Topic::Name(name) => by_name(session, name),
                Topic::Id { id, name } => by_id(session, id, name.as_deref()),
            });
        let wanted = Wanted {
            index: own.index,
            want: own.want,
            found: open(topic, own.index).await,
            kept: Some((own.place, own.told)),
        };
        match groups.last_mut() {
            Some(Group {
                head: Head::Kept(last),
                wanted: of_it,
            }) if *last == own.topic => {
                of_it.push(wanted);
            }
            _ => groups.push(Group {
                head: Head::Kept(own.topic),
                wanted: vec![wanted],
            }),
        }
    }
    groups
}

/// The answer, and what is remembered of it.
pub(super) fn end(
    session: &Session,
    version: i16,
    mode: Mode,
    topics: &[Group],
    found: Found,
) -> FetchResponse {
    let id = match mode {
        Mode::Alone => 0,
        Mode::Make => make(session, version, topics, &found).unwrap_or(0),
        Mode::Continue(round) => {
            let mut sessions = session.broker.fetches();
            if let Err(refused) = sessions.told(round.id, round.epoch, found.told) {
                return refusal(refused);
            }
            round.id
        }
    };
    FetchResponse::default()
        .with_session_id(id)
        .with_responses(found.responses)
}

/// A session of all that was asked for and told.
fn make(session: &Session, version: i16, topics: &[Group], found: &Found) -> Option<i32> {
    let size = topics.iter().map(|group| group.wanted.len()).sum();
    if !session.broker.fetches().would_take(size) {
        return None;
    }
    let mut wanted = Vec::with_capacity(size);
    for (group, response) in topics.iter().zip(&found.responses) {
        let topic = Arc::new(called(
            session,
            version,
            &response.topic,
            response.topic_id,
        )?);
        for (own, told) in group.wanted.iter().zip(&response.partitions) {
            wanted.push((Arc::clone(&topic), own.index, own.want, ends(told)));
        }
    }
    let mut random = [0; 4];
    SystemRandom::new().fill(&mut random).ok()?;
    let id = i32::from_be_bytes(random) & i32::MAX;
    let mut sessions = session.broker.fetches();
    sessions.make(id, &session.who, version >= 13, wanted, monotonic())
}

fn ends(told: &PartitionData) -> Ends {
    if told.error_code != 0 {
        return Ends::UNKNOWN;
    }
    Ends {
        high_watermark: told.high_watermark,
        last_stable: told.last_stable_offset,
        start: told.log_start_offset,
    }
}

/// What a client is told that has to begin anew.
pub(super) fn refusal(refused: Refused) -> FetchResponse {
    let code = match refused {
        Refused::NotFound(_) => ResponseError::FetchSessionIdNotFound,
        Refused::Epoch { .. } => ResponseError::InvalidFetchSessionEpoch,
        Refused::TopicIds => ResponseError::FetchSessionTopicIdError,
    };
    FetchResponse::default().with_error_code(code.code())
}
