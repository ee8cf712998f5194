//! The store from outside: its lock, its durability, its poison.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use atoll_base::Coded;
use atoll_store::{Error, Migration, Sql, StateDir};

const NOTES: Migration = Migration {
    subsystem: "notes",
    steps: &["CREATE TABLE notes (text TEXT NOT NULL UNIQUE) STRICT"],
};

async fn write(sql: &Sql, text: &'static str) -> Result<usize, Error> {
    sql.call(move |t| t.execute("INSERT INTO notes VALUES (?1)", [text]))
        .await
}

async fn count(sql: &Sql) -> i64 {
    sql.call(|t| t.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)))
        .await
        .unwrap()
}

#[test]
fn two_nodes_never_share_a_state_folder() {
    let dir = tempfile::tempdir().unwrap();
    let held = StateDir::open(dir.path()).unwrap();
    let refused = StateDir::open(dir.path()).unwrap_err();
    assert!(matches!(refused, Error::InUse { pid: Some(pid), .. } if pid == std::process::id()));
    assert_eq!(refused.code().0, "ATL0801");
    drop(held);
    StateDir::open(dir.path()).unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let sql = Sql::open(&path, &[NOTES]).unwrap();
    write(&sql, "one").await.unwrap();
    drop(sql);
    let sql = Sql::open(&path, &[NOTES]).unwrap();
    assert_eq!(count(&sql).await, 1);
}

#[tokio::test]
async fn a_refused_statement_changes_nothing_and_poisons_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sql = Sql::open(&dir.path().join("state.db"), &[NOTES]).unwrap();
    write(&sql, "one").await.unwrap();
    let both = sql
        .call(|t| {
            t.execute("INSERT INTO notes VALUES ('two')", [])?;
            t.execute("INSERT INTO notes VALUES ('one')", [])
        })
        .await;
    assert!(matches!(both, Err(Error::Sql(_))));
    assert_eq!(count(&sql).await, 1, "the transaction was rolled back");
    write(&sql, "two").await.unwrap();
}

#[tokio::test]
async fn a_full_disk_poisons_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let sql = Sql::open(&dir.path().join("state.db"), &[NOTES]).unwrap();
    write(&sql, "before").await.unwrap();
    // SQLite reports SQLITE_FULL when the page limit is reached, as it does for a full disk.
    let full = sql
        .call(|t| {
            t.pragma_update(None, "max_page_count", 1)?;
            t.execute("INSERT INTO notes VALUES (printf('%.*c', 100000, 'x'))", [])
        })
        .await;
    assert!(matches!(full, Err(Error::Poisoned(_))), "{full:?}");
    let after = write(&sql, "after").await.unwrap_err();
    assert_eq!(after.code().0, "ATL0805");
    assert_eq!(count(&sql).await, 1, "what is there can be read");
    assert!(
        write(&sql, "after all").await.is_err(),
        "and reading changes nothing about it"
    );
}

#[tokio::test]
async fn a_state_from_the_future_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(Sql::open(&path, &[NOTES]).unwrap());
    let older = Migration {
        subsystem: "notes",
        steps: &[],
    };
    let error = Sql::open(&path, &[older]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooNew {
                found: 1,
                known: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn migrations_run_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let sql = Sql::open(&path, &[NOTES]).unwrap();
    write(&sql, "kept").await.unwrap();
    drop(sql);
    const GROWN: Migration = Migration {
        subsystem: "notes",
        steps: &[
            NOTES.steps[0],
            "ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'ada'",
        ],
    };
    let sql = Sql::open(&path, &[GROWN]).unwrap();
    let author: String = sql
        .call(|t| t.query_row("SELECT author FROM notes", [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(author, "ada");
}
