//! Records of what runs, for the next start of a node that was killed.
//!
//! `run_dir/instances/<id>.json`. Written twice: before the process exists, with its cgroups, so
//! that whatever comes to be inside of them can be found; and right after it was started, with its
//! pid. A node killed between the two leaves a process that is in the cgroup and has `ATOLL_NODE`
//! in its environment, and is found by these. Each writing replaces the file as a whole (rename);
//! nothing is synced to disk, because a record is of no use after a power cut: then nothing runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use atoll_base::InstanceId;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The folder of records.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
    node_id: String,
    boot_id: String,
}

/// One record. Its version is part of the format; only version 1 exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) node_id: String,
    pub(crate) boot_id: String,
    pub(crate) cgroups: Vec<PathBuf>,
    /// None until the process was started.
    pub(crate) process: Option<RecordedProcess>,
}

/// The main process, which is also the leader of a session and a group of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedProcess {
    pub(crate) pid: u32,
    /// In clock ticks after boot, as in `/proc/PID/stat`.
    pub(crate) start_time: u64,
}

impl Records {
    /// Makes the folder if it is not there.
    pub(crate) fn open(run_dir: &Path, node_id: &str) -> Result<Self, Error> {
        let folder = run_dir.join("instances");
        fs::create_dir_all(&folder).map_err(|source| refused(&folder, source))?;
        Ok(Self {
            folder,
            node_id: node_id.to_owned(),
            boot_id: crate::proc::boot_id(),
        })
    }

    /// Writes or replaces the record of an instance.
    pub(crate) fn write(
        &self,
        id: &InstanceId,
        cgroups: Vec<PathBuf>,
        process: Option<RecordedProcess>,
    ) -> Result<(), Error> {
        let record = Record {
            version: 1,
            id: id.to_string(),
            node_id: self.node_id.clone(),
            boot_id: self.boot_id.clone(),
            cgroups,
            process,
        };
        let path = self.path(id);
        let temporary = path.with_extension("new");
        serde_json::to_vec(&record)
            .map_err(io::Error::from)
            .and_then(|bytes| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| refused(&path, source))
    }

    /// Deletes the record of an instance that is gone.
    pub(crate) fn delete(&self, id: &InstanceId) {
        // Left behind it does no harm: the next start finds nothing alive in it.
        let _ = fs::remove_file(self.path(id));
    }

    /// The files in the folder with what could be read of them; what is torn or strange is None.
    pub(crate) fn all(&self) -> Result<Vec<(PathBuf, Option<Record>)>, Error> {
        let entries = fs::read_dir(&self.folder).map_err(|source| refused(&self.folder, source))?;
        let mut all = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|source| refused(&self.folder, source))?
                .path();
            let record = fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .filter(|record: &Record| record.version == 1 && record.node_id == self.node_id);
            all.push((path, record));
        }
        Ok(all)
    }

    /// Whether a record is of a process that can still run.
    pub(crate) fn is_of_this_boot(&self, record: &Record) -> bool {
        record.boot_id == self.boot_id
    }

    fn path(&self, id: &InstanceId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

fn refused(path: &Path, source: io::Error) -> Error {
    Error::RunDir {
        path: path.to_owned(),
        source,
    }
}
