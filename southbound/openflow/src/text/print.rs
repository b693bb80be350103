//! Printing.

use super::{PORTS, PROTOCOLS, VLAN_PRESENT, value, whole_bits};
use crate::wire::action::{Action, Controller, Ct, CtZone, Subfield};
use crate::wire::field::OxmField;
use crate::wire::flow::{FlowMod, flags as flow_flags};
use crate::wire::instruction::Instruction;
use crate::wire::oxm::{Match, Oxm};
use crate::wire::port::reserved;
use crate::wire::stats::FlowStats;
use std::fmt::Write;

/// Flags of a flow with a word.
pub(super) const FLAGS: &[(&str, u16)] = &[
    ("send_flow_rem", flow_flags::SEND_FLOW_REMOVED),
    ("check_overlap", flow_flags::CHECK_OVERLAP),
    ("reset_counts", flow_flags::RESET_COUNTS),
    ("no_packet_counts", flow_flags::NO_PACKET_COUNTS),
    ("no_byte_counts", flow_flags::NO_BYTE_COUNTS),
];

/// A change to an entry, as a line for `ovs-ofctl add-flow`.
pub fn flow(flow: &FlowMod) -> String {
    let mut out = String::new();
    if flow.cookie_mask != 0 {
        let _ = write!(out, "cookie={:#x}/{:#x}, ", flow.cookie, flow.cookie_mask);
    } else if flow.cookie != 0 {
        let _ = write!(out, "cookie={:#x}, ", flow.cookie);
    }
    entry(
        &mut out,
        (flow.table, flow.priority),
        (flow.idle_timeout, flow.hard_timeout, flow.flags),
        &flow.matching,
        &flow.instructions,
    );
    out
}

/// An entry as the switch has it, without its age, and without its counters: for comparing.
pub fn stats(stats: &FlowStats) -> String {
    let mut out = String::new();
    if stats.cookie != 0 {
        let _ = write!(out, "cookie={:#x}, ", stats.cookie);
    }
    entry(
        &mut out,
        (stats.table, stats.priority),
        (stats.idle_timeout, stats.hard_timeout, stats.flags),
        &stats.matching,
        &stats.instructions,
    );
    out
}

fn entry(
    out: &mut String,
    (table, priority): (u8, u16),
    (idle, hard, flags): (u16, u16, u16),
    matching: &Match,
    instructions: &[Instruction],
) {
    let _ = write!(out, "table={table}, ");
    if idle != 0 {
        let _ = write!(out, "idle_timeout={idle}, ");
    }
    if hard != 0 {
        let _ = write!(out, "hard_timeout={hard}, ");
    }
    for (name, flag) in FLAGS {
        if flags & flag != 0 {
            let _ = write!(out, "{name}, ");
        }
    }
    let _ = write!(out, "priority={priority}");
    if !matching.fields.is_empty() || !matching.unknown.is_empty() {
        out.push(',');
        print_match(matching, out);
    }
    out.push_str(" actions=");
    print_instructions(instructions, out);
}

/// A match: fields with commas between.
pub fn matching(matching: &Match) -> String {
    let mut out = String::new();
    print_match(matching, &mut out);
    out
}

/// Instructions with commas between; `drop` if there are none.
pub fn instructions(instructions: &[Instruction]) -> String {
    let mut out = String::new();
    print_instructions(instructions, &mut out);
    out
}

/// Actions with commas between.
pub fn actions(actions: &[Action]) -> String {
    let mut out = String::new();
    print_actions(actions, &mut out);
    out
}

fn print_match(matching: &Match, out: &mut String) {
    let mut fields = matching.fields.iter().peekable();
    let mut first = true;
    while let Some(oxm) = fields.next() {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        if oxm.field == OxmField::EthType && oxm.mask.is_none() {
            let next = fields.peek().filter(|next| next.field == OxmField::IpProto && next.mask.is_none());
            let with = PROTOCOLS.iter().find(|(_, kind, proto)| {
                *kind == oxm.value && proto.is_some() && *proto == next.map(|next| next.value)
            });
            if let Some((word, ..)) = with {
                fields.next();
                out.push_str(word);
                continue;
            }
            if let Some((word, ..)) = PROTOCOLS.iter().find(|(_, kind, proto)| *kind == oxm.value && proto.is_none()) {
                out.push_str(word);
                continue;
            }
        }
        print_oxm(oxm, out);
    }
    for raw in &matching.unknown {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        let _ = write!(out, "oxm({:#x},{},{},", raw.class, raw.number, u8::from(raw.masked));
        hex(&raw.bytes, out);
        out.push(')');
    }
}

