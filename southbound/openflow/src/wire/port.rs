//! Ports: descriptions and changes (OF 1.3.5 §7.2.1, §7.4.3).

use super::{Put, Reader, wire_enum};
use crate::error::DecodeError;

/// Numbers of ports that are not ports (OF 1.3.5 §7.2.1).
pub mod reserved {
    /// The port where the packet came in.
    pub const IN_PORT: u32 = 0xffff_fff8;
    /// Start again at table 0; in packet-outs.
    pub const TABLE: u32 = 0xffff_fff9;
    /// As a learning switch would.
    pub const NORMAL: u32 = 0xffff_fffa;
    /// All ports that take part in flooding.
    pub const FLOOD: u32 = 0xffff_fffb;
    /// All ports but the packet's own.
    pub const ALL: u32 = 0xffff_fffc;
    /// The controller.
    pub const CONTROLLER: u32 = 0xffff_fffd;
    /// The switch's own network stack.
    pub const LOCAL: u32 = 0xffff_fffe;
    /// Any port, in requests and deletions.
    pub const ANY: u32 = 0xffff_ffff;
}

/// `ofp_port_config` and `ofp_port_state`.
pub mod bits {
    /// Config: taken down by an operator.
    pub const CONFIG_DOWN: u32 = 1;
    /// State: no link.
    pub const STATE_LINK_DOWN: u32 = 1;
}

/// `OFP_MAX_PORT_NAME_LEN`: bytes of a port's name, the terminating zero included.
const NAME_BYTES: usize = 16;

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its name, at most 15 bytes; what is not UTF-8 is replaced.
    pub name: String,
    /// `OFPPC_*`.
    pub config: u32,
    /// `OFPPS_*`.
    pub state: u32,
    /// `OFPPF_*`: current, advertised, supported, the peer's.
    pub features: [u32; 4],
    /// Current speed in kbit/s.
    pub speed_kbps: u32,
    /// Highest speed in kbit/s.
    pub max_speed_kbps: u32,
}

/// A fixed-length text ends at its first zero byte, or before its last byte, which has to be zero. What is not UTF-8
/// is read as question marks, one a byte, so that the text fits where it came from.
pub(crate) fn decode_text(bytes: &[u8]) -> String {
    let most = bytes.len().saturating_sub(1);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(most).min(most);
    let mut text = String::with_capacity(end);
    for chunk in bytes.get(..end).unwrap_or_default().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

/// Writes a text into `length` bytes, the last of them zero.
pub(crate) fn encode_text(text: &str, length: usize, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let taken = bytes.get(..length - 1).unwrap_or(bytes);
    out.extend_from_slice(taken);
    out.put_zeros(length - taken.len());
}

impl Port {
    /// Its length on the wire.
    pub const LENGTH: usize = 64;

    /// Whether packets can go in and out.
    pub const fn is_up(&self) -> bool {
        self.config & bits::CONFIG_DOWN == 0 && self.state & bits::STATE_LINK_DOWN == 0
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.number);
        out.put_zeros(4);
        out.extend_from_slice(&self.mac);
        out.put_zeros(2);
        encode_text(&self.name, NAME_BYTES, out);
        out.put_u32(self.config);
        out.put_u32(self.state);
        for features in self.features {
            out.put_u32(features);
        }
        out.put_u32(self.speed_kbps);
        out.put_u32(self.max_speed_kbps);
    }

    /// Reads one.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = r.u32()?;
        r.skip(4)?;
        let mac = r.array()?;
        r.skip(2)?;
        Ok(Self {
            number,
            mac,
            name: decode_text(r.bytes(NAME_BYTES)?),
            config: r.u32()?,
            state: r.u32()?,
            features: [r.u32()?, r.u32()?, r.u32()?, r.u32()?],
            speed_kbps: r.u32()?,
            max_speed_kbps: r.u32()?,
        })
    }
}

wire_enum! {
    /// What happened to a port.
    PortReason: u8 {
        /// It is new.
        Add = 0,
        /// It went.
        Delete = 1,
        /// It changed.
        Modify = 2,
    }
}

/// News of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port as it is, or as it was.
    pub port: Port,
}

impl PortStatus {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.reason.number());
        out.put_zeros(7);
        self.port.encode(out);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let reason = PortReason::from_number(r.u8()?)?;
        r.skip(7)?;
        let port = Port::decode(&mut r)?;
        r.finish()?;
        Ok(Self { reason, port })
    }
}
