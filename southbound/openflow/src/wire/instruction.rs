//! Instructions: what a flow does with the packets that match it (OF 1.3.5 §7.2.4).

use super::action::{Action, decode_all, encode_all};
use super::{Put, Reader};
use crate::error::{DecodeError, Fault};

/// One instruction of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Instruction {
    /// Go on in a later table.
    GotoTable(u8),
    /// Set bits of the metadata.
    WriteMetadata {
        /// Their values.
        value: u64,
        /// Which bits.
        mask: u64,
    },
    /// Add to the actions done at the pipeline's end.
    WriteActions(Vec<Action>),
    /// Do actions at once.
    ApplyActions(Vec<Action>),
    /// Forget the actions to be done at the pipeline's end.
    ClearActions,
    /// Pass a meter first.
    Meter(u32),
    /// An instruction that is not known here, kept as it came.
    Unknown {
        /// Its type.
        kind: u16,
        /// What follows type and length.
        data: Vec<u8>,
    },
}

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;

impl Instruction {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u16(match self {
            Self::GotoTable(_) => GOTO_TABLE,
            Self::WriteMetadata { .. } => WRITE_METADATA,
            Self::WriteActions(_) => WRITE_ACTIONS,
            Self::ApplyActions(_) => APPLY_ACTIONS,
            Self::ClearActions => CLEAR_ACTIONS,
            Self::Meter(_) => METER,
            Self::Unknown { kind, .. } => *kind,
        });
        out.put_u16(0);
        match self {
            Self::GotoTable(table) => {
                out.put_u8(*table);
                out.put_zeros(3);
            }
            Self::WriteMetadata { value, mask } => {
                out.put_zeros(4);
                out.put_u64(*value);
                out.put_u64(*mask);
            }
            Self::WriteActions(actions) | Self::ApplyActions(actions) => {
                out.put_zeros(4);
                encode_all(actions, out);
            }
            Self::ClearActions => out.put_zeros(4),
            Self::Meter(id) => out.put_u32(*id),
            Self::Unknown { data, .. } => out.extend_from_slice(data),
        }
        let length = out.len() - start;
        out.patch_u16(start + 2, length);
    }

    /// Reads instructions until the end.
    pub fn decode_all(mut r: Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut instructions = Vec::new();
        while !r.is_empty() {
            instructions.push(Self::decode(&mut r)?);
        }
        Ok(instructions)
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut head = r.peek().at("instruction");
        let kind = head.u16()?;
        let length = usize::from(head.u16()?);
        if !length.is_multiple_of(8) {
            return Err(DecodeError::new("instruction", Fault::Length { declared: length, least: 8, most: r.len() }));
        }
        let mut body = r.element("instruction", length, 8)?;
        body.skip(4)?;
        Ok(match kind {
            GOTO_TABLE => Self::GotoTable(body.u8()?),
            WRITE_METADATA => {
                body.skip(4)?;
                Self::WriteMetadata { value: body.u64()?, mask: body.u64()? }
            }
            WRITE_ACTIONS | APPLY_ACTIONS => {
                body.skip(4)?;
                let actions = decode_all(body.at("actions"), 1)?;
                if kind == WRITE_ACTIONS { Self::WriteActions(actions) } else { Self::ApplyActions(actions) }
            }
            CLEAR_ACTIONS => Self::ClearActions,
            METER => Self::Meter(body.u32()?),
            _ => Self::Unknown { kind, data: body.rest().to_vec() },
        })
    }
}
