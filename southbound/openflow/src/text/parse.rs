//! Parsing.

use super::{ALIASES, PROTOCOLS, VLAN_PRESENT, value, whole_bits};
use crate::error::TextError;
use crate::wire::MAX_DEPTH;
use crate::wire::action::{Action, Controller, Ct, CtZone, Subfield};
use crate::wire::field::OxmField;
use crate::wire::flow::{FlowCommand, FlowMod};
use crate::wire::instruction::Instruction;
use crate::wire::oxm::{Match, Oxm};
use crate::wire::port::reserved;

/// Longest line that is read; a flow of 64 KiB on the wire does not print longer.
const MAX_LINE: usize = 512 << 10;

/// Reasons of packet-ins with a word.
pub(super) const REASONS: &[(&str, u8)] = &[("no_match", 0), ("action", 1), ("invalid_ttl", 2)];

/// Parses a line as `ovs-ofctl add-flow` takes it, in the subset that [`super::flow`] prints, into a flow-mod that
/// adds. Fields and actions that are not known are refused.
pub fn parse_flow(line: &str) -> Result<FlowMod, TextError> {
    if line.len() > MAX_LINE {
        return Err(TextError::new("line too long", line));
    }
    let (head, actions) = line.split_once("actions=").ok_or_else(|| TextError::new("no actions= in the flow", line))?;
    let mut flow = FlowMod::new(FlowCommand::Add);
    for part in head.split([',', ' ', '\t']).filter(|part| !part.is_empty()) {
        let (name, text) = part.split_once('=').unwrap_or((part, ""));
        match name {
            "table" => flow.table = value::small(text)?,
            "priority" => flow.priority = value::small(text)?,
            "idle_timeout" => flow.idle_timeout = value::small(text)?,
            "hard_timeout" => flow.hard_timeout = value::small(text)?,
            "cookie" => match text.split_once('/') {
                Some((cookie, "-1")) => (flow.cookie, flow.cookie_mask) = (value::small(cookie)?, u64::MAX),
                Some((cookie, mask)) => (flow.cookie, flow.cookie_mask) = (value::small(cookie)?, value::small(mask)?),
                None => flow.cookie = value::small(text)?,
            },
            _ => match super::print::FLAGS.iter().find(|(word, _)| *word == part) {
                Some((_, flag)) => flow.flags |= flag,
                None => match_field(&mut flow.matching, name, text, part)?,
            },
        }
    }
    flow.instructions = instructions(actions.trim())?;
    Ok(flow)
}

fn match_field(matching: &mut Match, name: &str, text: &str, part: &str) -> Result<(), TextError> {
    if let Some((_, kind, proto)) = PROTOCOLS.iter().find(|(word, ..)| *word == part) {
        matching.fields.push(Oxm::exact(OxmField::EthType, *kind));
        matching.fields.extend(proto.map(|proto| Oxm::exact(OxmField::IpProto, proto)));
        return Ok(());
    }
    let oxm = match name {
        "dl_vlan" => Oxm::exact(OxmField::VlanVid, value::number(text)? & 0xfff | VLAN_PRESENT),
        "nw_tos" => Oxm::exact(OxmField::IpDscp, value::number(text)? >> 2 & 0x3f),
        _ => {
            let field = match (name, protocol(matching)) {
                ("tp_src", Some(6)) => OxmField::TcpSrc,
                ("tp_dst", Some(6)) => OxmField::TcpDst,
                ("tp_src", Some(17)) => OxmField::UdpSrc,
                ("tp_dst", Some(17)) => OxmField::UdpDst,
                ("tp_src", Some(132)) => OxmField::SctpSrc,
                ("tp_dst", Some(132)) => OxmField::SctpDst,
                ("icmp_type", Some(58)) => OxmField::Icmpv6Type,
                ("icmp_code", Some(58)) => OxmField::Icmpv6Code,
                _ => field(name)?,
            };
            let (value, mask) = value::parse_masked(field, text)?;
            mask.map_or(Oxm::exact(field, value), |mask| Oxm::masked(field, value, mask))
        }
    };
    if oxm.mask.is_some() && !oxm.field.spec().maskable {
        return Err(TextError::new("the field cannot be masked", part));
    }
    matching.fields.push(oxm);
    Ok(())
}

fn protocol(matching: &Match) -> Option<u128> {
    matching.get(OxmField::IpProto).map(|oxm| oxm.value)
}

