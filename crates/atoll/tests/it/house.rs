//! The rules of the house, made executable: what crates may know of each other, and what belongs to
//! every file and every error code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::testkit::{atoll, run};

/// The parts of the platform: none of them knows another.
const SIBLINGS: &[&str] = &["proxy", "supervisor", "deploy", "broker", "telemetry"];

/// What a part may stand on.
const GROUND: &[&str] = &["atoll-base", "atoll-store"];

/// The longest way from `atoll` down to a crate of the workspace that needs no other.
const DEPTH_MAX: usize = 4;

const LINES_MAX: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The crates of the workspace, by the name of their folder, with those of it that they need.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let folders = fs::read_dir(root().join("crates")).unwrap().flatten();
    folders
        .map(|folder| {
            let text = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
            let manifest: toml::Table = text.parse().unwrap();
            let needs = manifest
                .get("dependencies")
                .and_then(|needs| needs.as_table());
            let names = needs.into_iter().flat_map(|needs| needs.keys().cloned());
            let own = names.filter(|name| name.starts_with("atoll-")).collect();
            (folder.file_name().into_string().unwrap(), own)
        })
        .collect()
}

/// The files below `folder` whose name ends so, but for what tools make.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() {
            if !["target", "node_modules", ".git", ".atoll"].contains(&name.as_str()) {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The Rust sources of the product and its tools.
fn sources() -> Vec<PathBuf> {
    ["crates", "xtask", "fuzz/fuzz_targets"]
        .iter()
        .map(|folder| root().join(folder))
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| files(&folder, ".rs"))
        .collect()
}

#[test]
fn no_part_of_the_platform_knows_another() {
    let crates = crates();
    for sibling in SIBLINGS {
        let needs = &crates[*sibling];
        let foreign: Vec<&String> = needs
            .iter()
            .filter(|name| !GROUND.contains(&name.as_str()))
            .collect();
        assert!(
            foreign.is_empty(),
            "{sibling} imports {foreign:?}; declare a trait instead"
        );
    }
    assert!(
        crates["base"].is_empty(),
        "base stands on nothing: {:?}",
        crates["base"]
    );
}

#[test]
fn crates_are_at_most_four_deep() {
    fn depth(name: &str, crates: &BTreeMap<String, BTreeSet<String>>) -> usize {
        let needs = crates[name]
            .iter()
            .map(|need| need.trim_start_matches("atoll-"));
        1 + needs.map(|need| depth(need, crates)).max().unwrap_or(0)
    }
    let depth = depth("atoll", &crates());
    assert!(depth <= DEPTH_MAX, "{depth} crates deep");
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//!"),
            "{} does not begin with //!",
            path.display()
        );
    }
}

#[test]
fn no_source_file_is_too_long() {
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn there_is_no_mod_rs() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|path| path.ends_with("mod.rs"))
        .collect();
    assert!(found.is_empty(), "foo.rs and foo/ instead of {found:?}");
}

#[test]
fn every_error_code_has_its_page_and_every_page_its_code() {
    let code = Regex::new(r"ATL\d{4}").unwrap();
    let mut used = BTreeSet::new();
    for path in files(&root().join("crates"), ".rs") {
        if path.components().any(|part| part.as_os_str() == "src") {
            let text = fs::read_to_string(&path).unwrap();
            used.extend(code.find_iter(&text).map(|found| found.as_str().to_owned()));
        }
    }
    let pages: BTreeSet<String> = files(&root().join("docs/errors"), ".md")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| code.is_match(name))
        .collect();
    let without_page: Vec<_> = used.difference(&pages).collect();
    let without_code: Vec<_> = pages.difference(&used).collect();
    assert!(
        without_page.is_empty(),
        "codes without a page: {without_page:?}"
    );
    assert!(
        without_code.is_empty(),
        "pages without a code: {without_code:?}"
    );
}

#[test]
fn every_page_is_printed_by_explain_and_helps() {
    let list = explain(&[]);
    for path in files(&root().join("docs/errors"), ".md") {
        let code = path.file_stem().unwrap().to_str().unwrap();
        let page = fs::read_to_string(&path).unwrap();
        assert_eq!(
            explain(&[code]).trim_end(),
            page.trim_end(),
            "atoll explain {code}"
        );
        assert_eq!(explain(&[&code.to_lowercase()]).trim_end(), page.trim_end());
        assert!(
            page.starts_with(&format!("# {code}: ")),
            "{code} has another title"
        );
        for part in ["**What happened**", "**Likely causes**", "**What to do**"] {
            assert!(page.contains(part), "{code} lacks {part}");
        }
        assert!(list.contains(code), "{code} is not listed");
    }
    let mut unknown = atoll();
    unknown.args(["explain", "ATL9999"]);
    assert!(
        run(unknown)
            .ended(1)
            .err
            .contains("there is no code ATL9999")
    );
}

fn explain(arguments: &[&str]) -> String {
    let mut explain = atoll();
    explain.arg("explain").args(arguments);
    run(explain).succeeded().out
}
