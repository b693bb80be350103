//! Nicira's actions, behind the experimenter's id.

use super::{Action, Controller, Ct, Subfield, decode_all, encode_all};
use crate::error::DecodeError;
use crate::wire::field::OxmField;
use crate::wire::oxm::{Match, Oxm};
use crate::wire::{Put, Reader};

/// `OFPP_IN_PORT` in 16 bits: the packet's own port.
pub(super) const IN_PORT: u16 = 0xfff8;

const REG_MOVE: u16 = 6;
const REG_LOAD: u16 = 7;
const NOTE: u16 = 8;
const RESUBMIT_TABLE: u16 = 14;
const OUTPUT_REG: u16 = 15;
const CONTROLLER: u16 = 20;
const REG_LOAD2: u16 = 33;
const CONJUNCTION: u16 = 34;
const CT: u16 = 35;
const CONTROLLER2: u16 = 37;
const CLONE: u16 = 42;
const CT_CLEAR: u16 = 43;
const CHECK_PKT_LARGER: u16 = 49;

/// `enum nx_action_controller2_prop_type`.
mod property {
    pub const MAX_LEN: u16 = 0;
    pub const CONTROLLER_ID: u16 = 1;
    pub const REASON: u16 = 2;
    pub const USERDATA: u16 = 3;
    pub const PAUSE: u16 = 4;
    pub const METER_ID: u16 = 5;
}

/// Appends the subtype and what follows, of the action that began at `start`.
pub(super) fn encode(action: &Action, start: usize, out: &mut Vec<u8>) {
    match action {
        Action::Move { src, dst, dst_offset } => {
            out.put_u16(REG_MOVE);
            out.put_u16(src.bits);
            out.put_u16(src.offset);
            out.put_u16(*dst_offset);
            src.field.encode_reference(out);
            dst.encode_reference(out);
        }
        Action::Load { dst, value } if dst.field.reference().experimenter.is_none() => {
            out.put_u16(REG_LOAD);
            out.put_u16(dst.packed());
            dst.field.encode_reference(out);
            out.put_u64(*value);
        }
        Action::Load { dst, value } => {
            let mask = u128::MAX >> (128 - u32::from(dst.bits.clamp(1, 128)));
            load2(&Oxm::masked(dst.field, u128::from(*value) << dst.offset, mask << dst.offset), out);
        }
        Action::SetMasked(oxm) => load2(oxm, out),
        Action::Note(note) => {
            out.put_u16(NOTE);
            out.extend_from_slice(note);
        }
        Action::Resubmit { in_port, table } => {
            out.put_u16(RESUBMIT_TABLE);
            out.put_u16(*in_port);
            out.put_u8(*table);
            out.put_zeros(3);
        }
        Action::OutputReg { src, max_len } => {
            out.put_u16(OUTPUT_REG);
            out.put_u16(src.packed());
            src.field.encode_reference(out);
            out.put_u16(*max_len);
            out.put_zeros(6);
        }
        Action::Conjunction { id, clause, clauses } => {
            out.put_u16(CONJUNCTION);
            out.put_u8(*clause);
            out.put_u8(*clauses);
            out.put_u32(*id);
        }
        Action::Ct(ct) => {
            out.put_u16(CT);
            ct.encode(out);
        }
        Action::Clone(actions) => {
            out.put_u16(CLONE);
            out.put_zeros(6);
            encode_all(actions, out);
        }
        Action::CtClear => {
            out.put_u16(CT_CLEAR);
            out.put_zeros(6);
        }
        Action::CheckPktLarger { limit, dst } => {
            out.put_u16(CHECK_PKT_LARGER);
            out.put_u16(*limit);
            out.put_u16(dst.offset);
            dst.field.encode_reference(out);
            out.put_zeros(6);
        }
        Action::Controller(controller) => encode_controller(controller, out),
        // The rest are OpenFlow's own, which `Action::encode` writes.
        Action::Output { .. }
        | Action::Group(_)
        | Action::SetField { .. }
        | Action::PushVlan(_)
        | Action::PopVlan
        | Action::DecNwTtl
        | Action::Unknown { .. } => {}
    }
    out.put_pad8(start);
}

fn load2(oxm: &Oxm, out: &mut Vec<u8>) {
    out.put_u16(REG_LOAD2);
    oxm.encode(out);
}

