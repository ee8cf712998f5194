//! `atoll init` and `atoll new service`: starting points that run as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use atoll_base::ServiceName;
use clap::ValueEnum;
use serde::Serialize;

use super::Failure;
use super::output::{FAINT, GOOD, Output, WARN};
use crate::manifest::APPLICATION_FILE;

/// The languages that have a starting point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// With the small HTTP server tiny_http; needs cargo.
    Rust,
    /// Standard library only; needs python3.
    Python,
    /// Standard library only; needs node.
    Node,
}

type Template = &'static [(&'static str, &'static str)];

const APPLICATION: &str = include_str!("../../templates/atoll.toml");
const PYTHON: Template = &[
    (
        "service.toml",
        include_str!("../../templates/python/service.toml"),
    ),
    ("main.py", include_str!("../../templates/python/main.py")),
    (
        "test_main.py",
        include_str!("../../templates/python/test_main.py"),
    ),
];
const NODE: Template = &[
    (
        "service.toml",
        include_str!("../../templates/node/service.toml"),
    ),
    ("main.mjs", include_str!("../../templates/node/main.mjs")),
    (
        "main.test.mjs",
        include_str!("../../templates/node/main.test.mjs"),
    ),
];
const RUST: Template = &[
    (
        "service.toml",
        include_str!("../../templates/rust/service.toml"),
    ),
    (
        "Cargo.toml",
        include_str!("../../templates/rust/Cargo.toml.template"),
    ),
    (
        "src/main.rs",
        include_str!("../../templates/rust/src/main.rs"),
    ),
];

/// What `atoll init --json` prints.
#[derive(Serialize)]
struct Begun {
    application: String,
    /// Absolute, as all paths here.
    dir: PathBuf,
    written: Vec<PathBuf>,
}

/// What `atoll new service --json` prints.
#[derive(Serialize)]
struct Added<'a> {
    service: &'a str,
    dir: PathBuf,
    written: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// The name in the templates.
const PLACEHOLDER: &str = "SERVICE_NAME";

pub(super) fn init(dir: &Path, out: &Output) -> Result<(), Failure> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let path = dir.join(APPLICATION_FILE);
    let name = dir
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let name = ServiceName::new(&name.to_lowercase().replace(['_', ' ', '.'], "-"));
    let name = name.map_or_else(|_| "application".to_owned(), String::from);
    write_new(&path, &APPLICATION.replace("APPLICATION_NAME", &name))?;
    let ignored = ignore_state(&dir, out)?;
    out.say(format!("{GOOD}✓{GOOD:#} wrote {}", path.display()));
    if out.json {
        out.json(&Begun {
            application: name,
            dir,
            written: std::iter::once(path).chain(ignored).collect(),
        });
    }
    out.say(format!(
        "{FAINT}next: atoll new service hello --lang python{FAINT:#}"
    ));
    Ok(())
}

pub(super) fn service(
    dir: &Path,
    name: &ServiceName,
    language: Language,
    out: &Output,
) -> Result<(), Failure> {
    let application = dir.join(APPLICATION_FILE);
    if !application.is_file() {
        let message = "there is no atoll.toml here; begin with `atoll init`";
        return Err(anyhow::anyhow!(message).into());
    }
    let home = dir.join("services").join(name.as_str());
    if home.exists() {
        return Err(anyhow::anyhow!("{} exists already", home.display()).into());
    }
    let template = match language {
        Language::Rust => RUST,
        Language::Python => PYTHON,
        Language::Node => NODE,
    };
    let mut written = Vec::with_capacity(template.len());
    for (file, text) in template {
        let path = home.join(file);
        write_new(&path, &text.replace(PLACEHOLDER, name.as_str()))?;
        written.push(path);
    }
    out.say(format!("{GOOD}✓{GOOD:#} wrote {}", home.display()));
    let warnings: Vec<String> = no_member(&application).into_iter().collect();
    for warning in &warnings {
        out.say(format!("{WARN}!{WARN:#} {warning}"));
    }
    if out.json {
        out.json(&Added {
            service: name.as_str(),
            dir: home,
            written,
            warnings,
        });
    }
    out.say(format!(
        "{FAINT}next: atoll up, then curl http://127.0.0.1:8080/{name}{FAINT:#}"
    ));
    Ok(())
}

/// What to say if no pattern of `members` names the folder, so that it would be left out.
fn no_member(application: &Path) -> Option<String> {
    let text = fs::read_to_string(application).unwrap_or_default();
    let named = text.contains("services/");
    (!named).then(|| "add \"services/*\" to `members` in atoll.toml".to_owned())
}

/// The state of a node is no source. Tells what was written.
fn ignore_state(dir: &Path, out: &Output) -> Result<Option<PathBuf>, Failure> {
    let path = dir.join(".gitignore");
    let text = fs::read_to_string(&path).unwrap_or_default();
    if text
        .lines()
        .any(|line| line.trim_end_matches('/') == ".atoll")
    {
        return Ok(None);
    }
    let break_before = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let written = fs::write(&path, format!("{text}{break_before}.atoll/\n"));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    out.say(format!("{GOOD}✓{GOOD:#} .gitignore leaves .atoll/ out"));
    Ok(Some(path))
}

/// Writes a file that must not be there yet: nothing of a person's is ever overwritten.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let parent: PathBuf = path.parent().map(Path::to_owned).unwrap_or_default();
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| {
            format!(
                "{} cannot be written; nothing is overwritten",
                path.display()
            )
        })?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
