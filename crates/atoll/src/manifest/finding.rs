//! What is wrong in a manifest, where, and what to do: one [`Finding`] each, all in one [`Report`].

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use atoll_base::Code;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file that was read, by its path as a person would write it.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    /// The path as shown.
    pub(super) shown: String,
    pub(super) text: Arc<str>,
}

/// One mistake.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) code: Code,
    /// What is wrong, as a sentence without its end.
    pub(super) message: String,
    /// Where; none for what concerns no file.
    pub(super) place: Option<Place>,
    /// Words under the caret.
    pub(super) label: String,
    /// What to do.
    pub(super) help: String,
}

#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Arc<SourceFile>,
    pub(super) span: Range<usize>,
}

/// All that is wrong with an application's manifests.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub(super) findings: Vec<Finding>,
}

/// A finding as it crosses the admin API, and as `--json` prints it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Mistake {
    /// The code of its kind, for `atoll explain`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// The file, relative to the application's folder; absent for what concerns no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl Finding {
    /// Its line and column, from 1.
    fn position(&self) -> Option<(usize, usize)> {
        let place = self.place.as_ref()?;
        let before = place.source.text.get(..place.span.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Some((line, column))
    }

    fn key(&self) -> (Option<&std::path::Path>, usize) {
        let place = self.place.as_ref();
        (
            place.map(|p| p.source.path.as_path()),
            place.map_or(0, |p| p.span.start),
        )
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// How much is wrong.
    pub fn len(&self) -> usize {
        self.findings.len()
    }

    pub(super) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// In the order of files and lines.
    pub(super) fn sorted(mut self) -> Self {
        self.findings.sort_by(|a, b| a.key().cmp(&b.key()));
        self
    }

    /// As text with carets, for a terminal or for a file.
    pub fn render(&self, colors: bool, width: usize) -> String {
        let theme = if colors {
            GraphicalTheme::unicode()
        } else {
            plain_theme()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_context_lines(1)
            .with_links(false);
        let mut text = String::new();
        for finding in &self.findings {
            // Writing to a String does not fail.
            let _ = handler.render_report(&mut text, &Rendered::of(finding));
            text.push('\n');
        }
        text
    }

    /// What is wrong, without the drawing.
    pub fn mistakes(&self) -> Vec<Mistake> {
        self.findings.iter().map(Mistake::from).collect()
    }

    /// How much is wrong, in words.
    pub fn summary(&self) -> String {
        let mistakes = if self.len() == 1 {
            "mistake"
        } else {
            "mistakes"
        };
        format!("{} {mistakes} in the manifests", self.len())
    }
}

impl From<&Finding> for Mistake {
    fn from(finding: &Finding) -> Self {
        let place = finding.place.as_ref();
        let position = finding.position();
        Self {
            code: finding.code.to_string(),
            message: finding.message.clone(),
            help: finding.help.clone(),
            file: place.map(|place| place.source.shown.clone()),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            if let (Some(place), Some((line, column))) = (&finding.place, finding.position()) {
                write!(f, "{}:{line}:{column}: ", place.source.shown)?;
            }
            writeln!(
                f,
                "{} ({}); {}",
                finding.message, finding.code, finding.help
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Without colors, but with the same drawing.
fn plain_theme() -> GraphicalTheme {
    GraphicalTheme::unicode_nocolor()
}

/// A finding in the form that miette draws.
#[derive(Debug)]
struct Rendered {
    finding: Finding,
    source: Option<NamedSource<Arc<str>>>,
}

impl Rendered {
    fn of(finding: &Finding) -> Self {
        let source = finding
            .place
            .as_ref()
            .map(|place| NamedSource::new(&place.source.shown, Arc::clone(&place.source.text)));
        Self {
            finding: finding.clone(),
            source,
        }
    }
}

impl fmt::Display for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for Rendered {}

impl Diagnostic for Rendered {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.finding.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.finding.help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source
            .as_ref()
            .map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.finding.place.as_ref()?.span.clone();
        let label = LabeledSpan::at(span, &self.finding.label);
        Some(Box::new(std::iter::once(label)))
    }
}
