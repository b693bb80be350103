//! The connection tracker's action (`struct nx_action_conntrack`, ovs-actions(7) "ct").

use super::{Action, Subfield, decode_all, encode_all};
use crate::error::DecodeError;
use crate::wire::field::OxmField;
use crate::wire::{Put, Reader};

/// Which zone a packet is tracked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtZone {
    /// This one.
    Number(u16),
    /// The one whose number is in a field.
    Field(Subfield),
}

/// Send through the connection tracker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ct {
    /// `NX_CT_F_*`: [`Ct::COMMIT`], [`Ct::FORCE`].
    pub flags: u16,
    /// The zone.
    pub zone: CtZone,
    /// The table where the tracked packet goes on, if it does.
    pub table: Option<u8>,
    /// Well-known port of the application whose helper is used; 0: none.
    pub alg: u16,
    /// What `exec` does to the connection.
    pub actions: Vec<Action>,
}

impl Ct {
    /// Keep the connection.
    pub const COMMIT: u16 = 1;
    /// Replace a connection that runs the other way; only with commit.
    pub const FORCE: u16 = 2;
    /// `NX_CT_RECIRC_NONE`.
    const NO_TABLE: u8 = 0xff;

    /// Behind the subtype.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.flags);
        match self.zone {
            CtZone::Number(zone) => {
                out.put_u32(0);
                out.put_u16(zone);
            }
            CtZone::Field(subfield) => {
                subfield.field.encode_reference(out);
                out.put_u16(subfield.packed());
            }
        }
        out.put_u8(self.table.unwrap_or(Self::NO_TABLE));
        out.put_zeros(3);
        out.put_u16(self.alg);
        encode_all(&self.actions, out);
    }

    /// Behind the subtype; `None` if the zone's field is not known.
    pub(super) fn decode(r: &mut Reader<'_>, depth: usize) -> Result<Option<Self>, DecodeError> {
        let flags = r.u16()?;
        let mut source = r.peek();
        let zone = if r.u32()? == 0 {
            CtZone::Number(r.u16()?)
        } else {
            let Some(field) = OxmField::decode_reference(&mut source)? else { return Ok(None) };
            CtZone::Field(Subfield::unpacked(field, r.u16()?))
        };
        let table = Some(r.u8()?).filter(|table| *table != Self::NO_TABLE);
        r.skip(3)?;
        let alg = r.u16()?;
        let actions = decode_all(Reader::new("ct exec", r.rest()), depth + 1)?;
        Ok(Some(Self { flags, zone, table, alg, actions }))
    }
}
