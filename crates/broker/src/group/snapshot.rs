//! What of a group survives a restart.

use crate::sealed::{Reader, SealError, Writer};

use super::Group;

const KIND: [u8; 4] = *b"AGRP";
const VERSION: u16 = 1;

/// What of a group survives a restart: as little as keeps generations from repeating. Members are
/// not in it, see [`super`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Snapshot {
    /// The last generation.
    pub generation: i32,
    /// What kind of group it is or was.
    pub protocol_type: Option<String>,
}

impl Snapshot {
    /// As bytes to be stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND, VERSION);
        writer.i32(self.generation);
        writer.optional_text(self.protocol_type.as_deref());
        writer.finish()
    }

    /// From stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let mut reader = Reader::open(KIND, VERSION, bytes)?;
        let generation = reader.i32()?;
        let protocol_type = reader.optional_text()?;
        reader.finish()?;
        Ok(Self {
            generation,
            protocol_type,
        })
    }
}

impl Group {
    /// What would have to survive a restart now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
        }
    }
}
