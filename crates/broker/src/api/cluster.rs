//! Metadata, DescribeCluster, FindCoordinator: there is one node, and it is where the client is.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use uuid::Uuid;

use super::text;
use crate::access::Right;
use crate::catalog::{Topic, check_name};
use crate::connection::Session;
use crate::wire::{BadRequest, Request};

/// The one node.
pub(crate) const NODE: BrokerId = BrokerId(0);
/// What clients show as the name of the cluster.
const CLUSTER: &str = "atoll";
/// "Not asked for."
const OPERATIONS_UNKNOWN: i32 = i32::MIN;

pub(crate) async fn metadata(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: MetadataRequest = request.decode()?;
    let mut topics = Vec::new();
    // In version 0 an empty list asks for all.
    let listed = asked
        .topics
        .filter(|list| request.version > 0 || !list.is_empty());
    match listed {
        None => {
            let all = session.broker.catalog().topics();
            let visible = all.iter().filter(|topic| may_see(session, &topic.name));
            topics.extend(visible.map(found));
        }
        Some(list) => {
            for wanted in list {
                let create = asked.allow_auto_topic_creation || request.version < 4;
                topics.push(match wanted.name {
                    Some(name) if wanted.topic_id.is_nil() => named(session, name, create).await,
                    _ => by_id(session, wanted.topic_id),
                });
            }
        }
    }
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(text(session.place.host.clone()))
        .with_port(i32::from(session.place.port));
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(CLUSTER)))
        .with_controller_id(NODE)
        .with_topics(topics)
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
    request.answer(&response)
}

pub(crate) fn describe(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let broker = DescribeClusterBroker::default()
        .with_broker_id(NODE)
        .with_host(text(session.place.host.clone()))
        .with_port(i32::from(session.place.port));
    let response = DescribeClusterResponse::default()
        .with_cluster_id(text(CLUSTER))
        .with_controller_id(NODE)
        .with_endpoint_type(1)
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
    request.answer(&response)
}

pub(crate) fn find_coordinator(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: FindCoordinatorRequest = request.decode()?;
    let (host, port) = (text(session.place.host.clone()), session.place.port);
    let coordinators = asked.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(NODE)
            .with_host(host.clone())
            .with_port(i32::from(port))
    });
    let response = FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    let response = if request.version < 4 {
        response
            .with_node_id(NODE)
            .with_host(host.clone())
            .with_port(i32::from(port))
    } else {
        response
    };
    request.answer(&response)
}

async fn named(session: &Session, name: TopicName, create: bool) -> MetadataResponseTopic {
    let missing = |response: ResponseError| {
        MetadataResponseTopic::default()
            .with_name(Some(name.clone()))
            .with_error_code(response.code())
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
    };
    if check_name(&name).is_err() {
        return missing(ResponseError::InvalidTopicException);
    }
    if !may_see(session, &name) {
        return missing(ResponseError::TopicAuthorizationFailed);
    }
    let access = session.broker.access();
    if create && session.broker.catalog().get(&name).is_none() {
        if !access.permits(&session.who, Right::Manage, &name) {
            return missing(ResponseError::UnknownTopicOrPartition);
        }
        if let Err(error) = session.broker.wanted(&name).await {
            return missing(error.response());
        }
    }
    match session.broker.catalog().get(&name) {
        Some(topic) => found(&topic),
        None => missing(ResponseError::UnknownTopicOrPartition),
    }
}

fn by_id(session: &Session, id: Uuid) -> MetadataResponseTopic {
    let topic = session.broker.catalog().by_id(id.as_bytes());
    match topic.filter(|topic| may_see(session, &topic.name)) {
        Some(topic) => found(&topic),
        None => MetadataResponseTopic::default()
            .with_topic_id(id)
            .with_error_code(ResponseError::UnknownTopicId.code())
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN),
    }
}

fn found(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        MetadataResponsePartition::default()
            .with_partition_index(partition.index)
            .with_leader_id(NODE)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&*topic.name))))
        .with_topic_id(Uuid::from_bytes(topic.id))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}

fn may_see(session: &Session, topic: &str) -> bool {
    let access = session.broker.access();
    access.permits(&session.who, Right::Describe, topic)
}
