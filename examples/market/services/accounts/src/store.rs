//! Who has an account, in this service's own SQLite file. Nobody else opens it: other services
//! ask over HTTP, so the tables may change whenever this team likes.
//!
//! Several instances share the file. WAL lets them read while one writes, and a writer waits its
//! turn instead of failing at once.

use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS users (
        id       TEXT PRIMARY KEY,
        email    TEXT NOT NULL UNIQUE,
        name     TEXT NOT NULL,
        password TEXT NOT NULL             -- a hash, see password.rs
    );
    CREATE TABLE IF NOT EXISTS signing_key (
        one      INTEGER PRIMARY KEY CHECK (one = 1),
        secret   BLOB NOT NULL
    );";

pub struct User {
    pub id: String,
    pub email: String,
    pub name: String,
    pub password: String,
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

    /// False if the e-mail address is taken.
    pub fn add(&self, user: &User) -> rusqlite::Result<bool> {
        let sql = "INSERT INTO users VALUES (?, ?, ?, ?) ON CONFLICT (email) DO NOTHING";
        let User { id, email, name, password } = user;
        Ok(self.db().execute(sql, params![id, email, name, password])? == 1)
    }

    pub fn by_email(&self, email: &str) -> rusqlite::Result<Option<User>> {
        self.find("SELECT id, email, name, password FROM users WHERE email = ?", email)
    }

    pub fn by_id(&self, id: &str) -> rusqlite::Result<Option<User>> {
        self.find("SELECT id, email, name, password FROM users WHERE id = ?", id)
    }

    fn find(&self, sql: &str, value: &str) -> rusqlite::Result<Option<User>> {
        let user = |row: &rusqlite::Row<'_>| {
            let (id, email) = (row.get(0)?, row.get(1)?);
            Ok(User { id, email, name: row.get(2)?, password: row.get(3)? })
        };
        self.db().query_row(sql, [value], user).optional()
    }

    pub fn update(&self, user: &User) -> rusqlite::Result<()> {
        let sql = "UPDATE users SET name = ?, password = ? WHERE id = ?";
        self.db().execute(sql, params![user.name, user.password, user.id]).map(drop)
    }

    pub fn delete(&self, id: &str) -> rusqlite::Result<()> {
        self.db().execute("DELETE FROM users WHERE id = ?", [id]).map(drop)
    }

    /// The key that signs tokens: the first instance ever to start chose it, all others use it.
    pub fn signing_key(&self, fresh: [u8; 32]) -> rusqlite::Result<[u8; 32]> {
        let db = self.db();
        db.execute("INSERT OR IGNORE INTO signing_key VALUES (1, ?)", [fresh])?;
        db.query_row("SELECT secret FROM signing_key", [], |row| row.get(0))
    }
}
