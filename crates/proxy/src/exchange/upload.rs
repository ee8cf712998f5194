//! The request on its way to the service.

use std::task::{Context, Poll};

use super::mirror::Copy;
use crate::buffer::Buffers;
use crate::http::Body;
use crate::limits::SMALL_BODY_BYTES;
use crate::span::ErrorKind;
use crate::wire::Wire;

/// How far a request has been sent.
#[derive(Debug)]
pub(super) struct Upload {
    /// What of the body has not been looked at.
    body: Body,
    /// How much of the request's first bytes has been written.
    sent: usize,
    /// Bytes at the front of the client's input that are checked and not written.
    ready: usize,
    /// Bytes of the body that came, with their framing.
    taken: u64,
    /// Bytes of the client beyond the first ones were passed on, or looked at: the request cannot
    /// be sent again.
    passed: bool,
    /// All of it was written.
    done: bool,
    /// The service takes no more; its answer may still come.
    given_up: bool,
    /// What passes is kept for another service.
    pub(super) copy: Option<Copy>,
}

impl Upload {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            sent: 0,
            ready: 0,
            taken: 0,
            passed: false,
            done: false,
            given_up: false,
            copy: None,
        }
    }

    /// Adds what of the body has already arrived to the first bytes of the request.
    pub(super) fn prime(
        &mut self,
        client: &mut Wire,
        request: &mut Vec<u8>,
        max_body: u64,
    ) -> Result<(), ErrorKind> {
        if self.body.is_done() || client.input.is_empty() {
            return Ok(());
        }
        let length = self.check(client, max_body)?;
        let bytes = client.input.bytes();
        request.extend_from_slice(bytes.get(..length).unwrap_or(bytes));
        client.input.consume(length);
        Ok(())
    }

    /// Begins anew with another connection. Only while [`Upload::has_passed_request`] is false.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
        self.done = false;
        self.given_up = false;
    }

    /// Whether the body has a length, and a small one.
    pub(super) fn is_small(&self) -> bool {
        matches!(self.body, Body::Length(left) if left <= SMALL_BODY_BYTES)
    }

    /// Bytes of the body that came, with their framing.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether all of it was written.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether all of it was taken off the client's connection.
    pub(super) fn is_read(&self) -> bool {
        self.body.is_done() && self.ready == 0
    }

    /// Whether the request can be sent again after a kept connection turns out to be dead: it may be
    /// (`idempotent`), and nothing of it is still to be streamed from the client.
    pub(super) fn survives_a_stale_connection(&self, idempotent: bool) -> bool {
        idempotent && self.is_read()
    }

    /// Whether nothing more will be written.
    pub(super) fn is_over(&self) -> bool {
        self.done || self.given_up
    }

    /// Whether the request cannot be sent again.
    pub(super) fn has_passed_request(&self) -> bool {
        self.passed
    }

    /// Whether there are bytes that the service has not taken.
    pub(super) fn waits_for_service(&self, request: &[u8]) -> bool {
        self.ready > 0 || self.sent < request.len()
    }

    /// Writes what can be written now. A failure is always the client's: a service that takes no
    /// more may have answered already.
    #[expect(
        clippy::too_many_arguments,
        reason = "both ends, and what the exchange lends"
    )]
    pub(super) fn poll(
        &mut self,
        client: &mut Wire,
        upstream: &mut Wire,
        request: &[u8],
        max_body: u64,
        cx: &mut Context<'_>,
        spare: &Buffers,
        moved: &mut bool,
    ) -> Result<(), ErrorKind> {
        loop {
            let step = if let Some(rest) = request.get(self.sent..).filter(|rest| !rest.is_empty())
            {
                upstream
                    .poll_write(cx, rest)
                    .map_ok(|written| self.sent += written)
            } else if self.ready > 0 {
                let relayed = upstream.poll_relay(cx, &mut client.input, self.ready);
                relayed.map_ok(|written| self.ready -= written)
            } else if self.body.is_done() {
                self.done = true;
                *moved = true;
                return Ok(());
            } else {
                if client.input.is_empty() {
                    match client.poll_fill(cx, spare) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(Ok(0) | Err(_)) => return Err(ErrorKind::ClientGone),
                        Poll::Ready(Ok(_)) => *moved = true,
                    }
                }
                self.passed = true;
                self.ready = self.check(client, max_body)?;
                if let Some(copy) = &mut self.copy {
                    let bytes = client.input.bytes();
                    copy.add(bytes.get(..self.ready).unwrap_or(bytes));
                }
                continue;
            };
            match step {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => *moved = true,
                Poll::Ready(Err(_)) => {
                    self.given_up = true;
                    return Ok(());
                }
            }
        }
    }

    /// How many bytes at the front of the client's input belong to the body.
    fn check(&mut self, client: &Wire, max_body: u64) -> Result<usize, ErrorKind> {
        let length = self.body.advance(client.input.bytes());
        let length = length.map_err(|_| ErrorKind::BadRequest)?;
        self.taken += length as u64;
        match &self.body {
            Body::Chunked(decoder) if decoder.announced() > max_body => Err(ErrorKind::TooLarge),
            _ => Ok(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_idempotent_and_all_there_is_trusted_to_a_kept_connection() {
        let whole = Upload::new(Body::NONE);
        assert!(whole.survives_a_stale_connection(true));
        assert!(!whole.survives_a_stale_connection(false));
        let streamed = Upload::new(Body::Length(5));
        assert!(!streamed.survives_a_stale_connection(true));
    }
}
