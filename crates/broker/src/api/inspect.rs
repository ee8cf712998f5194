//! DescribeProducers, DescribeTransactions, ListTransactions: for those who look for transactions that
//! hang (KIP-664, KIP-994, KIP-1152).
//!
//! What is named twice in a request is described once: each description may be a thousand times the
//! size of its name, and nobody but the hostile asks twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_base::Timestamp;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId,
    TopicName, TransactionalId,
};
use regex::{Regex, RegexBuilder};

use super::{offsets, text, transaction};
use crate::access::Right;
use crate::connection::Session;
use crate::producers;
use crate::transactions::View;
use crate::txn::State;
use crate::wire::{BadRequest, Request};

/// The one coordinator's, which never moves: what the marks in the log say, too.
const COORDINATOR_EPOCH: i32 = 0;
/// The longest pattern that is compiled, and the memory that one may take.
const PATTERN_BYTES_MAX: usize = 1 << 10;
const PATTERN_MEMORY_MAX: usize = 1 << 20;

/// The states by their names in Kafka. It has others that no transaction is in here.
const STATES: [(&str, Option<State>); 8] = [
    ("Empty", Some(State::Empty)),
    ("Ongoing", Some(State::Ongoing)),
    ("PrepareCommit", Some(State::PrepareCommit)),
    ("PrepareAbort", Some(State::PrepareAbort)),
    ("CompleteCommit", Some(State::CompleteCommit)),
    ("CompleteAbort", Some(State::CompleteAbort)),
    ("Dead", Some(State::Dead)),
    ("PrepareEpochFence", None),
];

pub(crate) async fn producers(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: DescribeProducersRequest = request.decode()?;
    let mut wanted: BTreeMap<TopicName, BTreeSet<i32>> = BTreeMap::new();
    for topic in asked.topics {
        let places = wanted.entry(topic.name).or_default();
        places.extend(topic.partition_indexes);
    }
    let mut topics = Vec::with_capacity(wanted.len());
    for (name, places) in wanted {
        let mut partitions = Vec::with_capacity(places.len());
        for index in places {
            let response = PartitionResponse::default().with_partition_index(index);
            let found = offsets::open(session, Right::Read, &name, index).await;
            let known = found.and_then(|own| own.producers().map_err(|error| error.response()));
            partitions.push(match known {
                Ok(known) => response.with_active_producers(known.iter().map(producer).collect()),
                Err(code) => response.with_error_code(code.code()),
            });
        }
        let topic = TopicResponse::default().with_name(name);
        topics.push(topic.with_partitions(partitions));
    }
    request.answer(&DescribeProducersResponse::default().with_topics(topics))
}

/// -1 stands for nothing.
fn producer((view, open): &(producers::View, Option<i64>)) -> ProducerState {
    let last = view.next_sequence.map_or(-1, |next| next - 1);
    ProducerState::default()
        .with_producer_id(ProducerId(view.producer_id))
        .with_producer_epoch(i32::from(view.epoch))
        .with_last_sequence(last)
        .with_last_timestamp(view.seen.as_micros() / 1000)
        .with_coordinator_epoch(COORDINATOR_EPOCH)
        .with_current_txn_start_offset(open.unwrap_or(-1))
}

pub(crate) async fn transactions(
    session: &Session,
    request: &Request,
) -> Result<Bytes, BadRequest> {
    let asked: DescribeTransactionsRequest = request.decode()?;
    let wanted: BTreeSet<_> = asked.transactional_ids.into_iter().collect();
    let mut described = Vec::with_capacity(wanted.len());
    for id in wanted {
        let found = match transaction::sees(session, &id) {
            Err(code) => Err(code),
            Ok(()) => {
                let found = session.broker.transactions().find(&id).await;
                found.ok_or(ResponseError::TransactionalIdNotFound)
            }
        };
        described.push(match found {
            Ok(view) => description(session, id, &view),
            Err(code) => nothing_of(id).with_error_code(code.code()),
        });
    }
    request.answer(&DescribeTransactionsResponse::default().with_transaction_states(described))
}

