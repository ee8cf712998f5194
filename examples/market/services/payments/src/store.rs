//! The charges, in a SQLite file that all instances of this service share.
//!
//! ```text
//!              ┌──> settled ──┐
//!   pending ───┼──> declined  ├──> refunded
//!      ^       └──> unknown ──┘
//!      └────────────────┘  asking again, with the same id
//! ```
//! `pending` is written before the bank is asked: a crash in between leaves a trace, and a second
//! caller with the same id sees that somebody is at it. `unknown` is what remains when the bank
//! didn't answer; saying "failed" there would be a guess about somebody's money.

use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use crate::bank::Faults;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS charges (
        id           TEXT PRIMARY KEY,      -- chosen by the caller: the idempotency key
        order_id     TEXT NOT NULL,
        amount_cents INTEGER NOT NULL,
        state        TEXT NOT NULL,
        reference    TEXT,
        started      INTEGER NOT NULL DEFAULT (unixepoch())
    );
    CREATE TABLE IF NOT EXISTS news (       -- charges that were settled, and nobody knows it yet
        charge       TEXT PRIMARY KEY,
        traceparent  TEXT                   -- so that the news belongs to the trace of the charge
    );
    CREATE TABLE IF NOT EXISTS faults (
        one          INTEGER PRIMARY KEY CHECK (one = 1),
        latency_ms   INTEGER NOT NULL,
        fail_rate    REAL NOT NULL
    );
    INSERT OR IGNORE INTO faults VALUES (1, 0, 0.0);";

/// Seconds after which a `pending` charge belongs to an instance that died: much longer than any
/// call to the bank lasts.
const ABANDONED: i64 = 30;

pub struct Charge {
    pub id: String,
    pub order: String,
    pub amount_cents: i64,
    pub state: String,
    pub reference: Option<String>,
    /// Pending, but whoever made it is gone.
    pub abandoned: bool,
}

/// A settled charge that others must be told of.
pub struct News {
    pub charge: String,
    pub order: String,
    pub amount_cents: i64,
    pub traceparent: Option<String>,
}

/// Whether to ask the bank.
pub enum Turn {
    Ours,
    SomebodyElses,
    Over(Charge),
    /// The id is taken by a charge of another order or amount: the caller has a bug.
    AnotherCharge,
}

pub struct Store(Mutex<Connection>);

