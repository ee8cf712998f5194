//! One member of a group.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::Ticket;

use super::{Client, Join};

/// The longest that a group waits for a member to rejoin, whatever the member asks for.
const REBALANCE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What a member waits for. Never for both: a group that answers syncs does not wait for joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    Nothing,
    Join(Ticket),
    Sync(Ticket),
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client: Client,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) waiting: Waiting,
    /// Whether it can come back under its id. One that joined without an id and was not answered
    /// yet cannot.
    pub(super) knows_id: bool,
    /// Whether it has joined the present generation and has not asked for its assignment yet.
    pub(super) owes_sync: bool,
    session_timeout: Duration,
    session_end: Instant,
}

impl Member {
    pub(super) fn new(join: &Join, now: Instant) -> Self {
        Self {
            instance_id: join.instance_id.clone(),
            client: join.client.clone(),
            rebalance_timeout: join.rebalance_timeout.min(REBALANCE_TIMEOUT_MAX),
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            waiting: Waiting::Nothing,
            knows_id: !join.member_id.is_empty(),
            owes_sync: false,
            session_timeout: join.session_timeout,
            session_end: now + join.session_timeout,
        }
    }

    /// Takes over what a join says anew.
    pub(super) fn update(&mut self, join: &Join, now: Instant) {
        self.client = join.client.clone();
        self.rebalance_timeout = join.rebalance_timeout.min(REBALANCE_TIMEOUT_MAX);
        self.protocols.clone_from(&join.protocols);
        self.session_timeout = join.session_timeout;
        self.extend_session(now);
    }

    pub(super) fn extend_session(&mut self, now: Instant) {
        self.session_end = now + self.session_timeout;
    }

    /// When the member counts as dead. One that waits for an answer cannot speak, so it does not
    /// die before it has it: what it waits for has a deadline of its own.
    pub(super) fn session_end(&self) -> Option<Instant> {
        (self.waiting == Waiting::Nothing).then_some(self.session_end)
    }

    pub(super) fn joins(&self) -> bool {
        matches!(self.waiting, Waiting::Join(_))
    }

    pub(super) fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What the member said with this protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let said = self.protocols.iter().find(|(name, _)| name == protocol);
        said.map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}
