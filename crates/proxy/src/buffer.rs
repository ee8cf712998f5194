//! Buffers that are reused: a connection holds one only while it has bytes in hand, so ten
//! thousand idle connections cost no buffer at all, and busy ones use memory that is still in the
//! processor's cache.

use std::cell::RefCell;

use crate::limits::{BUFFER_BYTES, LARGE_BUFFER_BYTES};

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The spare buffers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    inputs: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
    outputs: RefCell<Vec<Vec<u8>>>,
}

/// Spare buffers of each kind that a worker keeps.
const SPARE_MAX: usize = 256;
/// Large ones: making one anew costs as much as the system calls that it saves.
const SPARE_LARGE_MAX: usize = 16;

impl Buffer {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            data: vec![0; capacity].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn has_memory(&self) -> bool {
        !self.data.is_empty()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Free room at the end. What is in use is moved to the front if there is none.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.end == self.data.len() && self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.data[self.end..]
    }

    /// Takes in the first `length` bytes of what [`Buffer::room`] gave.
    pub(crate) fn filled(&mut self, length: usize) {
        self.end += length;
    }

    /// Is done with the first `length` bytes.
    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Makes the whole buffer at least this large.
    pub(crate) fn grow(&mut self, capacity: usize) {
        if self.data.len() < capacity {
            let mut larger = Self::with_capacity(capacity);
            let length = self.len();
            larger.data[..length].copy_from_slice(self.bytes());
            larger.end = length;
            *self = larger;
        }
    }
}

impl Buffers {
    pub(crate) fn input(&self) -> Buffer {
        let spare = self.inputs.borrow_mut().pop();
        spare.unwrap_or_else(|| Buffer::with_capacity(BUFFER_BYTES))
    }

    /// One for a transfer that fills small ones.
    pub(crate) fn large_input(&self) -> Buffer {
        let spare = self.large.borrow_mut().pop();
        spare.unwrap_or_else(|| Buffer::with_capacity(LARGE_BUFFER_BYTES))
    }

    pub(crate) fn output(&self) -> Vec<u8> {
        let spare = self.outputs.borrow_mut().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back. One of unusual size is given up.
    pub(crate) fn return_input(&self, mut buffer: Buffer) {
        let (spares, most) = match buffer.capacity() {
            BUFFER_BYTES => (&self.inputs, SPARE_MAX),
            LARGE_BUFFER_BYTES => (&self.large, SPARE_LARGE_MAX),
            _ => return,
        };
        let mut spare = spares.borrow_mut();
        if spare.len() < most {
            buffer.consume(buffer.len());
            spare.push(buffer);
        }
    }

    /// Takes a buffer back. One of unusual size is given up.
    pub(crate) fn return_output(&self, mut buffer: Vec<u8>) {
        let mut spare = self.outputs.borrow_mut();
        if (1..=2 * BUFFER_BYTES).contains(&buffer.capacity()) && spare.len() < SPARE_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_moving_and_growing() {
        let mut buffer = Buffer::with_capacity(4);
        buffer.room().copy_from_slice(b"abcd");
        buffer.filled(4);
        buffer.consume(3);
        assert_eq!(buffer.room().len(), 3);
        assert_eq!(buffer.bytes(), b"d");
        buffer.grow(8);
        assert_eq!(buffer.bytes(), b"d");
        assert_eq!(buffer.room().len(), 7);
        buffer.consume(1);
        assert_eq!(buffer.room().len(), 8);
    }
}
