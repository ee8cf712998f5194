//! A group as an operator sees it.

use bytes::Bytes;

use super::{Client, Group, State};

/// A group, for DescribeGroups and ListGroups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Where it is in its life.
    pub state: State,
    /// The generation of its last assignment.
    pub generation: i32,
    /// Its type; empty if it never had a member.
    pub protocol_type: String,
    /// The chosen protocol; empty if none is.
    pub protocol: String,
    /// The leader's id, if there is one.
    pub leader: Option<String>,
    /// Its members, by id.
    pub members: Vec<MemberView>,
}

/// One member of a [`View`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberView {
    /// Its id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// Its client id and address.
    pub client: Client,
    /// What it said with the chosen protocol. Empty unless the group is stable: before, nothing
    /// that it said holds yet.
    pub metadata: Bytes,
    /// What it is assigned. Empty unless the group is stable.
    pub assignment: Bytes,
}

impl Group {
    /// The group as it is now.
    pub fn describe(&self) -> View {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| MemberView {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client: member.client.clone(),
            metadata: member.metadata(&protocol),
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        View {
            state: self.state,
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            leader: self.leader.clone(),
            members: members.collect(),
            protocol,
        }
    }
}
