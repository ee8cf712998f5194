//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and what is told of groups.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::text;
use crate::connection::Session;
use crate::error::group_response;
use crate::group::{Client, Join, JoinRefused, Joined, Leaver, State, Sync, View};
use crate::wire::{BadRequest, Request};
use crate::{Error, Ticket};

/// Set by the host of the groups.
const NO_TICKET: Ticket = Ticket(0);
/// "Not asked for."
const OPERATIONS_UNKNOWN: i32 = i32::MIN;

pub(crate) async fn join(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: JoinGroupRequest = request.decode()?;
    let response = JoinGroupResponse::default().with_generation_id(-1);
    if let Err(code) = check(session, &asked.group_id) {
        let response = response.with_member_id(asked.member_id);
        return request.answer(&response.with_error_code(code.code()));
    }
    let session_timeout = millis(asked.session_timeout_ms);
    let rebalance = asked.rebalance_timeout_ms;
    let join = Join {
        ticket: NO_TICKET,
        member_id: asked.member_id.to_string(),
        fresh_id: fresh_id(&request.client),
        instance_id: asked.group_instance_id.map(|id| id.to_string()),
        must_know_id: request.version >= 4,
        may_skip_assignment: request.version >= 9,
        client: Client {
            id: request.client.clone(),
            host: format!("/{}", session.peer.ip()),
        },
        session_timeout,
        rebalance_timeout: if rebalance < 0 {
            session_timeout
        } else {
            millis(rebalance)
        },
        protocol_type: asked.protocol_type.to_string(),
        protocols: asked
            .protocols
            .into_iter()
            .map(|own| (own.name.to_string(), own.metadata))
            .collect(),
    };
    let joined = session.broker.groups().join(&asked.group_id, join).await;
    request.answer(&match joined {
        Ok(joined) => joined_response(response, joined, request.version),
        Err(JoinRefused { error, member_id }) => response
            .with_error_code(group_response(&error).code())
            .with_member_id(text(member_id)),
    })
}

fn joined_response(response: JoinGroupResponse, own: Joined, version: i16) -> JoinGroupResponse {
    let members = own.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_metadata(member.metadata)
    });
    let response = response
        .with_generation_id(own.generation)
        .with_protocol_name(Some(text(own.protocol)))
        .with_leader(text(own.leader))
        .with_member_id(text(own.member_id))
        .with_members(members.collect());
    let response = match version {
        7.. => response.with_protocol_type(Some(text(own.protocol_type))),
        _ => response,
    };
    match version {
        9.. => response.with_skip_assignment(own.skip_assignment),
        _ => response,
    }
}

pub(crate) async fn sync(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: SyncGroupRequest = request.decode()?;
    let response = SyncGroupResponse::default();
    if let Err(code) = check(session, &asked.group_id) {
        return request.answer(&response.with_error_code(code.code()));
    }
    let sync = Sync {
        ticket: NO_TICKET,
        member_id: asked.member_id.to_string(),
        instance_id: asked.group_instance_id.map(|id| id.to_string()),
        generation: asked.generation_id,
        protocol_type: asked.protocol_type.map(|own| own.to_string()),
        protocol: asked.protocol_name.map(|own| own.to_string()),
        assignments: asked
            .assignments
            .into_iter()
            .map(|own| (own.member_id.to_string(), own.assignment))
            .collect(),
    };
    let synced = session.broker.groups().sync(&asked.group_id, sync).await;
    request.answer(&match synced {
        Ok(synced) if request.version >= 5 => response
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Ok(synced) => response.with_assignment(synced.assignment),
        Err(error) => response.with_error_code(group_response(&error).code()),
    })
}

pub(crate) fn heartbeat(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: HeartbeatRequest = request.decode()?;
    let instance = asked.group_instance_id.as_deref();
    let groups = session.broker.groups();
    let code = match check(session, &asked.group_id) {
        Err(code) => code.code(),
        Ok(()) => {
            let (member, generation) = (&asked.member_id, asked.generation_id);
            let beaten = groups.heartbeat(&asked.group_id, member, instance, generation);
            beaten.map_or_else(|error| group_response(&error).code(), |()| 0)
        }
    };
    request.answer(&HeartbeatResponse::default().with_error_code(code))
}

