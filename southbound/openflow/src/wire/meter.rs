//! Meters (OF 1.3.5 §7.3.4.4).

use super::{Put, Reader, wire_enum};
use crate::error::{DecodeError, Fault};

/// `OFPM_ALL`: every meter, in deletions and requests.
pub const ALL: u32 = 0xffff_ffff;

wire_enum! {
    /// What a meter-mod does.
    MeterCommand: u16 {
        /// Add.
        Add = 0,
        /// Replace.
        Modify = 1,
        /// Delete.
        Delete = 2,
    }
}

/// `ofp_meter_flags`.
#[allow(missing_docs)]
pub mod flags {
    pub const KBPS: u16 = 1;
    pub const PKTPS: u16 = 1 << 1;
    pub const BURST: u16 = 1 << 2;
    pub const STATS: u16 = 1 << 3;
}

/// A rate, and what happens to packets above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// Its type: 1 drops, the only one that Open vSwitch's userspace has.
    pub kind: u16,
    /// kbit/s or packets/s, as the meter's flags say.
    pub rate: u32,
    /// kbit or packets.
    pub burst: u32,
    /// The four bytes that the type gives a meaning.
    pub data: [u8; 4],
}

impl Band {
    const LENGTH: usize = 16;

    /// Drop what is above the rate.
    pub const fn drop(rate: u32, burst: u32) -> Self {
        Self { kind: 1, rate, burst, data: [0; 4] }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.kind);
        out.put_u16(16);
        out.put_u32(self.rate);
        out.put_u32(self.burst);
        out.extend_from_slice(&self.data);
    }

    fn decode_all(mut r: Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut bands = Vec::new();
        while !r.is_empty() {
            let mut head = r.peek().at("meter band");
            head.skip(2)?;
            let length = usize::from(head.u16()?);
            if length != Self::LENGTH {
                let fault = Fault::Length { declared: length, least: Self::LENGTH, most: Self::LENGTH };
                return Err(DecodeError::new("meter band", fault));
            }
            let mut body = r.element("meter band", length, Self::LENGTH)?;
            let kind = body.u16()?;
            body.skip(2)?;
            bands.push(Self { kind, rate: body.u32()?, burst: body.u32()?, data: body.array()? });
        }
        Ok(bands)
    }
}

/// A meter as it is or shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// [`flags`].
    pub flags: u16,
    /// Its number.
    pub id: u32,
    /// Its bands.
    pub bands: Vec<Band>,
}

/// A change to a meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterCommand,
    /// The meter.
    pub meter: Meter,
}

impl MeterMod {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.command.number());
        self.meter.encode_tail(out);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { command: MeterCommand::from_number(r.u16()?)?, meter: Meter::decode_tail(r)? })
    }
}

impl Meter {
    fn encode_tail(&self, out: &mut Vec<u8>) {
        out.put_u16(self.flags);
        out.put_u32(self.id);
        for band in &self.bands {
            band.encode(out);
        }
    }

    fn decode_tail(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { flags: r.u16()?, id: r.u32()?, bands: Band::decode_all(r)? })
    }

    pub(crate) fn encode_config(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u16(0);
        self.encode_tail(out);
        let length = out.len() - start;
        out.patch_u16(start, length);
    }

    pub(crate) fn decode_config(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(r.peek().at("meter").u16()?);
        let mut body = r.element("meter", length, 8)?;
        body.skip(2)?;
        Self::decode_tail(body)
    }
}
