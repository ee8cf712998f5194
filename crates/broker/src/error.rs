//! What can go wrong with events, as a producer, a consumer or an operator can tell it apart.

use std::net::SocketAddr;
use std::sync::Arc;

use atoll_base::{Code, Coded};
use atoll_store::log;
use kafka_protocol::error::ResponseError;

use crate::group::GroupError;

/// A failure of the broker.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The port is not to be had.
    #[error("cannot listen on {addr} for clients of Kafka: {source}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The address is none.
    #[error("`listen` of [events] is no address: '{0}'")]
    Address(String),
    /// What clients shall be told is no place.
    #[error("`advertise` of [events] is no HOST:PORT: '{0}'")]
    Advertised(String),
    /// Log or state cannot be used.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
    /// Nobody knows the topic or the partition.
    #[error("there is no topic '{0}'")]
    NoTopic(String),
    /// The topic is there already.
    #[error("there is a topic '{0}' already")]
    TopicExists(String),
    /// No topic can have this name.
    #[error(
        "'{0}' is no name for a topic: letters, digits, '.', '_' and '-', at most 249, and not '.' or '..'"
    )]
    TopicName(String),
    /// A setting makes no sense.
    #[error("{key} cannot be '{value}': {reason}")]
    Setting {
        /// Which.
        key: String,
        /// What it was set to.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// The number of partitions makes no sense.
    #[error("{asked} partitions are not possible: {reason}")]
    Partitions {
        /// How many were asked for.
        asked: i32,
        /// Why not.
        reason: &'static str,
    },
    /// A group does not allow it.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The record or its batch is refused.
    #[error("{1}")]
    Refused(ResponseError, String),
}

impl Error {
    /// The number by which clients of Kafka know it.
    pub fn response(&self) -> ResponseError {
        match self {
            Self::Listen { .. } | Self::Address(_) | Self::Advertised(_) => {
                ResponseError::UnknownServerError
            }
            Self::Store(_) => ResponseError::KafkaStorageError,
            Self::NoTopic(_) => ResponseError::UnknownTopicOrPartition,
            Self::TopicExists(_) => ResponseError::TopicAlreadyExists,
            Self::TopicName(_) => ResponseError::InvalidTopicException,
            Self::Setting { .. } => ResponseError::InvalidConfig,
            Self::Partitions { .. } => ResponseError::InvalidPartitions,
            Self::Group(error) => group_response(error),
            Self::Refused(response, _) => *response,
        }
    }

    /// Whether it is the record that is wrong, so that the same again would be refused again.
    pub fn is_of_the_record(&self) -> bool {
        let Self::Refused(response, _) = self else {
            return false;
        };
        matches!(
            response,
            ResponseError::MessageTooLarge
                | ResponseError::InvalidRecord
                | ResponseError::CorruptMessage
                | ResponseError::UnsupportedCompressionType
                | ResponseError::UnsupportedForMessageFormat
        )
    }

    pub(crate) fn listen(addr: SocketAddr, source: std::io::Error) -> Self {
        Self::Listen {
            addr: addr.to_string(),
            source: Arc::new(source),
        }
    }
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Listen { .. } | Self::Address(_) => Code("ATL0901"),
            Self::Store(error) => error.code(),
            _ => Code("ATL0902"),
        }
    }
}

/// No random number is to be had.
pub(crate) fn random(source: std::io::Error) -> Error {
    Error::Refused(ResponseError::UnknownServerError, source.to_string())
}

/// What the log says, as clients of Kafka know it.
pub(crate) fn of_log(error: log::Error) -> Error {
    let response = match &error {
        log::Error::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        // They try again soon.
        log::Error::Busy(_) => ResponseError::NotEnoughReplicas,
        log::Error::Removed(_) => ResponseError::UnknownTopicOrPartition,
        log::Error::Batch(_) => ResponseError::CorruptMessage,
        _ => ResponseError::KafkaStorageError,
    };
    Error::Refused(response, error.to_string())
}

/// The number by which clients of Kafka know what a group answers.
pub(crate) fn group_response(error: &GroupError) -> ResponseError {
    match error {
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::UnknownMemberId(_) => ResponseError::UnknownMemberId,
        GroupError::IllegalGeneration { .. } => ResponseError::IllegalGeneration,
        GroupError::InconsistentGroupProtocol(_) => ResponseError::InconsistentGroupProtocol,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::FencedInstanceId(_) => ResponseError::FencedInstanceId,
        GroupError::GroupMaxSizeReached(_) => ResponseError::GroupMaxSizeReached,
        GroupError::InvalidSessionTimeout(_) => ResponseError::InvalidSessionTimeout,
        GroupError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        GroupError::NonEmptyGroup(_) => ResponseError::NonEmptyGroup,
        GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
    }
}
