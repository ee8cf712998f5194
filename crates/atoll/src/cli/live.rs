//! The picture while an application starts: each service, where it stands, how long it took.
//!
//! On a terminal the lines move; elsewhere each change is a line of its own. Both look at the admin
//! API, so that `up` and `up --detach` show the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use atoll_base::{Code, Coded, HumanDuration, clock};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN};
use super::refusal::ErrorView;
use super::{Client, Failure};
use crate::node::{NodeView, ServiceState, ServiceView};

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(80);

/// Lines of output shown for a service that failed.
const LAST_LINES_SHOWN: usize = 8;

/// How it ended.
pub(super) struct Ended {
    pub(super) all_ready: bool,
}

/// How long somebody waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) span: Duration,
    until: Instant,
}

/// It did not end in time: a build takes long, or a service has a long `[deploy] timeout`.
#[derive(Debug, thiserror::Error)]
#[error("not everything has started within {}; the node runs on, `atoll ps` shows how it gets on", HumanDuration(*.0))]
pub(super) struct Late(pub(super) Duration);

impl Coded for Late {
    fn code(&self) -> Code {
        Code("ATL0601")
    }
}

impl Patience {
    pub(super) fn from_now(span: Duration) -> Self {
        let until = clock::monotonic() + span;
        Self { span, until }
    }

    pub(super) fn is_over(&self) -> bool {
        clock::monotonic() >= self.until
    }
}

/// Shows the start until every service is ready or has failed, or until patience is over.
pub(super) async fn show(
    client: &Client,
    patience: Option<Patience>,
    out: &Output,
) -> Result<Ended, Failure> {
    let mut picture = Picture::new(out);
    loop {
        let services: Vec<ServiceView> = client.get("/v1/services").await?;
        picture.draw(&services);
        let late = patience.filter(Patience::is_over);
        if late.is_some() || is_settled(&services) {
            picture.finish();
            let late = late.filter(|_| !is_settled(&services));
            return conclude(client, &services, late.map(|late| Late(late.span)), out).await;
        }
        tokio::time::sleep(FRAME).await;
    }
}

/// Whether nothing more will happen by itself: every service is where it will be, or waits for one
/// that has failed.
fn is_settled(services: &[ServiceView]) -> bool {
    let failed = services
        .iter()
        .any(|service| service.state == ServiceState::Failed);
    !services.is_empty()
        && services.iter().all(|service| {
            let in_vain = failed && service.state == ServiceState::Waiting;
            service.deployment.is_none() || in_vain
        })
}

struct Picture<'a> {
    out: &'a Output,
    bars: Option<(MultiProgress, HashMap<String, ProgressBar>)>,
    last: HashMap<String, ServiceState>,
}

impl<'a> Picture<'a> {
    fn new(out: &'a Output) -> Self {
        let live = out.is_live() && !out.json;
        Self {
            out,
            bars: live.then(|| (MultiProgress::new(), HashMap::new())),
            last: HashMap::new(),
        }
    }

    fn draw(&mut self, services: &[ServiceView]) {
        let width = services
            .iter()
            .map(|service| service.name.as_str().len())
            .max()
            .unwrap_or(0);
        for service in services {
            let name = service.name.as_str();
            if let Some((all, bars)) = &mut self.bars {
                let bar = bars.entry(name.to_owned()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::new_spinner());
                    if let Ok(style) = ProgressStyle::with_template("{msg}") {
                        bar.set_style(style);
                    }
                    bar
                });
                bar.set_message(line(service, width));
            } else if self.last.insert(name.to_owned(), service.state) != Some(service.state) {
                self.out.say(line(service, width));
            }
        }
    }

    /// The lines stay on the screen.
    fn finish(&mut self) {
        for bar in self.bars.iter().flat_map(|(_, bars)| bars.values()) {
            bar.abandon();
        }
    }
}

fn line(service: &ServiceView, width: usize) -> String {
    let mark = match service.state {
        ServiceState::Ready => format!("{GOOD}✓{GOOD:#}"),
        ServiceState::Building | ServiceState::Starting => format!("{WARN}◌{WARN:#}"),
        ServiceState::Waiting => format!("{FAINT}◌{FAINT:#}"),
        ServiceState::Degraded => format!("{WARN}!{WARN:#}"),
        ServiceState::Failed => format!("{BAD}✗{BAD:#}"),
    };
    let word = service.state.word();
    let secs = service.deployment_ms.unwrap_or_default() as f64 / 1e3;
    let count = format!("{}/{}", service.serving, service.wanted);
    let name = service.name.as_str();
    let revision = service
        .revision
        .map(|revision| revision.to_string())
        .unwrap_or_default();
    format!("{mark} {name:<width$}  {word:<9} {count:<5} {FAINT}{revision:<4} {secs:.1}s{FAINT:#}")
}

/// What `--json` prints.
#[derive(Serialize)]
struct UpJson<'a> {
    node: &'a NodeView,
    services: &'a [ServiceView],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
}

async fn conclude(
    client: &Client,
    services: &[ServiceView],
    late: Option<Late>,
    out: &Output,
) -> Result<Ended, Failure> {
    let node: NodeView = client.get("/v1/node").await?;
    let ill: Vec<&ServiceView> = services
        .iter()
        .filter(|service| service.state != ServiceState::Ready)
        .collect();
    for service in &ill {
        tell_failure(service, out);
    }
    for warning in &node.warnings {
        out.say(format!("{WARN}!{WARN:#} {warning}"));
    }
    let name = &node.application;
    let mut error = None;
    if ill.is_empty() {
        out.say(format!("\n{GOOD}✓{GOOD:#} {STRONG}{name}{STRONG:#} is up"));
    } else {
        let names: Vec<&str> = ill.iter().map(|service| service.name.as_str()).collect();
        let names = names.join(", ");
        out.say(format!(
            "\n{BAD}✗{BAD:#} {STRONG}{name}{STRONG:#} is up without {names}"
        ));
        let message = format!("{name} is up without {names}");
        error = Some(ErrorView::new(None, message));
    }
    if let Some(late) = late {
        let view = ErrorView::new(Some(late.code().to_string()), late.to_string());
        let help = view.help.as_deref().unwrap_or_default();
        out.say(format!("{} {FAINT}({help}){FAINT:#}", view.message));
        error = Some(view);
    }
    if out.json {
        out.json(&UpJson {
            node: &node,
            services,
            error,
        });
    } else {
        out.data(&node.edge);
        if let Some(console) = &node.console {
            out.say(format!(
                "{FAINT}console {console}; `atoll console` logs a browser in{FAINT:#}"
            ));
        }
    }
    Ok(Ended {
        all_ready: ill.is_empty(),
    })
}

fn tell_failure(service: &ServiceView, out: &Output) {
    let still = format!("still {}", service.state.word());
    let reason = service.reason.as_deref().unwrap_or(&still);
    out.say(format!("\n{BAD}✗ {}{BAD:#}: {reason}", service.name));
    let ill = service
        .instances
        .iter()
        .find(|instance| !instance.last_lines.is_empty());
    let lines = ill
        .map(|instance| instance.last_lines.as_slice())
        .unwrap_or_default();
    let shown = lines.len().saturating_sub(LAST_LINES_SHOWN);
    for last in &lines[shown..] {
        out.say(format!("  {FAINT}│ {last}{FAINT:#}"));
    }
    out.say(format!("  `atoll logs {}` tells more", service.name));
}
