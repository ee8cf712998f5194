//! The answers that are kept, by key; bounded by bytes.
//!
//! Under a key stand the variants of an answer, newest first: few, since each is a whole answer. The
//! whole is replaced when one is added, so a reader never waits. What is thrown out when there is no
//! room decides moka (TinyLFU): a scan through a thousand pages does not push out the one that all ask
//! for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache as Moka;

use super::stored::Stored;
use super::vary::{Key, selects};
use crate::http::field::Fields;

/// All answers that are kept.
#[derive(Debug)]
pub(crate) struct Store {
    answers: Moka<Key, Arc<Variants>>,
    /// An answer larger than this is not kept.
    entry_max: usize,
    /// How often something was purged: what was asked for before is not kept after.
    purges: AtomicU64,
}

type Variants = Vec<Arc<Stored>>;

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Everything.
    All,
    /// What the service has marked with this (`Cache-Tag`, `Surrogate-Key`).
    Tag(String),
    /// This path with any query, on any host; `/**` at its end stands for all below.
    Path(String),
}

/// Variants of one key. With more, the field that they vary by is as good as random.
const VARIANTS_MAX: usize = 16;

impl Store {
    pub(crate) fn new(bytes: u64) -> Self {
        let weigh = |key: &Key, variants: &Arc<Variants>| {
            let all: usize = variants.iter().map(|stored| stored.size()).sum();
            u32::try_from(all + key.len() + 128).unwrap_or(u32::MAX)
        };
        let answers = Moka::builder().max_capacity(bytes).weigher(weigh);
        Self {
            answers: answers.build(),
            entry_max: usize::try_from(bytes / 8).unwrap_or(usize::MAX),
            purges: AtomicU64::new(0),
        }
    }

    /// The answer of a route for a request, and whether there are others under its key.
    pub(crate) fn find(
        &self,
        key: &Key,
        route: u64,
        request: &Fields<'_, '_>,
    ) -> (Option<Arc<Stored>>, bool) {
        let Some(variants) = self.answers.get(key) else {
            return (None, false);
        };
        let mut mine = variants.iter().filter(|stored| stored.route == route);
        let found = mine.find(|stored| selects(&stored.selectors, request));
        (found.map(Arc::clone), true)
    }

    /// Keeps an answer, unless it is too large or something was purged since `purges` was read.
    pub(crate) fn keep(&self, key: &Key, stored: &Arc<Stored>, purges: u64) -> bool {
        if stored.size() > self.entry_max || self.purges() != purges {
            return false;
        }
        self.answers.entry(key.clone()).and_upsert_with(|old| {
            let mut variants = vec![Arc::clone(stored)];
            if let Some(old) = old {
                let others = old.value().iter().filter(|other| {
                    other.route != stored.route || other.selectors != stored.selectors
                });
                variants.extend(others.take(VARIANTS_MAX - 1).map(Arc::clone));
            }
            Arc::new(variants)
        });
        true
    }

    /// Forgets all answers of a key.
    pub(crate) fn forget(&self, key: &Key) {
        self.answers.invalidate(key);
    }

    /// Forgets; tells how many keys. What is being fetched now is not kept either.
    pub(crate) fn purge(&self, what: &Purge) -> usize {
        self.purges.fetch_add(1, Ordering::SeqCst);
        let keys: Vec<_> = self
            .answers
            .iter()
            .filter(|(key, variants)| fits(what, key, variants))
            .map(|(key, _)| key)
            .collect();
        keys.iter().for_each(|key| self.answers.invalidate(&**key));
        keys.len()
    }

    /// How often something was purged.
    pub(crate) fn purges(&self) -> u64 {
        self.purges.load(Ordering::SeqCst)
    }

    /// Keys and bytes, about.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.answers.run_pending_tasks();
        (self.answers.entry_count(), self.answers.weighted_size())
    }
}

