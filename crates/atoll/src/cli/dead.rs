//! `atoll events dead`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use atoll_base::ServiceName;
use clap::{Args, Subcommand};

use super::events::{plain, stdin};
use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN, table};
use super::{Client, Failure};
use crate::admin::client::escape;
use crate::admin::dead::{
    DropOrder, Edit, LetterView, LettersPage, LettersQuery, RedriveOrder, StepView,
};
use crate::admin::events::Text;

#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// Show what died of what.
    List {
        #[command(flatten)]
        which: Which,
        /// Show each letter, not only what they died of.
        #[arg(short, long)]
        all: bool,
    },
    /// Show one letter: payload, attempts, the last answer, the trace.
    Show {
        /// SERVICE/TOPIC/NUMBER, as `list` shows it.
        id: String,
    },
    /// Change the value of a copy, which is what is sent at the next try. Without --value, $EDITOR
    /// opens.
    Edit {
        /// SERVICE/TOPIC/NUMBER.
        id: String,
        /// A file with the new value; "-": stdin.
        #[arg(long, value_name = "FILE")]
        value: Option<PathBuf>,
    },
    /// Try letters again: to the subscription that gave them up, and nobody else. Stops by itself
    /// when they fail again.
    Redrive {
        /// SERVICE/TOPIC/NUMBER; may be several.
        #[arg(required_unless_present_any = ["every", "service", "topic", "group"])]
        ids: Vec<String>,
        #[command(flatten)]
        which: Which,
        /// All open letters.
        #[arg(long = "all", conflicts_with = "ids")]
        every: bool,
        /// Letters in a second, at most.
        #[arg(long, default_value_t = 10.0, value_name = "COUNT")]
        rate: f64,
        /// Stop after so many failures in a row.
        #[arg(long, default_value_t = 3, value_name = "COUNT")]
        stop_after: u32,
    },
    /// Put letters aside for good, without another try.
    Drop {
        /// SERVICE/TOPIC/NUMBER; may be several.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// Those of this service.
    #[arg(long)]
    service: Option<ServiceName>,
    /// Those that came from this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Those that died of this: a group, as `list` shows it.
    #[arg(long)]
    group: Option<String>,
}

pub(super) async fn run(client: &Client, what: Dead, out: &Output) -> Result<(), Failure> {
    match what {
        Dead::List { which, all } => list(client, which, all, out).await,
        Dead::Show { id } => {
            let letter: LetterView = client.get(&path(&id)?).await?;
            show(&letter, out);
            Ok(())
        }
        Dead::Edit { id, value } => edit(client, &id, value.as_deref(), out).await,
        Dead::Redrive {
            ids,
            which,
            every,
            rate,
            stop_after,
        } => {
            let order = RedriveOrder {
                ids,
                all: every,
                which: which.query(),
                rate,
                stop_after,
            };
            redrive(client, &order, out).await
        }
        Dead::Drop { ids } => {
            let order = DropOrder { ids };
            client.order("/v1/dead/drop", &order).await?;
            let count = order.ids.len();
            out.say(format!(
                "{GOOD}✓{GOOD:#} {}",
                counted(count, "is", "are", "put aside")
            ));
            Ok(())
        }
    }
}

async fn list(client: &Client, which: Which, all: bool, out: &Output) -> Result<(), Failure> {
    let LettersQuery {
        service,
        topic,
        group,
    } = which.query();
    let wanted = [("service", service), ("topic", topic), ("group", group)];
    let wanted = wanted
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let wanted: Vec<_> = wanted
        .map(|(name, value)| format!("{name}={}", escape(&value)))
        .collect();
    let wanted = wanted.join("&");
    let (mut letters, mut next) = (Vec::new(), Some(String::new()));
    while let Some(after) = next {
        let after = if after.is_empty() {
            after
        } else {
            format!("&after={}", escape(&after))
        };
        let page: LettersPage = client.get(&format!("/v1/dead?{wanted}{after}")).await?;
        letters.extend(page.letters);
        next = page.next;
    }
    if out.json {
        out.json(&letters);
        return Ok(());
    }
    if letters.is_empty() {
        out.say("No dead letters.");
        return Ok(());
    }
    let rows = if all {
        each(&letters)
    } else {
        grouped(&letters)
    };
    out.data(table(&rows));
    if !all {
        out.say(format!(
            "{FAINT}`atoll events dead list --all` shows each; `show ID` all about one{FAINT:#}"
        ));
    }
    Ok(())
}

