//! How many records each account has published to each topic, and read from it.
//!
//! Who looks at an application wants to see who talks to whom, also where a service speaks Kafka by
//! itself. So records are counted where a request names account and topic anyway: two looks into a
//! table and an addition. Refused: a span for each batch (a busy client sends thousands a second),
//! and counters of connections, which would have to outlive them. Only accounts are counted: of who
//! has none, it is not known who it is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use atoll_store::log::Header;

use crate::access::Principal;

/// So many topics are counted for an account: it may make new ones all the time.
const TOPICS_MAX: usize = 1_000;

/// Records of one account and one topic, since the broker was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The account.
    pub account: String,
    /// The topic.
    pub topic: String,
    /// Records that it published to it.
    pub published: u64,
    /// Records that it was given of it. What it asks for twice counts twice.
    pub read: u64,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<HashMap<String, HashMap<String, Count>>>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    published: u64,
    read: u64,
}

impl Counters {
    /// `who` has published records to a topic.
    pub(crate) fn published(&self, who: &Principal, topic: &str, records: u64) {
        self.add(who, topic, |count| count.published += records);
    }

    /// `who` was given records of a topic.
    pub(crate) fn read(&self, who: &Principal, topic: &str, records: u64) {
        self.add(who, topic, |count| count.read += records);
    }

    /// All that was counted.
    pub(crate) fn all(&self) -> Vec<Passed> {
        let counts = self.lock();
        let all = counts.iter().flat_map(|(account, topics)| {
            topics.iter().map(|(topic, count)| Passed {
                account: account.clone(),
                topic: topic.clone(),
                published: count.published,
                read: count.read,
            })
        });
        all.collect()
    }

    fn add(&self, who: &Principal, topic: &str, add: impl FnOnce(&mut Count)) {
        let Principal::Account(account) = who else {
            return;
        };
        let mut counts = self.lock();
        // Accounts are few: those of the manifests.
        if !counts.contains_key(account) {
            counts.insert(account.clone(), HashMap::new());
        }
        let Some(topics) = counts.get_mut(account) else {
            return;
        };
        if !topics.contains_key(topic) && topics.len() < TOPICS_MAX {
            topics.insert(topic.to_owned(), Count::default());
        }
        if let Some(count) = topics.get_mut(topic) {
            add(count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Count>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records from an offset on in batches that lie behind each other. Marks of transactions are none. Of a batch
/// that was asked for from its middle on, it is reckoned that none is missing.
pub(crate) fn records(mut batches: &[u8], from: i64) -> u64 {
    let mut sum = 0;
    while let Ok(header) = Header::parse(batches) {
        let before = from.saturating_sub(header.base_offset).max(0);
        if !header.is_control() {
            let own = i64::from(header.records);
            sum += u64::try_from(own.saturating_sub(before)).unwrap_or(0);
        }
        let Some(rest) = batches.get(header.bytes..) else {
            break;
        };
        batches = rest;
    }
    sum
}
