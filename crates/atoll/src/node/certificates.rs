//! Certificates that are renewed while the node runs: looked at every few seconds, as files that are
//! replaced by a rename on a network disk cannot be watched in any surer way.

use std::sync::Arc;
use std::time::Duration;

use atoll_base::Tasks;
use atoll_telemetry::Level;

use super::events::{EventKind, Events};

/// How soon a renewed certificate is used.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads certificates again when their files change, until the node stops.
pub(super) async fn watch(proxy: atoll_proxy::Handle, events: Arc<Events>, tasks: Tasks) {
    if proxy.tls_addr().is_none() {
        return;
    }
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let handle = proxy.clone();
        let read = tokio::task::spawn_blocking(move || handle.refresh_certificates()).await;
        match read {
            Ok(Ok(true)) => events.node_with(
                EventKind::Config,
                Level::Info,
                "new certificates are in use".to_owned(),
            ),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => {
                let message =
                    format!("{error}; the certificates from before stay in use (ATL0406)");
                events.node(Level::Error, message);
            }
        }
    }
}
