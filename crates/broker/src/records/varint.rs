//! Numbers of variable length, as Protocol Buffers and Kafka write them: seven bits a byte, least
//! first, zigzag so that small negative numbers are short.
//!
//! Longer encodings of a number than needed are read, as Kafka's clients do; bits that do not fit
//! the number are an error, not lost.

use super::RecordsError;

/// Reads from a slice and remembers where it is, for errors and to cut fields out.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, end: usize) -> Self {
        let end = end.min(bytes.len());
        Self { bytes, at, end }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> usize {
        self.end - self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, RecordsError> {
        if self.at >= self.end {
            return Err(RecordsError::Truncated(self.at));
        }
        let byte = self.bytes[self.at];
        self.at += 1;
        Ok(byte)
    }

    /// Up to `bits` bits.
    fn unsigned(&mut self, bits: u32) -> Result<u64, RecordsError> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in (0..bits).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if bits - shift < 7 && part >> (bits - shift) != 0 {
                return Err(RecordsError::Varint(start));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordsError::Varint(start))
    }

    pub(super) fn varint(&mut self) -> Result<i32, RecordsError> {
        let raw = self.unsigned(32)?;
        let value = (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed();
        Ok(i32::try_from(value).expect("32 bits in zigzag are 32 bits"))
    }

    pub(super) fn varlong(&mut self) -> Result<i64, RecordsError> {
        let raw = self.unsigned(64)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A length of at least `least` that fits what is left, each unit of it taking a byte or more.
    pub(super) fn length(&mut self, least: i32) -> Result<Option<usize>, RecordsError> {
        let at = self.at;
        let length = self.varint()?;
        let fits = usize::try_from(length).ok().filter(|n| *n <= self.rest());
        if length < least || (length >= 0 && fits.is_none()) {
            let length = i64::from(length);
            return Err(RecordsError::Length { at, length });
        }
        Ok(fits)
    }

    /// The field of this length, as a range.
    pub(super) fn field(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.at;
        self.at = (start + length).min(self.end);
        start..self.at
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn int(bytes: &[u8]) -> Result<i32, RecordsError> {
        Cursor::new(bytes, 0, bytes.len()).varint()
    }

    fn long(bytes: &[u8]) -> Result<i64, RecordsError> {
        Cursor::new(bytes, 0, bytes.len()).varlong()
    }

    #[test]
    fn small_numbers_are_short_and_known() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[126]),
            (-64, &[127]),
            (64, &[0x80, 1]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(int(bytes).unwrap(), value);
        }
    }

    #[test]
    fn bits_that_do_not_fit_are_an_error() {
        assert!(matches!(
            int(&[0xff, 0xff, 0xff, 0xff, 0x1f]),
            Err(RecordsError::Varint(0))
        ));
        assert!(matches!(int(&[0x80; 6]), Err(RecordsError::Varint(0))));
        let mut long_one = [0xff; 10];
        long_one[9] = 0x01;
        assert_eq!(long(&long_one).unwrap(), i64::MIN);
        long_one[9] = 0x02;
        assert!(matches!(long(&long_one), Err(RecordsError::Varint(0))));
        assert!(matches!(long(&[0x80; 11]), Err(RecordsError::Varint(0))));
    }

    #[test]
    fn a_number_that_breaks_off_is_an_error_and_a_padded_one_is_not() {
        assert!(matches!(int(&[0x80]), Err(RecordsError::Truncated(1))));
        assert_eq!(int(&[0x82, 0x80, 0]).unwrap(), 1);
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: i64, short: i32) {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            prop_assert_eq!(long(&out).unwrap(), value);
            out.clear();
            put_varint(&mut out, short);
            prop_assert_eq!(int(&out).unwrap(), short);
        }
    }
}
