//! Redis: a server of its own for each service, or a user of its own on the server that is named.
//!
//! Redis has no databases that a user could be confined to, only keys. So an own server per service
//! (a few MiB each) is the sound default. On a named server a service gets a user that may touch
//! only keys and channels that begin with its prefix, `{application}-{service}:`, which it finds in
//! `REDIS_PREFIX`. The user is made again at each start of an instance, as Redis forgets users when
//! it is restarted, unless it has a file for them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::Duration;

use atoll_base::ServiceName;
use atoll_supervisor::{Health, InstanceSpec, Resources};

use super::{Context, Error, find_program, free_port};
use crate::manifest::ServerConfig;

/// The name for messages.
const SERVER: &str = "Redis";

/// How long an own server may take until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Redis {
    named: Option<ServerConfig>,
    /// The ports of own servers.
    own: HashMap<ServiceName, u16>,
}

impl Redis {
    pub(super) fn new(named: Option<ServerConfig>) -> Self {
        Self {
            named,
            own: HashMap::new(),
        }
    }

    pub(super) async fn url(
        &mut self,
        context: &Context,
        service: &ServiceName,
    ) -> Result<String, Error> {
        let password = context.password("redis", service.as_str()).await?;
        if let Some(named) = &self.named {
            return user_on(&named.url, context, service, &password).await;
        }
        let port = match self.own.get(service) {
            Some(port) => *port,
            None => {
                let port = start(context, service, &password).await?;
                self.own.insert(service.clone(), port);
                port
            }
        };
        Ok(format!("redis://default:{password}@127.0.0.1:{port}/0"))
    }
}

/// Starts a server for one service and waits until it is ready.
async fn start(context: &Context, service: &ServiceName, password: &str) -> Result<u16, Error> {
    let program = find_program("redis-server", &[]).ok_or(Error::NotInstalled {
        program: SERVER,
        remedy: "install it (Debian: `apt-get install redis-server`), or name a server: \
                 `[redis] url` in atoll.toml",
    })?;
    let home = context.state.join("redis").join(service.as_str());
    let port = free_port().map_err(trouble)?;
    let config = home.join("redis.conf");
    // The password is in a file, not in the arguments, which every user of the machine can read.
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir \"{}\"\nappendonly yes\nappendfsync always\n\
         requirepass {password}\ndaemonize no\n",
        home.display()
    );
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home)
        .map_err(trouble)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&config)
        .map_err(trouble)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(trouble)?;
    let id = Context::own_instance("atoll-redis");
    let id = atoll_base::InstanceId::new(
        ServiceName::new(&format!("atoll-redis-{service}"))
            .unwrap_or_else(|_| id.service().clone()),
        id.revision(),
        u32::from(port),
    );
    context.supervisor.start(InstanceSpec {
        id: id.clone(),
        command: vec![program.display().to_string(), config.display().to_string()],
        dir: home,
        env: Vec::new(),
        health: Health::default(),
        resources: Resources::default(),
        stop_timeout: Duration::from_secs(10),
        sandbox: None,
        user: None,
        port: Some(port),
        restart: true,
    });
    if tokio::time::timeout(START_TIMEOUT, context.ready.wait(&id))
        .await
        .is_err()
    {
        let reason = context
            .supervisor
            .status(&id)
            .and_then(|status| status.reason);
        context.supervisor.stop(&id).await;
        let reason = format!("it did not come up: {}", reason.unwrap_or_default());
        return Err(Error::Server {
            server: SERVER,
            reason,
        });
    }
    Ok(port)
}

/// Makes the service's user on a shared server. It may use every command but those that manage the
/// server, on keys and channels that begin with its name.
async fn user_on(
    url: &str,
    context: &Context,
    service: &ServiceName,
    password: &str,
) -> Result<String, Error> {
    let client = ::redis::Client::open(url).map_err(|error| refused("", &error))?;
    let address = client.get_connection_info().addr().to_string();
    let refused = |error| refused(&address, &error);
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .map_err(refused)?;
    let user = format!("{}-{service}", context.application);
    let prefix = context.redis_prefix(service);
    let rules = [
        "reset".to_owned(),
        "on".to_owned(),
        format!(">{password}"),
        format!("~{prefix}*"),
        format!("&{prefix}*"),
        "+@all".to_owned(),
        "-@admin".to_owned(),
        "-@dangerous".to_owned(),
    ];
    let mut command = ::redis::cmd("ACL");
    command.arg("SETUSER").arg(&user).arg(&rules[..]);
    command.exec_async(&mut connection).await.map_err(refused)?;
    let saved = ::redis::cmd("ACL")
        .arg("SAVE")
        .exec_async(&mut connection)
        .await;
    if let Err(error) = saved {
        tracing::debug!(%error, "the server keeps its users in memory only");
    }
    Ok(format!("redis://{user}:{password}@{address}/0"))
}

fn trouble(error: std::io::Error) -> Error {
    Error::Server {
        server: SERVER,
        reason: error.to_string(),
    }
}

fn refused(address: &str, error: &::redis::RedisError) -> Error {
    let reason = error.to_string();
    if address.is_empty() {
        return Error::Refused {
            server: SERVER.to_owned(),
            reason: format!("`[redis] url` cannot be used: {reason}"),
        };
    }
    let server = format!("{SERVER} at {address}");
    if error.is_io_error() {
        Error::Unreachable { server, reason }
    } else {
        Error::Refused { server, reason }
    }
}
