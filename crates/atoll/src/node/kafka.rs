//! A Kafka of the operator's own, in place of the embedded broker.

use std::path::Path;

use anyhow::Context as _;
use atoll_broker::config::{EventsConfig, SaslMechanism};
use atoll_events::Registry;
use atoll_events::kafka::{KafkaBus, Login, Mechanism, Way};
use atoll_store::Sql;

use super::kafka_tls;

/// Connects to `brokers`. Files are named relative to `dir`.
pub(super) async fn connect(
    brokers: &str,
    config: &EventsConfig,
    dir: &Path,
    (sql, schemas): (&Sql, &Registry),
) -> anyhow::Result<KafkaBus> {
    let tls = config
        .tls
        .as_ref()
        .map(|own| kafka_tls::client(own, dir))
        .transpose()?;
    let login = config.sasl.as_ref().map(|own| {
        let file = dir.join(&own.password_file);
        let password = std::fs::read_to_string(&file);
        let password = password.with_context(|| {
            format!("the password of Kafka, {}, cannot be read", file.display())
        })?;
        anyhow::Ok(Login {
            mechanism: match own.mechanism {
                SaslMechanism::Plain => Mechanism::Plain,
                SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
                SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
            },
            user: own.user.clone(),
            password: password.trim_end().to_owned(),
        })
    });
    let way = Way {
        brokers: servers(brokers),
        tls,
        login: login.transpose()?,
    };
    let connected = KafkaBus::connect(way, sql.clone(), schemas.clone()).await;
    connected.with_context(|| format!("Kafka cannot be reached at {brokers} (`[events] kafka`)"))
}

/// The addresses in a list with commas.
fn servers(brokers: &str) -> Vec<String> {
    let parts = brokers.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}
