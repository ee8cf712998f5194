//! Which instance lives in which cgroup.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use atoll_base::{InstanceId, ServiceName};

use super::verify::own_cgroup;

/// The cgroups of all instances. A cheap clone; all clones are one list.
///
/// While it is empty (no cgroups on this machine), callers are taken at their word.
#[derive(Debug, Clone, Default)]
pub struct Callers(Arc<RwLock<List>>);

#[derive(Debug, Default)]
struct List {
    instances: HashMap<u64, InstanceId>,
    /// Who this process itself is, and where it lives.
    own: Option<(u64, ServiceName)>,
}

/// Who lives in a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dweller {
    /// An instance.
    Instance(InstanceId),
    /// This process itself, and what it calls as.
    Own(ServiceName),
}

impl Callers {
    /// The instance runs in this cgroup. To be told before it can call anyone.
    pub fn add(&self, cgroup: u64, instance: InstanceId) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        list.instances.insert(cgroup, instance);
    }

    /// This process calls as `service`. Whoever else lives in its cgroup may do so too.
    pub fn adopt(&self, service: ServiceName) {
        let Some(cgroup) = own_cgroup() else { return };
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        list.own = Some((cgroup, service));
    }

    /// Nobody runs in this cgroup any more.
    pub fn remove(&self, cgroup: u64) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        list.instances.remove(&cgroup);
    }

    /// Whether there is anything to hold a caller against.
    pub(crate) fn is_empty(&self) -> bool {
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        list.instances.is_empty()
    }

    /// Who lives in a cgroup.
    pub(crate) fn find(&self, cgroup: u64) -> Option<Dweller> {
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = list.instances.get(&cgroup) {
            return Some(Dweller::Instance(instance.clone()));
        }
        let own = list.own.as_ref().filter(|(own, _)| *own == cgroup);
        own.map(|(_, service)| Dweller::Own(service.clone()))
    }
}
