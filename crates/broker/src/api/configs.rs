//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs: the settings of topics by the names that
//! Kafka has for them.

use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as AlteredSome;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::text;
use crate::Error;
use crate::access::Right;
use crate::config::{Cleanup, Durability, TopicConfig};
use crate::connection::Session;
use crate::wire::{BadRequest, Request};

/// Kinds of what can be set up.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where a setting comes from: set for the topic, or the default.
const OF_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;
/// What is to be done with a setting.
const SET: i8 = 0;
const UNSET: i8 = 1;

/// The settings, by Kafka's names, and whether they can be changed.
fn settings(config: &TopicConfig) -> [(&'static str, String, bool); 13] {
    let size = config
        .retention_size
        .map_or(-1, |size| size.0.cast_signed());
    let durability = match config.durability {
        Durability::Synced => "synced",
        Durability::Memory => "memory",
    };
    [
        ("cleanup.policy", policy(config.cleanup).to_owned(), true),
        ("delete.retention.ms", millis(config.delete_retention), true),
        ("min.compaction.lag.ms", millis(config.compaction_lag), true),
        (
            "min.cleanable.dirty.ratio",
            (f64::from(config.compaction_dirty) / 100.0).to_string(),
            true,
        ),
        ("retention.ms", millis(config.retention), true),
        ("retention.bytes", size.to_string(), true),
        ("max.message.bytes", config.max_batch.0.to_string(), true),
        ("segment.bytes", config.segment.0.to_string(), true),
        ("segment.ms", millis(config.segment_age), true),
        ("atoll.durability", durability.to_owned(), true),
        ("compression.type", "producer".to_owned(), false),
        ("min.insync.replicas", "1".to_owned(), false),
        ("message.timestamp.type", "CreateTime".to_owned(), false),
    ]
}

fn millis(duration: HumanDuration) -> String {
    duration.0.as_millis().to_string()
}

fn policy(cleanup: Cleanup) -> &'static str {
    match cleanup {
        Cleanup::Delete => "delete",
        Cleanup::Compact => "compact",
        Cleanup::CompactDelete => "compact,delete",
    }
}

/// The policies in a list, in any order.
fn cleanup(value: &str) -> Option<Cleanup> {
    let mut found = None;
    for name in value.split(',').map(str::trim) {
        let own = match name {
            "delete" => Cleanup::Delete,
            "compact" => Cleanup::Compact,
            _ => return None,
        };
        found = match found {
            Some(known) if known != own => Some(Cleanup::CompactDelete),
            _ => Some(own),
        };
    }
    found
}

/// A part of one, as so many percent.
fn percent(value: &str) -> Option<u8> {
    let ratio: f64 = value.trim().parse().ok()?;
    let wanted = (ratio * 100.0).round();
    (0..=100).find(|percent| f64::from(*percent) == wanted)
}

/// Sets one of them to its default.
fn unset(config: &mut TopicConfig, key: &str) -> bool {
    let default = TopicConfig::default();
    match key {
        "cleanup.policy" => config.cleanup = default.cleanup,
        "delete.retention.ms" => config.delete_retention = default.delete_retention,
        "min.compaction.lag.ms" => config.compaction_lag = default.compaction_lag,
        "min.cleanable.dirty.ratio" => config.compaction_dirty = default.compaction_dirty,
        "retention.ms" => config.retention = default.retention,
        "retention.bytes" => config.retention_size = default.retention_size,
        "max.message.bytes" => config.max_batch = default.max_batch,
        "segment.bytes" => config.segment = default.segment,
        "segment.ms" => config.segment_age = default.segment_age,
        "atoll.durability" => config.durability = default.durability,
        _ => return false,
    }
    true
}

/// Sets one of them; without a value, to its default.
pub(crate) fn set(config: &mut TopicConfig, key: &str, value: Option<&str>) -> Result<(), Error> {
    let wrong = |reason| Error::Setting {
        key: key.to_owned(),
        value: value.unwrap_or_default().to_owned(),
        reason,
    };
    let number = |text: &str| {
        let number = text.trim().parse::<i64>();
        number.map_err(|_| wrong("it is a whole number"))
    };
    let above_zero =
        |text: &str| u64::try_from(number(text)?).map_err(|_| wrong("it is above zero"));
    let span = |text: &str| {
        let millis = above_zero(text)?.min(FOREVER_MILLIS);
        Ok::<_, Error>(HumanDuration(Duration::from_millis(millis)))
    };
    let Some(value) = value else {
        let known = unset(config, key);
        return known
            .then_some(())
            .ok_or_else(|| wrong("there is no such setting here"));
    };
    match key {
        "cleanup.policy" => {
            let known = cleanup(value);
            config.cleanup =
                known.ok_or_else(|| wrong("it is 'delete', 'compact' or 'compact,delete'"))?;
        }
        "delete.retention.ms" => config.delete_retention = span(value)?,
        "min.compaction.lag.ms" => config.compaction_lag = span(value)?,
        "min.cleanable.dirty.ratio" => {
            let percent = percent(value);
            config.compaction_dirty = percent.ok_or_else(|| wrong("it is between 0 and 1"))?;
        }
        "segment.ms" => config.segment_age = span(value)?,
        "retention.ms" => {
            // -1 stands for ever.
            let millis = u64::try_from(number(value)?).unwrap_or(FOREVER_MILLIS);
            config.retention = HumanDuration(Duration::from_millis(millis.min(FOREVER_MILLIS)));
        }
        "retention.bytes" => {
            config.retention_size = u64::try_from(number(value)?).ok().map(ByteCount);
        }
        "max.message.bytes" => config.max_batch = ByteCount(above_zero(value)?),
        "segment.bytes" => config.segment = ByteCount(above_zero(value)?),
        "atoll.durability" => {
            config.durability = match value {
                "synced" => Durability::Synced,
                "memory" => Durability::Memory,
                _ => return Err(wrong("it is 'synced' or 'memory'")),
            }
        }
        _ => {
            let own = settings(config);
            let known = own.iter().find(|(name, ..)| *name == key);
            match known {
                Some((_, own, _)) if own == value => {}
                Some(_) => return Err(wrong("it cannot be changed here")),
                None => return Err(wrong("there is no such setting here")),
            }
        }
    }
    Ok(())
}

