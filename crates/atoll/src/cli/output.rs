//! How the command line speaks: data to stdout, talk to stderr, colors only where they are seen.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::refusal::{Refusal, explained};
use super::{ColorWhen, Failure, coded};
use crate::admin::client::CallError;

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
    color: ColorWhen,
}

/// Good news.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Something to look at.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// Something failed.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Of less weight.
pub(super) const FAINT: Style = Style::new().dimmed();
/// Of more weight.
pub(super) const STRONG: Style = Style::new().bold();

impl Output {
    pub(super) fn new(json: bool, color: ColorWhen) -> Self {
        let choice = match color {
            ColorWhen::Auto => anstream::ColorChoice::Auto,
            ColorWhen::Always => anstream::ColorChoice::Always,
            ColorWhen::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        Self { json, color }
    }

    /// Prints data: one line.
    pub(super) fn data(&self, line: impl Display) {
        print_or_leave(|| writeln!(anstream::stdout().lock(), "{line}"));
    }

    /// Prints data as JSON.
    pub(super) fn json(&self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        print_or_leave(|| writeln!(std::io::stdout().lock(), "{text}"));
    }

    /// Prints data as JSON, on one line.
    pub(super) fn json_line(&self, value: &impl Serialize) {
        let text = serde_json::to_string(value).unwrap_or_default();
        print_or_leave(|| writeln!(std::io::stdout().lock(), "{text}"));
    }

    /// Says something to the person.
    pub(super) fn say(&self, line: impl Display) {
        // Nobody may be listening; that is no reason to stop.
        let _ = writeln!(anstream::stderr().lock(), "{line}");
    }

    /// Whether stderr shows colors.
    pub(super) fn colors(&self) -> bool {
        match self.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => self.is_live() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Whether stderr is a terminal, where a picture can move.
    pub(super) fn is_live(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Tells a failure, as data or as talk.
    pub(super) fn failure(&self, failure: &Failure) {
        if !self.json {
            self.say_failure(failure);
        } else if let Some(refusal) = Refusal::of(failure) {
            self.json_line(&refusal);
        }
    }

    /// Says a failure: with carets if it is about manifests, and with what to do.
    pub(super) fn say_failure(&self, failure: &Failure) {
        match failure {
            Failure::Told => {}
            Failure::Manifest(report) => {
                self.say(report.render(self.colors(), terminal_width()));
                self.error(report.summary(), None);
            }
            Failure::Failed(error) => {
                self.error(
                    format!("{error:#}"),
                    coded(error).map(|c| c.to_string()).as_deref(),
                );
            }
            Failure::Call(CallError::Refused(problem)) => {
                if let Some(drawing) = &problem.drawing {
                    self.say(drawing);
                    return self.error("the manifests have mistakes; nothing was changed", None);
                }
                self.error(&problem.detail, problem.code.as_deref());
            }
            Failure::Call(error) => self.error(error, None),
        }
    }

    fn error(&self, message: impl Display, code: Option<&str>) {
        self.say(format!("{BAD}error{BAD:#}: {message}"));
        if let Some(code) = code {
            self.say(format!("{FAINT}{}{FAINT:#}", explained(code)));
        }
    }
}

/// Whoever reads stdout may leave early (`| head`); then there is nothing more to do. Rust ignores
/// SIGPIPE, so the write fails instead of ending the program.
fn print_or_leave(write: impl FnOnce() -> std::io::Result<()>) {
    if write().is_err() {
        std::process::exit(0);
    }
}

/// Columns of the terminal, within reason.
pub(super) fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let asked = || {
        rustix::termios::tcgetwinsize(std::io::stderr())
            .ok()
            .map(|s| s.ws_col.into())
    };
    columns
        .or_else(asked)
        .filter(|columns| *columns > 0)
        .unwrap_or(100)
        .clamp(60, 120)
}

/// Rows with columns as wide as their widest cell. The first row is the head.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| width(cell))
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, wide) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(wide - width(cell) + 2));
        }
        let line = line.trim_end();
        if number == 0 {
            text.push_str(&format!("{FAINT}{line}{FAINT:#}"));
        } else {
            text.push_str(line);
        }
        if number + 1 < rows.len() {
            text.push('\n');
        }
    }
    text
}

/// The columns that a cell takes on the screen; styles take none.
fn width(cell: &str) -> usize {
    let mut columns = 0;
    let mut escaped = false;
    for letter in cell.chars() {
        match letter {
            '\u{1b}' => escaped = true,
            'm' if escaped => escaped = false,
            _ if escaped => {}
            _ => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_style() {
        let rows = vec![
            vec!["A".to_owned(), "B".to_owned()],
            vec![format!("{GOOD}long{GOOD:#}"), "x".to_owned()],
        ];
        let plain = anstream::adapter::strip_str(&table(&rows)).to_string();
        assert_eq!(plain, "A     B\nlong  x");
    }
}
