//! What a group answers.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::Ticket;

use super::Snapshot;

/// Something to be done for a group, in the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Answer a JoinGroup request.
    Joined(Ticket, Result<Joined, JoinRefused>),
    /// Answer a SyncGroup request.
    Synced(Ticket, Result<Synced, GroupError>),
    /// Answer a LeaveGroup request: one outcome for each member of it, in its order.
    Left(Ticket, Result<Vec<Result<(), GroupError>>, GroupError>),
    /// Keep this. Nothing waits for it: lost, it costs the generation that the next members see to
    /// be lower, and no member of the lost one is known any more.
    Keep(Snapshot),
    /// The last member is gone: from now on its offsets grow old.
    BecameEmpty,
}

/// The answer to a member that has joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The member's id.
    pub member_id: String,
    /// The generation that it has joined.
    pub generation: i32,
    /// The group's type.
    pub protocol_type: String,
    /// The protocol that the members have voted for.
    pub protocol: String,
    /// The leader's member id.
    pub leader: String,
    /// For the leader: everybody. For others: empty.
    pub members: Vec<JoinedMember>,
    /// For a returning static leader: the assignment stays, it need not compute one.
    pub skip_assignment: bool,
}

/// What the leader is told of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// What it said with the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to a member that may not join, or not yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// With [`GroupError::MemberIdRequired`] the id to come back with, else the one it came with.
    pub member_id: String,
}

/// The answer to a member that asked for its assignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    /// The group's type.
    pub protocol_type: String,
    /// The chosen protocol.
    pub protocol: String,
    /// What the leader assigned to it; empty if the leader forgot it.
    pub assignment: Bytes,
}

/// What a member did wrong or must do next. Each is the error of the same name in Kafka's protocol.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum GroupError {
    /// It should join again under the id that it is given.
    #[error("a member id is needed to join")]
    MemberIdRequired,
    /// It is not, or no longer, a member.
    #[error("{0:?} is no member of the group")]
    UnknownMemberId(String),
    /// It speaks of another generation.
    #[error("generation {given} was named, {current} holds")]
    IllegalGeneration {
        /// What it said.
        given: i32,
        /// What holds.
        current: i32,
    },
    /// It has no protocol in common with the others, or another type.
    #[error("no protocol in common with the group, or another type than {0:?}")]
    InconsistentGroupProtocol(String),
    /// It should join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// Another process has taken its instance id.
    #[error("instance {0:?} belongs to another member now")]
    FencedInstanceId(String),
    /// There are too many members.
    #[error("the group has its {0} members")]
    GroupMaxSizeReached(usize),
    /// Its session is too short or too long.
    #[error("a session of {0:?} is not allowed")]
    InvalidSessionTimeout(Duration),
    /// The group was deleted while it asked: it should look for the group again.
    #[error("the group was just deleted")]
    CoordinatorNotAvailable,
    /// A group with members cannot be deleted.
    #[error("the group has {0} members")]
    NonEmptyGroup(usize),
    /// The group was deleted before.
    #[error("the group does not exist")]
    GroupIdNotFound,
}
