//! What a request would take in memory, before it is decoded.
//!
//! Two bytes of protobuf can be a whole empty span, 300 bytes large: sixteen megabytes sent would be
//! gigabytes held. So the lengths are walked first, by the shape of OTLP and nothing else, and what
//! would grow too large is refused. Decoding into our own types without messages between would need
//! no such walk, and five times the code; the walk takes a tenth of the time of decoding.

use super::door::Signal;

/// What the messages of one request may take, decoded.
pub const WEIGHT_MAX: usize = 128 << 20;

/// Bodies up to this size cannot grow beyond what is harmless, and are not walked.
const SMALL_BYTES: usize = 64 << 10;

/// Values within values; the decoder allows 100.
const DEPTH_MAX: usize = 90;

/// Objects and commas that JSON of [`WEIGHT_MAX`] may have: each may become a message or a number.
const JSON_PARTS_MAX: usize = WEIGHT_MAX / 256;

/// What a message takes, and those within it, by their field.
struct Shape {
    bytes: usize,
    within: &'static [(u64, &'static Shape)],
}

static VALUE: Shape = shape(40, &[(5, &VALUES), (6, &PAIRS)]);
static VALUES: Shape = shape(24, &[(1, &VALUE)]);
static PAIRS: Shape = shape(24, &[(1, &PAIR)]);
static PAIR: Shape = shape(72, &[(2, &VALUE)]);
static RESOURCE: Shape = shape(64, &[(1, &PAIR)]);
static SCOPE: Shape = shape(80, &[(3, &PAIR)]);
static SPAN: Shape = shape(304, &[(9, &PAIR), (11, &EVENT), (13, &LINK)]);
static EVENT: Shape = shape(64, &[(3, &PAIR)]);
static LINK: Shape = shape(112, &[(4, &PAIR)]);
static SCOPE_SPANS: Shape = shape(160, &[(1, &SCOPE), (2, &SPAN)]);
static RESOURCE_SPANS: Shape = shape(128, &[(1, &RESOURCE), (2, &SCOPE_SPANS)]);
static TRACES: Shape = shape(24, &[(1, &RESOURCE_SPANS)]);
static RECORD: Shape = shape(232, &[(5, &VALUE), (6, &PAIR)]);
static SCOPE_LOGS: Shape = shape(160, &[(1, &SCOPE), (2, &RECORD)]);
static RESOURCE_LOGS: Shape = shape(128, &[(1, &RESOURCE), (2, &SCOPE_LOGS)]);
static LOGS: Shape = shape(24, &[(1, &RESOURCE_LOGS)]);
static EXEMPLAR: Shape = shape(112, &[(7, &PAIR)]);
static NUMBER: Shape = shape(96, &[(7, &PAIR), (5, &EXEMPLAR)]);
static BUCKETS: Shape = shape(32, &[(2, &COUNTS)]);
/// Counts that lie packed: a byte each at least, eight of them in memory.
static COUNTS: Shape = shape(0, &[]);
static EXPLICIT: Shape = shape(184, &[(9, &PAIR), (8, &EXEMPLAR)]);
static EXPONENTIAL: Shape = shape(
    240,
    &[(1, &PAIR), (8, &BUCKETS), (9, &BUCKETS), (11, &EXEMPLAR)],
);
static QUANTILE: Shape = shape(16, &[]);
static SUMMARY: Shape = shape(96, &[(7, &PAIR), (6, &QUANTILE)]);
static GAUGES: Shape = shape(24, &[(1, &NUMBER)]);
static EXPLICITS: Shape = shape(32, &[(1, &EXPLICIT)]);
static EXPONENTIALS: Shape = shape(32, &[(1, &EXPONENTIAL)]);
static SUMMARIES: Shape = shape(24, &[(1, &SUMMARY)]);
static METRIC: Shape = shape(
    136,
    &[
        (5, &GAUGES),
        (7, &GAUGES),
        (9, &EXPLICITS),
        (10, &EXPONENTIALS),
        (11, &SUMMARIES),
        (12, &PAIR),
    ],
);
static SCOPE_METRICS: Shape = shape(160, &[(1, &SCOPE), (2, &METRIC)]);
static RESOURCE_METRICS: Shape = shape(128, &[(1, &RESOURCE), (2, &SCOPE_METRICS)]);
static METRICS: Shape = shape(24, &[(1, &RESOURCE_METRICS)]);

const fn shape(bytes: usize, within: &'static [(u64, &'static Shape)]) -> Shape {
    Shape { bytes, within }
}

