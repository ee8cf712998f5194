//! The JSON Schemas of both files, made from the types.
//!
//! One source for three things: what editors get (`atoll schema`), what a file is held against, and
//! the words that explain each key. Draft 2020-12, without references, so that it can be walked.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::{ApplicationFile, ServiceFile};

/// The schema of `atoll.toml`.
pub fn application_schema() -> Schema {
    of::<ApplicationFile>()
}

/// The schema of `service.toml`.
pub fn service_schema() -> Schema {
    of::<ServiceFile>()
}

fn of<T: JsonSchema>() -> Schema {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>()
}
