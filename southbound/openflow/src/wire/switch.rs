//! The switch as a whole: features, configuration, description (OF 1.3.5 §7.3.1, §7.3.2, §7.3.5.1).

use super::port::{decode_text, encode_text};
use super::{Put, Reader};
use crate::error::DecodeError;

/// A switch's answer to who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Its datapath id.
    pub datapath_id: u64,
    /// Packets that it can keep.
    pub buffers: u32,
    /// Its tables.
    pub tables: u8,
    /// Which connection this is; 0: the main one.
    pub auxiliary: u8,
    /// `OFPC_*`.
    pub capabilities: u32,
}

impl Features {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.datapath_id);
        out.put_u32(self.buffers);
        out.put_u8(self.tables);
        out.put_u8(self.auxiliary);
        out.put_zeros(2);
        out.put_u32(self.capabilities);
        out.put_zeros(4);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let (datapath_id, buffers, tables, auxiliary) = (r.u64()?, r.u32()?, r.u8()?, r.u8()?);
        r.skip(2)?;
        let capabilities = r.u32()?;
        r.skip(4)?;
        r.finish()?;
        Ok(Self { datapath_id, buffers, tables, auxiliary, capabilities })
    }
}

/// How a switch treats fragments and packets for the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchConfig {
    /// `OFPC_FRAG_*`.
    pub flags: u16,
    /// Bytes of a packet without a match to send.
    pub miss_send_len: u16,
}

impl SwitchConfig {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.flags);
        out.put_u16(self.miss_send_len);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let config = Self { flags: r.u16()?, miss_send_len: r.u16()? };
        r.finish()?;
        Ok(config)
    }
}

/// A switch in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desc {
    /// Who made it.
    pub manufacturer: String,
    /// The hardware.
    pub hardware: String,
    /// The software.
    pub software: String,
    /// Its serial number.
    pub serial: String,
    /// What people call it.
    pub datapath: String,
}

/// `DESC_STR_LEN` and `SERIAL_NUM_LEN`.
const DESC_BYTES: usize = 256;
const SERIAL_BYTES: usize = 32;

impl Desc {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for text in [&self.manufacturer, &self.hardware, &self.software] {
            encode_text(text, DESC_BYTES, out);
        }
        encode_text(&self.serial, SERIAL_BYTES, out);
        encode_text(&self.datapath, DESC_BYTES, out);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            manufacturer: decode_text(r.bytes(DESC_BYTES)?),
            hardware: decode_text(r.bytes(DESC_BYTES)?),
            software: decode_text(r.bytes(DESC_BYTES)?),
            serial: decode_text(r.bytes(SERIAL_BYTES)?),
            datapath: decode_text(r.bytes(DESC_BYTES)?),
        })
    }
}
