//! Produce: batches are put in line for their partitions at once, in the order of the requests, and
//! waited for after that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};

use super::text;
use super::transaction::{self, old_response};
use crate::Error;
use crate::access::Right;
use crate::connection::Session;
use crate::partition::{Partition, Produced};
use crate::passed;
use crate::txn::Producer;
use crate::wire::{BadRequest, Request};
use atoll_store::log::Header;

type Answer = BoxFuture<'static, Result<Option<Bytes>, BadRequest>>;
type Submitted = Result<(Arc<Partition>, Produced), Refused>;
type Refused = (ResponseError, String);

/// The longest that a client may want to wait for the disk.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Puts the batches in line; what is returned waits for the disk.
pub(crate) async fn submit(session: &mut Session, request: Request) -> Result<Answer, BadRequest> {
    let asked: ProduceRequest = request.decode()?;
    let transaction = asked.transactional_id.map(|id| id.0.to_string());
    let silent = asked.acks == 0;
    let mut topics = Vec::with_capacity(asked.topic_data.len());
    for topic in asked.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            let submitted = place(session, transaction.as_deref(), &topic.name, data).await;
            partitions.push((index, submitted));
        }
        topics.push((topic.name, partitions));
    }
    let timeout = u64::try_from(asked.timeout_ms).unwrap_or(0).max(1000);
    let timeout = Duration::from_millis(timeout).min(TIMEOUT_MAX);
    let waiting = async move {
        let response = wait(topics, timeout).await;
        if silent {
            return Ok(None);
        }
        request.answer(&response).map(Some)
    };
    Ok(waiting.boxed())
}

async fn place(
    session: &Session,
    transaction: Option<&str>,
    topic: &TopicName,
    data: PartitionProduceData,
) -> Submitted {
    let refuse = |error: Error| (error.response(), error.to_string());
    let access = session.broker.access();
    if !access.permits(&session.who, Right::Publish, topic) {
        let response = ResponseError::TopicAuthorizationFailed;
        let name = &**topic;
        return Err((
            response,
            format!("'{name}' is not in `topics` of your [publish]"),
        ));
    }
    let found = session.broker.catalog().partition(topic, data.index);
    let partition = found.map_err(refuse)?;
    partition.ready().await.map_err(refuse)?;
    let Some(batch) = data.records.filter(|records| !records.is_empty()) else {
        let reason = "there is no record in it".to_owned();
        return Err((ResponseError::InvalidRecord, reason));
    };
    let checked = session.broker.check_batch(topic, &batch);
    checked.map_err(refuse)?;
    let header = Header::parse(&batch).ok();
    let records = passed::records(&batch, 0);
    let transactional = header.filter(Header::is_transactional);
    let produced = match (transaction, transactional) {
        (Some(id), Some(header)) => {
            let producer = Producer {
                id: header.producer_id,
                epoch: header.producer_epoch,
            };
            let transactions = session.broker.transactions();
            transactions
                .produce(id, producer, &partition, batch)
                .await
                .map_err(|error| (old_response(&error), error.to_string()))?
        }
        (None, Some(_)) => {
            let reason = "it belongs to a transaction that the request does not name".to_owned();
            return Err((transaction::not_named(), reason));
        }
        _ => partition.produce(batch).map_err(refuse)?,
    };
    if produced.is_new() {
        let counters = session.broker.counters();
        counters.published(&session.who, topic, records);
    }
    Ok((partition, produced))
}

async fn wait(
    topics: Vec<(TopicName, Vec<(i32, Submitted)>)>,
    timeout: Duration,
) -> ProduceResponse {
    let mut responses = Vec::with_capacity(topics.len());
    let until = tokio::time::Instant::now() + timeout;
    for (name, partitions) in topics {
        let mut done = Vec::with_capacity(partitions.len());
        for (index, submitted) in partitions {
            done.push(one(index, submitted, until).await);
        }
        let topic = TopicProduceResponse::default()
            .with_name(name)
            .with_partition_responses(done);
        responses.push(topic);
    }
    ProduceResponse::default().with_responses(responses)
}

async fn one(
    index: i32,
    submitted: Submitted,
    until: tokio::time::Instant,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    let failed = |(code, reason): Refused| {
        response
            .clone()
            .with_error_code(code.code())
            .with_error_message(Some(text(reason)))
    };
    let (partition, produced) = match submitted {
        Ok(submitted) => submitted,
        Err(refused) => return failed(refused),
    };
    let base = produced.base_offset;
    match tokio::time::timeout_at(until, partition.acknowledged(produced)).await {
        Ok(Ok(())) => {
            let start = partition.ends().map_or(-1, |ends| ends.start);
            response.with_base_offset(base).with_log_start_offset(start)
        }
        Ok(Err(error)) => failed((error.response(), error.to_string())),
        Err(_) => {
            let reason = "the disk did not answer in time; the records may be there".to_owned();
            failed((ResponseError::RequestTimedOut, reason))
        }
    }
}
