//! The manifest of a revision: its text, and what the ground has made of it, once.
//!
//! This crate stores the text and does not know its meaning. Whoever does asks often: at each start
//! of an instance, at each change of traffic. The reading is therefore kept with the revision, and
//! its copies share it. A type parameter on everything that holds a revision was refused: it would
//! go through the whole crate for the sake of one question.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A `service.toml`, as it was when the revision was made. A cheap clone.
#[derive(Clone)]
pub struct Manifest {
    text: Arc<str>,
    reading: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

impl Manifest {
    /// Nothing is read yet.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self {
            text: text.into(),
            reading: Arc::default(),
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What `read` makes of the text. It is called for the first question only; all others, also
    /// those to clones, get the same answer. The type must be the same each time: another one is
    /// read anew and not kept.
    pub fn reading<T: Send + Sync + 'static>(&self, read: impl Fn(&str) -> T) -> Arc<T> {
        let kept = self.reading.get_or_init(|| Arc::new(read(&self.text)));
        Arc::clone(kept)
            .downcast()
            .unwrap_or_else(|_| Arc::new(read(&self.text)))
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Manifest").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_and_its_clones_are_read_once() {
        let read = std::cell::Cell::new(0);
        let count = |text: &str| {
            read.set(read.get() + 1);
            text.len()
        };
        let manifest = Manifest::new("name = \"orders\"");
        let clone = manifest.clone();
        assert_eq!(*manifest.reading(count), 15);
        assert_eq!(*clone.reading(count), 15);
        assert_eq!(read.get(), 1);
    }
}
