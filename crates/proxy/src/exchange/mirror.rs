//! Copies of requests for another service, whose answers nobody sees.
//!
//! A copy is sent once the request has gone to its own service, by a task of its own: it costs the
//! client nothing, whatever becomes of it. A body that is too large, or too many copies under way,
//! and there is none.

use std::rc::Rc;

use super::aside::{self, Want};
use crate::limits::{MIRROR_BYTES_MAX, MIRRORS_MAX};
use crate::local::Target;
use crate::worker::Worker;

/// What is kept of a request while it passes.
#[derive(Debug, Default)]
pub(super) struct Copy(Option<Vec<u8>>);

impl Copy {
    /// Begins with what is known of the request.
    pub(super) fn begin(request: &[u8]) -> Self {
        Self(Some(request.to_vec()))
    }

    /// Adds what follows.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if let Some(copy) = &mut self.0 {
            if copy.len() + bytes.len() > MIRROR_BYTES_MAX {
                self.0 = None;
            } else {
                copy.extend_from_slice(bytes);
            }
        }
    }

    /// Sends it on its way, if it is whole and there is room.
    pub(super) fn send(self, worker: &Rc<Worker>, target: &Rc<Target>, to_head: bool) {
        let Some(request) = self.0 else { return };
        if worker.mirrors.get() >= MIRRORS_MAX {
            return;
        }
        worker.mirrors.set(worker.mirrors.get() + 1);
        let (worker, target) = (Rc::clone(worker), Rc::clone(target));
        tokio::task::spawn_local(async move {
            let sent = aside::ask(&worker, &target, &request, to_head, Want::Nothing);
            let sent = tokio::time::timeout(target.timeout, sent).await;
            if !sent.is_ok_and(|answer| answer.is_some()) {
                tracing::debug!(service = %target.service.name, "a copy of a request got no answer");
            }
            worker.mirrors.set(worker.mirrors.get() - 1);
        });
    }
}
