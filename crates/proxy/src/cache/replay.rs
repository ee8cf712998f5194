//! What is kept, read as if a service sent it.

use std::io;
use std::sync::Arc;

use tokio::io::ReadBuf;

use super::stored::Stored;

/// An answer that is read from memory. What is written to it is forgotten.
#[derive(Debug)]
pub(crate) struct Replay {
    /// In place of the whole answer: the head that says that the client has it.
    not_modified: Option<Vec<u8>>,
    stored: Arc<Stored>,
    /// Bytes that were read.
    at: usize,
}

impl Replay {
    /// The whole answer.
    pub(crate) fn whole(stored: &Arc<Stored>) -> Self {
        Self {
            not_modified: None,
            stored: Arc::clone(stored),
            at: 0,
        }
    }

    /// For a client that has it.
    pub(crate) fn not_modified(stored: &Arc<Stored>) -> Self {
        Self {
            not_modified: Some(stored.not_modified()),
            ..Self::whole(stored)
        }
    }

    /// Reads on.
    pub(crate) fn read(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let (head, body) = match &self.not_modified {
            Some(head) => (&head[..], &[][..]),
            None => (&self.stored.head[..], &self.stored.body[..]),
        };
        for _ in 0..2 {
            let rest = match head.get(self.at..).filter(|rest| !rest.is_empty()) {
                Some(rest) => rest,
                None => body.get(self.at - head.len()..).unwrap_or_default(),
            };
            let length = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..length).unwrap_or(rest));
            self.at += length;
        }
        Ok(())
    }
}
