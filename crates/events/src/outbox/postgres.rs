//! An outbox in a database of PostgreSQL that belongs to the service.
//!
//! The connection is the service's own, made by whoever knows its address and its password. One that
//! broke is made anew. Rows are seen when they are committed, in whatever order: what is asked for is
//! what is not marked, never what is behind a number.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::plan::Row;
use super::{Connect, Table};

/// A table behind a connection.
pub(super) struct Postgres {
    connect: Arc<dyn Connect>,
    table: String,
    open: Option<Open>,
}

struct Open {
    client: Client,
    unpublished: Statement,
    these: Statement,
    mark: Statement,
}

impl Postgres {
    /// `table` is a name that needs no quotes.
    pub(super) fn new(connect: Arc<dyn Connect>, table: String) -> Self {
        Self {
            connect,
            table,
            open: None,
        }
    }

    async fn open(&mut self) -> Result<&Open, String> {
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.client.is_closed())
        {
            let client = self.connect.connect().await?;
            let open = prepared(client, &self.table).await;
            self.open = Some(open.map_err(|error| self.told(&error))?);
        }
        self.open.as_ref().ok_or_else(|| "no connection".to_owned())
    }

    fn told(&self, error: &tokio_postgres::Error) -> String {
        let reason = match error.as_db_error() {
            Some(told) => told.message().to_owned(),
            None => error.to_string(),
        };
        format!("the table '{}' cannot be used: {reason}", self.table)
    }

    /// After an error, columns may be others: everything is prepared anew.
    fn done<T>(&mut self, done: Result<T, tokio_postgres::Error>) -> Result<T, String> {
        done.map_err(|error| {
            self.open = None;
            self.told(&error)
        })
    }
}

impl Table for Postgres {
    fn unpublished(&mut self, limit: u32) -> BoxFuture<'_, Result<Vec<Row>, String>> {
        async move {
            let open = self.open().await?;
            let limit = i64::from(limit);
            let found = open.client.query(&open.unpublished, &[&limit]).await;
            self.done(found.and_then(rows))
        }
        .boxed()
    }

    fn these(&mut self, ids: Vec<i64>) -> BoxFuture<'_, Result<Vec<Row>, String>> {
        async move {
            let open = self.open().await?;
            let found = open.client.query(&open.these, &[&ids]).await;
            self.done(found.and_then(rows))
        }
        .boxed()
    }

    fn mark(&mut self, ids: Vec<i64>) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let open = self.open().await?;
            let marked = open.client.execute(&open.mark, &[&ids]).await;
            self.done(marked.map(drop))
        }
        .boxed()
    }
}

async fn prepared(client: Client, table: &str) -> Result<Open, tokio_postgres::Error> {
    let value = client
        .prepare(&format!("SELECT value FROM {table}"))
        .await?;
    let is_bytes = value
        .columns()
        .first()
        .is_some_and(|own| *own.type_() == Type::BYTEA);
    // What is text or JSON is taken as its text.
    let value = if is_bytes {
        "value"
    } else {
        "convert_to(value::text, 'UTF8')"
    };
    let select = format!(
        "SELECT id::bigint, topic::text, key::text, {value}, headers::text FROM {table}
         WHERE published_at IS NULL"
    );
    let unpublished = format!("{select} ORDER BY id LIMIT $1");
    let these = format!("{select} AND id = ANY($1::bigint[])");
    let mark = format!(
        "UPDATE {table} SET published_at = now()
         WHERE published_at IS NULL AND id = ANY($1::bigint[])"
    );
    Ok(Open {
        unpublished: client.prepare(&unpublished).await?,
        these: client.prepare(&these).await?,
        mark: client.prepare(&mark).await?,
        client,
    })
}

fn rows(found: Vec<tokio_postgres::Row>) -> Result<Vec<Row>, tokio_postgres::Error> {
    let row = |row: tokio_postgres::Row| {
        Ok(Row {
            id: row.try_get(0)?,
            topic: row.try_get(1)?,
            key: row.try_get(2)?,
            value: row.try_get::<_, Option<Vec<u8>>>(3)?.map(Bytes::from),
            headers: row.try_get(4)?,
        })
    };
    found.into_iter().map(row).collect()
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
