//! `atoll cache`

use super::output::{GOOD, Output, table};
use super::{Cache, Client, Failure};
use crate::admin::cache::{CacheView, PurgeOrder, Purged};

pub(super) async fn run(client: &Client, what: Cache, out: &Output) -> Result<(), Failure> {
    match what {
        Cache::Purge { tag, path, all } => {
            let all = all.then_some(true);
            let order = PurgeOrder { all, tag, path };
            let purged: Purged = client.post("/v1/cache/purge", &order).await?;
            if out.json {
                out.json(&purged);
            } else {
                let pages = match purged.pages {
                    0 => "nothing was kept of that".to_owned(),
                    1 => "1 page is forgotten".to_owned(),
                    many => format!("{many} pages are forgotten"),
                };
                out.say(format!("{GOOD}✓{GOOD:#} {pages}"));
            }
        }
        Cache::Status => {
            let view: CacheView = client.get("/v1/cache").await?;
            if out.json {
                out.json(&view);
            } else {
                let head = ["HITS", "MISSES", "KEPT", "PAGES", "MEMORY"].map(str::to_owned);
                let counts = [view.hits, view.misses, view.kept, view.entries];
                let mut row: Vec<_> = counts.map(|count| count.to_string()).to_vec();
                row.push(atoll_base::ByteCount(view.bytes).to_string());
                out.data(table(&[head.to_vec(), row]));
            }
        }
    }
    Ok(())
}
