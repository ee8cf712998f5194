//! Which service lives in which cgroup.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use atoll_base::ServiceName;

use super::verify::own_cgroup;

/// The cgroups of all instances. A cheap clone; all clones are one list.
///
/// While it is empty (no cgroups on this machine), callers are taken at their word.
#[derive(Debug, Clone, Default)]
pub struct Callers(Arc<RwLock<List>>);

#[derive(Debug, Default)]
struct List {
    instances: HashMap<u64, ServiceName>,
    /// Who this process itself is, and where it lives.
    own: Option<(u64, ServiceName)>,
}

impl Callers {
    /// An instance of `service` runs in this cgroup. To be told before it can call anyone.
    pub fn add(&self, cgroup: u64, service: ServiceName) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        list.instances.insert(cgroup, service);
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

    /// The service in a cgroup.
    pub(crate) fn service(&self, cgroup: u64) -> Option<ServiceName> {
        let list = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = list.own.as_ref().filter(|(own, _)| *own == cgroup);
        let found = list.instances.get(&cgroup);
        found.or(own.map(|(_, service)| service)).cloned()
    }
}
