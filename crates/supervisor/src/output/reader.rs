//! Reads one pipe of an instance for as long as it is open, on a task of its own.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use atoll_base::{InstanceId, Tasks, Timestamp};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Lines, Read, Tail, read};
use crate::event::{OutputSink, Printed, Stream};
use crate::service::lock;

/// How much is read before other tasks have their turn, and it is asked whether there is room: little, as a row
/// takes more than the one byte that it may be in the pipe.
const BUDGET: usize = 16 << 10;

/// A pipe that is being read. Dropped, the reading ends.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Source>,
    done: oneshot::Receiver<()>,
    cancel: CancellationToken,
}

/// Where lines come from and where they go.
pub(crate) struct Source {
    pub(crate) pipe: AsyncFd<OwnedFd>,
    pub(crate) lines: Mutex<Lines>,
    pub(crate) tail: Arc<Mutex<Tail>>,
    pub(crate) sink: Arc<dyn OutputSink>,
    pub(crate) instance: InstanceId,
    pub(crate) stream: Stream,
}

impl Reader {
    /// Begins to read.
    pub(crate) fn start(source: Source, tasks: &Tasks) -> Self {
        let shared = Arc::new(source);
        let source = shared.clone();
        let (sender, done) = oneshot::channel();
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        tasks.spawn("output", async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = source.read_all() => {}
            }
            source.finish();
            // Nobody waits for it when the instance is being torn down.
            let _ = sender.send(());
        });
        Self {
            shared,
            done,
            cancel,
        }
    }

    /// Reads what is in the pipe now, without waiting, at most `budget` bytes.
    pub(crate) fn catch_up(&self, budget: usize) {
        // In small parts: who has little room left takes the first of them.
        let mut left = budget;
        while left > 0 && self.shared.read(left.min(BUDGET)) == Read::More {
            left = left.saturating_sub(BUDGET);
        }
    }

    /// Completes when the pipe was read to its end. Can be called again after it was dropped.
    pub(crate) async fn ended(&mut self) {
        if !self.done.is_terminated() {
            let _ = (&mut self.done).await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Source {
    async fn read_all(&self) {
        while let Ok(mut ready) = self.pipe.readable().await {
            if let Some(room) = self.sink.room() {
                room.await;
            }
            match self.read(BUDGET) {
                Read::Empty => ready.clear_ready(),
                Read::More => tokio::task::yield_now().await,
                Read::End => return,
            }
        }
    }

    fn read(&self, budget: usize) -> Read {
        let mut lines = lock(&self.lines);
        // If the system does not tell how much there is, it is seen while it is read.
        let there = rustix::io::ioctl_fionread(self.pipe.get_ref()).unwrap_or(0);
        let there = usize::try_from(there).map_or(budget, |there| there.min(budget));
        let mut printed = self.nothing(lines.partial.len() + there);
        let outcome = read(
            self.pipe.get_ref(),
            &mut lines,
            budget,
            |text, continued| printed.push(text, continued),
        );
        self.give(printed);
        outcome
    }

    fn finish(&self) {
        let mut lines = lock(&self.lines);
        let mut printed = self.nothing(lines.partial.len());
        lines.finish(&mut |text: &str, continued| printed.push(text, continued));
        // Still under the lock: who catches up next finds it done.
        self.give(printed);
    }

    /// Nothing yet, with room for so many bytes.
    fn nothing(&self, bytes: usize) -> Printed {
        Printed::new(self.instance.clone(), self.stream, Timestamp::now(), bytes)
    }

    fn give(&self, printed: Printed) {
        if printed.is_empty() {
            return;
        }
        lock(&self.tail).push_all(&printed);
        self.sink.lines(printed);
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("instance", &self.instance)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
