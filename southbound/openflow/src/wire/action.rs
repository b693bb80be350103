//! Actions: what is done to a packet (OF 1.3.5 §7.2.5; Nicira's in Open vSwitch's ofp-actions.c and
//! ovs-actions(7)).

use super::field::OxmField;
use super::header::experimenter::NICIRA;
use super::oxm::{Match, Oxm};
use super::{MAX_DEPTH, Put, Reader};
use crate::error::{DecodeError, Fault};

mod ct;
mod nicira;

pub use ct::{Ct, CtZone};

/// Consecutive bits of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subfield {
    /// The field.
    pub field: OxmField,
    /// Lowest bit.
    pub offset: u16,
    /// How many bits, at least 1.
    pub bits: u16,
}

impl Subfield {
    /// Bits from `offset` on.
    pub const fn new(field: OxmField, offset: u16, bits: u16) -> Self {
        Self { field, offset, bits }
    }

    /// All bits of a field.
    pub const fn whole(field: OxmField) -> Self {
        Self { field, offset: 0, bits: field.spec().bits }
    }

    /// Offset and count as most actions pack them: at most 64 bits.
    const fn packed(self) -> u16 {
        self.offset << 6 | self.bits.saturating_sub(1) & 0x3f
    }

    const fn unpacked(field: OxmField, packed: u16) -> Self {
        Self { field, offset: packed >> 6, bits: (packed & 0x3f) + 1 }
    }
}

/// What is done to a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Send out of a port.
    Output {
        /// Port number, or one of [`super::port::reserved`].
        port: u32,
        /// Bytes to send to the controller, if that is the port; 0xffff: all.
        max_len: u16,
    },
    /// Give to a group.
    Group(u32),
    /// Set a whole field.
    SetField {
        /// The field.
        field: OxmField,
        /// Its new value.
        value: u128,
    },
    /// Set some bits of a field (Nicira's `reg_load2`).
    SetMasked(Oxm),
    /// Push a VLAN tag with this Ethertype.
    PushVlan(u16),
    /// Pop the outer VLAN tag.
    PopVlan,
    /// Decrement the TTL or hop limit.
    DecNwTtl,
    /// Do these to a copy of the packet; the packet itself stays as it is.
    Clone(Vec<Action>),
    /// Look the packet up once more.
    Resubmit {
        /// As if from this port (16-bit number); 0xfff8: its own.
        in_port: u16,
        /// In this table; 255: the current one.
        table: u8,
    },
    /// Copy bits from one field to another.
    Move {
        /// From here.
        src: Subfield,
        /// To this field...
        dst: OxmField,
        /// ...at this bit.
        dst_offset: u16,
    },
    /// Write a number into bits of a field.
    Load {
        /// The bits, at most 64; not of a field that only an experimenter code names.
        dst: Subfield,
        /// The number.
        value: u64,
    },
    /// Send out of the port whose number is in a field.
    OutputReg {
        /// Where the number is.
        src: Subfield,
        /// Bytes to send to the controller, if that is the port.
        max_len: u16,
    },
    /// Send through the connection tracker.
    Ct(Ct),
    /// Write into one bit whether the packet is longer than so many bytes.
    CheckPktLarger {
        /// The most bytes that are not longer, from the Ethernet header on.
        limit: u16,
        /// The bit.
        dst: Subfield,
    },
    /// Forget the connection tracker's answer.
    CtClear,
    /// This flow is one clause of a conjunction.
    Conjunction {
        /// The conjunction: `conj_id` of the flow that acts.
        id: u32,
        /// Which clause, from 0.
        clause: u8,
        /// How many clauses there are.
        clauses: u8,
    },
    /// Send to the controllers that have an id.
    Controller(Controller),
    /// Bytes without an effect: six, or six and a multiple of eight.
    Note(Vec<u8>),
    /// An action that is not known here, kept as it came.
    Unknown {
        /// Its type.
        kind: u16,
        /// What follows type and length.
        data: Vec<u8>,
    },
}

/// Nicira's `controller` action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Controller {
    /// Bytes of the packet to send; 0xffff: all.
    pub max_len: u16,
    /// Only to controllers that set this id for themselves.
    pub id: u16,
    /// `OFPR_*`.
    pub reason: u8,
    /// Bytes to give back in `NXT_PACKET_IN2`.
    pub userdata: Vec<u8>,
    /// Whether the pipeline can be resumed.
    pub pause: bool,
    /// The meter that limits it.
    pub meter: Option<u32>,
}

