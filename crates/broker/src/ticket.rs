//! The number under which a caller finds a request that waits for its answer.
//!
//! Machines answer later than they are asked: a join waits for the other members, the end of a
//! transaction for its markers. They must not hold channels or sockets, so the caller keeps those
//! and gives the machine a number instead.

/// Names one waiting request. The caller never uses one twice while the first is unanswered; each is
/// answered exactly once, unless the caller itself says that the client is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);
