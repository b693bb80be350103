//! Packets to and from the controller (OF 1.3.5 §7.3.7, §7.4.1; `NXT_PACKET_IN2` in nicira-ext.h).

use super::action::{Action, decode_all, encode_all};
use super::oxm::Match;
use super::{Put, Reader};
use crate::error::DecodeError;

/// Why a packet was sent to the controller.
pub mod reason {
    /// No flow matched.
    pub const NO_MATCH: u8 = 0;
    /// A flow said so.
    pub const ACTION: u8 = 1;
    /// Its TTL was spent.
    pub const INVALID_TTL: u8 = 2;
}

/// How packets come to the controller (`enum nx_packet_in_format`).
pub mod format {
    /// As [`super::PacketIn2`].
    pub const PACKET_IN2: u32 = 2;
}

/// A packet for the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn {
    /// Where the switch keeps it; [`super::flow::NO_BUFFER`]: nowhere.
    pub buffer_id: u32,
    /// Its whole length in bytes, of which `data` may be the beginning.
    pub total_len: u16,
    /// [`reason`].
    pub reason: u8,
    /// The table of the flow that sent it.
    pub table: u8,
    /// That flow's cookie.
    pub cookie: u64,
    /// What is known of it besides its bytes: port, registers, tunnel.
    pub metadata: Match,
    /// Its bytes, from the Ethernet header on.
    pub data: Vec<u8>,
}

impl PacketIn {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.buffer_id);
        out.put_u16(self.total_len);
        out.put_u8(self.reason);
        out.put_u8(self.table);
        out.put_u64(self.cookie);
        self.metadata.encode(out);
        out.put_zeros(2);
        out.extend_from_slice(&self.data);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer_id, total_len, reason) = (r.u32()?, r.u16()?, r.u8()?);
        let (table, cookie) = (r.u8()?, r.u64()?);
        let metadata = Match::decode(&mut r)?;
        r.skip(2)?;
        Ok(Self { buffer_id, total_len, reason, table, cookie, metadata, data: r.rest().to_vec() })
    }
}

/// A packet from the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// Where the switch keeps it; [`super::flow::NO_BUFFER`]: it is in `data`.
    pub buffer_id: u32,
    /// As if it came in there; [`super::port::reserved::CONTROLLER`] if nowhere.
    pub in_port: u32,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// Its bytes, from the Ethernet header on.
    pub data: Vec<u8>,
}

impl PacketOut {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.buffer_id);
        out.put_u32(self.in_port);
        let length_at = out.len();
        out.put_u16(0);
        out.put_zeros(6);
        let start = out.len();
        encode_all(&self.actions, out);
        let length = out.len() - start;
        out.patch_u16(length_at, length);
        out.extend_from_slice(&self.data);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer_id, in_port) = (r.u32()?, r.u32()?);
        let length = usize::from(r.u16()?);
        r.skip(6)?;
        let actions = decode_all(Reader::new("packet-out's actions", r.bytes(length)?), 1)?;
        Ok(Self { buffer_id, in_port, actions, data: r.rest().to_vec() })
    }
}

/// A packet for the controller, with what the flow's `controller` action wanted to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacketIn2 {
    /// Its bytes.
    pub packet: Vec<u8>,
    /// Its whole length, if `packet` is the beginning only.
    pub full_len: Option<u32>,
    /// The table of the flow that sent it.
    pub table: Option<u8>,
    /// That flow's cookie.
    pub cookie: Option<u64>,
    /// [`reason`].
    pub reason: Option<u8>,
    /// What is known of it besides its bytes.
    pub metadata: Match,
    /// The action's bytes.
    pub userdata: Vec<u8>,
    /// Properties that are not known here: number and bytes.
    pub unknown: Vec<(u16, Vec<u8>)>,
}

/// `enum nx_packet_in2_prop_type`.
mod property {
    pub const PACKET: u16 = 0;
    pub const FULL_LEN: u16 = 1;
    pub const TABLE_ID: u16 = 3;
    pub const COOKIE: u16 = 4;
    pub const REASON: u16 = 5;
    pub const METADATA: u16 = 6;
    pub const USERDATA: u16 = 7;
}

fn put_property(out: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u16(kind);
    out.put_u16(0);
    write(out);
    let length = out.len() - start;
    out.patch_u16(start + 2, length);
    out.put_pad8(start);
}

impl PacketIn2 {
    /// Appends what follows the experimenter's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_property(out, property::PACKET, |out| out.extend_from_slice(&self.packet));
        if let Some(length) = self.full_len {
            put_property(out, property::FULL_LEN, |out| out.put_u32(length));
        }
        if let Some(table) = self.table {
            put_property(out, property::TABLE_ID, |out| out.put_u8(table));
        }
        if let Some(cookie) = self.cookie {
            put_property(out, property::COOKIE, |out| {
                // Aligned to eight bytes within the property.
                out.put_zeros(4);
                out.put_u64(cookie);
            });
        }
        if let Some(reason) = self.reason {
            put_property(out, property::REASON, |out| out.put_u8(reason));
        }
        put_property(out, property::METADATA, |out| self.metadata.encode_fields(out));
        if !self.userdata.is_empty() {
            put_property(out, property::USERDATA, |out| out.extend_from_slice(&self.userdata));
        }
        for (kind, bytes) in &self.unknown {
            put_property(out, *kind, |out| out.extend_from_slice(bytes));
        }
    }

    /// Reads what follows the experimenter's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let mut packet_in = Self::default();
        while !r.is_empty() {
            let mut head = r.peek().at("packet-in property");
            let kind = head.u16()?;
            let length = usize::from(head.u16()?);
            let mut body = r.element("packet-in property", length, 4)?;
            body.skip(4)?;
            r.pad8(length)?;
            match kind {
                property::PACKET => packet_in.packet = body.rest().to_vec(),
                property::FULL_LEN => packet_in.full_len = Some(body.u32()?),
                property::TABLE_ID => packet_in.table = Some(body.u8()?),
                property::COOKIE => {
                    body.skip(4)?;
                    packet_in.cookie = Some(body.u64()?);
                }
                property::REASON => packet_in.reason = Some(body.u8()?),
                property::METADATA => packet_in.metadata = Match::decode_fields(body.at("packet-in metadata"))?,
                property::USERDATA => packet_in.userdata = body.rest().to_vec(),
                _ => packet_in.unknown.push((kind, body.rest().to_vec())),
            }
        }
        Ok(packet_in)
    }
}
