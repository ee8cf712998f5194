//! What a group is told.

use std::time::Duration;

use bytes::Bytes;

use crate::Ticket;

/// Something that happened to a group.
#[derive(Clone, Debug)]
pub enum Command {
    /// A JoinGroup request: answered with [`super::Action::Joined`], perhaps much later.
    Join(Join),
    /// A SyncGroup request: answered with [`super::Action::Synced`], perhaps later.
    Sync(Sync),
    /// A LeaveGroup request: answered at once with [`super::Action::Left`].
    Leave(Leave),
    /// The client that waited under this ticket has closed its connection. The ticket will not be
    /// answered any more.
    Gone(Ticket),
    /// Time has passed: [`super::Group::next_deadline`] is reached.
    Tick,
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct Join {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// The member's id; empty if it has none yet.
    pub member_id: String,
    /// The id to use if it has none: never used before. Kafka's look like `client-uuid`.
    pub fresh_id: String,
    /// Set by static members (KIP-345): the name that stays the same over their restarts.
    pub instance_id: Option<String>,
    /// Whether a member without an id is told its id before it may join (KIP-394): true from
    /// version 4 of the request on.
    pub must_know_id: bool,
    /// Whether a leader can be told to keep the assignment (KIP-814): true from version 9 on.
    pub may_skip_assignment: bool,
    /// Who asks.
    pub client: Client,
    /// After this time without a sign of life the member is out.
    pub session_timeout: Duration,
    /// How long the others wait for this member to rejoin. In version 0 of the request, which has
    /// none, the session timeout.
    pub rebalance_timeout: Duration,
    /// What kind of group this is: `consumer`, `connect`.
    pub protocol_type: String,
    /// The ways of assigning that the member knows, best first, each with what it tells the leader.
    pub protocols: Vec<(String, Bytes)>,
}

/// What a description of the group tells of a client.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Client {
    /// The `client.id` of its configuration.
    pub id: String,
    /// The address that it came from.
    pub host: String,
}

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// The member's id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// The generation that it joined.
    pub generation: i32,
    /// The type that it believes the group to have, from version 5 on.
    pub protocol_type: Option<String>,
    /// The protocol that it believes to be chosen, from version 5 on.
    pub protocol: Option<String>,
    /// From the leader: what each member is assigned. From others: empty.
    pub assignments: Vec<(String, Bytes)>,
}

/// A LeaveGroup request.
#[derive(Clone, Debug)]
pub struct Leave {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// Who leaves: one in versions before 3.
    pub members: Vec<Leaver>,
}

/// One member that leaves, or that an operator removes.
#[derive(Clone, Debug)]
pub struct Leaver {
    /// The member's id. May be empty if the instance id is set.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
}
