//! The answers that are kept, by key; bounded by bytes.
//!
//! Under a key stand the variants of an answer, newest first: few, since each is a whole answer. The
//! whole is replaced when one is added, so a reader never waits. What is thrown out when there is no
//! room decides moka (TinyLFU): a scan through a thousand pages does not push out the one that all ask
//! for.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use moka::ops::compute::Op;
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
    /// How often something at a place (host and path) was changed, by a hash of the place. What was
    /// asked for before is not given after. Two places that share a number cost each other a fetch.
    changes: Box<[AtomicU32]>,
}

type Variants = Vec<Variant>;

/// An answer, and how often its place had been changed when it was asked for.
#[derive(Debug, Clone)]
struct Variant {
    stored: Arc<Stored>,
    change: u32,
}

/// When an answer was asked for, by what was changed and purged before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    purges: u64,
    change: u32,
}

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

/// Numbers of changes; a power of two.
const PLACES: usize = 1 << 14;

impl Purge {
    /// A path in the form in which routes and keys have it.
    fn normal(&self) -> Self {
        let Self::Path(path) = self else {
            return self.clone();
        };
        let (path, below) = match path.strip_suffix("/**") {
            Some(above) => (above, "/**"),
            None => (&**path, ""),
        };
        let normal = crate::path::parse(path).map_or_else(|_| path.into(), |own| own.path);
        let normal = match below {
            "" => &*normal,
            _ => normal.trim_end_matches('/'),
        };
        Self::Path(format!("{normal}{below}"))
    }
}

impl Store {
    pub(crate) fn new(bytes: u64) -> Self {
        let weigh = |key: &Key, variants: &Arc<Variants>| {
            let all: usize = variants.iter().map(|own| own.stored.size()).sum();
            u32::try_from(all + key.len() + 128).unwrap_or(u32::MAX)
        };
        let answers = Moka::builder().max_capacity(bytes).weigher(weigh);
        Self {
            answers: answers.build(),
            entry_max: usize::try_from(bytes / 8).unwrap_or(usize::MAX),
            purges: AtomicU64::new(0),
            changes: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
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
        let change = self.change(key).load(Ordering::SeqCst);
        let mut mine = variants
            .iter()
            .filter(|own| own.stored.route == route && own.change == change);
        let found = mine.find(|own| selects(&own.stored.selectors, request));
        (found.map(|own| Arc::clone(&own.stored)), true)
    }

    /// Keeps an answer, unless it is too large or something was changed or purged since it was asked
    /// for.
    pub(crate) fn keep(&self, key: &Key, stored: &Arc<Stored>, asked: Moment) -> bool {
        if stored.size() > self.entry_max || self.moment(key) != asked {
            return false;
        }
        self.answers.entry(key.clone()).and_upsert_with(|old| {
            let mut variants = vec![Variant {
                stored: Arc::clone(stored),
                change: asked.change,
            }];
            if let Some(old) = old {
                let others = old.value().iter().filter(|own| {
                    let other = &own.stored;
                    let differs = other.selectors != stored.selectors;
                    own.change == asked.change && (other.route != stored.route || differs)
                });
                variants.extend(others.take(VARIANTS_MAX - 1).cloned());
            }
            Arc::new(variants)
        });
        // Who purges counts first and looks after that: one of both sees the other.
        if self.purges() != asked.purges {
            self.answers.invalidate(key);
            return false;
        }
        true
    }

    /// Forgets one answer.
    pub(crate) fn forget(&self, key: &Key, stored: &Arc<Stored>) {
        self.answers.entry(key.clone()).and_compute_with(|old| {
            let Some(old) = old else { return Op::Nop };
            let others = old.into_value();
            let others = others
                .iter()
                .filter(|own| !Arc::ptr_eq(&own.stored, stored));
            let others: Variants = others.cloned().collect();
            match others.is_empty() {
                true => Op::Remove,
                false => Op::Put(Arc::new(others)),
            }
        });
    }

    /// Nothing that was asked for before, of the place of this key, is given from here on.
    pub(crate) fn outdate(&self, key: &Key) {
        self.change(key).fetch_add(1, Ordering::SeqCst);
        // What is there under other queries goes in its time.
        self.answers.invalidate(key);
    }

    /// For an answer that is asked for now.
    pub(crate) fn moment(&self, key: &Key) -> Moment {
        Moment {
            purges: self.purges(),
            change: self.change(key).load(Ordering::SeqCst),
        }
    }

    fn change(&self, key: &Key) -> &AtomicU32 {
        let mut hasher = DefaultHasher::new();
        key.place().hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % PLACES as u64).unwrap_or(0);
        &self.changes[at]
    }

