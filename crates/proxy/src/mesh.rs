//! Who calls whom inside, and who may.
//!
//! Each dependency has an address of its own, so the address tells who is *meant* to call. That the
//! caller is who it should be is asked of the kernel, once for each connection (`verify`), and held
//! against what the supervisor knows ([`Callers`]); what it may call is said by the callee
//! ([`Denials`]).

mod callers;
mod denial;
mod verify;

pub use self::callers::Callers;
pub(crate) use self::callers::Dweller;
pub use self::denial::{Denials, DenyConfig};
pub(crate) use self::verify::{Caller, Verifier};