fn field(name: &str) -> Result<OxmField, TextError> {
    OxmField::ALL
        .iter()
        .find(|field| field.spec().name == name)
        .or_else(|| ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, field)| field))
        .copied()
        .ok_or_else(|| TextError::new("unknown field", name))
}

/// Cuts at commas that are not inside parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

/// The inside of `name(...)`.
fn inside<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')
}

fn instructions(text: &str) -> Result<Vec<Instruction>, TextError> {
    let mut list: Vec<Instruction> = Vec::new();
    if text == "drop" {
        return Ok(list);
    }
    for part in parts(text) {
        let (name, argument) = part.split_once(':').unwrap_or((part, ""));
        let instruction = match name {
            "goto_table" => Instruction::GotoTable(value::small(argument)?),
            "clear_actions" => Instruction::ClearActions,
            "meter" => Instruction::Meter(value::small(argument)?),
            "write_metadata" => {
                let (value, mask) = match argument.split_once('/') {
                    Some((value, mask)) => (value::small(value)?, value::small(mask)?),
                    None => (value::small(argument)?, u64::MAX),
                };
                Instruction::WriteMetadata { value, mask }
            }
            _ => match inside(part, "write_actions") {
                Some(inner) => Instruction::WriteActions(actions(inner, 1)?),
                None => {
                    let action = action(part, 1)?;
                    if let Some(Instruction::ApplyActions(actions)) = list.last_mut() {
                        actions.push(action);
                        continue;
                    }
                    Instruction::ApplyActions(vec![action])
                }
            },
        };
        list.push(instruction);
    }
    Ok(list)
}

fn actions(text: &str, depth: usize) -> Result<Vec<Action>, TextError> {
    if depth > MAX_DEPTH {
        return Err(TextError::new("nested too deep", text));
    }
    parts(text).into_iter().map(|part| action(part, depth)).collect()
}

fn action(text: &str, depth: usize) -> Result<Action, TextError> {
    let unknown = || TextError::new("unknown action", text);
    if let Some(rest) = text.strip_prefix("check_pkt_larger(") {
        let (limit, dst) = rest.split_once(")->").ok_or_else(unknown)?;
        let dst = subfield(dst)?;
        if dst.bits != 1 {
            return Err(TextError::new("check_pkt_larger writes one bit", text));
        }
        return Ok(Action::CheckPktLarger { limit: value::small(limit)?, dst });
    }
    if let Some((name, rest)) = text.split_once('(') {
        let inner = rest.strip_suffix(')').ok_or_else(|| TextError::new("no closing parenthesis", text))?;
        return match name {
            "resubmit" => {
                let (port, table) = inner.split_once(',').unwrap_or((inner, ""));
                let in_port = if port.is_empty() { 0xfff8 } else { value::small(port)? };
                let table = if table.is_empty() { 0xff } else { value::small(table)? };
                Ok(Action::Resubmit { in_port, table })
            }
            "conjunction" => conjunction(inner),
            "controller" => controller(inner),
            "ct" => ct(inner, depth),
            "clone" => Ok(Action::Clone(actions(inner, depth + 1)?)),
            _ => Err(unknown()),
        };
    }
    let (name, argument) = text.split_once(':').unwrap_or((text, ""));
    Ok(match name {
        "output" if argument.contains('[') => Action::OutputReg { src: subfield(argument)?, max_len: u16::MAX },
        "output" => Action::output(value::port(argument)?),
        "group" => Action::Group(value::small(argument)?),
        "set_field" => set_field(argument)?,
        "push_vlan" => Action::PushVlan(value::small(argument)?),
        "pop_vlan" | "strip_vlan" => Action::PopVlan,
        "dec_ttl" => Action::DecNwTtl,
        "ct_clear" => Action::CtClear,
        "move" => {
            let (src, dst) = argument.split_once("->").ok_or_else(unknown)?;
            let (src, dst) = (subfield(src)?, subfield(dst)?);
            if src.bits != dst.bits {
                return Err(TextError::new("ranges of different widths", text));
            }
            Action::Move { src, dst: dst.field, dst_offset: dst.offset }
        }
        "load" => {
            let (number, dst) = argument.split_once("->").ok_or_else(unknown)?;
            let dst = subfield(dst)?;
            if dst.bits > 64 {
                return Err(TextError::new("load writes at most 64 bits", text));
            }
            Action::Load { dst, value: value::small(number)? }
        }
        "note" => Action::Note(bytes(argument)?),
        "CONTROLLER" | "controller" => {
            let max_len = if argument.is_empty() { u16::MAX } else { value::small(argument)? };
            Action::Output { port: reserved::CONTROLLER, max_len }
        }
        other if argument.is_empty() => Action::output(value::port(other).map_err(|_| unknown())?),
        _ => return Err(unknown()),
    })
}

