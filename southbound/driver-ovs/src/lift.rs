//! Flows to entries: the inverse of `lower`.

use crate::{
    error::LiftError,
    flow::Flow,
    groups::Groups,
    layout::{self, Cookie, Errand},
    ports::PortMap,
};
use bulkhead_openflow::wire::{
    action::{Action as OfAction, Ct, CtZone, Subfield},
    field::OxmField,
    instruction::Instruction,
    oxm::Match as OfMatch,
    port::reserved,
};
use bulkhead_pipeline::{Action, Entry, Field, Match, Next, Output, Stage};
use bulkhead_topology::Port;
use std::sync::Arc;

/// The entry of a flow with our cookie. A port that has no name any more is given by its number.
pub fn lift(flow: &Flow, ports: &PortMap, groups: &Groups) -> Result<Entry, LiftError> {
    let cookie = Cookie::from_bits(flow.cookie).ok_or(LiftError::Cookie(flow.cookie))?;
    let stage = Stage::from_index(flow.key.table).ok_or(LiftError::Table(flow.key.table))?;
    let matches = lift_match(&flow.key.matches, &|number| port(ports, number, cookie.flags & Cookie::IN_PORT_NUMBER))?;
    let mut lifting = Lifting { ports, groups, cookie, actions: Vec::new(), next: None };
    for instruction in &flow.instructions {
        match instruction {
            Instruction::ApplyActions(actions) => lifting.all(actions)?,
            Instruction::GotoTable(table) => lifting.go(*table)?,
            other => return Err(LiftError::Action(format!("{other:?}"))),
        }
    }
    let end = if cookie.flags & Cookie::DONE != 0 { Next::Done } else { Next::Drop };
    let next = lifting.next.unwrap_or(end);
    Ok(Entry::new(stage, flow.key.priority, matches, lifting.actions, next, cookie.cause))
}

fn port(ports: &PortMap, number: u32, by_number: u8) -> Port {
    match ports.name(number) {
        Some(name) if by_number == 0 => Port::Name(Arc::clone(name)),
        _ => Port::Number(number),
    }
}

fn lift_match(wire: &OfMatch, port: &dyn Fn(u32) -> Port) -> Result<Match, LiftError> {
    let mut matches = Match::any();
    if let Some(raw) = wire.unknown.first() {
        return Err(LiftError::Match(format!("{raw:?}")));
    }
    for oxm in &wire.fields {
        let strange = || LiftError::Match(format!("{oxm:?}"));
        let mask = oxm.mask.unwrap_or(oxm.field.all_ones());
        if oxm.field == OxmField::InPort {
            matches = matches.port(port(u32::try_from(oxm.value).map_err(|_| strange())?));
        } else if let Some(field) = layout::packet_field(oxm.field) {
            if mask & !field.full_mask() != 0 {
                return Err(strange());
            }
            matches = matches.masked(field, oxm.value, mask);
        } else {
            let mut left = mask;
            for (field, _, offset) in layout::METADATA.into_iter().filter(|place| place.1 == oxm.field) {
                left &= !(field.full_mask() << offset);
                matches = matches.masked(field, oxm.value >> offset, mask >> offset);
            }
            if left != 0 {
                return Err(strange());
            }
        }
    }
    Ok(matches)
}

struct Lifting<'a> {
    ports: &'a PortMap,
    groups: &'a Groups,
    cookie: Cookie,
    actions: Vec<Action>,
    next: Option<Next>,
}