/// The short form where it says all, as Open vSwitch does itself.
fn encode_controller(c: &Controller, out: &mut Vec<u8>) {
    if c.userdata.is_empty() && !c.pause && c.meter.is_none() {
        out.put_u16(CONTROLLER);
        out.put_u16(c.max_len);
        out.put_u16(c.id);
        out.put_u8(c.reason);
        out.put_u8(0);
        return;
    }
    out.put_u16(CONTROLLER2);
    out.put_zeros(6);
    if c.max_len != u16::MAX {
        put_property(out, property::MAX_LEN, &number(c.max_len));
    }
    if c.id != 0 {
        put_property(out, property::CONTROLLER_ID, &number(c.id));
    }
    if c.reason != super::super::packet::reason::ACTION {
        put_property(out, property::REASON, &[c.reason, 0, 0, 0]);
    }
    if !c.userdata.is_empty() {
        put_property(out, property::USERDATA, &c.userdata);
    }
    if c.pause {
        put_property(out, property::PAUSE, &[]);
    }
    if let Some(meter) = c.meter {
        put_property(out, property::METER_ID, &meter.to_be_bytes());
    }
}

/// Open vSwitch counts a small number's padding to four bytes in the property's length.
fn number(value: u16) -> [u8; 4] {
    let [high, low] = value.to_be_bytes();
    [high, low, 0, 0]
}

fn put_property(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    let start = out.len();
    out.put_u16(kind);
    out.put_u16(0);
    out.extend_from_slice(data);
    let length = out.len() - start;
    out.patch_u16(start + 2, length);
    out.put_pad8(start);
}

/// Reads what follows the experimenter's id; `None` for what is not known, which is then kept raw.
pub(super) fn decode(r: &mut Reader<'_>, depth: usize) -> Result<Option<Action>, DecodeError> {
    let subtype = r.u16()?;
    Ok(match subtype {
        REG_MOVE => {
            let (bits, src_offset, dst_offset) = (r.u16()?, r.u16()?, r.u16()?);
            let src = OxmField::decode_reference(r)?;
            let dst = OxmField::decode_reference(r)?;
            src.zip(dst).map(|(src, dst)| Action::Move { src: Subfield::new(src, src_offset, bits), dst, dst_offset })
        }
        REG_LOAD => {
            let packed = r.u16()?;
            let field = OxmField::decode_reference(r)?;
            // The field may have been a longer reference than the four bytes that this action has room for.
            match (field, r.len()) {
                (Some(field), 8) => Some(Action::Load { dst: Subfield::unpacked(field, packed), value: r.u64()? }),
                _ => None,
            }
        }
        REG_LOAD2 => Match::decode_one(r)?.map(Action::SetMasked),
        NOTE => Some(Action::Note(r.rest().to_vec())),
        RESUBMIT_TABLE => Some(Action::Resubmit { in_port: r.u16()?, table: r.u8()? }),
        OUTPUT_REG => {
            let packed = r.u16()?;
            let field = OxmField::decode_reference(r)?;
            match (field, r.len()) {
                (Some(field), 8) => {
                    Some(Action::OutputReg { src: Subfield::unpacked(field, packed), max_len: r.u16()? })
                }
                _ => None,
            }
        }
        CONJUNCTION => {
            let (clause, clauses) = (r.u8()?, r.u8()?);
            Some(Action::Conjunction { id: r.u32()?, clause, clauses })
        }
        CT => Ct::decode(r, depth)?.map(Action::Ct),
        CLONE => {
            r.skip(6)?;
            Some(Action::Clone(decode_all(Reader::new("clone", r.rest()), depth + 1)?))
        }
        CT_CLEAR => Some(Action::CtClear),
        CHECK_PKT_LARGER => {
            let (limit, offset) = (r.u16()?, r.u16()?);
            let field = OxmField::decode_reference(r)?;
            field.map(|field| Action::CheckPktLarger { limit, dst: Subfield::new(field, offset, 1) })
        }
        CONTROLLER => Some(Action::Controller(Controller {
            max_len: r.u16()?,
            id: r.u16()?,
            reason: r.u8()?,
            ..Controller::default()
        })),
        CONTROLLER2 => decode_controller2(r)?.map(Action::Controller),
        _ => None,
    })
}

fn decode_controller2(r: &mut Reader<'_>) -> Result<Option<Controller>, DecodeError> {
    r.skip(6)?;
    let mut controller = Controller::default();
    while !r.is_empty() {
        let mut head = r.peek().at("controller property");
        let kind = head.u16()?;
        let length = usize::from(head.u16()?);
        let mut body = r.element("controller property", length, 4)?;
        body.skip(4)?;
        r.pad8(length)?;
        match kind {
            property::MAX_LEN => controller.max_len = body.u16()?,
            property::CONTROLLER_ID => controller.id = body.u16()?,
            property::REASON => controller.reason = body.u8()?,
            property::USERDATA => controller.userdata = body.rest().to_vec(),
            property::PAUSE => controller.pause = true,
            property::METER_ID => controller.meter = Some(body.u32()?),
            // Forgetting a property would change the action.
            _ => return Ok(None),
        }
    }
    Ok(Some(controller))
}
