//! The broker alone, for measurements and for trying clients: `serve FOLDER [ADDRESS]`.
//! It ends when its standard input does.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::Tasks;
use atoll_broker::access::Access;
use atoll_broker::config::EventsConfig;
use atoll_broker::journal::MIGRATION;
use atoll_broker::{Broker, Door};
use atoll_store::Sql;
use atoll_store::log::{Log, RealDisk};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("which folder?")?);
    let mut config = EventsConfig::default();
    if let Some(listen) = arguments.next() {
        config.listen = listen;
    }
    std::fs::create_dir_all(folder.join("log"))?;
    let tasks = Tasks::new();
    let sql = Sql::open(&folder.join("state.db"), &[MIGRATION])?;
    let (log, findings) = Log::open(&folder.join("log"), Arc::new(RealDisk))?;
    for finding in findings {
        eprintln!("{finding:?}");
    }
    let access = Access::new(config.is_open());
    let broker = Broker::open(sql, log, access, config.auto_create, &tasks).await?;
    let door = Door::open(&config).await?;
    println!("{}", door.addr());
    let serving = tasks.clone();
    let own = broker.clone();
    tasks.spawn("kafka", async move { door.run(own, serving).await });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    tasks.stop();
    tasks.join(Duration::from_secs(5)).await;
    broker.close().await;
    Ok(())
}