fn each(letters: &[LetterView]) -> Vec<Vec<String>> {
    let head = ["ID", "DIED", "KEY", "ATTEMPTS", "DEATHS", "REASON"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(letters.iter().map(|letter| {
        let key = letter.key.as_ref().map_or("-".to_owned(), plain);
        let id = if letter.edited {
            format!("{} (edited)", letter.id)
        } else {
            letter.id.clone()
        };
        vec![
            id,
            letter.died.to_string(),
            key,
            letter.attempts.to_string(),
            letter.deaths.to_string(),
            letter.reason.clone(),
        ]
    }));
    rows
}

fn grouped(letters: &[LetterView]) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&LetterView>> = BTreeMap::new();
    for letter in letters {
        let key = (
            letter.service.as_str(),
            letter.topic.as_str(),
            letter.group.as_str(),
        );
        groups.entry(key).or_default().push(letter);
    }
    let head = ["GROUP", "SERVICE", "TOPIC", "LETTERS", "LAST", "REASON"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(
        groups
            .into_iter()
            .filter_map(|((service, topic, group), letters)| {
                let last = letters.last()?;
                Some(vec![
                    group.to_owned(),
                    service.to_owned(),
                    topic.to_owned(),
                    letters.len().to_string(),
                    last.id.clone(),
                    last.reason.clone(),
                ])
            }),
    );
    rows
}

fn show(letter: &LetterView, out: &Output) {
    if out.json {
        out.json(letter);
        return;
    }
    let LetterView {
        id,
        service,
        path,
        died,
        attempts,
        reason,
        trace,
        ..
    } = letter;
    out.data(format!("{STRONG}{id}{STRONG:#}  group {}", letter.group));
    let often = match attempts {
        1 => "once".to_owned(),
        many => format!("{many} times"),
    };
    out.data(format!(
        "  {service} was sent it at {path} {often} until {died}"
    ));
    if letter.deaths > 1 {
        let deaths = letter.deaths;
        out.data(format!(
            "  its record died {deaths} times; this was the last"
        ));
    }
    out.data(format!("  {BAD}{reason}{BAD:#}"));
    if let Some(answer) = letter.answer.as_deref().filter(|answer| !answer.is_empty()) {
        out.data(format!("  its answer: {answer}"));
    }
    out.data(format!(
        "  record {} of partition {} of {}",
        letter.offset, letter.partition, letter.topic
    ));
    out.data(format!(
        "  trace {trace}   {FAINT}atoll logs --trace {trace}{FAINT:#}"
    ));
    for (name, value) in &letter.headers {
        let value = value.as_ref().map_or(String::new(), plain);
        out.data(format!("  {FAINT}{name}: {value}{FAINT:#}"));
    }
    let edited = if letter.edited { " (edited)" } else { "" };
    let key = letter.key.as_ref().map_or("-".to_owned(), plain);
    out.data(format!("  key {key}, value{edited}:"));
    out.data(letter.value.as_ref().map_or(String::new(), plain));
}

async fn edit(client: &Client, id: &str, file: Option<&Path>, out: &Output) -> Result<(), Failure> {
    let url = path(id)?;
    let value = match file {
        Some(file) if file == Path::new("-") => stdin()?,
        Some(file) => {
            let read = std::fs::read(file);
            read.with_context(|| format!("{} cannot be read", file.display()))?
        }
        None => {
            let letter: LetterView = client.get(&url).await?;
            let Some(changed) = in_editor(&letter)? else {
                out.say("nothing was changed");
                return Ok(());
            };
            changed
        }
    };
    let edit = Edit {
        value: Text::of(&value.into()),
    };
    let letter: LetterView = client.post(&format!("{url}/edit"), &edit).await?;
    if out.json {
        out.json(&letter);
    } else {
        out.say(format!(
            "{GOOD}✓{GOOD:#} a copy of {id} is edited; `atoll events dead redrive {id}` sends it"
        ));
    }
    Ok(())
}

/// The value as somebody leaves it in their editor; none if they did not change it.
fn in_editor(letter: &LetterView) -> Result<Option<Vec<u8>>, anyhow::Error> {
    let Some(Text::Plain(before)) = &letter.value else {
        anyhow::bail!("the value is no text; write the new one to a file and use --value FILE");
    };
    let editor = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR"));
    let editor = editor.context("no editor is set; set EDITOR, or use --value FILE")?;
    let folder = std::env::temp_dir().join(format!("atoll-edit-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("value.json");
    std::fs::write(&file, before)?;
    // As git does it: the variable may have arguments.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg(&editor)
        .arg(&file)
        .status();
    let after = std::fs::read(&file);
    let _ = std::fs::remove_dir_all(&folder);
    let status = status.with_context(|| format!("{editor} cannot be started"))?;
    anyhow::ensure!(
        status.success(),
        "{editor} ended with {status}; nothing was changed"
    );
    let after = after?;
    Ok((after != before.as_bytes()).then_some(after))
}

async fn redrive(client: &Client, order: &RedriveOrder, out: &Output) -> Result<(), Failure> {
    let mut lines = client.post_lines("/v1/dead/redrive", order).await?;
    let (mut taken, mut failed, mut stopped) = (0, 0, None);
    while let Some(line) = lines.next().await? {
        if out.json {
            out.data(String::from_utf8_lossy(&line));
        }
        let step: StepView = serde_json::from_slice(&line).map_err(anyhow::Error::from)?;
        let told = match step {
            StepView::Taken { id } => {
                taken += 1;
                format!("{GOOD}✓{GOOD:#} {id}")
            }
            StepView::Failed { id, reason } => {
                failed += 1;
                format!("{BAD}✗{BAD:#} {id}: {reason}")
            }
            StepView::Stopped { left } => {
                stopped = Some(left);
                continue;
            }
        };
        if !out.json {
            out.say(told);
        }
    }
    if taken + failed == 0 {
        out.say("No dead letters.");
        return Ok(());
    }
    out.say(counted(taken, "was", "were", "taken"));
    if let Some(left) = stopped {
        let tried = format!("{WARN}stopped{WARN:#}: {failed} failed again");
        out.say(format!(
            "{tried}; {}",
            counted(left, "was", "were", "not tried")
        ));
    }
    if failed > 0 {
        Err(Failure::Told)
    } else {
        Ok(())
    }
}

impl Which {
    fn query(self) -> LettersQuery {
        LettersQuery {
            service: self.service.map(|service| service.to_string()),
            topic: self.topic,
            group: self.group,
        }
    }
}

fn counted(count: usize, one: &str, many: &str, what: &str) -> String {
    match count {
        1 => format!("1 letter {one} {what}"),
        count => format!("{count} letters {many} {what}"),
    }
}

/// Where the API has it.
fn path(id: &str) -> Result<String, anyhow::Error> {
    let id: atoll_events::dead::LetterId =
        id.parse().map_err(|error: String| anyhow::anyhow!(error))?;
    Ok(format!(
        "/v1/dead/{}/{}/{}",
        id.service,
        escape(&id.topic),
        id.number
    ))
}