fn set_field(argument: &str) -> Result<Action, TextError> {
    let (text, name) = argument.split_once("->").ok_or_else(|| TextError::new("no -> in set_field", argument))?;
    let field = if name == "in_port" { OxmField::InPortNxm } else { field(name)? };
    Ok(match text.split_once('/') {
        None => Action::SetField { field, value: value::parse(field, text)? },
        Some((value, mask)) => {
            Action::SetMasked(Oxm::masked(field, value::parse(field, value)?, value::parse(field, mask)?))
        }
    })
}

/// `NXM_NX_REG0[]`, `NXM_NX_REG0[3]`, `NXM_NX_REG0[0..15]`; the field's short name does too.
fn subfield(text: &str) -> Result<Subfield, TextError> {
    let wrong = || TextError::new("not a range of a field", text);
    let (name, range) = text.split_once('[').ok_or_else(wrong)?;
    let range = range.strip_suffix(']').ok_or_else(wrong)?;
    let field = match OxmField::ALL.iter().find(|field| field.spec().long == name) {
        Some(field) => *field,
        None => field(name)?,
    };
    if range.is_empty() {
        return Ok(Subfield::new(field, 0, whole_bits(field)));
    }
    let (first, last) = range.split_once("..").unwrap_or((range, range));
    let (first, last): (u16, u16) = (value::small(first)?, value::small(last)?);
    if last < first || last >= whole_bits(field) {
        return Err(wrong());
    }
    Ok(Subfield::new(field, first, last - first + 1))
}

/// Pairs of digits with dots.
fn bytes(text: &str) -> Result<Vec<u8>, TextError> {
    text.split('.')
        .map(|pair| u8::from_str_radix(pair, 16).map_err(|_| TextError::new("not bytes in hexadecimal", text)))
        .collect()
}

fn conjunction(inner: &str) -> Result<Action, TextError> {
    let wrong = || TextError::new("not id,k/n", inner);
    let (id, clause) = inner.split_once(',').ok_or_else(wrong)?;
    let (clause, clauses) = clause.split_once('/').ok_or_else(wrong)?;
    let clause: u8 = value::small(clause)?;
    Ok(Action::Conjunction {
        id: value::small(id)?,
        clause: clause.checked_sub(1).ok_or_else(wrong)?,
        clauses: value::small(clauses)?,
    })
}

fn controller(inner: &str) -> Result<Action, TextError> {
    let mut controller = Controller::default();
    for part in parts(inner) {
        let (name, text) = part.split_once('=').unwrap_or((part, ""));
        match name {
            "max_len" => controller.max_len = value::small(text)?,
            "id" => controller.id = value::small(text)?,
            "reason" => {
                controller.reason = match REASONS.iter().find(|(word, _)| *word == text) {
                    Some((_, number)) => *number,
                    None => value::small(text)?,
                };
            }
            "userdata" => controller.userdata = bytes(text)?,
            "pause" => controller.pause = true,
            "meter_id" => controller.meter = Some(value::small(text)?),
            _ => return Err(TextError::new("unknown argument of controller", part)),
        }
    }
    Ok(Action::Controller(controller))
}

fn ct(inner: &str, depth: usize) -> Result<Action, TextError> {
    let mut ct = Ct { flags: 0, zone: CtZone::Number(0), table: None, alg: 0, actions: Vec::new() };
    for part in parts(inner) {
        if let Some(nested) = inside(part, "exec") {
            ct.actions = actions(nested, depth + 1)?;
            continue;
        }
        match part.split_once('=').unwrap_or((part, "")) {
            ("commit", "") => ct.flags |= Ct::COMMIT,
            ("force", "") => ct.flags |= Ct::FORCE,
            ("table", text) => ct.table = Some(value::small(text)?),
            ("zone", text) if text.contains('[') => ct.zone = CtZone::Field(subfield(text)?),
            ("zone", text) => ct.zone = CtZone::Number(value::small(text)?),
            ("alg", "ftp") => ct.alg = 21,
            ("alg", "tftp") => ct.alg = 69,
            ("alg", text) => ct.alg = value::small(text)?,
            _ => return Err(TextError::new("unknown argument of ct", part)),
        }
    }
    Ok(Action::Ct(ct))
}
