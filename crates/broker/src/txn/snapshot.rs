//! What of a transactional id survives a crash.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::sealed::{Reader, SealError, Writer};

use super::{Partition, Producer, State};

const KIND: [u8; 4] = *b"ATXN";
const VERSION: u16 = 1;
/// The least bytes of a partition and of a group in a snapshot.
const PARTITION_LEAST: usize = 4 + 4;
const GROUP_LEAST: usize = 4;

/// What of a transactional id survives a crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Where it is in its life.
    pub state: State,
    /// The producer that holds it. None: none ever asked.
    pub producer: Option<Producer>,
    /// Who the producer said it was when it asked (KIP-360): it may ask again.
    pub former: Option<Producer>,
    /// How long its transactions may take; whole milliseconds.
    pub timeout: Duration,
    /// The partitions of the open or ending transaction.
    pub partitions: BTreeSet<Partition>,
    /// The groups whose offsets are part of it.
    pub groups: BTreeSet<String>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            state: State::Empty,
            producer: None,
            former: None,
            timeout: Duration::ZERO,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
        }
    }
}

impl Snapshot {
    /// As bytes to be stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.u8(code(self.state));
        write_producer(&mut writer, self.producer);
        write_producer(&mut writer, self.former);
        writer.i64(i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX));
        writer.count(self.partitions.len());
        for partition in &self.partitions {
            writer.text(&partition.topic);
            writer.i32(partition.index);
        }
        writer.count(self.groups.len());
        for group in &self.groups {
            writer.text(group);
        }
        writer.finish()
    }

    /// From stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let mut reader = Reader::open(KIND, VERSION, bytes)?;
        let code = reader.u8()?;
        let state = state(code).ok_or_else(|| reader.nonsense())?;
        let producer = read_producer(&mut reader)?;
        let former = read_producer(&mut reader)?;
        let millis = u64::try_from(reader.i64()?).map_err(|_| reader.nonsense())?;
        let mut snapshot = Self {
            state,
            producer,
            former,
            timeout: Duration::from_millis(millis),
            ..Self::default()
        };
        for _ in 0..reader.count(PARTITION_LEAST)? {
            let topic = reader.text()?;
            let index = reader.i32()?;
            snapshot.partitions.insert(Partition { topic, index });
        }
        for _ in 0..reader.count(GROUP_LEAST)? {
            snapshot.groups.insert(reader.text()?);
        }
        reader.finish()?;
        Ok(snapshot)
    }
}

fn write_producer(writer: &mut Writer, producer: Option<Producer>) {
    writer.u8(u8::from(producer.is_some()));
    if let Some(producer) = producer {
        writer.i64(producer.id);
        writer.i16(producer.epoch);
    }
}

fn read_producer(reader: &mut Reader<'_>) -> Result<Option<Producer>, SealError> {
    if !reader.flag()? {
        return Ok(None);
    }
    let id = reader.i64()?;
    let epoch = reader.i16()?;
    Ok(Some(Producer { id, epoch }))
}

/// The numbers that stand for the states in stored bytes, for ever.
const CODES: [(State, u8); 7] = [
    (State::Empty, 0),
    (State::Ongoing, 1),
    (State::PrepareCommit, 2),
    (State::PrepareAbort, 3),
    (State::CompleteCommit, 4),
    (State::CompleteAbort, 5),
    (State::Dead, 6),
];

fn code(state: State) -> u8 {
    let found = CODES.iter().find(|(one, _)| *one == state);
    found
        .map(|(_, code)| *code)
        .expect("every state has a code")
}

fn state(code: u8) -> Option<State> {
    let found = CODES.iter().find(|(_, one)| *one == code);
    found.map(|(state, _)| *state)
}
