//! What `--json` prints when a command did not do what it was asked: one line, one document, the
//! same for every command.
//!
//! `error` is there exactly if the exit code is not 0. Mistakes in manifests stand beside it, under
//! the name that they have when there are none (`atoll check`). A shape per command was refused: a
//! script asks for `error` first and should not need to know which command it ran.

use serde::Serialize;

use super::{Failure, coded};
use crate::admin::client::CallError;
use crate::manifest::Mistake;

/// What may be done about a failure that has a page of its own.
pub(super) fn explained(code: &str) -> String {
    format!("`atoll explain {code}` tells more")
}

/// The whole document.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) error: ErrorView,
    /// What is wrong in the manifests, if it is that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<Mistake>,
}

/// What went wrong.
#[derive(Debug, Serialize)]
pub(super) struct ErrorView {
    /// The code under which `atoll explain` tells more; null where there is none.
    pub(super) code: Option<String>,
    /// What is wrong, as text mode says it.
    pub(super) message: String,
    /// What to do; null where the message says it all.
    pub(super) help: Option<String>,
}

/// The code of a report about manifests as a whole; each mistake has its own.
const MANIFESTS: &str = "ATL0100";

impl ErrorView {
    /// An error that may have a page.
    pub(super) fn new(code: Option<String>, message: impl Into<String>) -> Self {
        let help = code.as_deref().map(explained);
        Self {
            code,
            message: message.into(),
            help,
        }
    }
}

impl Refusal {
    /// What is to be printed for a failure; none if that was done already.
    pub(super) fn of(failure: &Failure) -> Option<Self> {
        let (error, mistakes) = match failure {
            Failure::Told => return None,
            Failure::Manifest(report) => (
                ErrorView::new(Some(MANIFESTS.to_owned()), report.summary()),
                report.mistakes(),
            ),
            Failure::Failed(error) => {
                let code = coded(error).map(|code| code.to_string());
                (ErrorView::new(code, format!("{error:#}")), Vec::new())
            }
            Failure::Call(CallError::Refused(problem)) => (
                ErrorView::new(problem.code.clone(), problem.detail.trim_end()),
                problem.mistakes.to_vec(),
            ),
            Failure::Call(error) => {
                let mut view = ErrorView::new(None, error.to_string());
                if let CallError::NotRunning(_) = error {
                    view.help = Some("start it with `atoll up`".to_owned());
                }
                (view, Vec::new())
            }
        };
        Some(Self { error, mistakes })
    }

    /// A command line that cannot be understood.
    pub(super) fn of_usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let (message, help) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.trim_start_matches("error: ").trim_end();
        let help = Some(help.trim()).filter(|help| !help.is_empty());
        Self {
            error: ErrorView {
                code: None,
                message: message.to_owned(),
                help: help.map(str::to_owned),
            },
            mistakes: Vec::new(),
        }
    }
}
