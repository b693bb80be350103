//! The messages, byte for byte, both ways.
//!
//! Encoders append to one caller-supplied `Vec<u8>` and patch lengths afterwards. Decoders read through
//! [`Reader`], which never goes past its end; a list's elements are always cut off by their own declared
//! length first, which must cover their fixed part, so that every round consumes something.

pub mod action;
pub mod async_config;
pub mod bundle;
pub mod field;
pub mod flow;
pub mod group;
pub mod header;
pub mod hello;
pub mod instruction;
pub mod message;
pub mod meter;
pub mod multipart;
pub mod oxm;
pub mod packet;
pub mod port;
pub mod stats;
pub mod switch;
pub mod tlv;

#[cfg(test)]
mod tests;

use crate::error::{DecodeError, Fault};

/// Most action lists inside one another: the flow's own and one `ct(exec(...))` are all that switches accept;
/// a little more is read so that a foreign flow does not end a session, and no more so that the stack is safe.
pub const MAX_DEPTH: usize = 4;

/// A part of a message that is being read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    place: &'static str,
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, naming `place` in errors.
    pub const fn new(place: &'static str, bytes: &'a [u8]) -> Self {
        Self { place, left: bytes }
    }

    /// The same bytes under another name.
    pub const fn at(self, place: &'static str) -> Self {
        Self { place, left: self.left }
    }

    /// Bytes not yet read.
    pub const fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether all is read.
    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.left.split_at_checked(n) {
            Some((head, tail)) => {
                self.left = tail;
                Ok(head)
            }
            None => Err(DecodeError::new(self.place, Fault::Short { need: n, have: self.left.len() })),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.left.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.left = tail;
                Ok(*head)
            }
            None => Err(DecodeError::new(self.place, Fault::Short { need: N, have: self.left.len() })),
        }
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Passes over `n` bytes of padding, whatever they hold.
    pub fn skip(&mut self, n: usize) -> Result<(), DecodeError> {
        self.bytes(n).map(|_| ())
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Up to 16 bytes, big-endian, right-aligned.
    pub fn uint(&mut self, n: usize) -> Result<u128, DecodeError> {
        let bytes = self.bytes(n)?;
        if n > 16 {
            return Err(DecodeError::new(self.place, Fault::Length { declared: n, least: 0, most: 16 }));
        }
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
    }

    /// A copy that has not advanced, to look ahead.
    pub const fn peek(&self) -> Self {
        *self
    }

    /// Cuts off an element that declares `declared` bytes in all, of which `fixed` are its fixed part.
    pub fn element(&mut self, place: &'static str, declared: usize, fixed: usize) -> Result<Self, DecodeError> {
        if declared < fixed || declared > self.left.len() || declared == 0 {
            let fault = Fault::Length { declared, least: fixed.max(1), most: self.left.len() };
            return Err(DecodeError::new(place, fault));
        }
        Ok(Self::new(place, self.bytes(declared)?))
    }

    /// Passes over the padding behind an element of `length` bytes up to the next multiple of eight; a sender
    /// may leave it out at the very end.
    pub fn pad8(&mut self, length: usize) -> Result<(), DecodeError> {
        let pad = length.next_multiple_of(8).saturating_sub(length).min(self.left.len());
        self.skip(pad)
    }

    /// Fails unless all is read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::new(self.place, Fault::Trailing(self.left.len()))) }
    }
}

/// Appending numbers to a message.
pub(crate) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_uint(&mut self, value: u128, bytes: usize);
    fn put_zeros(&mut self, n: usize);
    fn put_pad8(&mut self, from: usize);
    fn patch_u16(&mut self, at: usize, value: usize);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    /// The low `bytes` bytes of `value`.
    fn put_uint(&mut self, value: u128, bytes: usize) {
        let all = value.to_be_bytes();
        let from = all.len().saturating_sub(bytes);
        self.extend_from_slice(all.get(from..).unwrap_or_default());
    }

    fn put_zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }

    /// Zeros until what began at `from` fills a multiple of eight bytes.
    fn put_pad8(&mut self, from: usize) {
        let length = self.len() - from;
        self.put_zeros(length.next_multiple_of(8) - length);
    }

    /// Writes `value` where two bytes were left for it. A value over 65535 is written as 65535: the frame is
    /// then wrong for its receiver, and [`header::Header::MAX_LENGTH`] is checked by those who build messages.
    fn patch_u16(&mut self, at: usize, value: usize) {
        let value = u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = self.get_mut(at..at + 2) {
            place.copy_from_slice(&value);
        }
    }
}

/// An enum with a number for each case, refused on the wire if there is none.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$case_doc:meta])* $case:ident = $number:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$case_doc])* $case,)+ }

        impl $name {
            /// Every case.
            pub const ALL: &'static [Self] = &[$(Self::$case,)+];

            /// Its number on the wire.
            pub const fn number(self) -> $repr {
                match self { $(Self::$case => $number,)+ }
            }

            /// The case of a number.
            pub fn from_number(number: $repr) -> Result<Self, $crate::error::DecodeError> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|case| case.number() == number)
                    .ok_or($crate::error::DecodeError::value(stringify!($name), u64::from(number)))
            }
        }
    };
}
pub(crate) use wire_enum;