impl Lifting<'_> {
    fn go(&mut self, table: u8) -> Result<(), LiftError> {
        let stage = Stage::from_index(table).ok_or(LiftError::Table(table))?;
        match self.next.replace(Next::Stage(stage)) {
            None => Ok(()),
            Some(_) => Err(LiftError::Action(format!("go on twice, then to table {table}"))),
        }
    }

    fn all(&mut self, mut left: &[OfAction]) -> Result<(), LiftError> {
        while let Some((first, rest)) = left.split_first() {
            // Each round takes at least one action off.
            left = match sequence(left) {
                Some((action, after)) => {
                    self.actions.push(action);
                    after
                }
                None => {
                    self.one(first)?;
                    rest
                }
            };
        }
        Ok(())
    }

    fn one(&mut self, action: &OfAction) -> Result<(), LiftError> {
        let strange = || LiftError::Action(format!("{action:?}"));
        let by_number = self.cookie.flags & Cookie::OUT_PORT_NUMBER;
        let lifted = match action {
            OfAction::Load { dst, value } if *dst == Subfield::whole(layout::OUT_PORT) => {
                Action::SetOut(port(self.ports, u32::try_from(*value).map_err(|_| strange())?, by_number))
            }
            OfAction::Load { dst, value } => match layout::metadata_at(*dst) {
                Some(field) => Action::set(field, u128::from(*value)),
                None => some_bits(*dst, *value).ok_or_else(strange)?,
            },
            OfAction::SetField { field, value } => {
                Action::set(layout::packet_field(*field).ok_or_else(strange)?, *value)
            }
            OfAction::Move { src, dst, dst_offset } => {
                let to = Subfield::new(*dst, *dst_offset, src.bits);
                let to = field_at(to).ok_or_else(strange)?;
                let from = field_at(*src).or_else(|| identity_at(*src)).filter(|from| from.copies_to(to));
                let from = from.ok_or_else(strange)?;
                Action::Copy { from, to }
            }
            OfAction::Output { port: reserved::IN_PORT, .. } => Action::Output(Output::InPort),
            OfAction::Output { port: number, .. } => Action::Output(Output::Port(port(self.ports, *number, by_number))),
            OfAction::Group(number) => {
                let numbers = self.groups.ports(*number).ok_or_else(strange)?;
                let mut choice: Vec<Port> = numbers.iter().map(|number| port(self.ports, *number, by_number)).collect();
                choice.sort_unstable();
                Action::Output(Output::OneOf(choice.into()))
            }
            OfAction::OutputReg { src, .. } if *src == Subfield::whole(layout::OUT_PORT) => {
                Action::Output(Output::Chosen)
            }
            OfAction::Ct(ct) => self.tracker(ct).ok_or_else(strange)??,
            OfAction::Conjunction { id, clause, clauses } => {
                let k = clause.checked_add(1).ok_or_else(strange)?;
                Action::Clause { conjunction: *id, k, n: *clauses }
            }
            OfAction::Clone(copy) => {
                let Some((OfAction::Resubmit { table, .. }, copy)) = copy.split_last() else { return Err(strange()) };
                let to = Stage::from_index(*table).ok_or(LiftError::Table(*table))?;
                let mut lifting = Lifting { actions: Vec::new(), next: None, ..*self };
                lifting.all(copy)?;
                Action::Fork { actions: lifting.actions.into(), to }
            }
            OfAction::PopVlan => Action::PopVlan,
            OfAction::DecNwTtl => Action::DecTtl,
            OfAction::CheckPktLarger { limit, dst } if layout::metadata_at(*dst) == Some(Field::TooBig) => {
                Action::CheckSize(*limit)
            }
            other if *other == layout::log() => Action::Log,
            other => match Errand::of(other).ok_or_else(strange)? {
                Errand::Reject => Action::Reject,
                Errand::Expired(from) => Action::Expired { from },
                Errand::NoRoute(from) => Action::NoRoute { from },
                Errand::TooBig(mtu) => Action::TooBig { mtu },
                Errand::Probe => Action::Probe,
                Errand::Discover | Errand::Link | Errand::Learn => Action::Discover,
            },
        };
        self.actions.push(lifted);
        Ok(())
    }

    fn tracker(&mut self, ct: &Ct) -> Option<Result<Action, LiftError>> {
        if ct.zone != CtZone::Field(layout::zone()) || ct.alg != 0 {
            return None;
        }
        let remembers = ct.actions == layout::remember();
        let action = match (ct.flags, ct.table) {
            (0, Some(_)) if ct.actions.is_empty() => Action::Track,
            (Ct::COMMIT, None) if remembers => Action::Commit,
            (flags, None) if flags == Ct::COMMIT | Ct::FORCE && remembers => Action::CommitAnew,
            _ => return None,
        };
        Some(ct.table.map_or(Ok(()), |table| self.go(table)).map(|()| action))
    }
}

/// What sets these bits of a packet's field, if they are not all of it.
fn some_bits(bits: Subfield, value: u64) -> Option<Action> {
    let field = layout::packet_field(bits.field).filter(|field| u32::from(bits.bits) < field.width())?;
    let ones = u128::MAX.checked_shr(128_u32.checked_sub(bits.bits.into())?)?;
    let (mask, value) = (ones.checked_shl(bits.offset.into())?, u128::from(value).checked_shl(bits.offset.into())?);
    (mask & !field.full_mask() == 0 && value & !mask == 0).then(|| Action::set_bits(field, value, mask))
}

/// The field that exactly these bits hold.
fn field_at(bits: Subfield) -> Option<Field> {
    let whole =
        || layout::packet_field(bits.field).filter(|field| (bits.offset, u32::from(bits.bits)) == (0, field.width()));
    layout::metadata_at(bits).or_else(whole)
}

/// The identity whose low bits these are.
fn identity_at(bits: Subfield) -> Option<Field> {
    [Field::SrcId, Field::DstId].into_iter().find(|field| layout::low_identity(*field) == Some(bits))
}

/// The action at the front that takes several OpenFlow actions, and what follows it. None of these sequences
/// begins with an action that has a meaning alone: they touch parts of fields, the scratch register or the
/// connection's memory.
fn sequence(actions: &[OfAction]) -> Option<(Action, &[OfAction])> {
    fn strip<'a>(actions: &'a [OfAction], action: Action, form: &[OfAction]) -> Option<(Action, &'a [OfAction])> {
        actions.strip_prefix(form).map(|rest| (action, rest))
    }
    match actions.first()? {
        OfAction::PushVlan(_) => {
            let ids = [Field::InVlan, Field::OutVlan].into_iter();
            let mut forms = ids.filter_map(|id| Some((id, layout::push_vlan(layout::metadata(id)?))));
            forms.find_map(|(id, form)| strip(actions, Action::PushVlan(id), &form))
        }
        OfAction::Load { .. } => strip(actions, Action::ServiceFromProto, &layout::service_from_protocol()),
        OfAction::Move { src, .. } => match src.field {
            field @ (OxmField::TcpDst | OxmField::UdpDst | OxmField::SctpDst) => {
                strip(actions, Action::ServiceFromDst, &layout::service_from_port(field))
            }
            field @ (OxmField::TcpSrc | OxmField::UdpSrc | OxmField::SctpSrc) => {
                strip(actions, Action::ServiceFromSrc, &layout::service_from_port(field))
            }
            field @ OxmField::Icmpv4Type => {
                strip(actions, Action::ServiceFromIcmp, &layout::service_from_icmp(field, OxmField::Icmpv4Code))
            }
            field @ OxmField::Icmpv6Type => {
                strip(actions, Action::ServiceFromIcmp, &layout::service_from_icmp(field, OxmField::Icmpv6Code))
            }
            OxmField::CtMark => strip(actions, Action::Recall, &layout::recall())
                .or_else(|| strip(actions, Action::RecallService, &layout::recall_service())),
            OxmField::Reg1 => strip(actions, Action::SwapEnds, &layout::swap_ends()),
            _ => None,
        },
        _ => None,
    }
}