/// Why a request is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The lengths in it do not fit, or it is cut off.
    #[error("the request is not protobuf")]
    Malformed,
    /// It would take more than [`WEIGHT_MAX`].
    #[error("the request would take more than {} MiB when decoded; send smaller batches", WEIGHT_MAX >> 20)]
    TooLarge,
}

/// Whether a request of protobuf may be decoded.
///
/// # Errors
/// When it cannot be, or should not.
pub fn protobuf(signal: Signal, body: &[u8]) -> Result<(), Unfit> {
    if body.len() <= SMALL_BYTES {
        return Ok(());
    }
    let shape = match signal {
        Signal::Traces => &TRACES,
        Signal::Logs => &LOGS,
        Signal::Metrics => &METRICS,
    };
    let mut left = WEIGHT_MAX;
    walk(body, shape, 0, &mut left)
}

/// Whether a request of JSON may be decoded.
///
/// # Errors
/// When it should not be.
pub fn json(body: &[u8]) -> Result<(), Unfit> {
    let parts = memchr::memchr3_iter(b'{', b',', b'[', body).take(JSON_PARTS_MAX + 1);
    if parts.count() > JSON_PARTS_MAX {
        return Err(Unfit::TooLarge);
    }
    Ok(())
}

fn walk(mut rest: &[u8], shape: &Shape, depth: usize, left: &mut usize) -> Result<(), Unfit> {
    take(shape.bytes, left)?;
    if depth > DEPTH_MAX {
        return Err(Unfit::Malformed);
    }
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let length = match key & 7 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(varint(&mut rest)?).map_err(|_| Unfit::Malformed)?,
            // Groups, which OTLP has never had.
            _ => return Err(Unfit::Malformed),
        };
        let (own, after) = rest.split_at_checked(length).ok_or(Unfit::Malformed)?;
        rest = after;
        if key & 7 != 2 {
            continue;
        }
        let within = shape.within.iter().find(|(field, _)| *field == key >> 3);
        match within {
            Some((_, shape)) if std::ptr::eq(*shape, &raw const COUNTS) => {
                take(own.len().saturating_mul(8), left)?;
            }
            Some((_, shape)) => walk(own, shape, depth + 1, left)?,
            None => take(own.len(), left)?,
        }
    }
    Ok(())
}

fn take(bytes: usize, left: &mut usize) -> Result<(), Unfit> {
    *left = left.checked_sub(bytes).ok_or(Unfit::TooLarge)?;
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, Unfit> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Unfit::Malformed)?;
        *rest = after;
        // The tenth byte has one bit that counts; what lies beyond is lost, as every decoder does.
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unfit::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` empty messages in field `field` of the one within fields `path` of the request.
    fn empty_messages(path: &[u8], field: u8, count: usize) -> Vec<u8> {
        let mut body = [field << 3 | 2, 0].repeat(count);
        for field in path.iter().rev() {
            let mut outer = vec![field << 3 | 2];
            let mut length = body.len();
            while length >= 0x80 {
                outer.push(length as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.extend(body);
            body = outer;
        }
        body
    }

    #[test]
    fn a_flood_of_empty_messages_is_too_large_and_an_ordinary_request_is_not() {
        let few = empty_messages(&[1, 2], 2, 100_000);
        assert_eq!(protobuf(Signal::Traces, &few), Ok(()));
        let many = empty_messages(&[1, 2], 2, 1_000_000);
        assert_eq!(protobuf(Signal::Traces, &many), Err(Unfit::TooLarge));
        assert_eq!(protobuf(Signal::Logs, &many), Err(Unfit::TooLarge));
        let attributes = empty_messages(&[1, 1], 1, 4_000_000);
        assert_eq!(protobuf(Signal::Metrics, &attributes), Err(Unfit::TooLarge));
        assert_eq!(json(&b"{},".repeat(1_000_000)), Err(Unfit::TooLarge));
        assert_eq!(json(&b"{},".repeat(1000)), Ok(()));
    }

    #[test]
    fn lengths_that_lie_are_found() {
        let mut cut = empty_messages(&[1, 2], 2, 100_000);
        cut.pop();
        assert_eq!(protobuf(Signal::Traces, &cut), Err(Unfit::Malformed));
        // An attribute of a resource whose value is a list of a list of a list, and so on.
        let path = [&[1, 1, 1][..], &[2], &[5, 1].repeat(100)].concat();
        let deep = empty_messages(&path, 5, 40_000);
        assert_eq!(protobuf(Signal::Traces, &deep), Err(Unfit::Malformed));
    }
}
