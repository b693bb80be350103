//! Groups (OF 1.3.5 §7.3.4.2).

use super::action::{Action, decode_all, encode_all};
use super::{Put, Reader, wire_enum};
use crate::error::DecodeError;

/// `OFPG_ANY`: no restriction to a group.
pub const ANY: u32 = 0xffff_ffff;
/// `OFPG_ALL`: every group, in deletions.
pub const ALL: u32 = 0xffff_fffc;

wire_enum! {
    /// What a group-mod does.
    GroupCommand: u16 {
        /// Add.
        Add = 0,
        /// Replace.
        Modify = 1,
        /// Delete.
        Delete = 2,
    }
}

wire_enum! {
    /// Which of a group's buckets a packet goes to.
    GroupType: u8 {
        /// All of them.
        All = 0,
        /// One, by weight.
        Select = 1,
        /// The only one.
        Indirect = 2,
        /// The first that is live.
        FastFailover = 3,
    }
}

/// One of a group's lists of actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Share among a select group's buckets.
    pub weight: u16,
    /// The port whose link says whether it is live.
    pub watch_port: u32,
    /// The group whose state says whether it is live.
    pub watch_group: u32,
    /// What it does.
    pub actions: Vec<Action>,
}

impl Bucket {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u16(0);
        out.put_u16(self.weight);
        out.put_u32(self.watch_port);
        out.put_u32(self.watch_group);
        out.put_zeros(4);
        encode_all(&self.actions, out);
        let length = out.len() - start;
        out.patch_u16(start, length);
    }

    fn decode_all(mut r: Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut buckets = Vec::new();
        while !r.is_empty() {
            let length = usize::from(r.peek().at("bucket").u16()?);
            let mut body = r.element("bucket", length, 16)?;
            body.skip(2)?;
            let (weight, watch_port, watch_group) = (body.u16()?, body.u32()?, body.u32()?);
            body.skip(4)?;
            buckets.push(Self { weight, watch_port, watch_group, actions: decode_all(body, 1)? });
        }
        Ok(buckets)
    }
}

/// A change to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupCommand,
    /// Its type.
    pub kind: GroupType,
    /// Its number.
    pub id: u32,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
}

impl GroupMod {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.command.number());
        out.put_u8(self.kind.number());
        out.put_u8(0);
        out.put_u32(self.id);
        for bucket in &self.buckets {
            bucket.encode(out);
        }
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let command = GroupCommand::from_number(r.u16()?)?;
        let kind = GroupType::from_number(r.u8()?)?;
        r.skip(1)?;
        Ok(Self { command, kind, id: r.u32()?, buckets: Bucket::decode_all(r)? })
    }
}

/// A group as the switch has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDesc {
    /// Its type.
    pub kind: GroupType,
    /// Its number.
    pub id: u32,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
}

impl GroupDesc {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u16(0);
        out.put_u8(self.kind.number());
        out.put_u8(0);
        out.put_u32(self.id);
        for bucket in &self.buckets {
            bucket.encode(out);
        }
        let length = out.len() - start;
        out.patch_u16(start, length);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(r.peek().at("group").u16()?);
        let mut body = r.element("group", length, 8)?;
        body.skip(2)?;
        let kind = GroupType::from_number(body.u8()?)?;
        body.skip(1)?;
        Ok(Self { kind, id: body.u32()?, buckets: Bucket::decode_all(body)? })
    }
}
