//! Protobuf's wire format: the fields of a message, one after the other, as parts of its bytes.
//!
//! Nothing is copied and nothing is kept: a message takes no memory beyond the bytes it came in. Sixteen
//! megabytes of empty messages, two bytes each, would be gigabytes of structures.
//! <https://protobuf.dev/programming-guides/encoding/>

use std::marker::PhantomData;

/// Why a request is no protobuf, or not of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length leads beyond the end.
    #[error("the request is not protobuf: it ends within a field")]
    Cut,
    /// A number of more than ten bytes.
    #[error("the request is not protobuf: a number in it does not end")]
    LongNumber,
    /// A wire type that OTLP has never had, or no field at all.
    #[error("the request is not protobuf: there is no field of this kind")]
    UnknownField,
    /// A field that OTLP has, with another type.
    #[error("the request is not of OTLP: field {0} of a message is of another type")]
    WrongType(u32),
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Nobody looks at any of four bytes.
    Fixed32,
}

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) wire: Wire<'a>,
    /// The message from this field on.
    from: &'a [u8],
}

/// The fields of a message, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

/// What a field becomes in a message. One that comes again adds to a list, or replaces what was there: protobuf would
/// have two messages of one field merged, which no sender of OTLP makes.
pub(super) trait Part<'a>: Default {
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed>;
}

/// A message: read when somebody looks.
pub(super) trait Message<'a>: Sized {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed>;
}

/// Messages of one field.
#[derive(Debug)]
pub(super) struct Repeated<'a, M> {
    /// The message around them, from the first on.
    from: &'a [u8],
    number: u32,
    count: usize,
    message: PhantomData<M>,
}

/// Numbers of one field, each a varint: one byte can be one number, so not more than anybody sends are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Varints(pub(super) Vec<u64>);

/// What is kept of [`Varints`].
const VARINTS_MAX: usize = 64 << 10;

impl<'a> Field<'a> {
    pub(super) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.wire {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong()),
        }
    }

    pub(super) fn varint(&self) -> Result<u64, Malformed> {
        match self.wire {
            Wire::Varint(number) => Ok(number),
            _ => Err(self.wrong()),
        }
    }

    pub(super) fn fixed64(&self) -> Result<u64, Malformed> {
        match self.wire {
            Wire::Fixed64(number) => Ok(number),
            _ => Err(self.wrong()),
        }
    }

    const fn wrong(&self) -> Malformed {
        Malformed::WrongType(self.number)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field())
    }
}

impl<'a> Fields<'a> {
    #[inline]
    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let from = self.0;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed::UnknownField)?;
        if number == 0 {
            return Err(Malformed::UnknownField);
        }
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Cut)?;
                let (own, rest) = self.0.split_at_checked(length).ok_or(Malformed::Cut)?;
                self.0 = rest;
                Wire::Bytes(own)
            }
            5 => {
                self.array::<4>()?;
                Wire::Fixed32
            }
            _ => return Err(Malformed::UnknownField),
        };
        Ok(Field { number, wire, from })
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (own, rest) = self.0.split_first_chunk().ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(*own)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        // Mostly it is one byte.
        if let Some((byte, rest)) = self.0.split_first()
            && *byte < 0x80
        {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            // Of the tenth byte one bit counts; what lies beyond is lost.
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 {
            Malformed::Cut
        } else {
            Malformed::LongNumber
        })
    }
}

impl<'a, M: Message<'a>> Repeated<'a, M> {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each, read when its turn comes.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<M, Malformed>> + use<'a, M> {
        let number = self.number;
        let own = Fields(self.from).filter_map(move |field| match field {
            Ok(field) if field.number != number => None,
            Ok(field) => Some(field.bytes().and_then(M::read)),
            Err(error) => Some(Err(error)),
        });
        own.take(self.count)
    }
}

impl<M> Copy for Repeated<'_, M> {}

impl<M> Clone for Repeated<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Default for Repeated<'_, M> {
    fn default() -> Self {
        Self {
            from: &[],
            number: 0,
            count: 0,
            message: PhantomData,
        }
    }
}

impl<'a, M> Part<'a> for Repeated<'a, M> {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        field.bytes()?;
        if self.count == 0 {
            (self.from, self.number) = (field.from, field.number);
        }
        self.count += 1;
        Ok(())
    }
}

impl<'a, T: Part<'a>> Part<'a> for Option<T> {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        self.insert(T::default()).set(field)
    }
}

/// Bytes, and texts before they are looked at.
impl<'a> Part<'a> for &'a [u8] {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        *self = field.bytes()?;
        Ok(())
    }
}

/// `fixed64`
impl<'a> Part<'a> for u64 {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        *self = field.fixed64()?;
        Ok(())
    }
}

/// `sfixed64`
impl<'a> Part<'a> for i64 {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        *self = field.fixed64()?.cast_signed();
        Ok(())
    }
}

/// `double`
impl<'a> Part<'a> for f64 {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        *self = Self::from_bits(field.fixed64()?);
        Ok(())
    }
}

/// `uint32`, and the numbers of an enum.
impl<'a> Part<'a> for u32 {
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the format says that what lies beyond is lost"
    )]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        *self = field.varint()? as Self;
        Ok(())
    }
}

/// `sint32`: 0, -1, 1, -2 and so on.
impl<'a> Part<'a> for i32 {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        let mut folded = 0_u32;
        folded.set(field)?;
        *self = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
        Ok(())
    }
}

impl<'a> Part<'a> for bool {
    #[inline]
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        *self = field.varint()? != 0;
        Ok(())
    }
}

/// Many of `fixed64`, packed or one by one.
impl<'a> Part<'a> for Vec<u64> {
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        match field.wire {
            Wire::Fixed64(number) => self.push(number),
            _ => self.extend(eights(&field)?.map(u64::from_le_bytes)),
        }
        Ok(())
    }
}

/// Many of `double`, packed or one by one.
impl<'a> Part<'a> for Vec<f64> {
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        match field.wire {
            Wire::Fixed64(bits) => self.push(f64::from_bits(bits)),
            _ => self.extend(eights(&field)?.map(f64::from_le_bytes)),
        }
        Ok(())
    }
}

fn eights<'a>(field: &Field<'a>) -> Result<impl Iterator<Item = [u8; 8]> + use<'a>, Malformed> {
    let (numbers, rest) = field.bytes()?.as_chunks();
    if rest.is_empty() {
        Ok(numbers.iter().copied())
    } else {
        Err(Malformed::Cut)
    }
}

impl<'a> Part<'a> for Varints {
    fn set(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        if let Wire::Varint(number) = field.wire {
            self.add(number);
            return Ok(());
        }
        let mut rest = Fields(field.bytes()?);
        while !rest.0.is_empty() {
            let number = rest.varint()?;
            self.add(number);
        }
        Ok(())
    }
}

impl Varints {
    fn add(&mut self, number: u64) {
        if self.0.len() < VARINTS_MAX {
            self.0.push(number);
        }
    }
}