/// A thousand years.
const FOREVER_MILLIS: u64 = 1000 * 365 * 24 * 3600 * 1000;

pub(crate) fn describe(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: DescribeConfigsRequest = request.decode()?;
    let results = asked.resources.into_iter().map(|own| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(own.resource_type)
            .with_resource_name(own.resource_name.clone());
        let config = match own.resource_type {
            TOPIC => topic_config(session, &own.resource_name, Right::Describe),
            // Nothing of the node is set through this protocol.
            BROKER => return result,
            _ => Err(Error::Refused(
                ResponseError::InvalidRequest,
                "it has no settings".to_owned(),
            )),
        };
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                return result
                    .with_error_code(error.response().code())
                    .with_error_message(Some(text(error.to_string())));
            }
        };
        let keys = own.configuration_keys;
        let wanted = |name: &str| {
            let keys = keys.as_ref().filter(|keys| !keys.is_empty());
            keys.is_none_or(|keys| keys.iter().any(|key| **key == *name))
        };
        let defaults = settings(&TopicConfig::default());
        let listed = settings(&config).into_iter().zip(defaults);
        let listed = listed.filter(|((name, ..), _)| wanted(name));
        let listed = listed.map(|((name, value, changeable), (_, default, _))| {
            let source = if value == default { DEFAULT } else { OF_TOPIC };
            DescribeConfigsResourceResult::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
                .with_read_only(!changeable)
                .with_config_source(source)
        });
        result.with_configs(listed.collect())
    });
    let results = results.collect();
    request.answer(&DescribeConfigsResponse::default().with_results(results))
}

/// All settings are given: those that are not named get their defaults.
pub(crate) async fn alter(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: AlterConfigsRequest = request.decode()?;
    let mut responses = Vec::with_capacity(asked.resources.len());
    for own in asked.resources {
        let edits: Vec<_> = own
            .configs
            .into_iter()
            .map(|own| (own.name, own.value))
            .collect();
        let edit = move |config: &mut TopicConfig| {
            let partitions = config.partitions;
            *config = TopicConfig {
                partitions,
                ..TopicConfig::default()
            };
            let mut edits = edits.iter();
            edits.try_for_each(|(name, value)| set(config, name, value.as_deref()))
        };
        let (kind, name) = (own.resource_type, own.resource_name);
        let changed = change(session, kind, &name, asked.validate_only, edit).await;
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(kind)
            .with_resource_name(name);
        responses.push(match changed {
            Ok(()) => response,
            Err(error) => response
                .with_error_code(error.response().code())
                .with_error_message(Some(text(error.to_string()))),
        });
    }
    request.answer(&AlterConfigsResponse::default().with_responses(responses))
}

pub(crate) async fn alter_some(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: IncrementalAlterConfigsRequest = request.decode()?;
    let mut responses = Vec::with_capacity(asked.resources.len());
    for own in asked.resources {
        let edits = own.configs;
        let edit = move |config: &mut TopicConfig| {
            edits.iter().try_for_each(|own| match own.config_operation {
                SET => set(config, &own.name, own.value.as_deref()),
                UNSET => set(config, &own.name, None),
                _ => Err(Error::Setting {
                    key: own.name.to_string(),
                    value: own.value.as_deref().unwrap_or_default().to_owned(),
                    reason: "it is no list, to which something could be added",
                }),
            })
        };
        let (kind, name) = (own.resource_type, own.resource_name);
        let changed = change(session, kind, &name, asked.validate_only, edit).await;
        let response = AlteredSome::default()
            .with_resource_type(kind)
            .with_resource_name(name);
        responses.push(match changed {
            Ok(()) => response,
            Err(error) => response
                .with_error_code(error.response().code())
                .with_error_message(Some(text(error.to_string()))),
        });
    }
    request.answer(&IncrementalAlterConfigsResponse::default().with_responses(responses))
}

async fn change(
    session: &Session,
    kind: i8,
    name: &str,
    only_check: bool,
    edit: impl FnOnce(&mut TopicConfig) -> Result<(), Error>,
) -> Result<(), Error> {
    if kind != TOPIC {
        let reason = "settings of topics can be changed here, no others".to_owned();
        return Err(Error::Refused(ResponseError::InvalidRequest, reason));
    }
    let mut config = topic_config(session, name, Right::Manage)?;
    if only_check {
        return edit(&mut config);
    }
    session.broker.catalog().change(name, edit).await.map(drop)
}

fn topic_config(session: &Session, name: &str, right: Right) -> Result<TopicConfig, Error> {
    if !session.broker.access().permits(&session.who, right, name) {
        let reason = "a service's topics are set up in atoll.toml, under [topics]".to_owned();
        return Err(Error::Refused(
            ResponseError::TopicAuthorizationFailed,
            reason,
        ));
    }
    let topic = session.broker.catalog().get(name);
    let topic = topic.ok_or_else(|| Error::NoTopic(name.to_owned()))?;
    Ok(topic.config.clone())
}
