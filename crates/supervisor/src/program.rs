//! Finds the program that a command means, and says what is wrong when it cannot be run.
//!
//! The kernel answers a missing program, a missing folder and a script with a missing interpreter
//! all with the same "No such file or directory". A person must not have to guess which.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::error::Error;

/// Finds the program of `command` as it would be run in `dir`: an absolute path as it is, one with
/// a '/' relative to `dir`, any other name in the folders of `path_env` (the `PATH` that the process
/// will have). Symbolic links are kept: some programs look at the name they are called by.
///
/// # Errors
/// `BadCommand`, `DirMissing`, `ProgramNotFound`, `NotExecutable` or `InterpreterNotFound`, each
/// naming what is missing.
pub fn resolve_program(command: &[String], dir: &Path, path_env: &str) -> Result<PathBuf, Error> {
    let program = command
        .first()
        .filter(|word| !word.is_empty())
        .ok_or_else(|| Error::BadCommand {
            what: "it has no program".to_owned(),
        })?;
    if let Some(word) = command.iter().find(|word| word.contains('\0')) {
        let what = format!("a zero byte in '{}'", word.escape_default());
        return Err(Error::BadCommand { what });
    }
    if !dir.is_dir() {
        let dir = dir.to_owned();
        return Err(Error::DirMissing { dir });
    }
    let found = if program.contains('/') {
        in_place(program, dir)?
    } else {
        in_path(program, dir, path_env)?
    };
    check_interpreter(&found)?;
    Ok(found)
}

fn in_place(program: &str, dir: &Path) -> Result<PathBuf, Error> {
    let path = dir.join(program);
    match fs::metadata(&path) {
        Err(_) => Err(Error::ProgramNotFound {
            program: program.to_owned(),
            looked_in: vec![path],
        }),
        Ok(_) if is_executable(&path) => Ok(path),
        Ok(_) => Err(Error::NotExecutable { path }),
    }
}

fn in_path(program: &str, dir: &Path, path_env: &str) -> Result<PathBuf, Error> {
    let mut looked_in = Vec::new();
    let mut refused = None;
    for folder in std::env::split_paths(path_env) {
        // An empty entry means the folder itself (POSIX), a relative one is relative to it.
        let folder = dir.join(folder);
        let path = folder.join(program);
        if is_executable(&path) {
            return Ok(path);
        }
        if refused.is_none() && path.is_file() {
            refused = Some(path);
        }
        looked_in.push(folder);
    }
    let program = program.to_owned();
    Err(match refused {
        Some(path) => Error::NotExecutable { path },
        None => Error::ProgramNotFound { program, looked_in },
    })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

fn check_interpreter(script: &Path) -> Result<(), Error> {
    let mut head = [0; 256];
    // What cannot be read may still be run; the kernel will tell.
    let length = fs::File::open(script)
        .and_then(|mut file| file.read(&mut head))
        .unwrap_or(0);
    let Some(line) = head.get(..length).and_then(|head| head.strip_prefix(b"#!")) else {
        return Ok(());
    };
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
    // Only blanks and tabs part words for the kernel; a '\r' is part of the name.
    let mut words = line.split(|b| matches!(b, b' ' | b'\t'));
    let word = words.find(|word| !word.is_empty()).unwrap_or_default();
    let path = Path::new(std::ffi::OsStr::from_bytes(word));
    if word.is_empty() || is_executable(path) {
        return Ok(());
    }
    Err(Error::InterpreterNotFound {
        script: script.to_owned(),
        // The '\r' of a file from Windows must be seen.
        interpreter: String::from_utf8_lossy(word).escape_default().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn resolve(program: &str, dir: &Path, path: &str) -> Result<PathBuf, Error> {
        resolve_program(&[program.to_owned()], dir, path)
    }

    #[test]
    fn programs_are_found_as_a_shell_would() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join("bin")).unwrap();
        write(&dir.join("bin/tool"), "#!/bin/sh\n", 0o755);
        let tool = dir.join("bin/tool");
        assert_eq!(resolve("bin/tool", dir, "").unwrap(), tool);
        assert_eq!(resolve("tool", dir, "/nowhere:bin").unwrap(), tool);
        assert_eq!(resolve(tool.to_str().unwrap(), dir, "").unwrap(), tool);
        assert_eq!(resolve("sh", dir, "/bin").unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn each_thing_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let found = resolve("no-such-tool", dir, "/bin:/usr/bin").unwrap_err();
        assert_eq!(
            found.to_string(),
            "program 'no-such-tool' not found; looked in /bin, /usr/bin"
        );
        assert!(matches!(
            resolve("./x", dir, "/bin"),
            Err(Error::ProgramNotFound { looked_in, .. }) if looked_in == [dir.join("./x")]
        ));
        write(&dir.join("data"), "", 0o644);
        assert!(matches!(
            resolve("./data", dir, ""),
            Err(Error::NotExecutable { .. })
        ));
        assert!(matches!(
            resolve("data", dir, "."),
            Err(Error::NotExecutable { .. })
        ));
        write(&dir.join("dos"), "#!/bin/sh\r\n", 0o755);
        let dos = resolve("./dos", dir, "").unwrap_err().to_string();
        assert!(dos.contains(r"'/bin/sh\r'"), "{dos}");
        assert!(matches!(
            resolve("sh", &dir.join("gone"), "/bin"),
            Err(Error::DirMissing { .. })
        ));
        assert!(matches!(
            resolve_program(&[], dir, ""),
            Err(Error::BadCommand { .. })
        ));
    }
}