fn fits(what: &Purge, key: &Key, variants: &Variants) -> bool {
    match what {
        Purge::All => true,
        Purge::Tag(tag) => variants
            .iter()
            .any(|stored| stored.tags.iter().any(|own| **own == **tag)),
        Purge::Path(path) => {
            let (place, _) = key.parts();
            // A host has no slash.
            let own = place.find('/').map_or("", |at| &place[at..]);
            match path.strip_suffix("/**") {
                Some(above) => own
                    .strip_prefix(above)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
                None => own == path,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored::{Asked, Judged};
    use super::super::testkit::with_fields;
    use super::super::vary::Ignored;
    use super::super::{CacheConfig, CachePolicy};
    use super::*;
    use crate::http::field::storage;
    use crate::http::response;
    use bytes::Bytes;

    fn key(path: &str) -> Key {
        Key::new(b"shop", path, "q", &Ignored::default())
    }

    fn stored(route: u64, request: &str, answer: &str, bytes: usize) -> Arc<Stored> {
        let text = format!("HTTP/1.1 200 X\r\nCache-Control: max-age=60\r\n{answer}\r\n");
        let mut storage = storage();
        let head = response::parse(text.as_bytes(), &mut storage)
            .unwrap()
            .unwrap();
        let policy = CachePolicy::new(&CacheConfig::default(), route);
        with_fields(request, |fields| {
            let asked = Asked {
                fields,
                authenticated: false,
                at: 0,
            };
            let judged = Judged::judge(&head, &asked, &policy, 0).unwrap();
            Arc::new(judged.with_body(Bytes::from(vec![b'x'; bytes]), route))
        })
    }

    /// RFC 9111, 4.1.
    #[test]
    fn variants_stand_side_by_side() {
        let store = Store::new(1 << 20);
        let find = |route, request: &str| {
            with_fields(request, |fields| store.find(&key("/a"), route, &fields))
        };
        for language in ["de", "en"] {
            let request = format!("Accept-Language: {language}\r\n");
            let own = stored(1, &request, "Vary: accept-language\r\n", 1);
            assert!(store.keep(&key("/a"), &own, 0));
            assert!(Arc::ptr_eq(&find(1, &request).0.unwrap(), &own));
        }
        assert!(find(1, "Accept-Language: de\r\n").0.is_some());
        assert!(matches!(find(1, "Accept-Language: fr\r\n"), (None, true)));
        assert!(matches!(find(2, "Accept-Language: de\r\n"), (None, true)));
        for number in 0..100 {
            let request = format!("Accept-Language: x{number}\r\n");
            let own = stored(1, &request, "Vary: accept-language\r\n", 1);
            assert!(store.keep(&key("/a"), &own, 0));
        }
        assert_eq!(store.answers.get(&key("/a")).unwrap().len(), VARIANTS_MAX);
    }

    #[test]
    fn bytes_are_bounded() {
        let store = Store::new(1 << 20);
        for number in 0..2_000 {
            let own = stored(1, "", "", 2_000);
            assert!(store.keep(&key(&format!("/{number}")), &own, 0));
        }
        let (keys, bytes) = store.size();
        assert!(bytes <= 1 << 20, "{bytes}");
        assert!(keys > 300, "{keys}");
        let large = stored(1, "", "", 200_000);
        assert!(!store.keep(&key("/large"), &large, 0), "an eighth at most");
    }

    #[test]
    fn purges_forget_by_tag_and_by_path() {
        let store = Store::new(1 << 20);
        let fill = || {
            let purges = store.purges();
            for (path, tag) in [("/a", "red"), ("/a/b", "blue"), ("/ab", "red")] {
                let own = stored(1, "", &format!("Cache-Tag: x, {tag}\r\n"), 1);
                assert!(store.keep(&key(path), &own, purges));
            }
        };
        for (what, expected) in [
            (Purge::Tag("red".to_owned()), 2),
            (Purge::Tag("r".to_owned()), 0),
            (Purge::Path("/a".to_owned()), 1),
            (Purge::Path("/a/**".to_owned()), 2),
            (Purge::Path("/**".to_owned()), 3),
            (Purge::All, 3),
        ] {
            fill();
            assert_eq!(store.purge(&what), expected, "{what:?}");
        }
        let late = stored(1, "", "", 1);
        assert!(
            !store.keep(&key("/late"), &late, 0),
            "it was asked for before"
        );
    }
}
