//! Tests of the log. Those of crashes and faults drive the committer by hand, on a disk in memory:
//! a seed tells all that happens.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::committer::Committer;
use super::shared::LogShared;
use super::sim::SimDisk;
use super::{Disk, Durability, Error, Finding, Header, Partition, PartitionConfig, Pending, batch};

mod compaction;
mod contract;
mod crash;
mod damage;
mod faults;
mod fixture;
mod single;

/// Where the log is on a [`SimDisk`].
const ROOT: &str = "/log";

/// A log whose committer works when it is told to.
struct Rig {
    log: Arc<LogShared>,
    committer: Committer,
}

impl Rig {
    fn open(disk: &SimDisk) -> Result<(Self, Vec<Finding>), Error> {
        Self::over(Arc::new(disk.clone()))
    }

    fn over(disk: Arc<dyn Disk>) -> Result<(Self, Vec<Finding>), Error> {
        let (log, findings) = LogShared::open(Path::new(ROOT), disk)?;
        let committer = Committer::new(Arc::clone(&log), 1);
        Ok((Self { log, committer }, findings))
    }

    /// The committer does all that waits.
    fn step(&mut self) {
        let work = self.log.work().take();
        if let Some(work) = work {
            self.committer.step(work);
        }
    }

    fn partition(&self, name: &str, segment_bytes: u64) -> Result<Partition, Error> {
        self.log.partition(name, PartitionConfig { segment_bytes })
    }

    /// Appends, has it written, and tells the offset and how it went.
    fn append(&mut self, to: &Partition, batch: &[u8]) -> Result<i64, Error> {
        let pending = to.append(Bytes::copy_from_slice(batch), Durability::Synced)?;
        let base = pending.base_offset();
        self.step();
        answer(pending).map(|()| base)
    }

    /// As [`super::Log::remove`] does it.
    fn remove(&mut self, name: &str) -> Result<(), Error> {
        let own = self.log.known(name).expect("tests remove what is there");
        let renamed = self.log.ask_remove(&own.0);
        self.step();
        renamed.recv().expect("the committer answers")?;
        let gone = self.log.removed_dir(name);
        let removed = self.log.disk.remove_dir(&gone);
        removed.map_err(|source| self.log.failed(&gone, source))
    }

    /// As [`Partition::seal`] does it.
    fn seal(&mut self, partition: &Partition) -> Result<(), Error> {
        let mut sealed = partition.0.ask_seal()?;
        self.step();
        sealed.try_recv().expect("the committer answers")
    }

    /// As [`super::Log::close`] does it.
    fn close(mut self) {
        self.step();
        self.committer.checkpoint();
    }
}

/// How an append went that the committer has dealt with.
fn answer(pending: Pending) -> Result<(), Error> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(pending.acknowledged()).poll(&mut context) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the committer has left an append without an answer"),
    }
}

/// A batch as a reader gets it.
fn at(offset: i64, batch: &[u8]) -> Vec<u8> {
    let mut own = batch.to_vec();
    batch::set_base_offset(&mut own, offset);
    own
}

/// All batches from `from` to the end, with their offsets. They are sound, and in order.
fn read_all(
    partition: &Partition,
    from: i64,
    bytes_max: usize,
) -> Result<Vec<(i64, Vec<u8>)>, Error> {
    let mut out = Vec::new();
    let mut next = from;
    while next < partition.durable_offset() {
        let read = partition.read(next, bytes_max, i64::MAX)?;
        assert!(read.next > next, "reading goes on from {next}");
        let mut rest = &read.batches[..];
        while !rest.is_empty() {
            let header = Header::verify(rest).expect("what is read is sound");
            assert!(header.last_offset() >= next, "offsets rise");
            next = header.next_offset();
            out.push((header.base_offset, rest[..header.bytes].to_vec()));
            rest = &rest[header.bytes..];
        }
        assert!(next <= read.next);
        next = read.next;
    }
    Ok(out)
}
