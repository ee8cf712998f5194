//! Reads the files of an application.

use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use atoll_base::Code;
use globset::Glob;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::{self, Member};
use super::finding::{Finding, Place, Report, SourceFile};
use super::structure::Walk;
use super::{
    APPLICATION_FILE, Application, ApplicationFile, Named, SERVICE_FILE, ServiceFile,
    ServiceManifest, application_schema, service_schema,
};

const UNREADABLE: Code = Code("ATL0101");
const WRONG_VALUE: Code = Code("ATL0104");
const NO_MEMBERS: Code = Code("ATL0105");

/// The largest file that a manifest may name.
const NAMED_BYTES_MAX: u64 = 1 << 20;

/// A sound file that can still tell where everything stands.
pub(super) struct Document {
    pub(super) source: Arc<SourceFile>,
}

/// One step on the way to a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Document {
    /// A file whose text is known.
    pub(super) fn new(path: PathBuf, dir: &Path, text: Arc<str>) -> Self {
        let shown = path
            .strip_prefix(dir)
            .unwrap_or(&path)
            .display()
            .to_string();
        Self {
            source: Arc::new(SourceFile { path, shown, text }),
        }
    }

    /// Where the value at the end of `path` stands; the nearest place on the way if it is absent.
    ///
    /// Parses the file again: it is asked only when something is wrong.
    pub(super) fn place(&self, path: &[Step<'_>]) -> Place {
        let (parsed, _) = DeTable::parse_recoverable(&self.source.text);
        let mut span = first_line(&self.source.text);
        let mut table = Some(parsed.get_ref());
        let mut value: Option<&Spanned<DeValue<'_>>> = None;
        for step in path {
            let next = match step {
                Step::Key(name) => table.and_then(|table| table.get(*name)),
                Step::Index(index) => value
                    .and_then(|v| v.get_ref().as_array())
                    .and_then(|array| array.get(*index)),
            };
            let Some(next) = next else { break };
            span = next.span();
            table = next.get_ref().as_table();
            value = Some(next);
        }
        Place {
            source: Arc::clone(&self.source),
            span,
        }
    }
}

/// Reads the application in `dir` and checks everything that its files tell.
///
/// # Errors
/// All mistakes of all files.
pub fn load(dir: &Path) -> Result<Application, Report> {
    load_with(dir, None)
}

/// As [`load`], but with the service in the folder `instead`, in place of the member that has the
/// same name.
///
/// # Errors
/// All mistakes of all files.
pub fn load_with(dir: &Path, instead: Option<&Path>) -> Result<Application, Report> {
    let mut report = Report::default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let application = read_application(&dir, &mut report);
    let Some((document, file)) = application else {
        return Err(report.sorted());
    };
    let named = named(
        &dir,
        file.topics.values().filter_map(|own| own.schema.as_ref()),
    );
    let folders = member_folders(&dir, &document, &file, &mut report);
    let mut members = Vec::new();
    let mut unread = Vec::new();
    for folder in &folders {
        match read_member(&dir, folder, &mut report) {
            Some(member) => members.push(member),
            None => unread.push(name_of_unread(folder)),
        }
    }
    if let Some(folder) = instead {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        if let Some(replacement) = read_member(&dir, &folder, &mut report) {
            members.retain(|member| member.file.name != replacement.file.name);
            members.push(replacement);
        }
    }
    let own = (&document, &file, &named);
    check::application(own, &members, &unread, &mut report);
    finish(dir, (file, named), members, report)
}

