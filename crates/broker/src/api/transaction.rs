//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::{commit, group};
use crate::access::{OWN_GROUPS, Principal, Right};
use crate::connection::Session;
use crate::groups::Committer;
use crate::transactions::TransactionError;
use crate::txn::{Outcome, Partition, Producer, TxnError};
use crate::wire::{BadRequest, Request};

/// A producer that has none yet.
const NO_PRODUCER: i64 = -1;

pub(crate) async fn init(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: InitProducerIdRequest = request.decode()?;
    let id = asked.transactional_id.map(|id| id.0.to_string());
    let timeout = u64::try_from(asked.transaction_timeout_ms).unwrap_or(0);
    let given = (asked.producer_id.0 != NO_PRODUCER).then_some(Producer {
        id: asked.producer_id.0,
        epoch: asked.producer_epoch,
    });
    let response = InitProducerIdResponse::default()
        .with_producer_id(ProducerId(NO_PRODUCER))
        .with_producer_epoch(-1);
    if let Err(code) = check(session, id.as_deref()) {
        return request.answer(&response.with_error_code(code.code()));
    }
    let timeout = Duration::from_millis(timeout);
    let transactions = session.broker.transactions();
    let made = transactions.init(id.as_deref(), timeout, given).await;
    request.answer(&match made {
        Ok(producer) => response
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
        Err(error) => response.with_error_code(code(&error, request.version >= 4)),
    })
}

pub(crate) async fn add_partitions(
    session: &Session,
    request: &Request,
) -> Result<Bytes, BadRequest> {
    let asked: AddPartitionsToTxnRequest = request.decode()?;
    let producer = Producer {
        id: asked.v3_and_below_producer_id.0,
        epoch: asked.v3_and_below_producer_epoch,
    };
    let id = asked.v3_and_below_transactional_id.0.to_string();
    let mut codes = Vec::new();
    let mut places = Vec::new();
    for topic in &asked.v3_and_below_topics {
        let access = session.broker.access();
        let permitted = access.permits(&session.who, Right::Publish, &topic.name);
        for index in &topic.partitions {
            let exists = session
                .broker
                .catalog()
                .partition(&topic.name, *index)
                .is_ok();
            codes.push(match (permitted, exists) {
                (false, _) => ResponseError::TopicAuthorizationFailed.code(),
                (true, false) => ResponseError::UnknownTopicOrPartition.code(),
                (true, true) => 0,
            });
            places.push(Partition {
                topic: topic.name.to_string(),
                index: *index,
            });
        }
    }
    // All or none.
    let all = if codes.iter().any(|code| *code != 0) {
        ResponseError::OperationNotAttempted.code()
    } else if let Err(code) = check(session, Some(&id)) {
        code.code()
    } else {
        let transactions = session.broker.transactions();
        match transactions.add_partitions(&id, producer, places).await {
            Ok(()) => 0,
            Err(error) => code(&error, request.version >= 2),
        }
    };
    let mut codes = codes.into_iter();
    let topics = asked.v3_and_below_topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|index| {
            let own = codes.next().filter(|code| *code != 0).unwrap_or(all);
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(own)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name)
            .with_results_by_partition(partitions.collect())
    });
    let topics = topics.collect();
    request
        .answer(&AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics))
}

pub(crate) async fn add_offsets(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: AddOffsetsToTxnRequest = request.decode()?;
    let producer = Producer {
        id: asked.producer_id.0,
        epoch: asked.producer_epoch,
    };
    let id = asked.transactional_id.0;
    let permitted = check(session, Some(&id)).and_then(|()| group::check(session, &asked.group_id));
    let transactions = session.broker.transactions();
    let code = match permitted {
        Err(code) => code.code(),
        Ok(()) => match transactions.add_group(&id, producer, &asked.group_id).await {
            Ok(()) => 0,
            Err(error) => code(&error, request.version >= 2),
        },
    };
    request.answer(&AddOffsetsToTxnResponse::default().with_error_code(code))
}