pub(crate) fn leave(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: LeaveGroupRequest = request.decode()?;
    let response = LeaveGroupResponse::default();
    if let Err(code) = check(session, &asked.group_id) {
        return request.answer(&response.with_error_code(code.code()));
    }
    let single = request.version < 3;
    let leavers: Vec<Leaver> = if single {
        vec![Leaver {
            member_id: asked.member_id.to_string(),
            instance_id: None,
        }]
    } else {
        let members = asked.members.iter().map(|own| Leaver {
            member_id: own.member_id.to_string(),
            instance_id: own.group_instance_id.as_ref().map(|id| id.to_string()),
        });
        members.collect()
    };
    let left = session.broker.groups().leave(&asked.group_id, leavers);
    let response = match left {
        Err(error) => response.with_error_code(group_response(&error).code()),
        Ok(outcomes) => {
            let code = |outcome: Result<(), _>| {
                outcome.map_or_else(|error| group_response(&error).code(), |()| 0)
            };
            let codes: Vec<i16> = outcomes.into_iter().map(code).collect();
            if single {
                response.with_error_code(codes.first().copied().unwrap_or(0))
            } else {
                let members = asked.members.into_iter().zip(codes).map(|(own, code)| {
                    MemberResponse::default()
                        .with_member_id(own.member_id)
                        .with_group_instance_id(own.group_instance_id)
                        .with_error_code(code)
                });
                response.with_members(members.collect())
            }
        }
    };
    request.answer(&response)
}

pub(crate) fn describe(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: DescribeGroupsRequest = request.decode()?;
    let groups = asked.groups.into_iter().map(|group| {
        let described = DescribedGroup::default()
            .with_group_id(group.clone())
            .with_authorized_operations(OPERATIONS_UNKNOWN);
        if let Err(code) = check(session, &group) {
            return described.with_error_code(code.code());
        }
        match session.broker.groups().describe(&group) {
            None => described.with_group_state(text("Dead")),
            Some(view) => fill(described, view),
        }
    });
    let groups = groups.collect();
    request.answer(&DescribeGroupsResponse::default().with_groups(groups))
}

fn fill(described: DescribedGroup, view: View) -> DescribedGroup {
    let members = view.members.into_iter().map(|own| {
        DescribedGroupMember::default()
            .with_member_id(text(own.member_id))
            .with_group_instance_id(own.instance_id.map(text))
            .with_client_id(text(own.client.id))
            .with_client_host(text(own.client.host))
            .with_member_metadata(own.metadata)
            .with_member_assignment(own.assignment)
    });
    described
        .with_group_state(text(state_name(view.state)))
        .with_protocol_type(text(view.protocol_type))
        .with_protocol_data(text(view.protocol))
        .with_members(members.collect())
}

pub(crate) fn list(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: ListGroupsRequest = request.decode()?;
    let wanted = |name: &str| {
        let filter = &asked.states_filter;
        filter.is_empty() || filter.iter().any(|own| own.eq_ignore_ascii_case(name))
    };
    let classic = asked.types_filter.is_empty()
        || asked
            .types_filter
            .iter()
            .any(|own| own.eq_ignore_ascii_case("classic"));
    let groups = session.broker.groups().list().into_iter();
    let groups = groups
        .filter(|(name, state, _)| {
            classic && wanted(state_name(*state)) && check(session, name).is_ok()
        })
        .map(|(name, state, kind)| {
            ListedGroup::default()
                .with_group_id(GroupId(text(&*name)))
                .with_protocol_type(text(kind))
                .with_group_state(text(state_name(state)))
                .with_group_type(text("classic"))
        });
    let groups = groups.collect();
    request.answer(&ListGroupsResponse::default().with_groups(groups))
}

pub(crate) async fn delete(session: &Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: DeleteGroupsRequest = request.decode()?;
    let mut results = Vec::with_capacity(asked.groups_names.len());
    for group in asked.groups_names {
        let code = match check(session, &group) {
            Err(code) => code.code(),
            Ok(()) => match session.broker.groups().delete(&group).await {
                Ok(()) => 0,
                Err(error) => Error::from(error).response().code(),
            },
        };
        let result = DeletableGroupResult::default().with_group_id(group);
        results.push(result.with_error_code(code));
    }
    request.answer(&DeleteGroupsResponse::default().with_results(results))
}

/// Whether the client may use the group.
pub(crate) fn check(session: &Session, group: &str) -> Result<(), ResponseError> {
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    let access = session.broker.access();
    if access.permits_group(&session.who, group) {
        return Ok(());
    }
    Err(ResponseError::GroupAuthorizationFailed)
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Empty => "Empty",
        State::PreparingRebalance => "PreparingRebalance",
        State::CompletingRebalance => "CompletingRebalance",
        State::Stable => "Stable",
        State::Dead => "Dead",
    }
}

fn millis(given: i32) -> Duration {
    Duration::from_millis(u64::try_from(given).unwrap_or(0))
}

/// An id for a member that has none: never used before.
fn fresh_id(client: &str) -> String {
    let mut random = [0_u8; 16];
    // Without random numbers the id may be one that was used: then the join is refused.
    let _ = SystemRandom::new().fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let client: String = client.chars().take(64).collect();
    format!("{client}-{random}")
}
