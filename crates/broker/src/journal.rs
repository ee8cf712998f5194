//! What the broker keeps besides records: topics, committed offsets, generations of groups,
//! transactions, ids of producers. In the SQL state, where it can be looked at and joined.
//!
//! Kafka keeps these in topics of its own, which must be read to their end before anything can be
//! answered. Here, they are rows. Every change is on disk before its answer goes out; changes that
//! come while others are being written are written together, in one transaction, which is what makes
//! a commit of offsets cost a share of an `fsync` and not a whole one.

use std::sync::Arc;

use atoll_base::{Tasks, Timestamp};
use atoll_store::rusqlite::{OptionalExtension as _, Result, Transaction, params};
use atoll_store::{Error, Migration, Sql};
use tokio::sync::{mpsc, oneshot};

use crate::compaction::horizon::Cleaning;

/// The tables of the broker.
pub const MIGRATION: Migration = Migration {
    subsystem: "broker",
    steps: &[
        "
        CREATE TABLE broker_topics (
            name TEXT PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            partitions INTEGER NOT NULL,
            settings TEXT NOT NULL,
            deleting INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE broker_groups (
            name TEXT PRIMARY KEY,
            generation INTEGER NOT NULL,
            protocol_type TEXT
        ) STRICT;
        CREATE TABLE broker_offsets (
            group_name TEXT NOT NULL,
            topic TEXT NOT NULL,
            partition INTEGER NOT NULL,
            next INTEGER NOT NULL,
            leader_epoch INTEGER NOT NULL,
            metadata TEXT NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (group_name, topic, partition)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE broker_transactions (
            id TEXT PRIMARY KEY,
            state BLOB NOT NULL
        ) STRICT;
        CREATE TABLE broker_pending_offsets (
            transaction_id TEXT NOT NULL,
            group_name TEXT NOT NULL,
            topic TEXT NOT NULL,
            partition INTEGER NOT NULL,
            next INTEGER NOT NULL,
            leader_epoch INTEGER NOT NULL,
            metadata TEXT NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (transaction_id, group_name, topic, partition)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE broker_partitions (
            topic BLOB NOT NULL,
            partition INTEGER NOT NULL,
            state BLOB NOT NULL,
            PRIMARY KEY (topic, partition)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE broker_counters (
            name TEXT PRIMARY KEY,
            next INTEGER NOT NULL
        ) STRICT;
    ",
        "
        ALTER TABLE broker_partitions ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE broker_cleanings (
            topic BLOB NOT NULL,
            partition INTEGER NOT NULL,
            until INTEGER NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (topic, partition, until)
        ) STRICT, WITHOUT ROWID;
    ",
    ],
};

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset of the record to be read next.
    pub next: i64,
    /// The epoch that the client saw with it; -1 if it did not say.
    pub leader_epoch: i32,
    /// What the client keeps with it.
    pub metadata: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

/// A topic as it is kept.
#[derive(Debug, Clone)]
pub struct TopicRow {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: [u8; 16],
    /// How many partitions it has.
    pub partitions: i32,
    /// Its settings, in JSON.
    pub settings: String,
    /// It is being deleted.
    pub deleting: bool,
}

/// A change to what is kept.
#[derive(Debug, Clone)]
pub enum Change {
    /// A topic is made or changed.
    Topic(TopicRow),
    /// A topic is gone, with all that was kept for it.
    NoTopic(String),
    /// A group has come to a generation.
    Group {
        /// Its name.
        name: Arc<str>,
        /// The generation.
        generation: i32,
        /// The kind of its members.
        protocol_type: Option<String>,
    },
    /// A group is gone, with its offsets.
    NoGroup(Arc<str>),
    /// A group has read so far.
    Offsets(Arc<str>, Vec<Committed>),
    /// A group forgets a topic's offsets.
    NoOffsets(Arc<str>, Vec<(Arc<str>, i32)>),
    /// A transactional id is in this state.
    Transaction(Arc<str>, Vec<u8>),
    /// A transactional id is gone.
    NoTransaction(Arc<str>),
    /// A group has read so far, once this transaction is committed.
    Pending {
        /// The transactional id.
        transaction: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// How far.
        offsets: Vec<Committed>,
    },
    /// What is pending in this transaction holds (true), or never did.
    Settle(Arc<str>, bool),
    /// What is known of a partition's producers.
    Partition {
        /// The topic's id.
        topic: [u8; 16],
        /// The partition.
        partition: i32,
        /// Rises with each; one that comes after a later one is not kept.
        version: i64,
        /// What is known.
        state: Vec<u8>,
    },
    /// When a partition was compacted, and how far.
    Cleanings {
        /// The topic's id.
        topic: [u8; 16],
        /// The partition.
        partition: i32,
        /// All that is known of it.
        kept: Vec<Cleaning>,
    },
}

/// Everything that is kept, as it is read at the start.
#[derive(Debug, Default)]
pub struct Kept {
    /// The topics.
    pub topics: Vec<TopicRow>,
    /// The groups: name, generation, kind.
    pub groups: Vec<(String, i32, Option<String>)>,
    /// The committed offsets.
    pub offsets: Vec<(String, Committed)>,
    /// The transactional ids and their states.
    pub transactions: Vec<(String, Vec<u8>)>,
    /// What is pending: transactional id, group, offset.
    pub pending: Vec<(String, String, Committed)>,
}

/// Changes that wait for one transaction; more wait outside.
const QUEUE_LENGTH: usize = 1024;
/// At most so many groups of changes are written in one transaction.
const TOGETHER_MAX: usize = 512;

type Waiting = (Vec<Change>, oneshot::Sender<std::result::Result<(), Error>>);

/// Writes changes. A cheap handle.
#[derive(Debug, Clone)]
pub struct Journal {
    sql: Sql,
    queue: mpsc::Sender<Waiting>,
}

impl Journal {
    /// Begins to write to `sql`, which has the tables of [`MIGRATION`].
    pub fn start(sql: Sql, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let writing = write(sql.clone(), waiting, tasks.clone());
        tasks.spawn("broker journal", writing);
        Self { sql, queue }
    }

    /// Reads everything that is kept.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn read(&self) -> std::result::Result<Kept, Error> {
        self.sql.call(read_all).await
    }

    /// Writes changes, in order, all or none. They are on disk when this returns.
    ///
    /// # Errors
    /// When the state cannot be written: nothing is kept then.
    pub async fn write(&self, changes: Vec<Change>) -> std::result::Result<(), Error> {
        let (written, answer) = oneshot::channel();
        if let Err(late) = self.queue.send((changes, written)).await {
            let (changes, _) = late.0;
            return write_now(&self.sql, changes).await;
        }
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Writes changes whose loss would do no harm, at some time. When too much waits already, they
    /// are lost.
    pub fn write_soon(&self, changes: Vec<Change>) {
        let (written, _) = oneshot::channel();
        if self.queue.try_send((changes, written)).is_err() {
            tracing::debug!("the journal is full; a change that may be lost was");
        }
    }

    /// Takes `count` numbers that were never given to anyone, and tells the first.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn reserve(&self, name: &'static str, count: i64) -> std::result::Result<i64, Error> {
        self.sql
            .call(move |sql| {
                let known = "SELECT next FROM broker_counters WHERE name = ?1";
                let next: Option<i64> =
                    sql.query_row(known, [name], |row| row.get(0)).optional()?;
                let next = next.unwrap_or(0);
                sql.execute(
                    "INSERT INTO broker_counters VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET next = excluded.next",
                    params![name, next + count],
                )?;
                Ok(next)
            })
            .await
    }

    /// What is known of a partition's producers, and the version of that.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn partition(
        &self,
        topic: [u8; 16],
        partition: i32,
    ) -> std::result::Result<Option<(Vec<u8>, i64)>, Error> {
        self.sql
            .call(move |sql| {
                let known = "SELECT state, version FROM broker_partitions
                    WHERE topic = ?1 AND partition = ?2";
                let read = |row: &atoll_store::rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
                sql.query_row(known, params![topic, partition], read)
                    .optional()
            })
            .await
    }

    /// When a partition was compacted, and how far.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn cleanings(
        &self,
        topic: [u8; 16],
        partition: i32,
    ) -> std::result::Result<Vec<Cleaning>, Error> {
        self.sql
            .call(move |sql| {
                let mut known = sql.prepare_cached(
                    "SELECT until, at FROM broker_cleanings
                     WHERE topic = ?1 AND partition = ?2 ORDER BY until",
                )?;
                let rows = known.query_map(params![topic, partition], |row| {
                    Ok(Cleaning {
                        until: row.get(0)?,
                        at: Timestamp::from_micros(row.get(1)?),
                    })
                })?;
                rows.collect()
            })
            .await
    }
}

/// Writes what waits, until the node stops and nothing waits any more.
async fn write(sql: Sql, mut waiting: mpsc::Receiver<Waiting>, tasks: Tasks) {
    let mut together = Vec::new();
    let mut open = true;
    loop {
        let some = tokio::select! {
            biased;
            some = waiting.recv_many(&mut together, TOGETHER_MAX) => some,
            () = tasks.stopping(), if open => {
                // Who comes later writes by itself.
                waiting.close();
                open = false;
                continue;
            }
        };
        if some == 0 {
            return;
        }
        let (changes, answers): (Vec<_>, Vec<_>) = together.drain(..).unzip();
        let changes = changes.into_iter().flatten().collect();
        let written = write_now(&sql, changes).await;
        for answer in answers {
            // Who does not wait any more does not mind.
            let _ = answer.send(written.clone());
        }
    }
}

async fn write_now(sql: &Sql, changes: Vec<Change>) -> std::result::Result<(), Error> {
    let apply = move |sql: &Transaction<'_>| changes.iter().try_for_each(|own| apply(sql, own));
    sql.call(apply).await
}

fn apply(sql: &Transaction<'_>, change: &Change) -> Result<()> {
    match change {
        Change::Topic(topic) => {
            sql.prepare_cached(
                "INSERT INTO broker_topics VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (name) DO UPDATE SET partitions = excluded.partitions,
                 settings = excluded.settings, deleting = excluded.deleting",
            )?
            .execute(params![
                topic.name,
                topic.id,
                topic.partitions,
                topic.settings,
                topic.deleting
            ])?;
        }
        Change::NoTopic(name) => forget_topic(sql, name)?,
        Change::Group {
            name,
            generation,
            protocol_type,
        } => {
            sql.prepare_cached(
                "INSERT INTO broker_groups VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET generation = excluded.generation,
                 protocol_type = excluded.protocol_type",
            )?
            .execute(params![name, generation, protocol_type])?;
        }
        Change::NoGroup(name) => {
            sql.execute("DELETE FROM broker_groups WHERE name = ?1", [name])?;
            sql.execute("DELETE FROM broker_offsets WHERE group_name = ?1", [name])?;
        }
        Change::Offsets(group, offsets) => commit(sql, group, offsets)?,
        Change::NoOffsets(group, places) => {
            let mut forget = sql.prepare_cached(
                "DELETE FROM broker_offsets WHERE group_name = ?1 AND topic = ?2 AND partition = ?3",
            )?;
            for (topic, partition) in places {
                forget.execute(params![group, topic, partition])?;
            }
        }
        Change::Transaction(id, state) => {
            sql.prepare_cached("INSERT OR REPLACE INTO broker_transactions VALUES (?1, ?2)")?
                .execute(params![id, state])?;
        }
        Change::NoTransaction(id) => {
            sql.execute("DELETE FROM broker_transactions WHERE id = ?1", [id])?;
            settle(sql, id, false)?;
        }
        Change::Pending {
            transaction,
            group,
            offsets,
        } => pend(sql, transaction, group, offsets)?,
        Change::Settle(transaction, holds) => settle(sql, transaction, *holds)?,
        Change::Partition {
            topic,
            partition,
            version,
            state,
        } => keep_partition(sql, *topic, *partition, *version, state)?,
        Change::Cleanings {
            topic,
            partition,
            kept,
        } => replace_cleanings(sql, *topic, *partition, kept)?,
    }
    Ok(())
}

/// Unless there is a later one already.
fn keep_partition(
    sql: &Transaction<'_>,
    topic: [u8; 16],
    partition: i32,
    version: i64,
    state: &[u8],
) -> Result<()> {
    sql.prepare_cached(
        "INSERT INTO broker_partitions VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (topic, partition) DO UPDATE SET state = excluded.state,
         version = excluded.version WHERE excluded.version > version",
    )?
    .execute(params![topic, partition, state, version])?;
    Ok(())
}

fn replace_cleanings(
    sql: &Transaction<'_>,
    topic: [u8; 16],
    partition: i32,
    kept: &[Cleaning],
) -> Result<()> {
    sql.prepare_cached("DELETE FROM broker_cleanings WHERE topic = ?1 AND partition = ?2")?
        .execute(params![topic, partition])?;
    // Not of a topic that was deleted meanwhile: nobody would remove it.
    let mut insert = sql.prepare_cached(
        "INSERT INTO broker_cleanings SELECT id, ?2, ?3, ?4 FROM broker_topics WHERE id = ?1",
    )?;
    for own in kept {
        insert.execute(params![topic, partition, own.until, own.at.as_micros()])?;
    }
    Ok(())
}

fn forget_topic(sql: &Transaction<'_>, name: &str) -> Result<()> {
    for table in ["broker_partitions", "broker_cleanings"] {
        let of = "topic IN (SELECT id FROM broker_topics WHERE name = ?1)";
        sql.execute(&format!("DELETE FROM {table} WHERE {of}"), [name])?;
    }
    for table in ["broker_offsets", "broker_pending_offsets"] {
        sql.execute(&format!("DELETE FROM {table} WHERE topic = ?1"), [name])?;
    }
    sql.execute("DELETE FROM broker_topics WHERE name = ?1", [name])?;
    Ok(())
}

fn commit(sql: &Transaction<'_>, group: &str, offsets: &[Committed]) -> Result<()> {
    let mut insert = sql.prepare_cached(
        "INSERT OR REPLACE INTO broker_offsets VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for own in offsets {
        insert.execute(params![
            group,
            own.topic,
            own.partition,
            own.next,
            own.leader_epoch,
            own.metadata,
            own.at
        ])?;
    }
    Ok(())
}

fn pend(sql: &Transaction<'_>, id: &str, group: &str, offsets: &[Committed]) -> Result<()> {
    let mut insert = sql.prepare_cached(
        "INSERT OR REPLACE INTO broker_pending_offsets VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for own in offsets {
        insert.execute(params![
            id,
            group,
            own.topic,
            own.partition,
            own.next,
            own.leader_epoch,
            own.metadata,
            own.at
        ])?;
    }
    Ok(())
}

fn settle(sql: &Transaction<'_>, transaction: &str, holds: bool) -> Result<()> {
    if holds {
        sql.prepare_cached(
            "INSERT OR REPLACE INTO broker_offsets
             SELECT group_name, topic, partition, next, leader_epoch, metadata, at
             FROM broker_pending_offsets WHERE transaction_id = ?1",
        )?
        .execute([transaction])?;
    }
    sql.prepare_cached("DELETE FROM broker_pending_offsets WHERE transaction_id = ?1")?
        .execute([transaction])?;
    Ok(())
}

fn read_all(sql: &Transaction<'_>) -> Result<Kept> {
    Ok(Kept {
        topics: rows(sql, "SELECT * FROM broker_topics ORDER BY name", |row| {
            Ok(TopicRow {
                name: row.get(0)?,
                id: row.get(1)?,
                partitions: row.get(2)?,
                settings: row.get(3)?,
                deleting: row.get(4)?,
            })
        })?,
        groups: rows(sql, "SELECT * FROM broker_groups", |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?,
        offsets: rows(sql, "SELECT * FROM broker_offsets", |row| {
            Ok((row.get(0)?, committed(row, 1)?))
        })?,
        transactions: rows(sql, "SELECT * FROM broker_transactions", |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?,
        pending: rows(sql, "SELECT * FROM broker_pending_offsets", |row| {
            Ok((row.get(0)?, row.get(1)?, committed(row, 2)?))
        })?,
    })
}

type Row<'a> = atoll_store::rusqlite::Row<'a>;

fn rows<T>(
    sql: &Transaction<'_>,
    query: &str,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    sql.prepare(query)?.query_map([], read)?.collect()
}

/// An offset whose columns begin at `first`.
fn committed(row: &Row<'_>, first: usize) -> Result<Committed> {
    let topic: String = row.get(first)?;
    Ok(Committed {
        topic: topic.into(),
        partition: row.get(first + 1)?,
        next: row.get(first + 2)?,
        leader_epoch: row.get(first + 3)?,
        metadata: row.get(first + 4)?,
        at: row.get(first + 5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(topic: &str, next: i64) -> Committed {
        Committed {
            topic: topic.into(),
            partition: 0,
            next,
            leader_epoch: -1,
            metadata: "m".to_owned(),
            at: 5,
        }
    }

    async fn journal(dir: &std::path::Path, tasks: &Tasks) -> Journal {
        let sql = Sql::open(&dir.join("state.db"), &[MIGRATION]).unwrap();
        Journal::start(sql, tasks)
    }

    #[tokio::test]
    async fn what_is_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let first = journal(dir.path(), &tasks).await;
        let group: Arc<str> = "g".into();
        let id: Arc<str> = "t".into();
        let changes = vec![
            Change::Group {
                name: Arc::clone(&group),
                generation: 3,
                protocol_type: Some("consumer".to_owned()),
            },
            Change::Offsets(Arc::clone(&group), vec![at("a", 7), at("b", 1)]),
            Change::Offsets(Arc::clone(&group), vec![at("a", 8)]),
            Change::Transaction(Arc::clone(&id), vec![1]),
            Change::Pending {
                transaction: Arc::clone(&id),
                group: Arc::clone(&group),
                offsets: vec![at("a", 9)],
            },
        ];
        first.write(changes).await.unwrap();
        assert_eq!(first.reserve("ids", 10).await.unwrap(), 0);
        let again = journal(dir.path(), &tasks).await;
        assert_eq!(again.reserve("ids", 1).await.unwrap(), 10);
        let kept = again.read().await.unwrap();
        assert_eq!(
            kept.groups,
            [("g".to_owned(), 3, Some("consumer".to_owned()))]
        );
        assert_eq!(kept.offsets[0], ("g".to_owned(), at("a", 8)));
        assert_eq!(kept.pending, [("t".to_owned(), "g".to_owned(), at("a", 9))]);
        let settle = vec![
            Change::Settle(Arc::clone(&id), true),
            Change::NoTransaction(id),
        ];
        again.write(settle).await.unwrap();
        let kept = again.read().await.unwrap();
        assert_eq!(kept.offsets[0], ("g".to_owned(), at("a", 9)));
        assert!(kept.pending.is_empty() && kept.transactions.is_empty());
        again.write(vec![Change::NoGroup(group)]).await.unwrap();
        assert!(again.read().await.unwrap().offsets.is_empty());
    }

    #[tokio::test]
    async fn a_topic_goes_with_all_that_was_kept_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path(), &Tasks::new()).await;
        let topic = TopicRow {
            name: "a".to_owned(),
            id: [7; 16],
            partitions: 1,
            settings: "{}".to_owned(),
            deleting: false,
        };
        let partition = Change::Partition {
            topic: [7; 16],
            partition: 0,
            version: 4,
            state: vec![1],
        };
        let cleanings = Change::Cleanings {
            topic: [7; 16],
            partition: 0,
            kept: vec![CLEANED],
        };
        let offsets = Change::Offsets("g".into(), vec![at("a", 1), at("b", 2)]);
        let changes = vec![Change::Topic(topic), partition, cleanings.clone(), offsets];
        journal.write(changes).await.unwrap();
        let known = journal.partition([7; 16], 0).await.unwrap();
        assert_eq!(known, Some((vec![1], 4)));
        assert_eq!(journal.cleanings([7; 16], 0).await.unwrap(), [CLEANED]);
        let gone = vec![Change::NoTopic("a".to_owned())];
        journal.write(gone).await.unwrap();
        let kept = journal.read().await.unwrap();
        assert!(kept.topics.is_empty());
        assert_eq!(kept.offsets, [("g".to_owned(), at("b", 2))]);
        assert_eq!(journal.partition([7; 16], 0).await.unwrap(), None);
        // A run may come to its end after that.
        journal.write(vec![cleanings]).await.unwrap();
        assert_eq!(journal.cleanings([7; 16], 0).await.unwrap(), []);
    }

    const CLEANED: Cleaning = Cleaning {
        until: 5,
        at: Timestamp::from_micros(6),
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_snapshot_never_takes_the_place_of_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path(), &Tasks::new()).await;
        for (version, kept) in [(2, 2), (1, 2), (2, 2), (3, 3)] {
            let change = Change::Partition {
                topic: [7; 16],
                partition: 0,
                version,
                state: vec![u8::try_from(version).unwrap()],
            };
            journal.write(vec![change]).await.unwrap();
            let known = journal.partition([7; 16], 0).await.unwrap();
            assert_eq!(known, Some((vec![kept], i64::from(kept))));
        }
    }
}
