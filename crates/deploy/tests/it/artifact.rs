//! Artifacts: what is copied, what is not, and what their digest notices.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use atoll_deploy::artifact::{Selection, copy, fingerprint, sweep, verify};

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("main.py", "print(1)"),
        ("lib/a.py", "a"),
        ("target/release/app", "binary"),
        (".git/HEAD", "ref"),
        ("lib/__pycache__/a.pyc", "cache"),
    ] {
        let path = dir.path().join("src").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    symlink("main.py", dir.path().join("src/link.py")).unwrap();
    fs::create_dir(dir.path().join("artifacts")).unwrap();
    dir
}

fn files(root: &Path) -> Vec<String> {
    let walk = walkdir(root);
    let mut found: Vec<String> = walk
        .iter()
        .map(|path| path.strip_prefix(root).unwrap().display().to_string())
        .collect();
    found.sort();
    found
}

fn walkdir(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(walkdir(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn everything_of_use_is_copied_by_default() {
    let dir = folder();
    let artifacts = dir.path().join("artifacts");
    let digest = copy(
        &dir.path().join("src"),
        &Selection::new(&[]).unwrap(),
        &artifacts,
    )
    .unwrap();
    let home = artifacts.join(digest.as_str());
    assert_eq!(files(&home), ["lib/a.py", "link.py", "main.py"]);
    assert_eq!(
        fs::read_link(home.join("link.py")).unwrap(),
        Path::new("main.py")
    );
    assert!(verify(&home, &digest).unwrap());
}

#[test]
fn patterns_choose_what_is_copied() {
    let dir = folder();
    let artifacts = dir.path().join("artifacts");
    let selection = Selection::new(&["target/release/app".to_owned(), "lib/".to_owned()]).unwrap();
    let digest = copy(&dir.path().join("src"), &selection, &artifacts).unwrap();
    assert_eq!(
        files(&artifacts.join(digest.as_str())),
        ["lib/a.py", "target/release/app"]
    );
    assert!(verify(&artifacts.join(digest.as_str()), &digest).unwrap());
}

#[test]
fn a_later_change_of_the_folder_never_changes_the_artifact() {
    let dir = folder();
    let (source, artifacts) = (dir.path().join("src"), dir.path().join("artifacts"));
    let everything = Selection::new(&[]).unwrap();
    let first = copy(&source, &everything, &artifacts).unwrap();
    fs::write(source.join("main.py"), "print(2)").unwrap();
    let copied = fs::read_to_string(artifacts.join(first.as_str()).join("main.py")).unwrap();
    assert_eq!(copied, "print(1)");
    let second = copy(&source, &everything, &artifacts).unwrap();
    assert_ne!(first, second);
}

#[test]
fn the_digest_notices_content_names_modes_and_links() {
    let dir = folder();
    let (source, artifacts) = (dir.path().join("src"), dir.path().join("artifacts"));
    let everything = Selection::new(&[]).unwrap();
    let again = || copy(&source, &everything, &artifacts).unwrap();
    let mut seen = vec![again()];
    assert_eq!(again(), seen[0], "the same files have the same digest");
    fs::rename(source.join("lib/a.py"), source.join("lib/b.py")).unwrap();
    seen.push(again());
    fs::set_permissions(source.join("main.py"), fs::Permissions::from_mode(0o755)).unwrap();
    seen.push(again());
    fs::remove_file(source.join("link.py")).unwrap();
    symlink("lib/b.py", source.join("link.py")).unwrap();
    seen.push(again());
    for (i, one) in seen.iter().enumerate() {
        assert!(
            !seen[i + 1..].contains(one),
            "two different folders have the digest {one:?}"
        );
    }
}

#[test]
fn damage_is_noticed_and_mended_by_the_next_copy() {
    let dir = folder();
    let (source, artifacts) = (dir.path().join("src"), dir.path().join("artifacts"));
    let everything = Selection::new(&[]).unwrap();
    let digest = copy(&source, &everything, &artifacts).unwrap();
    let home = artifacts.join(digest.as_str());
    fs::write(home.join("main.py"), "torn").unwrap();
    assert!(!verify(&home, &digest).unwrap());
    assert_eq!(copy(&source, &everything, &artifacts).unwrap(), digest);
    assert!(verify(&home, &digest).unwrap());
}

#[test]
fn the_fingerprint_notices_a_change_but_not_a_build() {
    let dir = folder();
    let source = dir.path().join("src");
    let before = fingerprint(&source).unwrap();
    fs::write(source.join("target/release/app"), "another binary").unwrap();
    assert_eq!(fingerprint(&source).unwrap(), before);
    fs::write(source.join("lib/a.py"), "longer").unwrap();
    assert_ne!(fingerprint(&source).unwrap(), before);
}

#[test]
fn a_sweep_keeps_what_is_named_and_nothing_else() {
    let dir = folder();
    let (source, artifacts) = (dir.path().join("src"), dir.path().join("artifacts"));
    let everything = Selection::new(&[]).unwrap();
    let old = copy(&source, &everything, &artifacts).unwrap();
    fs::write(source.join("main.py"), "print(2)").unwrap();
    let new = copy(&source, &everything, &artifacts).unwrap();
    fs::create_dir(artifacts.join(".staging-1-0")).unwrap();
    sweep(&artifacts, std::slice::from_ref(&new)).unwrap();
    assert!(!artifacts.join(old.as_str()).exists());
    assert_eq!(fs::read_dir(&artifacts).unwrap().count(), 1);
    assert!(verify(&artifacts.join(new.as_str()), &new).unwrap());
}
