//! The header that begins every message (OF 1.3.5 §7.1), and the type numbers.

use super::{Put, Reader};
use crate::error::{DecodeError, Fault};

/// OpenFlow 1.3's version number on the wire.
pub const VERSION: u8 = 4;

/// The first eight bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Wire version: 4 is OpenFlow 1.3.
    pub version: u8,
    /// Message type, one of [`kind`].
    pub kind: u8,
    /// Length of the message in bytes, this header included.
    pub length: u16,
    /// Transaction id: a reply carries its request's.
    pub xid: u32,
}

impl Header {
    /// Its length in bytes.
    pub const LENGTH: usize = 8;
    /// A length field has 16 bits.
    pub const MAX_LENGTH: usize = 0xffff;

    /// Reads a header and checks that its length covers it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("header", bytes);
        let header = Self { version: r.u8()?, kind: r.u8()?, length: r.u16()?, xid: r.u32()? };
        if usize::from(header.length) < Self::LENGTH {
            let fault =
                Fault::Length { declared: usize::from(header.length), least: Self::LENGTH, most: Self::MAX_LENGTH };
            return Err(DecodeError::new("header", fault));
        }
        Ok(header)
    }
}

/// Begins a message; [`end`] must be called with what this returns.
pub(crate) fn begin(out: &mut Vec<u8>, kind: u8, xid: u32) -> usize {
    let start = out.len();
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16(0);
    out.put_u32(xid);
    start
}

/// Ends the message that began at `start`: writes its length.
pub(crate) fn end(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    out.patch_u16(start + 2, length);
}

/// Message types (OF 1.3.5 §A.1).
#[allow(missing_docs)]
pub mod kind {
    pub const HELLO: u8 = 0;
    pub const ERROR: u8 = 1;
    pub const ECHO_REQUEST: u8 = 2;
    pub const ECHO_REPLY: u8 = 3;
    pub const EXPERIMENTER: u8 = 4;
    pub const FEATURES_REQUEST: u8 = 5;
    pub const FEATURES_REPLY: u8 = 6;
    pub const GET_CONFIG_REQUEST: u8 = 7;
    pub const GET_CONFIG_REPLY: u8 = 8;
    pub const SET_CONFIG: u8 = 9;
    pub const PACKET_IN: u8 = 10;
    pub const FLOW_REMOVED: u8 = 11;
    pub const PORT_STATUS: u8 = 12;
    pub const PACKET_OUT: u8 = 13;
    pub const FLOW_MOD: u8 = 14;
    pub const GROUP_MOD: u8 = 15;
    pub const PORT_MOD: u8 = 16;
    pub const TABLE_MOD: u8 = 17;
    pub const MULTIPART_REQUEST: u8 = 18;
    pub const MULTIPART_REPLY: u8 = 19;
    pub const BARRIER_REQUEST: u8 = 20;
    pub const BARRIER_REPLY: u8 = 21;
    pub const ROLE_REQUEST: u8 = 24;
    pub const ROLE_REPLY: u8 = 25;
    pub const GET_ASYNC_REQUEST: u8 = 26;
    pub const GET_ASYNC_REPLY: u8 = 27;
    pub const SET_ASYNC: u8 = 28;
    pub const METER_MOD: u8 = 29;
}

/// Experimenter ids.
pub mod experimenter {
    /// The Open Networking Foundation: OpenFlow 1.4 features for 1.3.
    pub const ONF: u32 = 0x4f4e_4600;
    /// Nicira: Open vSwitch's extensions (nicira-ext.h).
    pub const NICIRA: u32 = 0x0000_2320;
}
