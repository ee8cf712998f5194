//! A service of a test: its manifest, line by line, and the fixture server.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::App;

/// The program of every service that does not say otherwise.
const SERVER: &str = include_str!("../../fixtures/server.py");

/// A manifest that is being written.
pub(crate) struct Service<'a> {
    app: &'a App,
    name: String,
    /// Keys before the first table.
    top: BTreeMap<String, String>,
    env: String,
    tables: String,
}

impl<'a> Service<'a> {
    pub(super) fn new(app: &'a App, name: &str) -> Self {
        let top = [
            ("name", format!("{name:?}")),
            ("run", r#"["python3", "-S", "server.py"]"#.to_owned()),
            ("stop_timeout", r#""5s""#.to_owned()),
        ];
        let top = top.map(|(key, value)| (key.to_owned(), value)).into();
        let (env, tables) = (String::new(), String::new());
        let (app, name) = (app, name.to_owned());
        Self {
            app,
            name,
            top,
            env,
            tables,
        }
        .table("[health]\npath = \"/healthz\"\ninterval = \"1s\"")
    }

    /// `key = value`, the value as TOML.
    pub(crate) fn top(mut self, key: &str, value: &str) -> Self {
        self.top.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The services that it calls.
    pub(crate) fn needs(self, names: &[&str]) -> Self {
        let names = format!("{names:?}");
        self.top("needs", &names)
    }

    /// A variable for the fixture server.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        writeln!(self.env, "{name} = '''{value}'''").unwrap();
        self
    }

    /// A route of the edge.
    pub(crate) fn route(self, path: &str) -> Self {
        self.table(&format!("[[route]]\npath = \"{path}\""))
    }

    /// Tables, as TOML. One that is there already is replaced, but for `[[route]]`.
    pub(crate) fn table(mut self, text: &str) -> Self {
        let header = text.lines().next().unwrap_or_default();
        if !header.starts_with("[[")
            && let Some(start) = self.tables.find(&format!("{header}\n"))
        {
            let rest = &self.tables[start..];
            let end = rest
                .find("\n\n")
                .map_or(self.tables.len(), |at| start + at + 2);
            self.tables.replace_range(start..end, "");
        }
        write!(self.tables, "{}\n\n", text.trim_end()).unwrap();
        self
    }

    /// The text of its manifest.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.top {
            writeln!(text, "{key} = {value}").unwrap();
        }
        write!(text, "\n{}", self.tables).unwrap();
        if !self.env.is_empty() {
            write!(text, "[env]\n{}", self.env).unwrap();
        }
        text
    }

    /// Writes manifest and server to `services/NAME`.
    pub(crate) fn write(self) {
        let folder = format!("services/{}", self.name);
        self.write_to(&folder);
    }

    /// Writes manifest and server to another folder of the application.
    pub(crate) fn write_to(self, folder: &str) {
        self.app
            .write(&format!("{folder}/service.toml"), &self.text());
        self.app.write(&format!("{folder}/server.py"), SERVER);
    }
}