fn print_oxm(oxm: &Oxm, out: &mut String) {
    if oxm.field == OxmField::VlanVid && oxm.mask.is_none() && oxm.value & !0xfff == VLAN_PRESENT {
        let _ = write!(out, "dl_vlan={}", oxm.value & 0xfff);
        return;
    }
    out.push_str(oxm.field.spec().name);
    out.push('=');
    value::print_masked(oxm.field, oxm.value, oxm.mask, out);
}

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

fn dotted(bytes: &[u8], out: &mut String) {
    for (at, byte) in bytes.iter().enumerate() {
        let _ = write!(out, "{}{byte:02x}", if at == 0 { "" } else { "." });
    }
}

fn print_instructions(instructions: &[Instruction], out: &mut String) {
    let mut first = true;
    for instruction in instructions {
        if matches!(instruction, Instruction::ApplyActions(actions) if actions.is_empty()) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        let _ = match instruction {
            Instruction::GotoTable(table) => write!(out, "goto_table:{table}"),
            Instruction::WriteMetadata { value, mask: u64::MAX } => write!(out, "write_metadata:{value:#x}"),
            Instruction::WriteMetadata { value, mask } => write!(out, "write_metadata:{value:#x}/{mask:#x}"),
            Instruction::WriteActions(actions) => {
                out.push_str("write_actions(");
                print_actions(actions, out);
                write!(out, ")")
            }
            Instruction::ApplyActions(actions) => {
                print_actions(actions, out);
                Ok(())
            }
            Instruction::ClearActions => write!(out, "clear_actions"),
            Instruction::Meter(id) => write!(out, "meter:{id}"),
            Instruction::Unknown { kind, data } => {
                let _ = write!(out, "instruction({kind},");
                hex(data, out);
                write!(out, ")")
            }
        };
    }
    if first {
        out.push_str("drop");
    }
}

fn print_actions(actions: &[Action], out: &mut String) {
    for (at, action) in actions.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        print_action(action, out);
    }
}

fn range(offset: u16, bits: u16, field: OxmField, out: &mut String) {
    let spec = field.spec();
    out.push_str(spec.long);
    let _ = match (offset, bits) {
        // The whole of a tunnel's option is the longest that there can be.
        (0, bits) if bits == whole_bits(field) && !field.is_tunnel_option() => write!(out, "[]"),
        (offset, 1) => write!(out, "[{offset}]"),
        (offset, bits) => write!(out, "[{offset}..{}]", u32::from(offset) + u32::from(bits) - 1),
    };
}

fn subfield(subfield: &Subfield, out: &mut String) {
    range(subfield.offset, subfield.bits.max(1), subfield.field, out);
}

/// The name by which `set_field` knows a field.
fn set_field_name(field: OxmField) -> &'static str {
    match field {
        OxmField::InPort => "in_port_oxm",
        OxmField::InPortNxm => "in_port",
        other => other.spec().name,
    }
}

