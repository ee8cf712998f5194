//! Topics: where they live, what services declare about them, and what they are told.
//!
//! Each service has an account of its own, whose password comes from a secret of the node: nothing
//! has to be kept for it, and it is the same after a restart.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use atoll_base::{Code, Coded, ServiceName, Tasks};
use atoll_broker::access::{Access, Account, OWN_GROUPS};
use atoll_broker::config::EventsConfig;
use atoll_broker::{Broker, Door, Inside, Passed, Values};
use atoll_events::dead::Letters;
use atoll_events::kafka::KafkaBus;
use atoll_events::registry::RegistryError;
use atoll_events::{Bus, BusError, Jobs, Outboxes, Pushes, Registry, SubscribeConfig, jobs};
use atoll_store::log::{Finding, Log, RealDisk};
use atoll_store::{Sql, StateDir};
use atoll_telemetry::Level;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::bus::BrokerBus;
use super::courier::MeshCourier;
use super::events::Events;
use super::traffic::Traffic;
use super::{http_door, kafka_tls};
use crate::admin::events::{LagView, ReaderView, TopicView};
use crate::manifest::{self, Application, ServiceFile};

/// The topics of an application, and all that is done with them.
pub struct Topics {
    home: Home,
    access: Access,
    bus: Arc<dyn Bus>,
    letters: Letters,
    schemas: Registry,
    jobs: Jobs,
    pushes: Pushes,
    outboxes: Outboxes,
    traffic: Arc<Traffic>,
    /// One declaration at a time.
    declaring: tokio::sync::Mutex<()>,
    secret: hmac::Key,
}

/// Where topics live.
enum Home {
    /// In the embedded broker.
    Own(Broker, Clients),
    /// In a Kafka with these brokers.
    Kafka(Arc<KafkaBus>, String),
}

/// How services reach the embedded broker.
struct Clients {
    /// `HOST:PORT`.
    bootstrap: String,
    protocol: &'static str,
    /// Whom they are to believe, if the operator has said it.
    ca: Option<PathBuf>,
}

impl Clients {
    fn of(
        config: &EventsConfig,
        addr: SocketAddr,
        dir: &Path,
    ) -> Result<Self, atoll_broker::Error> {
        let advertised = config.advertised()?;
        let tls = config.tls.as_ref();
        Ok(Self {
            bootstrap: match (advertised, tls) {
                // A certificate is for a name.
                (Some(place), Some(_)) if place.host.contains(':') => {
                    format!("[{}]:{}", place.host, place.port)
                }
                (Some(place), Some(_)) => format!("{}:{}", place.host, place.port),
                _ => addr.to_string(),
            },
            protocol: tls.map_or("SASL_PLAINTEXT", |_| "SASL_SSL"),
            ca: tls.and_then(|own| own.ca.as_ref()).map(|ca| dir.join(ca)),
        })
    }

    fn variables(&self, service: &ServiceName, password: String) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("KAFKA_BOOTSTRAP_SERVERS", self.bootstrap.clone()),
            ("KAFKA_SECURITY_PROTOCOL", self.protocol.to_owned()),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256".to_owned()),
            ("KAFKA_SASL_USERNAME", service.to_string()),
            ("KAFKA_SASL_PASSWORD", password),
        ];
        if let Some(ca) = &self.ca {
            variables.push(("KAFKA_SSL_CA_LOCATION", ca.display().to_string()));
        }
        variables
    }
}

