//! Deadlines of connections, without a timer each.
//!
//! A proxied request passes through several waits, each with its own limit. A runtime timer for
//! each would cost more than parsing does. Here a deadline is one word in a slot of the
//! connection; a worker looks at all slots ten times a second. Deadlines are late by up to two
//! ticks and never early, which no HTTP timeout minds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::clock::millis;
use crate::limits::TICK;

/// All deadlines of one worker.
#[derive(Debug, Default)]
pub(crate) struct Clockwork {
    /// Milliseconds of the process clock, as of the last tick.
    now: Cell<u64>,
    slots: RefCell<Vec<Rc<Slot>>>,
}

/// The deadline of one connection.
#[derive(Debug)]
pub(crate) struct Timer {
    slot: Rc<Slot>,
    clockwork: Rc<Clockwork>,
}

#[derive(Debug)]
struct Slot {
    at: Cell<u64>,
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    index: Cell<usize>,
}

const NEVER: u64 = u64::MAX;

impl Clockwork {
    /// Time of the last tick, in milliseconds of the process clock.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Sets the time and wakes whoever's deadline has passed.
    pub(crate) fn tick(&self, now: u64) {
        self.now.set(now);
        for slot in self.slots.borrow().iter() {
            if slot.at.get() <= now {
                slot.at.set(NEVER);
                slot.fired.set(true);
                slot.wake();
            }
        }
    }

    /// Wakes all connections, as the proxy is stopping.
    pub(crate) fn wake_all(&self) {
        for slot in self.slots.borrow().iter() {
            slot.wake();
        }
    }

    /// The number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.slots.borrow().len()
    }

    /// A timer for a new connection.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let mut slots = self.slots.borrow_mut();
        let slot = Rc::new(Slot {
            at: Cell::new(NEVER),
            fired: Cell::new(false),
            waker: RefCell::new(None),
            index: Cell::new(slots.len()),
        });
        slots.push(Rc::clone(&slot));
        Timer {
            slot,
            clockwork: Rc::clone(self),
        }
    }
}

impl Timer {
    /// Sets the deadline, in place of an earlier one.
    pub(crate) fn arm(&self, after: Duration) {
        // The time is that of the last tick: one more makes sure that it is never early.
        let at = self.clockwork.now() + millis(after) + millis(TICK);
        self.slot.at.set(at);
        self.slot.fired.set(false);
    }

    /// Takes the deadline away.
    pub(crate) fn disarm(&self) {
        self.slot.at.set(NEVER);
        self.slot.fired.set(false);
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> bool {
        if self.slot.fired.get() {
            return true;
        }
        let mut waker = self.slot.waker.borrow_mut();
        match waker.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        false
    }
}

impl Slot {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut slots = self.clockwork.slots.borrow_mut();
        let index = self.slot.index.get();
        slots.swap_remove(index);
        if let Some(moved) = slots.get(index) {
            moved.index.set(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_fire_once_passed_and_never_early() {
        let clockwork = Rc::new(Clockwork::default());
        let cx = Context::from_waker(Waker::noop());
        let (first, second) = (clockwork.timer(), clockwork.timer());
        first.arm(Duration::from_millis(500));
        second.arm(Duration::from_millis(900));
        clockwork.tick(500);
        assert!(!first.poll(&cx));
        clockwork.tick(600);
        assert!(first.poll(&cx));
        assert!(!second.poll(&cx));
        drop(first);
        second.disarm();
        clockwork.tick(10_000);
        assert!(!second.poll(&cx));
        assert_eq!(clockwork.connections(), 1);
    }
}
