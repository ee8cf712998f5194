//! Outboxes: the way into a service's own database, and who hears what is wrong there.

use std::sync::Arc;

use atoll_base::ServiceName;
use atoll_events::outbox::{Connect, Told};
use atoll_telemetry::Level;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::events::Events;
use crate::database::Databases;

/// The database of a service, entered with the rights of the service.
pub(super) struct OwnDatabase {
    service: ServiceName,
    databases: Arc<Databases>,
}

impl OwnDatabase {
    pub(super) fn new(service: ServiceName, databases: Arc<Databases>) -> Self {
        Self { service, databases }
    }
}

impl Connect for OwnDatabase {
    fn connect(&self) -> BoxFuture<'static, Result<tokio_postgres::Client, String>> {
        let (databases, service) = (Arc::clone(&self.databases), self.service.clone());
        async move {
            let client = databases.enter_postgres(&service).await;
            client.map_err(|error| error.to_string())
        }
        .boxed()
    }
}

/// What is wrong stands among the lines of the service.
pub(super) struct Troubles(pub(super) Arc<Events>);

impl Told for Troubles {
    fn trouble(&self, service: &ServiceName, what: Option<&str>) {
        let (level, message) = match what {
            Some(what) => (Level::Error, format!("the outbox: {what}")),
            None => (Level::Info, "the outbox is published again".to_owned()),
        };
        self.0.service(service, level, message);
    }
}