impl Store {
    /// Opens what `DATABASE_URL` names (`sqlite:///` and an absolute path).
    pub fn open(url: &str) -> Result<Self, String> {
        let path = url.strip_prefix("sqlite:///").ok_or(format!("not a SQLite URL: {url}"))?;
        let db = Connection::open(path).map_err(|e| format!("{path}: {e}"))?;
        db.busy_timeout(Duration::from_secs(5)).map_err(|e| e.to_string())?;
        // Two instances that start at once on a new file both want to switch it to WAL. SQLite
        // tells the loser so at once, without waiting: it tries again.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match db.execute_batch(SCHEMA) {
                Ok(()) => return Ok(Self(Mutex::new(db))),
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    if Instant::now() > deadline {
                        return Err(e.to_string());
                    }
                    sleep(Duration::from_millis(20));
                }
                Err(e) => return Err(e.to_string()),
            }
        }
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().expect("no code panics while it holds the connection")
    }

    /// Claims the charge `id`, or tells what became of it. Immediate, so that of two instances
    /// with the same id exactly one gets [`Turn::Ours`].
    pub fn begin(&self, id: &str, order: &str, cents: i64) -> rusqlite::Result<Turn> {
        let mut db = self.db();
        let claim = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let turn = match find(&claim, id)? {
            None => Turn::Ours,
            Some(charge) => match charge.state.as_str() {
                "refunded" => Turn::Over(charge),
                _ if charge.order != order || charge.amount_cents != cents => Turn::AnotherCharge,
                "unknown" => Turn::Ours,
                _ if charge.abandoned => Turn::Ours,
                "pending" => Turn::SomebodyElses,
                _ => Turn::Over(charge),
            },
        };
        if matches!(turn, Turn::Ours) {
            let sql = "INSERT INTO charges (id, order_id, amount_cents, state)
                VALUES (?, ?, ?, 'pending')
                ON CONFLICT (id) DO UPDATE SET state = 'pending', started = unixepoch()";
            claim.execute(sql, params![id, order, cents])?;
        }
        claim.commit()?;
        Ok(turn)
    }

    /// pending → settled, and the news of it: both or neither.
    pub fn settle(&self, id: &str, reference: &str, trace: Option<&str>) -> rusqlite::Result<()> {
        let mut db = self.db();
        let both = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "UPDATE charges SET state = 'settled', reference = ?
            WHERE id = ? AND state = 'pending'";
        if both.execute(sql, [reference, id])? == 1 {
            both.execute("INSERT INTO news VALUES (?, ?)", params![id, trace])?;
        }
        both.commit()
    }

    /// What must be told, the oldest first.
    pub fn news(&self) -> rusqlite::Result<Vec<News>> {
        let sql = "SELECT charge, order_id, amount_cents, traceparent
            FROM news JOIN charges ON charges.id = news.charge ORDER BY news.rowid";
        let news = |row: &rusqlite::Row<'_>| {
            let (charge, order) = (row.get(0)?, row.get(1)?);
            let (amount_cents, traceparent) = (row.get(2)?, row.get(3)?);
            Ok(News { charge, order, amount_cents, traceparent })
        };
        self.db().prepare(sql)?.query_map([], news)?.collect()
    }

    /// It has been told.
    pub fn forget(&self, id: &str) -> rusqlite::Result<()> {
        self.db().execute("DELETE FROM news WHERE charge = ?", [id]).map(drop)
    }

    /// pending → `state`
    pub fn end(&self, id: &str, state: &str) -> rusqlite::Result<()> {
        let sql = "UPDATE charges SET state = ? WHERE id = ? AND state = 'pending'";
        self.db().execute(sql, [state, id]).map(drop)
    }

    /// settled | unknown | abandoned pending → refunded. False if it is in none of these.
    pub fn refund(&self, id: &str, reference: &str) -> rusqlite::Result<bool> {
        let sql = "UPDATE charges SET state = 'refunded', reference = ? WHERE id = ? AND
            (state IN ('settled', 'unknown') OR state = 'pending' AND started < unixepoch() - ?)";
        Ok(self.db().execute(sql, params![reference, id, ABANDONED])? == 1)
    }

    /// Refunds a charge that was never made: nobody will ever make it now. This is what lets a
    /// caller take back a charge without knowing whether its request arrived.
    pub fn forbid(&self, id: &str) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO charges (id, order_id, amount_cents, state)
            VALUES (?, '', 0, 'refunded')";
        self.db().execute(sql, [id]).map(drop)
    }

    pub fn get(&self, id: &str) -> rusqlite::Result<Option<Charge>> {
        find(&self.db(), id)
    }

    pub fn faults(&self) -> rusqlite::Result<Faults> {
        self.db().query_row("SELECT latency_ms, fail_rate FROM faults", [], |row| {
            Ok(Faults { latency_ms: row.get(0)?, fail_rate: row.get(1)? })
        })
    }

    /// In the database and not in memory: all instances must break alike.
    pub fn set_faults(&self, faults: Faults) -> rusqlite::Result<()> {
        let sql = "UPDATE faults SET latency_ms = ?, fail_rate = ?";
        self.db().execute(sql, params![faults.latency_ms, faults.fail_rate]).map(drop)
    }
}

fn find(db: &Connection, id: &str) -> rusqlite::Result<Option<Charge>> {
    let sql = "SELECT id, order_id, amount_cents, state, reference,
        state = 'pending' AND started < unixepoch() - ? FROM charges WHERE id = ?";
    let charge = |row: &rusqlite::Row<'_>| {
        let (id, order, amount_cents) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (state, reference, abandoned) = (row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(Charge { id, order, amount_cents, state, reference, abandoned })
    };
    db.query_row(sql, params![ABANDONED, id], charge).optional()
}
