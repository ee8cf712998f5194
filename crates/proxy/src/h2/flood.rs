//! Clients that keep a connection busy with frames that carry nothing.
//!
//! A frame of a few bytes can cost as much work as a request: a PING and a SETTINGS each want an
//! answer, a RST_STREAM throws away what was just begun, empty DATA and CONTINUATION frames must be
//! looked at. `h2` bounds what it must remember of them; how many come is bounded here. The bytes are
//! watched on their way in, the frames counted by kind, and a client that sends more than it could
//! have a use for loses its connection.

use std::time::{Duration, Instant};

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD_BYTES],
    have: usize,
    /// Payload of the current frame that is still to come.
    payload: usize,
    /// What may still be sent before it is too much.
    credit: u32,
    filled: Instant,
    /// The same for resets of streams, in halves.
    resets: u32,
    resets_filled: Instant,
}

/// The client sends frames without use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client floods the connection with empty or control frames")]
pub(super) struct Flood;

/// Length, kind, flags, stream (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;
const PREFACE_BYTES: usize = super::PREFACE.len();

/// A client may send so many idle frames at once...
const CREDIT_MAX: u32 = 1000;
/// ... and earns so many per second: far above keep-alive pings and window updates of browsers
/// and gRPC, far below what costs a noticeable part of a core.
const CREDIT_PER_SECOND: u32 = 200;

/// Resets have an account of their own: each may have cost a request (CVE-2023-44487). A request earns
/// half of one, so a client that resets less than every other request is never stopped; one that does
/// nothing else gets so many halves at once...
const RESETS_MAX: u32 = 1000;
/// ... and so many per second.
const RESETS_PER_SECOND: u32 = 200;

