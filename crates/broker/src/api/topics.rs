//! CreateTopics, DeleteTopics, CreatePartitions.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use super::{configs, text};
use crate::Error;
use crate::access::Right;
use crate::config::TopicConfig;
use crate::connection::Session;
use crate::wire::{BadRequest, Request};

pub(crate) async fn create(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: CreateTopicsRequest = request.decode()?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let result = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        topics.push(
            match create_one(session, &topic, asked.validate_only).await {
                Ok((id, partitions)) => result
                    .with_topic_id(Uuid::from_bytes(id))
                    .with_num_partitions(partitions)
                    .with_replication_factor(1),
                Err(error) => result
                    .with_error_code(error.response().code())
                    .with_error_message(Some(text(error.to_string()))),
            },
        );
    }
    request.answer(&CreateTopicsResponse::default().with_topics(topics))
}

async fn create_one(
    session: &Session,
    asked: &CreatableTopic,
    only_check: bool,
) -> Result<([u8; 16], i32), Error> {
    permit(session, &asked.name)?;
    let mut config = TopicConfig::default();
    for own in &asked.configs {
        configs::set(&mut config, &own.name, own.value.as_deref())?;
    }
    if !asked.assignments.is_empty() {
        config.partitions = i32::try_from(asked.assignments.len()).unwrap_or(i32::MAX);
    } else if asked.num_partitions != -1 {
        config.partitions = asked.num_partitions;
    }
    if !matches!(asked.replication_factor, -1 | 1) {
        let reason = "there is one node: the replication factor is 1".to_owned();
        return Err(Error::Refused(
            ResponseError::InvalidReplicationFactor,
            reason,
        ));
    }
    let catalog = session.broker.catalog();
    if only_check {
        if catalog.get(&asked.name).is_some() {
            return Err(Error::TopicExists(asked.name.to_string()));
        }
        crate::catalog::check_name(&asked.name)?;
        return Ok(([0; 16], config.partitions));
    }
    let topic = catalog.create(&asked.name, config).await?;
    Ok((topic.id, topic.config.partitions))
}

pub(crate) async fn delete(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: DeleteTopicsRequest = request.decode()?;
    let named = asked
        .topic_names
        .into_iter()
        .map(|name| (Some(name), Uuid::nil()));
    let listed = asked.topics.into_iter().map(|own| (own.name, own.topic_id));
    let mut responses = Vec::new();
    for (name, id) in named.chain(listed) {
        let known = session.broker.catalog().by_id(id.as_bytes());
        let name = name.or_else(|| known.map(|topic| TopicName(text(&*topic.name))));
        let result = DeletableTopicResult::default()
            .with_name(name.clone())
            .with_topic_id(id);
        let deleted = match &name {
            None => Err(Error::Refused(
                ResponseError::UnknownTopicId,
                id.to_string(),
            )),
            Some(name) => delete_one(session, name).await,
        };
        responses.push(match deleted {
            Ok(()) => result,
            Err(error) => result
                .with_error_code(error.response().code())
                .with_error_message(Some(text(error.to_string()))),
        });
    }
    request.answer(&DeleteTopicsResponse::default().with_responses(responses))
}

async fn delete_one(session: &Session, name: &TopicName) -> Result<(), Error> {
    permit(session, name)?;
    session.broker.delete_topic(name).await
}

pub(crate) async fn add_partitions(
    session: &Session,
    request: &Request,
) -> Result<Bytes, BadRequest> {
    let asked: CreatePartitionsRequest = request.decode()?;
    let mut results = Vec::with_capacity(asked.topics.len());
    for own in asked.topics {
        let result = CreatePartitionsTopicResult::default().with_name(own.name.clone());
        let added = add(session, &own.name, own.count, asked.validate_only).await;
        results.push(match added {
            Ok(()) => result,
            Err(error) => result
                .with_error_code(error.response().code())
                .with_error_message(Some(text(error.to_string()))),
        });
    }
    request.answer(&CreatePartitionsResponse::default().with_results(results))
}

async fn add(
    session: &Session,
    name: &TopicName,
    count: i32,
    only_check: bool,
) -> Result<(), Error> {
    permit(session, name)?;
    let catalog = session.broker.catalog();
    let topic = catalog
        .get(name)
        .ok_or_else(|| Error::NoTopic(name.to_string()))?;
    if count <= topic.config.partitions {
        let reason = "a topic keeps those that it has, and gets more of them";
        return Err(Error::Partitions {
            asked: count,
            reason,
        });
    }
    if only_check {
        return Ok(());
    }
    let more = |config: &mut TopicConfig| {
        config.partitions = count;
        Ok(())
    };
    catalog.change(name, more).await.map(drop)
}

fn permit(session: &Session, topic: &TopicName) -> Result<(), Error> {
    let access = session.broker.access();
    if access.permits(&session.who, Right::Manage, topic) {
        return Ok(());
    }
    let reason = "a service's topics are set up in atoll.toml, under [topics]".to_owned();
    Err(Error::Refused(
        ResponseError::TopicAuthorizationFailed,
        reason,
    ))
}
