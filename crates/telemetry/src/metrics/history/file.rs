//! One file of metrics: a mark, then frames `[length][length unpacked][checksum][body]`.
//!
//! A body is a list of entries, packed by zstd. An entry is a series, by which following entries
//! call it by its number, or the cells of one. A file names all its series itself, so it can be read
//! alone, copied, and removed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::Cells;
use crate::metrics::coding::{Before, BitReader, BitWriter};
use crate::metrics::point::{Kind, Labels};
use crate::metrics::ring::Resolution;
use crate::metrics::set::{Key, Meaning, Pending};

/// The format, and its version.
const MARK: &[u8; 8] = b"ATMET\0\x01\n";

/// Both lengths and the checksum.
const HEAD: usize = 12;

/// A frame is closed when its body has so many bytes, before it is packed.
const BODY_BYTES: usize = 1 << 20;

/// The same of what is appended: mostly one frame, so that all of it is there or nothing.
const APPENDED_BYTES: usize = 32 << 20;

/// No body is larger, unpacked.
const BODY_BYTES_MAX: usize = 64 << 20;

const SERIES: u8 = 1;
const CELLS: u8 = 2;

/// A file that is appended to.
#[derive(Debug)]
pub(super) struct Appender {
    file: File,
    end: u64,
    numbers: HashMap<Key, u32>,
}

impl Appender {
    /// Opens or makes the file, and cuts what is torn.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut reader = Reader::new(&bytes);
        let mut numbers = HashMap::new();
        reader.each(|_| false, |_, _, _, _| {});
        for (number, (key, _)) in reader.series.drain() {
            numbers.insert(key, number);
        }
        let mut end = reader.end as u64;
        if end == 0 {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(MARK)?;
            end = MARK.len() as u64;
        } else if (end as usize) < bytes.len() {
            tracing::warn!(path = %path.display(), "the end of a file of metrics is torn, and is cut");
            file.set_len(end)?;
        }
        Ok(Self { file, end, numbers })
    }

    /// The length of what is whole.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Has the disk keep what was appended.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Cuts off what came after this length. It is to be opened anew then: it may have named series there.
    pub(super) fn cut(self, length: u64) {
        // What cannot be cut is torn, or is there twice when it is written again.
        let _ = self.file.set_len(length);
    }

    /// Appends cells. After a failure it is to be cut.
    pub(super) fn append(&mut self, items: &[(Pending, Meaning)]) -> io::Result<()> {
        let mut body = Vec::new();
        for (pending, meaning) in items {
            let number = self.number(&pending.key, meaning, &mut body);
            let cells = [(pending.minute, &pending.cell)];
            write_cells(number, cells.into_iter(), &mut body);
            if body.len() >= APPENDED_BYTES {
                self.frame(&body)?;
                body.clear();
            }
        }
        if !body.is_empty() {
            self.frame(&body)?;
        }
        Ok(())
    }

    fn number(&mut self, key: &Key, meaning: &Meaning, body: &mut Vec<u8>) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = u32::try_from(self.numbers.len()).expect("far fewer series");
        self.numbers.insert(key.clone(), number);
        write_series(number, key, meaning, body);
        number
    }

    fn frame(&mut self, body: &[u8]) -> io::Result<()> {
        let frame = frame(body)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&frame)?;
        self.end += frame.len() as u64;
        Ok(())
    }
}

/// Writes a file at once, and has the disk keep it.
pub(super) fn write_whole(
    path: &Path,
    all: &BTreeMap<Key, (Meaning, Cells)>,
    resolution: Resolution,
) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(MARK)?;
    let mut body = Vec::new();
    for (number, (key, (meaning, cells))) in (0..).zip(all) {
        write_series(number, key, meaning, &mut body);
        let cells = cells
            .iter()
            .map(|(micros, cell)| (resolution.slot(*micros), cell));
        write_cells(number, cells, &mut body);
        if body.len() >= BODY_BYTES {
            file.write_all(&frame(&body)?)?;
            body.clear();
        }
    }
    if !body.is_empty() {
        file.write_all(&frame(&body)?)?;
    }
    file.sync_all()
}

fn frame(body: &[u8]) -> io::Result<Vec<u8>> {
    let packed = zstd::bulk::compress(body, 1)?;
    let length = u32::try_from(packed.len()).map_err(io::Error::other)?;
    let mut out = Vec::with_capacity(HEAD + packed.len());
    let unpacked = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.extend(length.to_le_bytes());
    out.extend(unpacked.to_le_bytes());
    out.extend(crc32c::crc32c(&packed).to_le_bytes());
    out.extend(packed);
    Ok(out)
}

