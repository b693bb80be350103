//! Matches: what a packet must be (OF 1.3.5 §7.2.3).

use super::field::{OxmField, OxmHeader};
use super::{Put, Reader};
use crate::error::DecodeError;

/// One field with the value that a packet must have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oxm {
    /// The field.
    pub field: OxmField,
    /// Its value, the field's last byte in the lowest eight bits.
    pub value: u128,
    /// Bits that must be equal; `None`: all.
    pub mask: Option<u128>,
}

impl Oxm {
    /// The whole field must have the value.
    pub const fn exact(field: OxmField, value: u128) -> Self {
        Self { field, value, mask: None }
    }

    /// The masked bits must have the value; a mask of all ones is the same as none.
    pub const fn masked(field: OxmField, value: u128, mask: u128) -> Self {
        let full = mask & field.all_ones() == field.all_ones();
        Self { field, value: value & mask, mask: if full { None } else { Some(mask) } }
    }

    /// Appends header, value and mask.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let spec = self.field.spec();
        let bytes = usize::from(spec.bytes);
        match self.mask {
            None => {
                spec.oxm.encode(false, spec.bytes, out);
                out.put_uint(self.value, bytes);
            }
            Some(mask) => {
                spec.oxm.encode(true, spec.bytes * 2, out);
                out.put_uint(self.value, bytes);
                out.put_uint(mask, bytes);
            }
        }
    }
}

/// A field that is not known here, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawOxm {
    /// Its class.
    pub class: u16,
    /// Its number, 7 bits.
    pub number: u8,
    /// Whether the second half of the bytes is a mask.
    pub masked: bool,
    /// What follows the four bytes of header: in the experimenter class, the experimenter's id first.
    pub bytes: Vec<u8>,
}

/// One element of a match on the wire.
enum Element {
    Known(Oxm),
    Raw(RawOxm),
}

fn decode_element(r: &mut Reader<'_>) -> Result<Element, DecodeError> {
    let mut raw = r.peek();
    let header = OxmHeader::decode(r)?;
    let payload = usize::from(header.payload);
    if let Some(field) = header.field() {
        let bytes = usize::from(field.spec().bytes);
        if payload == bytes * (1 + usize::from(header.masked)) {
            let value = r.uint(bytes)?;
            let mask = if header.masked { Some(r.uint(bytes)?) } else { None };
            return Ok(Element::Known(Oxm { field, value, mask }));
        }
    }
    r.skip(payload)?;
    let class = raw.u16()?;
    raw.skip(1)?;
    let length = usize::from(raw.u8()?);
    let bytes = raw.bytes(length)?.to_vec();
    Ok(Element::Raw(RawOxm { class, number: header.number, masked: header.masked, bytes }))
}

/// A whole match. Prerequisites (`eth_type` before `ipv4_src`...) are the caller's to add, in front.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// Fields that are known, in their order on the wire.
    pub fields: Vec<Oxm>,
    /// Fields that are not; written behind the known ones.
    pub unknown: Vec<RawOxm>,
}

impl Match {
    /// `ofp_match`'s type of an OXM match.
    const TYPE_OXM: u16 = 1;

    /// A match of known fields.
    pub const fn new(fields: Vec<Oxm>) -> Self {
        Self { fields, unknown: Vec::new() }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, field: OxmField, value: u128) -> Self {
        self.fields.push(Oxm::exact(field, value));
        self
    }

    /// Adds some bits of a field.
    #[must_use]
    pub fn with_masked(mut self, field: OxmField, value: u128, mask: u128) -> Self {
        self.fields.push(Oxm::masked(field, value, mask));
        self
    }

    /// Puts the known fields into the order of [`OxmField`], in which every prerequisite stands before what needs
    /// it (OF 1.3.5 §7.2.3.6); switches refuse others. Two matches that say the same are then equal.
    pub fn sort(&mut self) {
        self.fields.sort_unstable();
    }

    /// What it says of a field.
    pub fn get(&self, field: OxmField) -> Option<&Oxm> {
        self.fields.iter().find(|oxm| oxm.field == field)
    }

    /// Appends `ofp_match`: type, length, elements, padding to eight bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u16(Self::TYPE_OXM);
        out.put_u16(0);
        self.encode_fields(out);
        let length = out.len() - start;
        out.patch_u16(start + 2, length);
        out.put_pad8(start);
    }

    /// Appends the elements alone.
    pub fn encode_fields(&self, out: &mut Vec<u8>) {
        for oxm in &self.fields {
            oxm.encode(out);
        }
        for raw in &self.unknown {
            out.put_u16(raw.class);
            out.put_u8(raw.number << 1 | u8::from(raw.masked));
            let length = u8::try_from(raw.bytes.len()).unwrap_or(u8::MAX);
            out.put_u8(length);
            out.extend_from_slice(raw.bytes.get(..usize::from(length)).unwrap_or_default());
        }
    }

    /// Reads `ofp_match` and its padding.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut head = r.peek().at("match");
        let kind = head.u16()?;
        if kind != Self::TYPE_OXM {
            return Err(DecodeError::value("match type", u64::from(kind)));
        }
        let length = usize::from(head.u16()?);
        let mut body = r.element("match", length, 4)?;
        body.skip(4)?;
        r.pad8(length)?;
        Self::decode_fields(body)
    }

    /// Reads elements until the end. Each is at least four bytes of header, so this ends.
    pub fn decode_fields(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let mut matching = Self::default();
        while !r.is_empty() {
            match decode_element(&mut r)? {
                Element::Known(oxm) => matching.fields.push(oxm),
                Element::Raw(raw) => matching.unknown.push(raw),
            }
        }
        Ok(matching)
    }

    /// Reads one element that must be a known field, as in `set_field`; `None` if it is not known.
    pub(crate) fn decode_one(r: &mut Reader<'_>) -> Result<Option<Oxm>, DecodeError> {
        Ok(match decode_element(r)? {
            Element::Known(oxm) => Some(oxm),
            Element::Raw(_) => None,
        })
    }
}