/// Reads one service anew, from the folder `dir`, and checks it against the rest of `application`
/// as that was when it was last read.
///
/// # Errors
/// The mistakes of this service, and those of how it fits with the others.
pub fn reload(application: Application, dir: &Path) -> Result<Application, Report> {
    let mut report = Report::default();
    let home = application.dir.clone();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let Some(new) = read_member(&home, &dir, &mut report) else {
        return Err(report.sorted());
    };
    let path = home.join(APPLICATION_FILE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let document = Document::new(path, &home, text.into());
    let others = application.services.into_values();
    let name = new.file.name.clone();
    let others = others
        .filter(|other| other.file.name != name)
        .map(|other| Member {
            document: Document::new(
                other.dir.join(SERVICE_FILE),
                &home,
                other.text.as_str().into(),
            ),
            dir: other.dir,
            file: other.file,
            named: other.named,
        });
    let members: Vec<Member> = others.chain([new]).collect();
    let own = (&document, &application.file, &application.named);
    check::application(own, &members, &[], &mut report);
    finish(home, (application.file, application.named), members, report)
}

/// The application, if nothing is wrong with it.
fn finish(
    dir: PathBuf,
    (file, named): (ApplicationFile, Named),
    members: Vec<Member>,
    report: Report,
) -> Result<Application, Report> {
    if !report.is_empty() {
        return Err(report.sorted());
    }
    let services = members.into_iter().map(
        |Member {
             dir,
             document,
             file,
             named,
         }| {
            let manifest = ServiceManifest {
                dir,
                text: document.source.text.to_string(),
                file,
                named,
            };
            (manifest.file.name.clone(), manifest)
        },
    );
    Ok(Application {
        dir,
        named,
        file,
        services: services.collect(),
    })
}

/// Reads the manifest of a revision, which was sound when the revision was made.
///
/// # Errors
/// A newer Atoll may have made it, or an older one with other keys.
pub fn parse_stored(text: &str) -> Result<ServiceFile, toml::de::Error> {
    toml::from_str(text)
}

fn read_application(dir: &Path, report: &mut Report) -> Option<(Document, ApplicationFile)> {
    let path = dir.join(APPLICATION_FILE);
    if !path.is_file() {
        report.push(Finding {
            code: UNREADABLE,
            message: format!("there is no {APPLICATION_FILE} in {}", dir.display()),
            place: None,
            label: String::new(),
            help:
                "go to the application's folder, name it (-C DIR), or begin one with `atoll init`"
                    .to_owned(),
        });
        return None;
    }
    read(dir, path, application_schema().as_value(), report)
}

/// The name of a service whose file has mistakes: what it says all the same, else its folder's.
fn name_of_unread(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join(SERVICE_FILE)).unwrap_or_default();
    let (parsed, _) = DeTable::parse_recoverable(&text);
    let told = parsed
        .get_ref()
        .get("name")
        .and_then(|name| name.get_ref().as_str());
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
    told.map_or_else(|| folder_name.into_owned(), str::to_owned)
}

fn read_member(dir: &Path, folder: &Path, report: &mut Report) -> Option<Member> {
    let path = folder.join(SERVICE_FILE);
    let (document, file) = read::<ServiceFile>(dir, path, service_schema().as_value(), report)?;
    let publish = file.publish.iter().flat_map(|own| own.schemas.values());
    let read = file.subscribe.iter().filter_map(|own| own.schema.as_ref());
    Some(Member {
        named: named(folder, publish.chain(read)),
        dir: folder.to_owned(),
        document,
        file,
    })
}

/// The files of these names in a folder.
fn named<'a>(folder: &Path, names: impl Iterator<Item = &'a String>) -> Named {
    names
        .map(|name| (name.clone(), read_named(folder, name)))
        .collect()
}

/// A file within the folder, and no more of it than a schema can have.
fn read_named(folder: &Path, name: &str) -> Result<String, String> {
    let path = Path::new(name);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err("it is not within the folder".to_owned());
    }
    let path = folder.join(path);
    let about = fs::metadata(&path).map_err(|error| error.to_string())?;
    if !about.is_file() || about.len() > NAMED_BYTES_MAX {
        return Err("it is no file of at most 1 MiB".to_owned());
    }
    fs::read_to_string(&path).map_err(|error| error.to_string())
}