impl Default for Controller {
    /// The whole packet to controllers with id 0, because an action says so.
    fn default() -> Self {
        Self {
            max_len: 0xffff,
            id: 0,
            reason: super::packet::reason::ACTION,
            userdata: Vec::new(),
            pause: false,
            meter: None,
        }
    }
}

const OUTPUT: u16 = 0;
const PUSH_VLAN: u16 = 17;
const POP_VLAN: u16 = 18;
const GROUP: u16 = 22;
const DEC_NW_TTL: u16 = 24;
const SET_FIELD: u16 = 25;
const EXPERIMENTER: u16 = 0xffff;

/// Appends one after another.
pub fn encode_all(actions: &[Action], out: &mut Vec<u8>) {
    for action in actions {
        action.encode(out);
    }
}

/// Reads actions until the end. `depth` lists are around this one.
pub fn decode_all(mut r: Reader<'_>, depth: usize) -> Result<Vec<Action>, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::new("action", Fault::Depth(MAX_DEPTH)));
    }
    let mut actions = Vec::new();
    while !r.is_empty() {
        actions.push(Action::decode(&mut r, depth)?);
    }
    Ok(actions)
}

impl Action {
    /// Output to a port.
    pub const fn output(port: u32) -> Self {
        Self::Output { port, max_len: 0 }
    }

    /// Look up in another table.
    pub const fn resubmit(table: u8) -> Self {
        Self::Resubmit { in_port: nicira::IN_PORT, table }
    }

    /// Write a number into a whole field.
    pub const fn load(field: OxmField, value: u64) -> Self {
        Self::Load { dst: Subfield::whole(field), value }
    }

    /// Copy a whole field into another that has as many bits.
    pub const fn copy(src: OxmField, dst: OxmField) -> Self {
        Self::Move { src: Subfield::whole(src), dst, dst_offset: 0 }
    }

    /// Appends it, with its padding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Output { port, max_len } => {
                head(out, OUTPUT);
                out.put_u32(*port);
                out.put_u16(*max_len);
                out.put_zeros(6);
            }
            Self::Group(id) => {
                head(out, GROUP);
                out.put_u32(*id);
            }
            Self::SetField { field, value } => {
                head(out, SET_FIELD);
                Oxm::exact(*field, *value).encode(out);
                out.put_pad8(start);
            }
            Self::PushVlan(ethertype) => {
                head(out, PUSH_VLAN);
                out.put_u16(*ethertype);
                out.put_zeros(2);
            }
            Self::PopVlan => {
                head(out, POP_VLAN);
                out.put_zeros(4);
            }
            Self::DecNwTtl => {
                head(out, DEC_NW_TTL);
                out.put_zeros(4);
            }
            Self::Unknown { kind, data } => {
                head(out, *kind);
                out.extend_from_slice(data);
            }
            other => {
                head(out, EXPERIMENTER);
                out.put_u32(NICIRA);
                nicira::encode(other, start, out);
            }
        }
        let length = out.len() - start;
        out.patch_u16(start + 2, length);
    }

    fn decode(r: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        let mut head = r.peek().at("action");
        let kind = head.u16()?;
        let length = usize::from(head.u16()?);
        // OF 1.3.5 §7.2.5: the length is a multiple of 8 and counts the header.
        if !length.is_multiple_of(8) {
            return Err(DecodeError::new("action", Fault::Length { declared: length, least: 8, most: r.len() }));
        }
        let mut body = r.element("action", length, 8)?;
        body.skip(4)?;
        let whole = body;
        let known = match kind {
            OUTPUT => Some(Self::Output { port: body.u32()?, max_len: body.u16()? }),
            GROUP => Some(Self::Group(body.u32()?)),
            PUSH_VLAN => Some(Self::PushVlan(body.u16()?)),
            POP_VLAN => Some(Self::PopVlan),
            DEC_NW_TTL => Some(Self::DecNwTtl),
            SET_FIELD => Match::decode_one(&mut body)?
                .filter(|oxm| oxm.mask.is_none())
                .map(|oxm| Self::SetField { field: oxm.field, value: oxm.value }),
            EXPERIMENTER if body.u32()? == NICIRA => nicira::decode(&mut body, depth)?,
            _ => None,
        };
        Ok(known.unwrap_or_else(|| Self::Unknown { kind, data: { whole }.rest().to_vec() }))
    }
}

fn head(out: &mut Vec<u8>, kind: u16) {
    out.put_u16(kind);
    out.put_u16(0);
}
