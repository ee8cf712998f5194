//! The schemas in force: what topics take, and what those who read rely on.
//!
//! A publisher may change its schema at any deployment, as long as nobody who reads is surprised. A
//! reader that says what it relies on is held to that, by the manifests alone; for readers that say
//! nothing, the schema that was in force until now is what they rely on. It is kept in the SQL state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use atoll_store::{Migration, Sql};

use crate::schema::{Schema, breaks};

/// The schemas in force.
pub const MIGRATION: Migration = Migration {
    subsystem: "events_schemas",
    steps: &["
        CREATE TABLE events_schemas (topic TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
    "],
};

/// A schema as it was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// The schema.
    pub schema: Arc<Schema>,
    /// Its text.
    pub text: String,
    /// Its file, for messages.
    pub file: String,
}

/// The schemas of all topics. A cheap handle.
#[derive(Debug, Clone)]
pub struct Registry {
    sql: Sql,
    current: Arc<RwLock<BTreeMap<String, Arc<Schema>>>>,
}

/// Why schemas are not taken.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Somebody reads who relies on what would be gone.
    #[error(
        "{file} would break who reads '{topic}' and says nothing of what it relies on:\n{breaks}\nchange it so that what was written until now is still written, or let the readers say what they rely on (`[[subscribe]] schema`)"
    )]
    Breaks {
        /// The topic.
        topic: String,
        /// The file of the new schema.
        file: String,
        /// What breaks, one a line.
        breaks: String,
    },
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] atoll_store::Error),
}

impl Registry {
    /// [`MIGRATION`] was run in `sql`.
    pub fn new(sql: Sql) -> Self {
        Self {
            sql,
            current: Arc::default(),
        }
    }

    /// Puts the schemas of all topics in force, and no others. `relying`: topics with readers that do
    /// not say what they rely on.
    ///
    /// # Errors
    /// When one of them breaks such a reader; then nothing changes.
    pub async fn accept(
        &self,
        written: BTreeMap<String, Written>,
        relying: &BTreeSet<String>,
    ) -> Result<(), RegistryError> {
        let known = self.known().await?;
        for (topic, new) in &written {
            let Some(old) = known.get(topic).filter(|_| relying.contains(topic)) else {
                continue;
            };
            // One of a version of Atoll that took other schemas binds nobody.
            let Ok(old) = Schema::parse(old, "the schema in force") else {
                continue;
            };
            let broken = breaks(&new.schema, &old);
            if !broken.is_empty() {
                let lines = broken
                    .iter()
                    .map(|own| format!("  {}: {}", own.pointer, own.reason));
                return Err(RegistryError::Breaks {
                    topic: topic.clone(),
                    file: new.file.clone(),
                    breaks: lines.collect::<Vec<_>>().join("\n"),
                });
            }
        }
        let rows = written
            .iter()
            .map(|(topic, new)| (topic.clone(), new.text.clone()));
        let rows: Vec<_> = rows.collect();
        // One that was taken away still binds: who reads has not changed its mind.
        let gone = known
            .into_keys()
            .filter(|own| !written.contains_key(own) && !relying.contains(own));
        let gone: Vec<String> = gone.collect();
        let changed = self.sql.call(move |db| {
            for topic in gone {
                db.execute("DELETE FROM events_schemas WHERE topic = ?1", [topic])?;
            }
            for row in rows {
                db.execute("INSERT OR REPLACE INTO events_schemas VALUES (?1, ?2)", row)?;
            }
            Ok(())
        });
        changed.await?;
        let schemas = written.into_iter().map(|(topic, new)| (topic, new.schema));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = schemas.collect();
        Ok(())
    }

    /// The schema of a topic.
    pub fn of(&self, topic: &str) -> Option<Arc<Schema>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.get(topic).cloned()
    }

    /// Whether the topic takes this value.
    ///
    /// # Errors
    /// Why not: the first mismatches, one a line.
    pub fn check(&self, topic: &str, value: Option<&[u8]>) -> Result<(), String> {
        let Some(schema) = self.of(topic) else {
            return Ok(());
        };
        let value =
            value.ok_or_else(|| format!("'{topic}' has a schema, and there is no value"))?;
        let checked = schema.check(value);
        checked.map_err(|why| format!("the value does not match the schema of '{topic}':\n{why}"))
    }

    async fn known(&self) -> Result<BTreeMap<String, String>, RegistryError> {
        let read = self.sql.call(|db| {
            let mut rows = db.prepare("SELECT topic, text FROM events_schemas")?;
            let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        });
        Ok(read.await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> BTreeMap<String, Written> {
        let own = Written {
            schema: Arc::new(Schema::parse(text, "placed.json").unwrap()),
            text: text.to_owned(),
            file: "placed.json".to_owned(),
        };
        BTreeMap::from([("placed".to_owned(), own)])
    }

    const STRICT: &str =
        r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}"#;
    const MORE: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"note":{"type":"string"}}}"#;
    const LOOSE: &str = r#"{"type":"object","properties":{"id":{"type":"integer"}}}"#;

    #[tokio::test]
    async fn a_schema_that_breaks_a_silent_reader_is_refused_and_the_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let sql = Sql::open(&folder.path().join("state.db"), &[MIGRATION]).unwrap();
        let relying = BTreeSet::from(["placed".to_owned()]);
        let registry = Registry::new(sql.clone());
        registry.accept(written(STRICT), &relying).await.unwrap();
        registry.accept(written(MORE), &relying).await.unwrap();
        // Also after a restart.
        let registry = Registry::new(sql);
        registry.accept(written(MORE), &relying).await.unwrap();
        let error = registry
            .accept(written(LOOSE), &relying)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("placed.json would break") && error.contains("id"),
            "{error}"
        );
        let refused = registry.check("placed", Some(b"{}")).unwrap_err();
        assert!(
            refused.contains("does not match the schema of 'placed'"),
            "{refused}"
        );
        registry
            .accept(written(LOOSE), &BTreeSet::new())
            .await
            .unwrap();
        registry.check("placed", Some(b"{}")).unwrap();
        registry.check("placed", None).unwrap_err();
        registry.check("other", None).unwrap();
    }
}