    /// Forgets; tells how many keys. What is being fetched now is not kept either.
    pub(crate) fn purge(&self, what: &Purge) -> usize {
        let what = &what.normal();
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
    fn purges(&self) -> u64 {
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
            .any(|own| own.stored.tags.iter().any(|own| **own == **tag)),
        Purge::Path(path) => {
            let place = key.place();
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
        Key::new(false, b"shop", path, "?q", &Ignored::default())
    }

    fn keep(store: &Store, key: &Key, stored: &Arc<Stored>) -> bool {
        store.keep(key, stored, store.moment(key))
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
                rewritten: &[],
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
            assert!(keep(&store, &key("/a"), &own));
            assert!(Arc::ptr_eq(&find(1, &request).0.unwrap(), &own));
        }
        assert!(find(1, "Accept-Language: de\r\n").0.is_some());
        assert!(matches!(find(1, "Accept-Language: fr\r\n"), (None, true)));
        assert!(matches!(find(2, "Accept-Language: de\r\n"), (None, true)));
        for number in 0..100 {
            let request = format!("Accept-Language: x{number}\r\n");
            let own = stored(1, &request, "Vary: accept-language\r\n", 1);
            assert!(keep(&store, &key("/a"), &own));
        }
        assert_eq!(store.answers.get(&key("/a")).unwrap().len(), VARIANTS_MAX);
    }

    #[test]
    fn bytes_are_bounded() {
        let store = Store::new(1 << 20);
        for number in 0..2_000 {
            let own = stored(1, "", "", 2_000);
            assert!(keep(&store, &key(&format!("/{number}")), &own));
        }
        let (keys, bytes) = store.size();
        assert!(bytes <= 1 << 20, "{bytes}");
        assert!(keys > 300, "{keys}");
        let large = stored(1, "", "", 200_000);
        assert!(!keep(&store, &key("/large"), &large), "an eighth at most");
    }

    #[test]
    fn purges_forget_by_tag_and_by_path() {
        let store = Store::new(1 << 20);
        let fill = || {
            for (path, tag) in [("/a", "red"), ("/a/b", "blue"), ("/ab", "red")] {
                let own = stored(1, "", &format!("Cache-Tag: x, {tag}\r\n"), 1);
                assert!(keep(&store, &key(path), &own));
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
        let before = Moment::default();
        assert!(
            !store.keep(&key("/late"), &late, before),
            "it was asked for before"
        );
    }

    #[test]
    fn a_path_is_purged_whatever_its_spelling() {
        let store = Store::new(1 << 20);
        let own = stored(1, "", "", 1);
        for spelled in ["/a//b", "/x/../a/b", "/%61/b", "/a/./**"] {
            assert!(keep(&store, &key("/a/b"), &own));
            assert_eq!(
                store.purge(&Purge::Path(spelled.to_owned())),
                1,
                "{spelled}"
            );
        }
    }

    /// RFC 9111, 4.4.
    #[test]
    fn a_change_makes_a_place_out_of_date_whatever_the_query() {
        let store = Store::new(1 << 20);
        let none = Ignored::default();
        let of = |query| Key::new(false, b"shop", "/a", query, &none);
        let own = stored(1, "", "", 1);
        let asked = store.moment(&of("?page=2"));
        assert!(store.keep(&of("?page=2"), &own, asked));
        let finds =
            |query| with_fields("", |fields| store.find(&of(query), 1, &fields).0.is_some());
        assert!(finds("?page=2"));
        store.outdate(&of(""));
        assert!(!finds("?page=2"));
        assert!(
            !store.keep(&of("?page=2"), &own, asked),
            "it was asked for before"
        );
        assert!(keep(&store, &of("?page=2"), &own) && finds("?page=2"));
    }

    #[test]
    fn one_variant_goes_and_the_others_stay() {
        let store = Store::new(1 << 20);
        let [de, en] = ["de", "en"].map(|language| {
            let request = format!("Accept-Language: {language}\r\n");
            let own = stored(1, &request, "Vary: accept-language\r\n", 1);
            assert!(keep(&store, &key("/a"), &own));
            own
        });
        store.forget(&key("/a"), &de);
        assert_eq!(store.answers.get(&key("/a")).unwrap().len(), 1);
        store.forget(&key("/a"), &en);
        assert!(store.answers.get(&key("/a")).is_none());
    }

    /// A client decides how long selectors are.
    #[test]
    fn all_that_is_held_is_weighed() {
        let plain = stored(1, "", "", 1);
        let long = "x".repeat(1000);
        let varied = stored(1, &format!("A: {long}\r\n"), "Vary: a\r\n", 1);
        assert!(varied.size() > plain.size() + 1000);
    }
}