/// Reads one file; what can be told of it alone is told.
fn read<T: DeserializeOwned>(
    dir: &Path,
    path: PathBuf,
    schema: &Value,
    report: &mut Report,
) -> Option<(Document, T)> {
    let shown = path
        .strip_prefix(dir)
        .unwrap_or(&path)
        .display()
        .to_string();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let help = "make it readable, or take the folder out of `members`".to_owned();
            let message = format!("{shown} cannot be read: {error}");
            let label = String::new();
            report.push(Finding {
                code: UNREADABLE,
                message,
                place: None,
                label,
                help,
            });
            return None;
        }
    };
    let source = Arc::new(SourceFile {
        path,
        shown,
        text: text.into(),
    });
    let before = report.len();
    let (parsed, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        syntax(&source, error, report);
    }
    if !errors.is_empty() {
        return None;
    }
    Walk {
        source: &source,
        report,
    }
    .table(parsed.get_ref(), &parsed.span(), schema, "");
    if report.len() > before {
        return None;
    }
    match toml::from_str(&source.text) {
        Ok(file) => {
            drop(parsed);
            Some((Document { source }, file))
        }
        Err(error) => {
            value_error(&source, &error, report);
            None
        }
    }
}

fn syntax(source: &Arc<SourceFile>, error: &toml::de::Error, report: &mut Report) {
    let span = error.span().unwrap_or_else(|| first_line(&source.text));
    report.push(Finding {
        code: UNREADABLE,
        message: format!("this is no valid TOML: {}", error.message()),
        place: Some(Place {
            source: Arc::clone(source),
            span,
        }),
        label: "here".to_owned(),
        help: "texts stand in quotes, lists in brackets; see https://toml.io".to_owned(),
    });
}

fn value_error(source: &Arc<SourceFile>, error: &toml::de::Error, report: &mut Report) {
    let span = error.span().unwrap_or_else(|| first_line(&source.text));
    report.push(Finding {
        code: WRONG_VALUE,
        message: error.message().to_owned(),
        place: Some(Place {
            source: Arc::clone(source),
            span,
        }),
        label: "here".to_owned(),
        help: "`atoll schema` tells what each key means and takes".to_owned(),
    });
}

/// The folders that `members` names, each once, in order.
fn member_folders(
    dir: &Path,
    document: &Document,
    file: &ApplicationFile,
    report: &mut Report,
) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (index, pattern) in file.members.iter().enumerate() {
        let found = expand(dir, pattern);
        if found.is_empty() {
            report.push(Finding {
                code: NO_MEMBERS,
                message: format!("`{pattern}` names no folder with a {SERVICE_FILE}"),
                place: Some(document.place(&[Step::Key("members"), Step::Index(index)])),
                label: "nothing found".to_owned(),
                help: "make a service with `atoll new service NAME --lang rust|python|node`, or \
                       mend the pattern"
                    .to_owned(),
            });
        }
        folders.extend(found);
    }
    folders.sort();
    folders.dedup();
    folders
}

/// Goes down the parts of a pattern, folder by folder.
fn expand(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut folders = vec![dir.to_owned()];
    for part in pattern
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        let Ok(glob) = Glob::new(part).map(|glob| glob.compile_matcher()) else {
            return Vec::new();
        };
        if part == ".." || !part.contains(['*', '?', '[', '{']) {
            folders = folders
                .into_iter()
                .map(|folder| folder.join(part))
                .collect();
            continue;
        }
        let below = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten();
        let names = below
            .flatten()
            .filter(|entry| glob.is_match(entry.file_name()));
        folders = names.map(|entry| entry.path()).collect();
    }
    folders.retain(|folder| folder.join(SERVICE_FILE).is_file());
    let mut folders: Vec<PathBuf> = folders
        .into_iter()
        .filter_map(|folder| folder.canonicalize().ok())
        .collect();
    folders.sort();
    folders
}

fn first_line(text: &str) -> Range<usize> {
    0..text.find('\n').unwrap_or(text.len())
}
