//! The elements of multipart replies that are counters (OF 1.3.5 §7.3.5).

use super::instruction::Instruction;
use super::oxm::Match;
use super::{Put, Reader};
use crate::error::DecodeError;

/// Which entries a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStatsRequest {
    /// The table, or [`super::flow::ALL_TABLES`].
    pub table: u8,
    /// Only entries that output there; [`super::port::reserved::ANY`]: no restriction.
    pub out_port: u32,
    /// Only entries that use the group; [`super::group::ANY`]: no restriction.
    pub out_group: u32,
    /// What the masked bits of the cookie must be.
    pub cookie: u64,
    /// Cookie bits that count; 0: any cookie.
    pub cookie_mask: u64,
    /// Only entries that this covers.
    pub matching: Match,
}

impl FlowStatsRequest {
    /// Every entry of every table whose cookie has these bits.
    pub const fn by_cookie(cookie: u64, cookie_mask: u64) -> Self {
        Self {
            table: super::flow::ALL_TABLES,
            out_port: super::port::reserved::ANY,
            out_group: super::group::ANY,
            cookie,
            cookie_mask,
            matching: Match { fields: Vec::new(), unknown: Vec::new() },
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.table);
        out.put_zeros(3);
        out.put_u32(self.out_port);
        out.put_u32(self.out_group);
        out.put_zeros(4);
        out.put_u64(self.cookie);
        out.put_u64(self.cookie_mask);
        self.matching.encode(out);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let table = r.u8()?;
        r.skip(3)?;
        let (out_port, out_group) = (r.u32()?, r.u32()?);
        r.skip(4)?;
        Ok(Self { table, out_port, out_group, cookie: r.u64()?, cookie_mask: r.u64()?, matching: Match::decode(r)? })
    }
}

/// An entry as the switch has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats {
    /// Its table.
    pub table: u8,
    /// Whole seconds that it stands.
    pub duration_sec: u32,
    /// Nanoseconds beyond those.
    pub duration_nsec: u32,
    /// Its priority.
    pub priority: u16,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds.
    pub hard_timeout: u16,
    /// [`super::flow::flags`].
    pub flags: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Packets that it matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Its match.
    pub matching: Match,
    /// Its instructions.
    pub instructions: Vec<Instruction>,
}

impl FlowStats {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u16(0);
        out.put_u8(self.table);
        out.put_zeros(1);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.flags);
        out.put_zeros(4);
        out.put_u64(self.cookie);
        out.put_u64(self.packets);
        out.put_u64(self.bytes);
        self.matching.encode(out);
        for instruction in &self.instructions {
            instruction.encode(out);
        }
        let length = out.len() - start;
        out.patch_u16(start, length);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(r.peek().at("flow stats").u16()?);
        let mut body = r.element("flow stats", length, 56)?;
        body.skip(2)?;
        let table = body.u8()?;
        body.skip(1)?;
        let (duration_sec, duration_nsec) = (body.u32()?, body.u32()?);
        let (priority, idle_timeout, hard_timeout, flags) = (body.u16()?, body.u16()?, body.u16()?, body.u16()?);
        body.skip(4)?;
        let (cookie, packets, bytes) = (body.u64()?, body.u64()?, body.u64()?);
        let matching = Match::decode(&mut body)?;
        let instructions = Instruction::decode_all(body)?;
        Ok(Self {
            table,
            duration_sec,
            duration_nsec,
            priority,
            idle_timeout,
            hard_timeout,
            flags,
            cookie,
            packets,
            bytes,
            matching,
            instructions,
        })
    }
}

/// The sum over entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aggregate {
    /// Packets that they matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many entries.
    pub flows: u32,
}

impl Aggregate {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.packets);
        out.put_u64(self.bytes);
        out.put_u32(self.flows);
        out.put_zeros(4);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let aggregate = Self { packets: r.u64()?, bytes: r.u64()?, flows: r.u32()? };
        r.skip(4)?;
        Ok(aggregate)
    }
}

/// A table's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableStats {
    /// Its number.
    pub table: u8,
    /// Entries in it.
    pub active: u32,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that matched.
    pub matched: u64,
}

impl TableStats {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.table);
        out.put_zeros(3);
        out.put_u32(self.active);
        out.put_u64(self.lookups);
        out.put_u64(self.matched);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let table = r.u8()?;
        r.skip(3)?;
        Ok(Self { table, active: r.u32()?, lookups: r.u64()?, matched: r.u64()? })
    }
}

/// A port's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Its number.
    pub port: u32,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
    /// Receive errors; then errors of sending, of frames, overruns, checksums, and collisions. All ones:
    /// not counted.
    pub errors: [u64; 6],
    /// Whole seconds that it stands.
    pub duration_sec: u32,
    /// Nanoseconds beyond those.
    pub duration_nsec: u32,
}

impl PortStats {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.port);
        out.put_zeros(4);
        for count in [self.rx_packets, self.tx_packets, self.rx_bytes, self.tx_bytes, self.rx_dropped, self.tx_dropped]
            .into_iter()
            .chain(self.errors)
        {
            out.put_u64(count);
        }
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = r.u32()?;
        r.skip(4)?;
        Ok(Self {
            port,
            rx_packets: r.u64()?,
            tx_packets: r.u64()?,
            rx_bytes: r.u64()?,
            tx_bytes: r.u64()?,
            rx_dropped: r.u64()?,
            tx_dropped: r.u64()?,
            errors: [r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?],
            duration_sec: r.u32()?,
            duration_nsec: r.u32()?,
        })
    }
}
