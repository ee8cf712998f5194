//! `atoll key`

use atoll_base::{HumanDuration, Timestamp};

use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN, table};
use super::{Client, Failure, Key};
use crate::admin::keys::{CreatedKey, KeyView, NewKey};

pub(super) async fn run(client: &Client, what: Key, out: &Output) -> Result<(), Failure> {
    match what {
        Key::Create {
            name,
            scopes,
            expires,
        } => create(client, name, scopes, expires.as_deref(), out).await,
        Key::List => list(client, out).await,
        Key::Revoke { id } => revoke(client, &id, out).await,
    }
}

async fn create(
    client: &Client,
    name: String,
    scopes: Vec<String>,
    expires: Option<&str>,
    out: &Output,
) -> Result<(), Failure> {
    let expires = expires.map(moment).transpose()?;
    let new = NewKey {
        name,
        scopes,
        expires,
    };
    let made: CreatedKey = client.post("/v1/keys", &new).await?;
    if out.json {
        out.json(&made);
        return Ok(());
    }
    // Alone on stdout: `KEY=$(atoll key create …)`.
    out.data(&made.key);
    let KeyView { id, name, .. } = &made.view;
    out.say(format!(
        "{GOOD}✓{GOOD:#} key {STRONG}{id}{STRONG:#} for {name}. It is shown this once: keep it in a safe place."
    ));
    Ok(())
}

async fn list(client: &Client, out: &Output) -> Result<(), Failure> {
    let keys: Vec<KeyView> = client.get("/v1/keys").await?;
    if out.json {
        out.json(&keys);
        return Ok(());
    }
    if keys.is_empty() {
        out.say("There are no keys. `atoll key create NAME` makes one.");
        return Ok(());
    }
    let now = Timestamp::now();
    let head = ["ID", "NAME", "SCOPES", "STATE", "MADE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(keys.into_iter().map(|key| {
        let scopes = match key.scopes.join(" ") {
            none if none.is_empty() => format!("{FAINT}none{FAINT:#}"),
            some => some,
        };
        let state = state(&key, now);
        vec![key.id, key.name, scopes, state, minute(key.created)]
    }));
    out.data(table(&rows));
    Ok(())
}

async fn revoke(client: &Client, id: &str, out: &Output) -> Result<(), Failure> {
    // The whole key does as well as its id: it is what people have at hand when it leaks.
    let id = id.strip_prefix("atoll_").unwrap_or(id);
    let id = id.split('_').next().unwrap_or(id);
    let bare = |byte: u8| byte.is_ascii_alphanumeric();
    if id.is_empty() || !id.bytes().all(bare) {
        let text = "an id has 12 letters and digits; `atoll key list` shows them";
        return Err(anyhow::anyhow!(text).into());
    }
    let url = format!("/v1/keys/{id}/revoke");
    let key: KeyView = client.post(&url, &()).await?;
    if out.json {
        out.json(&key);
    } else {
        let KeyView { id, name, .. } = &key;
        out.say(format!(
            "{GOOD}✓{GOOD:#} key {id} of {name} is refused from now on"
        ));
    }
    Ok(())
}

fn state(key: &KeyView, now: Timestamp) -> String {
    match (key.revoked, key.expires) {
        (Some(moment), _) => format!("{BAD}revoked{BAD:#} {}", minute(moment)),
        (None, Some(end)) if end <= now => format!("{WARN}expired{WARN:#} {}", minute(end)),
        (None, Some(end)) => format!("{GOOD}valid{GOOD:#} until {}", minute(end)),
        (None, None) => format!("{GOOD}valid{GOOD:#}"),
    }
}

/// To the minute: more is noise in a table.
pub(super) fn minute(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.get(..16)
        .map_or(text.clone(), |text| text.replace('T', " "))
}

/// A moment to come, from `90d` (in so long) or from RFC 3339.
pub(super) fn moment(text: &str) -> Result<Timestamp, anyhow::Error> {
    if let Ok(HumanDuration(span)) = text.parse() {
        return Ok(Timestamp::now().after(span));
    }
    text.parse().map_err(|_| {
        anyhow::anyhow!(
            "`{text}` is neither a time span such as 90d nor a moment such as 2027-01-01T00:00:00Z"
        )
    })
}
