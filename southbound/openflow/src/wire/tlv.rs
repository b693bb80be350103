//! Which Geneve options the `tun_metadata` fields stand for (`NXT_TLV_TABLE_*`, nicira-ext.h).

use super::{Put, Reader, wire_enum};
use crate::error::DecodeError;

wire_enum! {
    /// What a change to the table does.
    TlvCommand: u16 {
        /// Add mappings.
        Add = 0,
        /// Delete mappings.
        Delete = 1,
        /// Delete all.
        Clear = 2,
    }
}

/// One option and its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlvMap {
    /// The option's class.
    pub class: u16,
    /// Its type.
    pub kind: u8,
    /// Bytes of its data, a multiple of four.
    pub length: u8,
    /// Number of the `tun_metadata` field.
    pub index: u16,
}

impl TlvMap {
    fn encode(self, out: &mut Vec<u8>) {
        out.put_u16(self.class);
        out.put_u8(self.kind);
        out.put_u8(self.length);
        out.put_u16(self.index);
        out.put_zeros(2);
    }

    fn decode_all(mut r: Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut maps = Vec::new();
        while !r.is_empty() {
            maps.push(Self { class: r.u16()?, kind: r.u8()?, length: r.u8()?, index: r.u16()? });
            r.skip(2)?;
        }
        Ok(maps)
    }
}

/// A change to the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvCommand,
    /// With which mappings.
    pub maps: Vec<TlvMap>,
}

impl TlvTableMod {
    /// Appends what follows the experimenter's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.command.number());
        out.put_zeros(6);
        for map in &self.maps {
            map.encode(out);
        }
    }

    /// Reads what follows the experimenter's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let command = TlvCommand::from_number(r.u16()?)?;
        r.skip(6)?;
        Ok(Self { command, maps: TlvMap::decode_all(r.at("tlv map"))? })
    }
}

/// The table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlvTable {
    /// Bytes of options that the switch can map in all.
    pub max_space: u32,
    /// Fields that it has for them.
    pub max_fields: u16,
    /// The mappings.
    pub maps: Vec<TlvMap>,
}

impl TlvTable {
    /// Appends what follows the experimenter's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.max_space);
        out.put_u16(self.max_fields);
        out.put_zeros(10);
        for map in &self.maps {
            map.encode(out);
        }
    }

    /// Reads what follows the experimenter's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let (max_space, max_fields) = (r.u32()?, r.u16()?);
        r.skip(10)?;
        Ok(Self { max_space, max_fields, maps: TlvMap::decode_all(r.at("tlv map"))? })
    }
}
