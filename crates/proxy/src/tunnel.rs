//! What comes after `101 Switching Protocols`: bytes in both directions, until both ends are done.

use std::io;
use std::task::{Context, Poll};

use crate::buffer::Buffers;
use crate::clockwork::Timer;
use crate::limits::{STOPPING_IDLE, UPGRADED_IDLE};
use crate::span::Side;
use crate::wire::Wire;
use crate::worker::Worker;

/// One direction.
#[derive(Default)]
struct Direction {
    ended: bool,
    /// Bytes were moved since this was last looked at.
    moved: bool,
}

/// Passes bytes on until both ends have ended, one fails, or nothing moves for too long: an hour, or
/// a second once `side` is stopping.
pub(crate) async fn run(
    worker: &Worker,
    side: Side,
    timer: &Timer,
    client: &mut Wire,
    upstream: &mut Wire,
) {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut hurried = false;
    timer.arm(UPGRADED_IDLE);
    std::future::poll_fn(|cx| {
        let failed = up.poll(cx, client, upstream, &worker.buffers).is_err()
            || down.poll(cx, upstream, client, &worker.buffers).is_err();
        if failed || (up.ended && down.ended) {
            return Poll::Ready(());
        }
        let moved = std::mem::take(&mut up.moved) | std::mem::take(&mut down.moved);
        let stopping = worker.is_stopping(side);
        let hurry = stopping && !std::mem::replace(&mut hurried, stopping);
        if moved || hurry {
            timer.arm(if stopping {
                STOPPING_IDLE
            } else {
                UPGRADED_IDLE
            });
        }
        if timer.poll(cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl Direction {
    /// Moves what can be moved. Ends with everything passed on, or waiting.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
        spare: &Buffers,
    ) -> io::Result<()> {
        while !self.ended {
            let step = if to.has_output() {
                to.poll_flush(cx)?.map(|()| 1)
            } else if from.input.is_empty() {
                from.poll_fill(cx, spare)?
            } else {
                let length = from.input.len();
                to.poll_relay(cx, &mut from.input, length)?
            };
            match step {
                Poll::Pending => return Ok(()),
                Poll::Ready(0) => {
                    to.shut_down(cx);
                    self.ended = true;
                }
                Poll::Ready(_) => self.moved = true,
            }
        }
        Ok(())
    }
}