/// What a frame does for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It carries a request, or bytes of one.
    Useful,
    /// It keeps the connection going.
    Idle,
    /// It begins a request.
    Request,
    /// It ends a request before its time.
    Reset,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            preface: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            have: 0,
            payload: 0,
            credit: CREDIT_MAX,
            filled: now,
            resets: RESETS_MAX,
            resets_filled: now,
        }
    }

    /// Looks at bytes that came in, in order.
    pub(super) fn see(&mut self, bytes: &[u8], now: Instant) -> Result<(), Flood> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let skipped = (self.preface + self.payload).min(rest.len());
            rest = &rest[skipped..];
            let of_preface = skipped.min(self.preface);
            self.preface -= of_preface;
            self.payload -= skipped - of_preface;
            let taken = rest.len().min(HEAD_BYTES - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&rest[..taken]);
            self.have += taken;
            rest = &rest[taken..];
            if self.have == HEAD_BYTES {
                self.have = 0;
                self.payload = self.length();
                self.count(now)?;
            }
        }
        Ok(())
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.head;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    fn count(&mut self, now: Instant) -> Result<(), Flood> {
        match self.kind() {
            Use::Useful => {
                // Those who send much also have much to say about it.
                self.credit = (self.credit + 1).min(CREDIT_MAX);
                return Ok(());
            }
            Use::Request => {
                self.credit = (self.credit + 1).min(CREDIT_MAX);
                self.resets = (self.resets + 1).min(RESETS_MAX);
                return Ok(());
            }
            Use::Reset => self.count_reset(now)?,
            Use::Idle => {}
        }
        if self.credit == 0 {
            self.earn(now);
        }
        self.credit = self.credit.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }

    fn count_reset(&mut self, now: Instant) -> Result<(), Flood> {
        if self.resets < 2 {
            let seconds = now.saturating_duration_since(self.resets_filled).as_secs();
            let earned = seconds.saturating_mul(u64::from(RESETS_PER_SECOND));
            let earned = u32::try_from(earned).unwrap_or(RESETS_MAX);
            self.resets = (self.resets + earned.min(RESETS_MAX)).min(RESETS_MAX);
            self.resets_filled += Duration::from_secs(seconds);
        }
        self.resets = self.resets.checked_sub(2).ok_or(Flood)?;
        Ok(())
    }

    /// Whole seconds earn credit; parts of one are kept for later.
    fn earn(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        let earned = seconds.saturating_mul(u64::from(CREDIT_PER_SECOND));
        self.credit = u32::try_from(earned).map_or(CREDIT_MAX, |earned| earned.min(CREDIT_MAX));
        self.filled += Duration::from_secs(seconds);
    }

    fn kind(&self) -> Use {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;
        const END_STREAM: u8 = 1;
        let (kind, flags) = (self.head[3], self.head[4]);
        match kind {
            DATA if self.payload > 0 || flags & END_STREAM != 0 => Use::Useful,
            HEADERS => Use::Request,
            RST_STREAM => Use::Reset,
            // Empty DATA, PRIORITY, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION, and
            // kinds that nobody knows.
            _ => Use::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, kind: u8, flags: u8) -> Vec<u8> {
        let mut frame = vec![
            0,
            (length >> 8) as u8,
            length as u8,
            kind,
            flags,
            0,
            0,
            0,
            1,
        ];
        frame.resize(9 + length, 0x55);
        frame
    }

    fn begun(now: Instant) -> Watch {
        let mut watch = Watch::new(now);
        watch.see(crate::h2::PREFACE, now).unwrap();
        watch
    }

    /// How many frames pass before it is too much.
    fn pass(watch: &mut Watch, frame: &[u8], now: Instant) -> usize {
        (0..5000)
            .take_while(|_| watch.see(frame, now).is_ok())
            .count()
    }

    #[test]
    fn frames_that_carry_nothing_are_bounded_and_time_forgives() {
        let now = atoll_base::clock::monotonic();
        for (kind, length) in [(6, 8), (4, 0), (0, 0), (9, 3), (2, 5), (77, 0)] {
            let idle = frame(length, kind, 0);
            assert_eq!(pass(&mut begun(now), &idle, now), 1000, "kind {kind}");
            let mut watch = begun(now);
            watch.see(&idle.repeat(1000), now).unwrap();
            let later = now + Duration::from_millis(2500);
            assert_eq!(pass(&mut watch, &idle, later), 400, "kind {kind}");
        }
    }

    /// CVE-2023-44487, also where each stream has been accepted before it is reset.
    #[test]
    fn resets_are_bounded_and_requests_do_not_pay_for_them() {
        let now = atoll_base::clock::monotonic();
        let (request, reset) = (frame(40, 1, 5), frame(4, 3, 0));
        assert_eq!(pass(&mut begun(now), &reset, now), 500);
        let mut watch = begun(now);
        let rapid = [&request[..], &reset].concat();
        assert_eq!(
            pass(&mut watch, &rapid, now),
            999,
            "each pair costs half a reset"
        );
        let mut watch = begun(now);
        watch.see(&rapid.repeat(999), now).unwrap();
        let later = now + Duration::from_secs(3);
        assert_eq!(pass(&mut watch, &rapid, later), 600);
        let fair = [&request[..], &request, &reset].concat();
        assert_eq!(pass(&mut begun(now), &fair, now), 5000);
    }

    #[test]
    fn requests_and_their_bodies_are_never_too_many() {
        let now = atoll_base::clock::monotonic();
        let mut watch = begun(now);
        assert_eq!(pass(&mut watch, &frame(40, 1, 5), now), 5000);
        assert_eq!(pass(&mut watch, &frame(16_000, 0, 0), now), 5000);
        assert_eq!(
            pass(&mut watch, &frame(0, 0, 1), now),
            5000,
            "the end of a body"
        );
    }

    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut() {
        let now = atoll_base::clock::monotonic();
        let mut bytes = crate::h2::PREFACE.to_vec();
        for _ in 0..600 {
            bytes.extend(frame(8, 6, 0));
            bytes.extend(frame(300, 0, 0));
            bytes.extend(frame(0, 4, 1));
        }
        for step in [1, 2, 7, 9, 100, 4096] {
            let mut watch = Watch::new(now);
            let flooded = bytes.chunks(step).any(|part| watch.see(part, now).is_err());
            assert!(!flooded, "600 useful ones earn 600 of 1200, cut by {step}");
            let mut left = 0;
            while watch.see(&frame(0, 4, 0), now).is_ok() {
                left += 1;
            }
            assert_eq!(left, 400, "cut by {step}");
        }
    }
}