fn write_series(number: u32, key: &Key, meaning: &Meaning, out: &mut Vec<u8>) {
    out.push(SERIES);
    varint(number.into(), out);
    out.push(match key.kind {
        Kind::Gauge => 0,
        Kind::Counter => 1,
        Kind::Histogram => 2,
    });
    for part in [&key.name, &meaning.unit, &meaning.help] {
        text(part, out);
    }
    varint(key.labels.len() as u64, out);
    for (label, value) in key.labels.iter() {
        text(label, out);
        text(value, out);
    }
}

fn write_cells<'a>(
    number: u32,
    cells: impl ExactSizeIterator<Item = (i64, &'a crate::metrics::Cell)>,
    out: &mut Vec<u8>,
) {
    out.push(CELLS);
    varint(number.into(), out);
    varint(cells.len() as u64, out);
    let (mut bits, mut before) = (BitWriter::default(), Before::default());
    for (slot, cell) in cells {
        bits.cell(slot, cell, &mut before);
    }
    let bits = bits.into_bytes();
    varint(bits.len() as u64, out);
    out.extend(bits);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn text(text: &str, out: &mut Vec<u8>) {
    varint(text.len() as u64, out);
    out.extend(text.as_bytes());
}

/// Reads a file.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Up to here it is whole; 0 if not even the mark is there.
    end: usize,
    series: HashMap<u32, (Key, Meaning)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            end: 0,
            series: HashMap::new(),
        }
    }

    pub(super) fn is_torn(&self) -> bool {
        self.end < self.bytes.len()
    }

    /// Calls `found` with the cells of the series that are wanted.
    pub(super) fn each<W, F>(&mut self, wants: W, mut found: F)
    where
        W: Fn(&Key) -> bool,
        F: FnMut(&Key, &Meaning, i64, crate::metrics::Cell),
    {
        if !self.bytes.starts_with(MARK) {
            return;
        }
        self.end = MARK.len();
        while let Some((body, after)) = unframe(self.bytes, self.end) {
            let mut rest = body.as_slice();
            if self.entries(&mut rest, &wants, &mut found).is_none() {
                return;
            }
            self.end = after;
        }
    }

    fn entries<W, F>(&mut self, rest: &mut &[u8], wants: &W, found: &mut F) -> Option<()>
    where
        W: Fn(&Key) -> bool,
        F: FnMut(&Key, &Meaning, i64, crate::metrics::Cell),
    {
        while let Some((kind, after)) = rest.split_first() {
            *rest = after;
            let number = u32::try_from(take_varint(rest)?).ok()?;
            if *kind == SERIES {
                let series = take_series(rest)?;
                self.series.insert(number, series);
                continue;
            }
            let count = take_varint(rest)?;
            let bits = take_bytes(rest)?;
            let (key, meaning) = self.series.get(&number)?;
            if *kind != CELLS || !wants(key) {
                continue;
            }
            let (mut reader, mut before) = (BitReader::new(bits), Before::default());
            for _ in 0..count {
                let (slot, cell) = reader.cell(key.kind, &mut before)?;
                found(key, meaning, slot, cell);
            }
        }
        Some(())
    }
}

/// The body of the frame at a place, and where the next one begins; none if it is torn.
fn unframe(bytes: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let head = bytes.get(at..at + HEAD)?;
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let length = usize::try_from(number(0)?).ok()?;
    let unpacked = usize::try_from(number(4)?).ok()?.min(BODY_BYTES_MAX);
    let end = (at + HEAD).checked_add(length)?;
    let packed = bytes.get(at + HEAD..end)?;
    if crc32c::crc32c(packed) != number(8)? {
        return None;
    }
    let body = zstd::bulk::decompress(packed, unpacked).ok()?;
    Some((body, end))
}

fn take_series(rest: &mut &[u8]) -> Option<(Key, Meaning)> {
    let (kind, after) = rest.split_first()?;
    *rest = after;
    let kind = match kind {
        0 => Kind::Gauge,
        1 => Kind::Counter,
        2 => Kind::Histogram,
        _ => return None,
    };
    let (name, unit, help) = (take_text(rest)?, take_text(rest)?, take_text(rest)?);
    let count = take_varint(rest)?;
    let labels: Option<Labels> = (0..count)
        .map(|_| Some((take_text(rest)?, take_text(rest)?)))
        .collect();
    let key = Key {
        name: name.into(),
        kind,
        labels: Arc::new(labels?),
    };
    let (unit, help) = (unit.into(), help.into());
    Some((key, Meaning { unit, help }))
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (own, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(own)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(rest)?).ok()
}