pub(crate) async fn end(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: EndTxnRequest = request.decode()?;
    let producer = Producer {
        id: asked.producer_id.0,
        epoch: asked.producer_epoch,
    };
    let outcome = if asked.committed {
        Outcome::Commit
    } else {
        Outcome::Abort
    };
    let id = asked.transactional_id.0;
    let transactions = session.broker.transactions();
    let code = match check(session, Some(&id)) {
        Err(code) => code.code(),
        Ok(()) => match transactions.end(&id, producer, outcome).await {
            Ok(()) => 0,
            Err(error) => code(&error, request.version >= 2),
        },
    };
    request.answer(&EndTxnResponse::default().with_error_code(code))
}

pub(crate) async fn commit_offsets(
    session: &Session,
    request: &Request,
) -> Result<Bytes, BadRequest> {
    let asked: TxnOffsetCommitRequest = request.decode()?;
    let producer = Producer {
        id: asked.producer_id.0,
        epoch: asked.producer_epoch,
    };
    let who = Committer {
        member: asked.member_id.to_string(),
        instance: asked.group_instance_id.map(|id| id.to_string()),
        generation: asked.generation_id,
    };
    let mut offsets = Vec::new();
    let mut codes = Vec::new();
    for topic in &asked.topics {
        for own in &topic.partitions {
            let place = (&*topic.name.0, own.partition_index);
            let metadata = own.committed_metadata.as_deref().unwrap_or_default();
            let offset = (own.committed_offset, own.committed_leader_epoch);
            let checked = commit::offset_of(session, place, offset, metadata);
            codes.push(checked.as_ref().map_or_else(|code| code.code(), |_| 0));
            offsets.extend(checked);
        }
    }
    let (id, group) = (&*asked.transactional_id.0, &*asked.group_id.0);
    let permitted = check(session, Some(id)).and_then(|()| group::check(session, group));
    let transactions = session.broker.transactions();
    let all = match permitted {
        Err(code) => code.code(),
        Ok(()) => {
            let kept = transactions
                .commit_offsets(id, producer, group, &who, offsets)
                .await;
            kept.map_or_else(|error| code(&error, false), |()| 0)
        }
    };
    let mut codes = codes.into_iter();
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|own| {
            let code = codes.next().filter(|code| *code != 0).unwrap_or(all);
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(own.partition_index)
                .with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    request.answer(&TxnOffsetCommitResponse::default().with_topics(topics))
}

/// What Produce and older requests are told.
pub(crate) fn old_response(error: &TransactionError) -> ResponseError {
    response(error, false)
}

/// What a batch of a transaction is told whose request names none.
pub(crate) fn not_named() -> ResponseError {
    ResponseError::InvalidTxnState
}

fn code(error: &TransactionError, knows_fenced: bool) -> i16 {
    response(error, knows_fenced).code()
}

fn response(error: &TransactionError, knows_fenced: bool) -> ResponseError {
    let refused = match error {
        TransactionError::Other(error) => return error.response(),
        TransactionError::Refused(refused) => refused,
    };
    match refused {
        TxnError::ConcurrentTransactions => ResponseError::ConcurrentTransactions,
        TxnError::InvalidTxnState(_) => ResponseError::InvalidTxnState,
        TxnError::ProducerFenced { .. } if knows_fenced => ResponseError::ProducerFenced,
        TxnError::ProducerFenced { .. } => ResponseError::InvalidProducerEpoch,
        TxnError::InvalidProducerIdMapping(_) => ResponseError::InvalidProducerIdMapping,
        TxnError::InvalidTransactionTimeout(_) => ResponseError::InvalidTransactionTimeout,
        TxnError::PolicyViolation(_) => ResponseError::PolicyViolation,
    }
}

/// Whether the client may learn of the transactional id: with an account, of those that begin with
/// its own name. Whoever knows the id of another could end its transactions.
pub(super) fn sees(session: &Session, id: &str) -> Result<(), ResponseError> {
    match &session.who {
        Principal::Account(name) if !id.starts_with(name.as_str()) => {
            Err(ResponseError::TransactionalIdAuthorizationFailed)
        }
        _ => check(session, Some(id)),
    }
}

/// Whether the client may use the transactional id.
pub(super) fn check(session: &Session, id: Option<&str>) -> Result<(), ResponseError> {
    let Some(id) = id else {
        return Ok(());
    };
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    if id.starts_with(OWN_GROUPS) && matches!(session.who, Principal::Account(_)) {
        return Err(ResponseError::TransactionalIdAuthorizationFailed);
    }
    Ok(())
}
