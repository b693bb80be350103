//! Flow entries: changing them, and news of their end (OF 1.3.5 §7.3.4.1, §7.4.2).

use super::instruction::Instruction;
use super::oxm::Match;
use super::{Put, Reader, wire_enum};
use crate::error::DecodeError;

/// `OFP_NO_BUFFER`: the packet is not kept at the switch.
pub const NO_BUFFER: u32 = 0xffff_ffff;
/// `OFPTT_ALL`: every table, in deletions and requests.
pub const ALL_TABLES: u8 = 0xff;

wire_enum! {
    /// What a flow-mod does.
    FlowCommand: u8 {
        /// Add; an entry with the same table, priority and match is replaced, counters and all.
        Add = 0,
        /// Change the instructions of all entries that the match covers.
        Modify = 1,
        /// Change the instructions of the entry with this very match and priority.
        ModifyStrict = 2,
        /// Delete all entries that the match covers.
        Delete = 3,
        /// Delete the entry with this very match and priority.
        DeleteStrict = 4,
    }
}

/// `ofp_flow_mod_flags`.
#[allow(missing_docs)]
pub mod flags {
    pub const SEND_FLOW_REMOVED: u16 = 1;
    pub const CHECK_OVERLAP: u16 = 1 << 1;
    pub const RESET_COUNTS: u16 = 1 << 2;
    pub const NO_PACKET_COUNTS: u16 = 1 << 3;
    pub const NO_BYTE_COUNTS: u16 = 1 << 4;
}

/// A change to flow entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowCommand,
    /// The table; [`ALL_TABLES`] in deletions.
    pub table: u8,
    /// The entry's priority; higher wins.
    pub priority: u16,
    /// The entry's cookie; in modifications and deletions, what the masked bits must be.
    pub cookie: u64,
    /// Cookie bits that modifications and deletions look at; 0: any cookie.
    pub cookie_mask: u64,
    /// Seconds without a packet after which the entry goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds after which the entry goes; 0: never.
    pub hard_timeout: u16,
    /// A packet kept at the switch to send through; [`NO_BUFFER`].
    pub buffer_id: u32,
    /// In deletions, only entries that output there; [`super::port::reserved::ANY`]: no restriction.
    pub out_port: u32,
    /// In deletions, only entries that use the group; [`super::group::ANY`]: no restriction.
    pub out_group: u32,
    /// [`flags`].
    pub flags: u16,
    /// What packets it is for.
    pub matching: Match,
    /// What it does with them; nothing: drop.
    pub instructions: Vec<Instruction>,
}

impl FlowMod {
    /// A command with nothing but defaults: table 0, priority 32768, every packet, drop.
    pub const fn new(command: FlowCommand) -> Self {
        Self {
            command,
            table: 0,
            priority: 0x8000,
            cookie: 0,
            cookie_mask: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            buffer_id: NO_BUFFER,
            out_port: super::port::reserved::ANY,
            out_group: super::group::ANY,
            flags: 0,
            matching: Match { fields: Vec::new(), unknown: Vec::new() },
            instructions: Vec::new(),
        }
    }

    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.cookie);
        out.put_u64(self.cookie_mask);
        out.put_u8(self.table);
        out.put_u8(self.command.number());
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u32(self.buffer_id);
        out.put_u32(self.out_port);
        out.put_u32(self.out_group);
        out.put_u16(self.flags);
        out.put_zeros(2);
        self.matching.encode(out);
        for instruction in &self.instructions {
            instruction.encode(out);
        }
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let (cookie, cookie_mask, table) = (r.u64()?, r.u64()?, r.u8()?);
        let command = FlowCommand::from_number(r.u8()?)?;
        let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
        let (buffer_id, out_port, out_group, flags) = (r.u32()?, r.u32()?, r.u32()?, r.u16()?);
        r.skip(2)?;
        let matching = Match::decode(&mut r)?;
        let instructions = Instruction::decode_all(r)?;
        Ok(Self {
            command,
            table,
            priority,
            cookie,
            cookie_mask,
            idle_timeout,
            hard_timeout,
            buffer_id,
            out_port,
            out_group,
            flags,
            matching,
            instructions,
        })
    }
}

wire_enum! {
    /// Why an entry went.
    RemovedReason: u8 {
        /// No packet for its idle timeout.
        IdleTimeout = 0,
        /// Its hard timeout passed.
        HardTimeout = 1,
        /// A deletion.
        Delete = 2,
        /// Its group went.
        GroupDelete = 3,
        /// Its meter went (OpenFlow 1.4, sent by Open vSwitch).
        MeterDelete = 4,
        /// Evicted to make room (OpenFlow 1.4, sent by Open vSwitch).
        Eviction = 5,
    }
}

/// News that an entry went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRemoved {
    /// Its cookie.
    pub cookie: u64,
    /// Its priority.
    pub priority: u16,
    /// Why it went.
    pub reason: RemovedReason,
    /// Its table.
    pub table: u8,
    /// Whole seconds that it stood.
    pub duration_sec: u32,
    /// Nanoseconds beyond those.
    pub duration_nsec: u32,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds.
    pub hard_timeout: u16,
    /// Packets that it matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Its match.
    pub matching: Match,
}

impl FlowRemoved {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.cookie);
        out.put_u16(self.priority);
        out.put_u8(self.reason.number());
        out.put_u8(self.table);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u64(self.packets);
        out.put_u64(self.bytes);
        self.matching.encode(out);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let removed = Self {
            cookie: r.u64()?,
            priority: r.u16()?,
            reason: RemovedReason::from_number(r.u8()?)?,
            table: r.u8()?,
            duration_sec: r.u32()?,
            duration_nsec: r.u32()?,
            idle_timeout: r.u16()?,
            hard_timeout: r.u16()?,
            packets: r.u64()?,
            bytes: r.u64()?,
            matching: Match::decode(&mut r)?,
        };
        r.finish()?;
        Ok(removed)
    }
}
