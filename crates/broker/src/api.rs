//! Kafka's requests, one file for each family: what is asked, told to the broker, and its answer.

pub(crate) mod cluster;
pub(crate) mod commit;
pub(crate) mod configs;
pub(crate) mod fetch;
pub(crate) mod group;
pub(crate) mod inspect;
pub(crate) mod log_dirs;
pub(crate) mod login;
pub(crate) mod offsets;
pub(crate) mod produce;
pub(crate) mod topics;
pub(crate) mod transaction;
pub(crate) mod versions;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use crate::connection::Session;
use crate::wire::{BadRequest, Request};

/// Whether the client may ask this before it has said who it is.
pub(crate) fn may_ask(session: &Session, request: &Request) -> bool {
    let greets = matches!(
        request.kind.key,
        ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate
    );
    greets || session.broker.access().knows(&session.who)
}

/// The answer to anything but Produce.
pub(crate) async fn answer(session: &mut Session, request: &Request) -> Result<Bytes, BadRequest> {
    match request.kind.key {
        ApiKey::ApiVersions => versions::answer(request),
        ApiKey::Metadata => cluster::metadata(session, request).await,
        ApiKey::DescribeCluster => cluster::describe(session, request),
        ApiKey::FindCoordinator => cluster::find_coordinator(session, request),
        ApiKey::Fetch => fetch::answer(session, request).await,
        ApiKey::ListOffsets => offsets::list(session, request).await,
        ApiKey::DeleteRecords => offsets::delete_records(session, request).await,
        ApiKey::OffsetForLeaderEpoch => offsets::leader_epoch(session, request).await,
        ApiKey::CreateTopics => topics::create(session, request).await,
        ApiKey::DeleteTopics => topics::delete(session, request).await,
        ApiKey::CreatePartitions => topics::add_partitions(session, request).await,
        ApiKey::DescribeConfigs => configs::describe(session, request),
        ApiKey::AlterConfigs => configs::alter(session, request).await,
        ApiKey::IncrementalAlterConfigs => configs::alter_some(session, request).await,
        ApiKey::JoinGroup => group::join(session, request).await,
        ApiKey::SyncGroup => group::sync(session, request).await,
        ApiKey::Heartbeat => group::heartbeat(session, request),
        ApiKey::LeaveGroup => group::leave(session, request),
        ApiKey::DescribeGroups => group::describe(session, request),
        ApiKey::ListGroups => group::list(session, request),
        ApiKey::DeleteGroups => group::delete(session, request).await,
        ApiKey::OffsetCommit => commit::commit(session, request).await,
        ApiKey::OffsetFetch => commit::fetch(session, request),
        ApiKey::OffsetDelete => commit::delete(session, request).await,
        ApiKey::InitProducerId => transaction::init(session, request).await,
        ApiKey::AddPartitionsToTxn => transaction::add_partitions(session, request).await,
        ApiKey::AddOffsetsToTxn => transaction::add_offsets(session, request).await,
        ApiKey::EndTxn => transaction::end(session, request).await,
        ApiKey::TxnOffsetCommit => transaction::commit_offsets(session, request).await,
        ApiKey::DescribeProducers => inspect::producers(session, request).await,
        ApiKey::DescribeTransactions => inspect::transactions(session, request).await,
        ApiKey::ListTransactions => inspect::list(session, request).await,
        ApiKey::DescribeLogDirs => log_dirs::describe(session, request),
        ApiKey::SaslHandshake => login::handshake(session, request),
        ApiKey::SaslAuthenticate => login::authenticate(session, request),
        other => Err(BadRequest::Kind(other as i16)),
    }
}

/// A text as the protocol has it.
pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