fn print_action(action: &Action, out: &mut String) {
    let _ = match action {
        Action::Output { port: reserved::CONTROLLER, max_len } => write!(out, "CONTROLLER:{max_len}"),
        Action::Output { port, .. } => match PORTS.iter().find(|(_, number)| number == port) {
            Some((name, _)) => write!(out, "{name}"),
            None => write!(out, "output:{port}"),
        },
        Action::Group(id) => write!(out, "group:{id}"),
        Action::SetField { field, value } => {
            out.push_str("set_field:");
            value::print(*field, *value, out);
            write!(out, "->{}", set_field_name(*field))
        }
        Action::SetMasked(oxm) => {
            out.push_str("set_field:");
            value::print(oxm.field, oxm.value, out);
            out.push('/');
            value::print(oxm.field, oxm.mask.unwrap_or(oxm.field.all_ones()), out);
            write!(out, "->{}", set_field_name(oxm.field))
        }
        Action::PushVlan(ethertype) => write!(out, "push_vlan:{ethertype:#06x}"),
        Action::PopVlan => write!(out, "pop_vlan"),
        Action::DecNwTtl => write!(out, "dec_ttl"),
        Action::Resubmit { in_port, table } => {
            out.push_str("resubmit(");
            if *in_port != 0xfff8 {
                let _ = write!(out, "{in_port}");
            }
            out.push(',');
            if *table != 0xff {
                let _ = write!(out, "{table}");
            }
            write!(out, ")")
        }
        Action::Move { src, dst, dst_offset } => {
            out.push_str("move:");
            subfield(src, out);
            out.push_str("->");
            range(*dst_offset, src.bits.max(1), *dst, out);
            Ok(())
        }
        Action::Load { dst, value } => {
            let _ = write!(out, "load:{value:#x}->");
            subfield(dst, out);
            Ok(())
        }
        Action::OutputReg { src, .. } => {
            out.push_str("output:");
            subfield(src, out);
            Ok(())
        }
        Action::Ct(ct) => {
            print_ct(ct, out);
            Ok(())
        }
        Action::Clone(actions) => {
            out.push_str("clone(");
            print_actions(actions, out);
            write!(out, ")")
        }
        Action::CtClear => write!(out, "ct_clear"),
        Action::CheckPktLarger { limit, dst } => {
            let _ = write!(out, "check_pkt_larger({limit})->");
            subfield(dst, out);
            Ok(())
        }
        Action::Conjunction { id, clause, clauses } => {
            write!(out, "conjunction({id},{}/{clauses})", u16::from(*clause) + 1)
        }
        Action::Controller(controller) => {
            print_controller(controller, out);
            Ok(())
        }
        Action::Note(note) => {
            out.push_str("note:");
            dotted(note, out);
            Ok(())
        }
        Action::Unknown { kind, data } => {
            let _ = write!(out, "action({kind},");
            hex(data, out);
            write!(out, ")")
        }
    };
}

fn print_ct(ct: &Ct, out: &mut String) {
    out.push_str("ct(");
    if ct.flags & Ct::COMMIT != 0 {
        out.push_str("commit,");
    }
    if ct.flags & Ct::FORCE != 0 {
        out.push_str("force,");
    }
    if let Some(table) = ct.table {
        let _ = write!(out, "table={table},");
    }
    match &ct.zone {
        CtZone::Number(0) => {}
        CtZone::Number(zone) => {
            let _ = write!(out, "zone={zone},");
        }
        CtZone::Field(field) => {
            out.push_str("zone=");
            subfield(field, out);
            out.push(',');
        }
    }
    match ct.alg {
        0 => {}
        21 => out.push_str("alg=ftp,"),
        69 => out.push_str("alg=tftp,"),
        alg => {
            let _ = write!(out, "alg={alg},");
        }
    }
    if !ct.actions.is_empty() {
        out.push_str("exec(");
        print_actions(&ct.actions, out);
        out.push_str("),");
    }
    // The last comma goes.
    if out.ends_with(',') {
        out.pop();
    }
    out.push(')');
}

fn print_controller(c: &Controller, out: &mut String) {
    let _ = write!(out, "controller(max_len={},id={}", c.max_len, c.id);
    if c.reason != crate::wire::packet::reason::ACTION {
        let _ = match super::parse::REASONS.iter().find(|(_, number)| *number == c.reason) {
            Some((word, _)) => write!(out, ",reason={word}"),
            None => write!(out, ",reason={}", c.reason),
        };
    }
    if !c.userdata.is_empty() {
        out.push_str(",userdata=");
        dotted(&c.userdata, out);
    }
    if c.pause {
        out.push_str(",pause");
    }
    if let Some(meter) = c.meter {
        let _ = write!(out, ",meter_id={meter}");
    }
    out.push(')');
}
