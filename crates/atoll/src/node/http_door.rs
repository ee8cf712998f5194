//! `EVENTS_URL`: where services publish and read over HTTP.
//!
//! They come through the mesh (see [`super::mesh_door`]), so it is known who calls.

use atoll_base::{ServiceName, Tasks};
use atoll_broker::access::{Access, Principal, Right};
use atoll_events::Registry;
use atoll_events::http::{Caller, Rights, State, router};
use axum::extract::Request;
use bytes::Bytes;

use super::mesh_door::MeshDoor;
use super::traffic::Traffic;

/// What services have declared.
pub(super) struct Declared {
    pub(super) access: Access,
    pub(super) schemas: Registry,
}

impl Rights for Declared {
    fn may_publish(&self, caller: &ServiceName, topic: &str) -> bool {
        let who = Principal::Account(caller.to_string());
        self.access.permits(&who, Right::Publish, topic)
    }

    fn may_read(&self, caller: &ServiceName, topic: &str) -> bool {
        let who = Principal::Account(caller.to_string());
        self.access.permits(&who, Right::Read, topic)
    }

    fn check(&self, topic: &str, value: Option<&Bytes>, _: Option<&str>) -> Result<(), String> {
        self.schemas.check(topic, value.map(AsRef::as_ref))
    }
}

/// The name by which the platform calls and is called in the mesh. No service can have it.
pub(super) fn own_name() -> ServiceName {
    ServiceName::new("atoll").expect("a valid name")
}

/// Serves it, and makes it known to the proxy.
pub(super) async fn open(state: State, traffic: &Traffic, tasks: &Tasks) -> anyhow::Result<()> {
    let door = MeshDoor::open(own_name(), "EVENTS_URL", traffic).await?;
    let introduce = |request: &mut Request, caller| {
        request.extensions_mut().insert(Caller(caller));
    };
    door.serve(router(state), introduce, tasks);
    Ok(())
}
