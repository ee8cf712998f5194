//! How the command line speaks: data to stdout, talk to stderr, colors only where they are seen.

use std::borrow::Cow;
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
    /// Whether the process goes on when nobody takes its data.
    stays: bool,
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

/// Text of somebody else, as a terminal may show it: what would command the terminal is shown as a sign.
pub(super) fn inert(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\t';
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let sign = |c: char| match u32::from(c) {
        code @ 0..0x20 if c != '\t' => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        0x80..0xa0 => '\u{fffd}',
        _ => c,
    };
    Cow::Owned(text.chars().map(sign).collect())
}

impl Output {
    pub(super) fn new(json: bool, color: ColorWhen) -> Self {
        let choice = match color {
            ColorWhen::Auto => anstream::ColorChoice::Auto,
            ColorWhen::Always => anstream::ColorChoice::Always,
            ColorWhen::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        Self {
            json,
            color,
            stays: false,
        }
    }

    /// For a process that does more than print: it goes on when nobody reads what it says, and when the
    /// file that takes it is full.
    pub(super) fn that_stays(self) -> Self {
        Self {
            stays: true,
            ..self
        }
    }

    /// Prints data: one line.
    pub(super) fn data(&self, line: impl Display) {
        self.print(|| writeln!(anstream::stdout().lock(), "{line}"));
    }

    /// Prints data as JSON.
    pub(super) fn json(&self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.print(|| writeln!(std::io::stdout().lock(), "{text}"));
    }

    /// Prints data as JSON, on one line.
    pub(super) fn json_line(&self, value: &impl Serialize) {
        let text = serde_json::to_string(value).unwrap_or_default();
        self.print(|| writeln!(std::io::stdout().lock(), "{text}"));
    }

    /// Nobody reads any more, `atoll logs | head` for one: then there is no reason to go on, unless there
    /// is more to do than to print.
    fn print(&self, write: impl FnOnce() -> std::io::Result<()>) {
        if write().is_err() && !self.stays {
            std::process::exit(0);
        }
    }

    /// Says something to the person.
    pub(super) fn say(&self, line: impl Display) {
        // Nobody may be listening; that is no reason to stop.
        let _ = writeln!(anstream::stderr().lock(), "{line}");
    }

    /// Says how the list goes on.
    pub(super) fn more(&self, before: impl Display) {
        self.say(format!(
            "{FAINT}`--before {before}` shows older ones{FAINT:#}"
        ));
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

/// A time for a person.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.2} s", micros as f64 / 1e6),
        _ => format!("{:.0} min", micros as f64 / 6e7),
    }
}

/// How values went, from nothing to the greatest of them; a gap where there is none.
pub(super) fn curve(values: &[Option<f64>]) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let step = |value: f64| {
        let share = if most > 0.0 {
            value.max(0.0) / most
        } else {
            0.0
        };
        // It is between 0 and 7.
        STEPS[(share * 7.0).round() as usize]
    };
    values.iter().map(|value| value.map_or(' ', step)).collect()
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
    fn text_of_others_does_not_command_the_terminal() {
        let hostile = "\u{1b}[31mred\u{7}\r\n\tx\u{9b}2J\u{7f}";
        let shown = inert(hostile);
        assert_eq!(
            shown,
            "\u{241b}[31mred\u{2407}\u{240d}\u{240a}\tx\u{fffd}2J\u{2421}"
        );
        assert_eq!(inert("ä plain"), "ä plain");
    }

    #[test]
    fn a_curve_reaches_from_nothing_to_the_greatest() {
        let values = [Some(0.0), None, Some(5.0), Some(10.0), Some(-1.0)];
        assert_eq!(curve(&values), "▁ ▅█▁");
        assert_eq!(curve(&[Some(0.0); 3]), "▁▁▁");
    }

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