fn nothing_of(id: TransactionalId) -> TransactionState {
    TransactionState::default()
        .with_transactional_id(id)
        .with_transaction_start_time_ms(-1)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

/// Without the topics that the client may not know of.
fn description(session: &Session, id: TransactionalId, view: &View) -> TransactionState {
    let access = session.broker.access();
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for place in &view.held.partitions {
        topics.entry(&place.topic).or_default().push(place.index);
    }
    let topics = topics
        .into_iter()
        .filter(|(name, _)| access.permits(&session.who, Right::Describe, name))
        .map(|(name, partitions)| {
            TopicData::default()
                .with_topic(TopicName(text(name)))
                .with_partitions(partitions)
        });
    let began = view
        .running
        .map(|running| Timestamp::now().before(running).as_micros() / 1000);
    let timeout = i32::try_from(view.held.timeout.as_millis()).unwrap_or(i32::MAX);
    let response = nothing_of(id)
        .with_transaction_state(text(state_name(view.held.state)))
        .with_transaction_timeout_ms(timeout)
        .with_transaction_start_time_ms(began.unwrap_or(-1))
        .with_topics(topics.collect());
    match view.held.producer {
        None => response,
        Some(producer) => response
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
    }
}

/// Which transactions are asked for.
struct Filter {
    /// None: in any.
    states: Option<Vec<State>>,
    /// Empty: of any.
    producers: BTreeSet<i64>,
    /// Running for longer than this.
    longer: Option<Duration>,
    pattern: Option<Regex>,
}

pub(crate) async fn list(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: ListTransactionsRequest = request.decode()?;
    let known = |name: &str| STATES.iter().find(|(own, _)| *own == name);
    let states = (!asked.state_filters.is_empty()).then(|| {
        let named = asked.state_filters.iter().filter_map(|name| known(name));
        named.filter_map(|(_, state)| *state).collect()
    });
    let pattern = match pattern(asked.transactional_id_pattern.as_deref()) {
        Ok(pattern) => pattern,
        Err(code) => {
            let refused = ListTransactionsResponse::default().with_error_code(code.code());
            return request.answer(&refused);
        }
    };
    let filter = Filter {
        states,
        producers: asked.producer_id_filters.iter().map(|id| id.0).collect(),
        longer: u64::try_from(asked.duration_filter)
            .ok()
            .map(Duration::from_millis),
        pattern,
    };
    let all = session.broker.transactions().list().await.into_iter();
    let listed = all
        .filter(|view| filter.takes(view))
        .filter(|view| transaction::sees(session, &view.id).is_ok())
        .map(|view| {
            let producer = view.held.producer.map_or(-1, |producer| producer.id);
            Listed::default()
                .with_transactional_id(TransactionalId(text(&*view.id)))
                .with_producer_id(ProducerId(producer))
                .with_transaction_state(text(state_name(view.held.state)))
        })
        .collect();
    let unknown = asked
        .state_filters
        .iter()
        .filter(|own| known(own).is_none());
    let response = ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.cloned().collect())
        .with_transaction_states(listed);
    request.answer(&response)
}

impl Filter {
    fn takes(&self, view: &View) -> bool {
        let state = view.held.state;
        let producer = view.held.producer.map_or(-1, |producer| producer.id);
        let of_states = self.states.as_ref();
        of_states.is_none_or(|states| states.contains(&state))
            && (self.producers.is_empty() || self.producers.contains(&producer))
            && self
                .longer
                .is_none_or(|longer| view.running.is_some_and(|running| running > longer))
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(&view.id))
    }
}

/// A pattern that has to match all of an id; an empty one is none.
fn pattern(given: Option<&str>) -> Result<Option<Regex>, ResponseError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    if given.len() > PATTERN_BYTES_MAX {
        return Err(ResponseError::InvalidRegularExpression);
    }
    // Alone first: what is unbalanced should not become whole by what is put around it.
    let compile = |pattern: &str| {
        let compiled = RegexBuilder::new(pattern)
            .size_limit(PATTERN_MEMORY_MAX)
            .build();
        compiled.map_err(|_| ResponseError::InvalidRegularExpression)
    };
    compile(given)?;
    compile(&format!(r"\A(?:{given})\z")).map(Some)
}

fn state_name(state: State) -> &'static str {
    let found = STATES.iter().find(|(_, own)| *own == Some(state));
    found
        .map(|(name, _)| *name)
        .expect("every state has a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_all_of_an_id_and_costs_little() {
        let matches = |given: &str, id: &str| {
            let pattern = pattern(Some(given)).unwrap();
            pattern.is_none_or(|own| own.is_match(id))
        };
        assert!(matches("or.*s", "orders"));
        assert!(!matches("order", "orders"));
        assert!(matches("orders|x", "x"));
        assert!(!matches("orders|x", "xy"));
        assert!(matches("", "anything"));
        for bad in [
            "(",
            "a)(b",
            "[",
            "a{9999999}",
            &"a".repeat(2000),
            "(a{999}){999}",
        ] {
            assert_eq!(
                pattern(Some(bad)).unwrap_err(),
                ResponseError::InvalidRegularExpression
            );
        }
    }
}