impl Topics {
    /// Opens the log and takes the port, or connects to a Kafka, and makes the topics that are
    /// declared. None if the application has no `[events]`.
    pub(super) async fn open(
        application: &Application,
        state: &StateDir,
        sql: &Sql,
        (events, traffic): (&Arc<Events>, &Arc<Traffic>),
        tasks: &Tasks,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(config) = &application.file.events else {
            return Ok(None);
        };
        let schemas = Registry::new(sql.clone());
        let access = Access::new(config.is_open());
        let (home, bus): (Home, Arc<dyn Bus>) = match &config.kafka {
            Some(brokers) => {
                let with = (sql, &schemas);
                let kafka = super::kafka::connect(brokers, config, &application.dir, with).await?;
                let kafka = Arc::new(kafka);
                (Home::Kafka(Arc::clone(&kafka), brokers.clone()), kafka)
            }
            None => {
                let at = (events, application.dir.as_path());
                let (broker, addr) = embedded(config, state, (sql, &access), at, tasks).await?;
                broker.guard(Arc::new(Schemas(schemas.clone())));
                let inside = BrokerBus(Inside::new(broker.clone()));
                let clients = Clients::of(config, addr, &application.dir)?;
                (Home::Own(broker, clients), Arc::new(inside))
            }
        };
        let courier = Arc::new(MeshCourier::new(Arc::clone(traffic)));
        let limits = jobs::Limits::default();
        let jobs = Jobs::open(Arc::clone(&bus), sql.clone(), limits, tasks).await?;
        let running = Some(jobs.clone());
        let pushes = Pushes::with_jobs(Arc::clone(&bus), courier, running, tasks.clone());
        let outboxes = Outboxes::new(
            Arc::clone(&bus),
            Arc::new(http_door::Declared {
                access: access.clone(),
                schemas: schemas.clone(),
            }),
            Arc::new(super::outbox::Troubles(Arc::clone(events))),
            tasks.clone(),
        );
        let own = Self {
            home,
            access,
            schemas,
            outboxes,
            letters: Letters::new(Arc::clone(&bus), pushes.clone(), sql.clone()),
            jobs,
            pushes,
            bus,
            traffic: Arc::clone(traffic),
            declaring: tokio::sync::Mutex::default(),
            secret: secret(state.path())?,
        };
        own.declare(application).await?;
        own.serve_http(sql, traffic, tasks).await?;
        Ok(Some(Arc::new(own)))
    }

    /// Topics over HTTP, for services that reach it through the mesh.
    async fn serve_http(&self, sql: &Sql, traffic: &Traffic, tasks: &Tasks) -> anyhow::Result<()> {
        let rights = Arc::new(http_door::Declared {
            access: self.access.clone(),
            schemas: self.schemas.clone(),
        });
        let state = atoll_events::http::State::new(
            Arc::clone(&self.bus),
            rights,
            sql.clone(),
            tasks.clone(),
            atoll_events::http::Limits::default(),
        );
        let state = state.with_jobs(self.jobs.clone());
        http_door::open(state, traffic, tasks).await
    }

