//! Which news a switch sends to a controller in which role (OF 1.3.5 §7.3.10), and roles (§7.3.9).

use super::{Put, Reader, wire_enum};
use crate::error::DecodeError;

/// Bitmaps of reasons; the first of each pair is for masters and equals, the second for slaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncConfig {
    /// Of packet-ins.
    pub packet_in: [u32; 2],
    /// Of port-status.
    pub port_status: [u32; 2],
    /// Of flow-removed.
    pub flow_removed: [u32; 2],
}

impl AsyncConfig {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for word in [self.packet_in, self.port_status, self.flow_removed].as_flattened() {
            out.put_u32(*word);
        }
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let config = Self {
            packet_in: [r.u32()?, r.u32()?],
            port_status: [r.u32()?, r.u32()?],
            flow_removed: [r.u32()?, r.u32()?],
        };
        r.finish()?;
        Ok(config)
    }
}

wire_enum! {
    /// What a controller is to a switch.
    RoleKind: u32 {
        /// A question, not a role.
        NoChange = 0,
        /// Like every other.
        Equal = 1,
        /// The only one that may write.
        Master = 2,
        /// May read only.
        Slave = 3,
    }
}

/// A role, asked for or given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// The role.
    pub kind: RoleKind,
    /// Number of the mastership; an older one than the switch has seen is refused.
    pub generation: u64,
}

impl Role {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.kind.number());
        out.put_zeros(4);
        out.put_u64(self.generation);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let kind = RoleKind::from_number(r.u32()?)?;
        r.skip(4)?;
        let role = Self { kind, generation: r.u64()? };
        r.finish()?;
        Ok(role)
    }
}
