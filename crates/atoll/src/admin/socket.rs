//! The Unix socket: where it is, and how to reach one whose path is too long.
//!
//! The kernel takes socket paths of at most 107 bytes. A deep folder has a longer one; then the
//! socket is named through its folder's file descriptor, `/proc/self/fd/N/admin.sock`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The longest path that `sockaddr_un` takes, with its end (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// The socket of the application in `dir`.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(crate::node::STATE_FOLDER)
        .join("run")
        .join("admin.sock")
}

/// Listens. A socket that a dead node left is replaced: the caller holds the folder's lock.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    through(path, |short| UnixListener::bind(short))
}

/// Connects to the node.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = through(path, |short| std::os::unix::net::UnixStream::connect(short))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn through<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
        return act(path);
    }
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    act(&Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deep_folder_has_a_socket_too() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let socket = deep.join("admin.sock");
        let listener = bind(&socket).unwrap();
        let _client = connect(&socket).await.unwrap();
        listener.accept().await.unwrap();
        assert!(socket.exists());
        drop(bind(&socket).unwrap());
    }
}