    /// Makes and sets up the topics of the manifests, and says who may do what.
    pub(super) async fn declare(&self, application: &Application) -> Result<(), TopicsError> {
        let _one = self.declaring.lock().await;
        let topics = &application.file.topics;
        let services = application.services.values();
        let declared = services.flat_map(|own| published(&own.file).chain(read(&own.file)));
        let told = &application.file.alerts.topic;
        let mut names: Vec<&String> = declared.chain(topics.keys()).chain(told).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let config = topics.get(name).cloned().unwrap_or_default();
            match &self.home {
                Home::Own(broker, _) => drop(broker.catalog().declare(name, &config).await?),
                Home::Kafka(kafka, _) => kafka.declare(name, config.partitions).await?,
            }
        }
        for (name, own) in &application.services {
            self.pushes.declare(name, &own.file.subscribe).await?;
        }
        // Nothing was refused so far; this is the last that may be.
        let (written, relying) = manifest::schemas::of(application);
        self.schemas.accept(written, &relying).await?;
        let accounts = application.services.iter().map(|(name, own)| {
            // The revision that serves keeps its rights until the next has taken over.
            let serving = self.traffic.file_of(name);
            let files = || [Some(&own.file), serving.as_deref()].into_iter().flatten();
            let account = Account {
                secret: self.password(name),
                publishes: files().flat_map(published).cloned().collect(),
                reads: files().flat_map(read).cloned().collect(),
            };
            (name.to_string(), account)
        });
        let accounts: HashMap<_, _> = accounts.collect();
        self.access.replace(accounts);
        let services = application.services.iter();
        self.jobs
            .declare(services.map(|(name, own)| (name, &own.file.subscribe[..])));
        Ok(())
    }

    /// Where records are.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// The dead letters.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn views(&self) -> Result<Vec<TopicView>, BusError> {
        let mut views = Vec::new();
        for name in self.bus.topics().await? {
            let partitions = self.bus.partitions(&name).await?;
            let mut records = 0;
            for partition in 0..partitions {
                let ends = self.bus.ends(&name, partition).await?;
                records += ends.end - ends.start;
            }
            let (publishers, readers) = self.access.of_topic(&name);
            views.push(TopicView {
                bytes: self.bytes(&name),
                name,
                partitions,
                records,
                publishers,
                readers,
            });
        }
        views.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(views)
    }

    /// How many records each service has published and read by the protocol of Kafka, by topic. A Kafka of one's
    /// own does not say.
    pub(super) fn passed(&self) -> Vec<Passed> {
        match &self.home {
            Home::Own(broker, _) => broker.passed(),
            Home::Kafka(..) => Vec::new(),
        }
    }

    /// How much a topic takes on this machine's disk.
    fn bytes(&self, topic: &str) -> u64 {
        let Home::Own(broker, _) = &self.home else {
            return 0;
        };
        let found = broker.catalog().get(topic);
        found.map_or(0, |topic| {
            topic.partitions.iter().map(|own| own.bytes()).sum()
        })
    }

    /// The consumer groups that read topics, and how far behind they are. Those of a Kafka of one's
    /// own are its affair.
    ///
    /// # Errors
    /// When a topic cannot be read.
    pub async fn groups(&self) -> Result<Vec<ReaderView>, BusError> {
        let mut views = Vec::new();
        let Home::Own(broker, _) = &self.home else {
            return Ok(views);
        };
        for (group, ..) in broker.groups().list() {
            if group.starts_with(OWN_GROUPS) {
                continue;
            }
            let mut lags: BTreeMap<Arc<str>, Vec<LagView>> = BTreeMap::new();
            for ((topic, partition), own) in broker.groups().offsets(&group) {
                let ends = self.bus.ends(&topic, partition).await?;
                let lag = (ends.end - own.next.max(ends.start)).max(0);
                let own = LagView { partition, lag };
                lags.entry(topic).or_default().push(own);
            }
            let lags = lags.into_iter();
            views.extend(lags.map(|(topic, lags)| ReaderView::behind(&group, &topic, lags)));
        }
        Ok(views)
    }

    /// The jobs of services.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The outboxes of services.
    pub fn outboxes(&self) -> &Outboxes {
        &self.outboxes
    }

    /// The records that are pushed to services.
    pub fn pushes(&self) -> &Pushes {
        &self.pushes
    }

    /// A revision with this manifest serves.
    pub(super) fn serve(&self, service: &ServiceName, subscriptions: &[SubscribeConfig]) {
        self.pushes.serve(service, subscriptions);
    }

    /// What an instance of the service is told; nothing if it declares nothing.
    pub(super) fn variables(
        &self,
        service: &ServiceName,
        file: &ServiceFile,
        events: SocketAddr,
    ) -> Vec<(String, String)> {
        if published(file).chain(read(file)).next().is_none() {
            return Vec::new();
        }
        // An older revision that comes back may do what it declares, whatever the newest says.
        let publishes: Vec<String> = published(file).cloned().collect();
        let reads: Vec<String> = read(file).cloned().collect();
        self.access.grant(service.as_str(), &publishes, &reads);
        let mut variables = vec![("EVENTS_URL", format!("http://{events}"))];
        match &self.home {
            // How a service proves itself to that Kafka is between the two; `[env]` can say it.
            Home::Kafka(_, brokers) => variables.push(("KAFKA_BOOTSTRAP_SERVERS", brokers.clone())),
            Home::Own(_, clients) => {
                variables.extend(clients.variables(service, self.password(service)));
            }
        }
        let named = variables.into_iter();
        named
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Writes everything down.
    pub(super) async fn close(&self) {
        if let Home::Own(broker, _) = &self.home {
            broker.close().await;
        }
    }

    fn password(&self, service: &ServiceName) -> String {
        hex(hmac::sign(&self.secret, service.as_str().as_bytes()).as_ref())
    }
}

