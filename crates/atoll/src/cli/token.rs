//! `atoll token` and `atoll console`

use atoll_console::{Link, MadeToken, NewToken, Role, TokenView};
use clap::Subcommand;

use super::output::{BAD, GOOD, Output, STRONG, table};
use super::{Client, Failure};
use crate::admin::client::escape;

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token and print it, this once.
    Create {
        /// Who will have it.
        name: String,
        /// What it allows: viewer, operator or admin.
        #[arg(short, long, default_value = "viewer")]
        role: Role,
    },
    /// Show all tokens, but for their texts.
    List,
    /// Refuse a token from now on, and end the sessions that were begun by it.
    Revoke {
        /// As `list` shows it.
        id: String,
    },
}

pub(super) async fn run(client: &Client, what: Token, out: &Output) -> Result<(), Failure> {
    match what {
        Token::Create { name, role } => create(client, name, role, out).await,
        Token::List => list(client, out).await,
        Token::Revoke { id } => revoke(client, &id, out).await,
    }
}

/// Prints a link that logs a browser in.
pub(super) async fn link(client: &Client, out: &Output) -> Result<(), Failure> {
    let link: Link = client.post("/v1/tokens/link", &()).await?;
    if out.json {
        out.json(&link);
    } else {
        out.data(&link.url);
        out.say("It logs a browser in, once and within ten minutes.");
    }
    Ok(())
}

async fn create(client: &Client, name: String, role: Role, out: &Output) -> Result<(), Failure> {
    let made: MadeToken = client.post("/v1/tokens", &NewToken { name, role }).await?;
    if out.json {
        out.json(&made);
        return Ok(());
    }
    // Alone on stdout: `TOKEN=$(atoll token create …)`.
    out.data(&made.token);
    let TokenView { id, name, .. } = &made.view;
    let role = made.view.role.as_str();
    out.say(format!(
        "{GOOD}✓{GOOD:#} token {STRONG}{id}{STRONG:#} for {name}, {role}. It is shown this once: keep it in a safe place."
    ));
    Ok(())
}

async fn list(client: &Client, out: &Output) -> Result<(), Failure> {
    let tokens: Vec<TokenView> = client.get("/v1/tokens").await?;
    if out.json {
        out.json(&tokens);
        return Ok(());
    }
    if tokens.is_empty() {
        out.say("There are no tokens. `atoll token create NAME` makes one.");
        return Ok(());
    }
    let head = ["ID", "NAME", "ROLE", "STATE", "MADE", "LAST USED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(tokens.into_iter().map(|token| {
        let state = match token.revoked {
            Some(at) => format!("{BAD}revoked{BAD:#} {at}"),
            None => format!("{GOOD}valid{GOOD:#}"),
        };
        let role = token.role.as_str().to_owned();
        let made = token.created.to_string();
        let used = token.last_used.map_or("-".to_owned(), |at| at.to_string());
        vec![token.id, token.name, role, state, made, used]
    }));
    out.data(table(&rows));
    Ok(())
}

async fn revoke(client: &Client, id: &str, out: &Output) -> Result<(), Failure> {
    let url = format!("/v1/tokens/{}/revoke", escape(id));
    let token: TokenView = client.post(&url, &()).await?;
    if out.json {
        out.json(&token);
    } else {
        let TokenView { id, name, .. } = &token;
        out.say(format!(
            "{GOOD}✓{GOOD:#} token {id} of {name} is refused from now on"
        ));
    }
    Ok(())
}
