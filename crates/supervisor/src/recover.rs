//! Ends what an earlier run of the node left behind when it was killed.
//!
//! The main processes died with their node (PR_SET_PDEATHSIG); what they had forked did not. It is
//! found in three ways, any of which is enough: in the cgroups of the node, in the sessions of the
//! recorded main processes, and by `ATOLL_NODE` in its environment. Records that are torn, foreign
//! or of an earlier boot are deleted and otherwise ignored: nothing is killed on their word alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use atoll_base::clock;

use crate::cgroup::{self, Tree};
use crate::error::Error;
use crate::kill::{is_alive, kill_if};
use crate::proc;
use crate::record::{Record, RecordedProcess, Records};

/// How long killed processes may take to disappear.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found and ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The processes, each as "command (pid 123)".
    pub ended: Vec<String>,
}

/// Where leftovers are looked for.
struct Search {
    tree: Tree,
    sessions: Vec<RecordedProcess>,
    mark: String,
}

/// Ends everything that an earlier run of node `node_id` left behind, and forgets it. To be called
/// once, before [`crate::Handle::open`], when no other process of this node runs. Blocks, usually for
/// some milliseconds.
///
/// # Errors
/// `RunDir` when the records cannot be read; `CannotEnd` when a killed process does not disappear
/// within 10 s.
pub fn recover(run_dir: &Path, node_id: &str) -> Result<Recovered, Error> {
    let records = Records::open(run_dir, node_id)?;
    let all = records.all()?;
    let sessions = all
        .iter()
        .filter_map(|(_, record)| record.as_ref())
        .filter(|record| records.is_of_this_boot(record))
        .filter_map(|record| record.process)
        .collect();
    let search = Search {
        tree: Tree::find(node_id),
        sessions,
        mark: format!("ATOLL_NODE={node_id}"),
    };
    let ended = search.end_all()?;
    let recorded = all.iter().filter_map(|(_, record)| record.as_ref());
    search.remove_cgroups(recorded);
    for (path, _) in &all {
        fs::remove_file(path).map_err(|source| Error::RunDir {
            path: path.clone(),
            source,
        })?;
    }
    Ok(Recovered { ended })
}

impl Search {
    fn end_all(&self) -> Result<Vec<String>, Error> {
        let deadline = clock::monotonic() + PATIENCE;
        let mut ended = BTreeMap::new();
        loop {
            let found = self.find();
            let Some(first) = found.first() else {
                return Ok(ended.into_values().collect());
            };
            if clock::monotonic() >= deadline {
                return Err(Error::CannotEnd {
                    count: found.len(),
                    example: describe(*first),
                });
            }
            for pid in found {
                ended.entry(pid).or_insert_with(|| describe(pid));
                kill_if(pid, |pid| self.is_leftover(pid, &self.members()));
            }
            // What is killed may fork once more before it dies: look again.
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn find(&self) -> Vec<u32> {
        let members = self.members();
        let mut all = proc::pids();
        all.retain(|pid| is_alive(*pid) && self.is_leftover(*pid, &members));
        all
    }

    fn is_leftover(&self, pid: u32, members: &[u32]) -> bool {
        if pid == std::process::id() {
            return false;
        }
        members.contains(&pid) || proc::was_given(pid, &self.mark) || self.is_in_a_session(pid)
    }

    fn members(&self) -> Vec<u32> {
        let leftovers = self.tree.leftovers();
        leftovers
            .iter()
            .flat_map(|dir| cgroup::members(dir))
            .collect()
    }

    /// Whether it is in a session whose leader was a main process of the node. The leader's number
    /// is not given to anybody else while somebody is in its session, unless the leader is there and
    /// is another one.
    fn is_in_a_session(&self, pid: u32) -> bool {
        let Some(stat) = proc::stat(pid) else {
            return false;
        };
        self.sessions.iter().any(|main| {
            let same_leader =
                proc::stat(main.pid).is_none_or(|leader| leader.start_time == main.start_time);
            stat.session == main.pid && same_leader && stat.start_time >= main.start_time
        })
    }

    fn remove_cgroups<'a>(&self, records: impl Iterator<Item = &'a Record>) {
        let recorded = records.flat_map(|record| record.cgroups.clone());
        let owned = recorded.filter(|dir| self.tree.owns(dir));
        for dir in owned.chain(self.tree.leftovers()) {
            // One that stays is used again or removed by the next start.
            let _ = cgroup::remove_dir(&dir);
        }
        self.tree.remove();
    }
}

fn describe(pid: u32) -> String {
    format!("{} (pid {pid})", proc::command_line(pid))
}
