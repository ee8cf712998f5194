//! One record after the other, each when the one before is acknowledged: Produce 3 by hand. Between
//! rows of them, what the disk alone takes: both see the same moments of a disk that others use too.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

use crate::VALUE;
use crate::disk::Disk;

/// So many of one kind, then of the other: one right after the other would share a journal's commit.
const ROW: usize = 50;

pub(crate) fn one(
    address: &str,
    topic: &str,
    folder: &Path,
    count: usize,
) -> anyhow::Result<Vec<f64>> {
    crate::kafka::make(address, &[topic.to_owned()], 1)?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = produce(topic);
    let mut disk = Disk::new(folder)?;
    let (mut times, mut bare) = (Vec::new(), Vec::new());
    let mut answer = vec![0; 4096];
    for number in 0..count {
        if number % ROW == 0 {
            for _ in 0..ROW {
                bare.push(disk.sync()?);
            }
        }
        let begun = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut answer[..4])?;
        let length = u32::from_be_bytes([answer[0], answer[1], answer[2], answer[3]]) as usize;
        stream.read_exact(&mut answer[..length])?;
        times.push(begun.elapsed());
        // Correlation, one topic and its name, one partition and its number; then the error.
        let at = 4 + 4 + 2 + topic.len() + 4 + 4;
        ensure!(
            answer[at..at + 2] == [0, 0],
            "refused: {:?}",
            &answer[at..at + 2]
        );
    }
    Ok(vec![crate::median(times), crate::median(bare)])
}

/// A whole frame.
fn produce(topic: &str) -> Vec<u8> {
    let records = batch();
    let mut body = Vec::new();
    body.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 7, 255, 255]);
    body.extend_from_slice(&[255, 255, 255, 255]);
    body.extend_from_slice(&30_000_u32.to_be_bytes());
    body.extend_from_slice(&1_u32.to_be_bytes());
    body.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&1_u32.to_be_bytes());
    body.extend_from_slice(&0_u32.to_be_bytes());
    body.extend_from_slice(&(records.len() as u32).to_be_bytes());
    body.extend_from_slice(&records);
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// A batch of one record, of no producer.
fn batch() -> Vec<u8> {
    // Attributes, time and offset deltas, no key, the value (its length in zigzag), no headers.
    let mut record = vec![0, 0, 0, 1, 0xc8, 0x01];
    record.extend_from_slice(&VALUE);
    record.push(0);
    let mut covered = vec![0; 2 + 4];
    covered.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    covered.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    covered.extend_from_slice(&[255; 8 + 2 + 4]);
    covered.extend_from_slice(&1_u32.to_be_bytes());
    let length = (record.len() as u32) << 1;
    covered.extend_from_slice(&[(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
    covered.extend_from_slice(&record);
    let mut batch = vec![0; 8];
    batch.extend_from_slice(&(covered.len() as u32 + 9).to_be_bytes());
    batch.extend_from_slice(&[255, 255, 255, 255, 2]);
    batch.extend_from_slice(&crc32c::crc32c(&covered).to_be_bytes());
    batch.extend_from_slice(&covered);
    batch
}