/// The embedded broker, and where it listens.
async fn embedded(
    config: &EventsConfig,
    state: &StateDir,
    (sql, access): (&Sql, &Access),
    (events, dir): (&Arc<Events>, &Path),
    tasks: &Tasks,
) -> anyhow::Result<(Broker, SocketAddr)> {
    let mut door = Door::open(config).await?;
    if let Some(tls) = &config.tls {
        door = door.with_tls(kafka_tls::server(tls, dir, events, tasks)?);
    }
    let folder = state.subdir("log")?;
    let opened = tokio::task::block_in_place(|| Log::open(&folder, Arc::new(RealDisk)));
    let (log, findings) =
        opened.with_context(|| format!("the log in {} cannot be read", folder.display()))?;
    findings.iter().for_each(|finding| tell(events, finding));
    let access = access.clone();
    let broker = Broker::open(sql.clone(), log, access, config.auto_create, tasks).await?;
    let addr = door.addr();
    let (own, stopping) = (broker.clone(), tasks.clone());
    tasks.spawn("kafka", async move { door.run(own, stopping).await });
    Ok((broker, addr))
}

/// The schemas, as the broker asks for them.
#[derive(Debug)]
struct Schemas(Registry);

impl Values for Schemas {
    fn cares(&self, topic: &str) -> bool {
        self.0.of(topic).is_some()
    }

    fn check(&self, topic: &str, value: Option<&[u8]>) -> Result<(), String> {
        self.0.check(topic, value)
    }
}

/// Why topics or subscriptions cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The broker does not do it.
    #[error(transparent)]
    Broker(#[from] atoll_broker::Error),
    /// A subscription cannot begin.
    #[error(transparent)]
    Bus(#[from] atoll_events::BusError),
    /// A schema breaks who reads.
    #[error(transparent)]
    Schema(#[from] RegistryError),
}

impl Coded for TopicsError {
    fn code(&self) -> Code {
        match self {
            Self::Broker(error) => error.code(),
            Self::Bus(_) => Code("ATL0902"),
            Self::Schema(_) => Code("ATL0114"),
        }
    }
}

fn published(file: &ServiceFile) -> impl Iterator<Item = &String> {
    file.publish.iter().flat_map(|own| &own.topics)
}

fn read(file: &ServiceFile) -> impl Iterator<Item = &String> {
    file.subscribe.iter().map(|own| &own.topic)
}

fn tell(events: &Events, finding: &Finding) {
    match finding {
        Finding::Lost { path, from, until } => {
            let path = path.display();
            let message = format!(
                "the records {from} to {until} of {path} were acknowledged and are gone from the disk (ATL0902)"
            );
            events.node(Level::Error, message);
        }
        Finding::Cut { path, bytes, kept } => {
            let (path, kept) = (path.display(), kept.display());
            let message = format!(
                "the last {bytes} bytes of {path} were never acknowledged; they are cut off, and kept in {kept}"
            );
            events.node(Level::Warn, message);
        }
        other => events.node(Level::Warn, format!("the log: {other:?}")),
    }
}

/// The node's secret: made once, readable by its user only.
fn secret(state: &Path) -> anyhow::Result<hmac::Key> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = state.join("events-secret");
    let known = std::fs::read(&path).ok().filter(|known| known.len() == 32);
    let bytes = match known {
        Some(known) => known,
        None => {
            let mut fresh = vec![0; 32];
            let random = SystemRandom::new().fill(&mut fresh);
            random.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let written = options.open(&path).and_then(|mut file| {
                file.write_all(&fresh)?;
                file.sync_all()
            });
            written.with_context(|| format!("cannot write {}", path.display()))?;
            fresh
        }
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
