//! Entries to flows.

use crate::{
    error::LowerError,
    flow::{Flow, FlowKey},
    groups::Groups,
    layout::{self, Cookie, Errand},
    ports::PortMap,
};
use bulkhead_openflow::wire::{
    action::{Action as OfAction, Ct, CtZone, Subfield},
    field::OxmField,
    instruction::Instruction,
    oxm::{Match as OfMatch, Oxm},
    port::reserved,
};
use bulkhead_pipeline::{Action, Entry, EntryKey, Field, Match, Next, Output, Stage, ethertype, frag, ip_proto, vlan};
use bulkhead_topology::Port;
use std::collections::BTreeSet;

/// The flow of an entry. Ports are named or numbered as the switch's `ports` say; the cookie remembers which
/// of the two the program used, so that [`crate::lift`] gives back the very same entry. Where it chooses among ports,
/// their group is among `groups` afterwards.
pub fn lower(entry: &Entry, ports: &PortMap, groups: &mut Groups) -> Result<Flow, LowerError> {
    let key = key(&entry.key, &|port| ports.number(port))?;
    let headers = Headers::of(&entry.key.matches);
    let vlan = entry.key.matches.get(Field::Vlan).is_some_and(|(value, _)| value & vlan::PRESENT != 0);
    let mut lowering = Lowering { headers, ports, groups, actions: Vec::new(), tracked: false, vlan };
    for action in &entry.actions {
        lowering.action(action, entry)?;
    }
    let Lowering { actions, tracked, .. } = lowering;
    let mut instructions = Vec::new();
    if !actions.is_empty() {
        instructions.push(Instruction::ApplyActions(actions));
    }
    match entry.next {
        Next::Stage(_) if tracked => {}
        Next::Stage(stage) => instructions.push(Instruction::GotoTable(forward(entry, stage)?)),
        Next::Drop | Next::Done => {}
    }
    Ok(Flow { key, cookie: cookie(entry)?, instructions })
}

/// The flow that an entry of this key has, or had while the ports that it names were there.
pub fn lower_key(wanted: &EntryKey, ports: &PortMap) -> Result<FlowKey, LowerError> {
    key(wanted, &|port| ports.last_number(port))
}

fn key(key: &EntryKey, number: &dyn Fn(&Port) -> Option<u32>) -> Result<FlowKey, LowerError> {
    let headers = Headers::of(&key.matches);
    let mut fields = Vec::with_capacity(key.matches.fields().count() + 1);
    if let Some(port) = &key.matches.in_port {
        let number = number(port).ok_or_else(|| LowerError::Port(port.clone()))?;
        fields.push(Oxm::exact(OxmField::InPort, number.into()));
    }
    // Values and masks of the registers; those that nothing matches have an empty mask.
    let mut registers = [(0u128, 0u128); layout::REGISTERS];
    // A canonical match has each header in front of the fields that need it, as OpenFlow wants it.
    for (field, value, mask) in key.matches.fields() {
        match layout::metadata(field) {
            Some(bits) => {
                let register = registers.get_mut(bits.field as usize - OxmField::Reg0 as usize);
                if let Some((values, masks)) = register {
                    *values |= value << bits.offset;
                    *masks |= mask << bits.offset;
                }
            }
            None => {
                let place = headers.place(field)?;
                if mask != field.full_mask() && !place.spec().maskable {
                    return Err(LowerError::Mask(field));
                }
                fields.push(Oxm::masked(place, value, mask));
            }
        }
    }
    for (number, (value, mask)) in (0..).zip(registers).filter(|(_, (_, mask))| *mask != 0) {
        fields.extend(OxmField::reg(number).map(|register| Oxm::masked(register, value, mask)));
    }
    Ok(FlowKey { table: key.stage as u8, priority: key.priority, matches: OfMatch::new(fields) })
}

fn cookie(entry: &Entry) -> Result<u64, LowerError> {
    let mut flags = 0;
    let refuses = entry.actions.iter().any(Action::refuses);
    flags |= if entry.next == Next::Done { Cookie::DONE } else { 0 };
    flags |= if refuses || entry.next == Next::Drop { Cookie::DROPPED } else { 0 };
    flags |= if matches!(entry.key.matches.in_port, Some(Port::Number(_))) { Cookie::IN_PORT_NUMBER } else { 0 };
    let mut out = entry.actions.iter().flat_map(Action::ports).map(|port| matches!(port, Port::Number(_)));
    if let Some(by_number) = out.next() {
        if out.any(|other| other != by_number) {
            return Err(LowerError::MixedPorts);
        }
        flags |= if by_number { Cookie::OUT_PORT_NUMBER } else { 0 };
    }
    Ok(Cookie { cause: entry.cause, flags }.to_bits())
}

fn forward(entry: &Entry, stage: Stage) -> Result<u8, LowerError> {
    // OF 1.3.5 §5.1: a packet only goes to tables with a greater number.
    if stage > entry.key.stage { Ok(stage as u8) } else { Err(LowerError::Backwards(stage)) }
}

/// What a match says of the headers that other fields depend on.
#[derive(Clone, Copy)]
struct Headers {
    ethertype: Option<u128>,
    protocol: Option<u128>,
    icmp: Option<u128>,
    /// Whether it is for later fragments alone, which have no header behind IP's.
    later: bool,
}

impl Headers {
    fn of(matches: &Match) -> Self {
        Self {
            ethertype: matches.exact(Field::EthType),
            protocol: matches.exact(Field::IpProto),
            icmp: matches.exact(Field::IcmpType),
            later: matches.get(Field::IpFrag).is_some_and(|(value, _)| value & frag::LATER != 0),
        }
    }

    fn is_ip(&self) -> bool {
        matches!(self.ethertype, Some(ethertype::IPV4 | ethertype::IPV6))
    }

    /// What has to come before a field (ovs-fields(7), "Prerequisites"), where the match does not say it.
    fn missing(&self, field: Field) -> Option<&'static str> {
        const SOLICITATION: u128 = 135;
        const ADVERTISEMENT: u128 = 136;
        let nd = self.ethertype == Some(ethertype::IPV6) && self.protocol == Some(ip_proto::ICMPV6);
        let (satisfied, needs) = match field {
            Field::IpProto | Field::IpFrag | Field::IpTtl => (self.is_ip(), "eth_type of IPv4 or IPv6"),
            Field::Ipv4Src | Field::Ipv4Dst => (self.ethertype == Some(ethertype::IPV4), "eth_type of IPv4"),
            Field::Ipv6Src | Field::Ipv6Dst => (self.ethertype == Some(ethertype::IPV6), "eth_type of IPv6"),
            Field::L4Src | Field::L4Dst => {
                let ports = matches!(self.protocol, Some(ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP));
                (self.is_ip() && ports && !self.later, "ip_proto of TCP, UDP or SCTP, and no later fragment")
            }
            Field::IcmpType | Field::IcmpCode => {
                let v4 = self.ethertype == Some(ethertype::IPV4) && self.protocol == Some(ip_proto::ICMP);
                ((v4 || nd) && !self.later, "ip_proto of ICMP in IPv4, or ICMPv6 in IPv6, and no later fragment")
            }
            Field::ArpOp | Field::ArpSpa | Field::ArpTpa | Field::ArpSha | Field::ArpTha => {
                (self.ethertype == Some(ethertype::ARP), "eth_type of ARP")
            }
            Field::NdTarget | Field::NdReserved | Field::NdOption => {
                (nd && matches!(self.icmp, Some(SOLICITATION | ADVERTISEMENT)), "icmp_type 135 or 136")
            }
            Field::NdSll => (nd && self.icmp == Some(SOLICITATION), "icmp_type 135"),
            Field::NdTll => (nd && self.icmp == Some(ADVERTISEMENT), "icmp_type 136"),
            _ => (true, ""),
        };
        (!satisfied).then_some(needs)
    }

    /// The place of a packet's field in packets that have these headers.
    fn place(&self, field: Field) -> Result<OxmField, LowerError> {
        if let Some(needs) = self.missing(field) {
            return Err(LowerError::Prerequisite { field, needs });
        }
        let fixed = layout::PACKET.into_iter().find(|place| place.0 == field).map(|place| place.1);
        let by_protocol = || {
            let mut places = layout::BY_PROTOCOL.into_iter();
            places.find(|place| place.0 == field && Some(place.1) == self.protocol).map(|place| place.2)
        };
        let needs = "the protocol that has it";
        fixed.or_else(by_protocol).ok_or(LowerError::Prerequisite { field, needs })
    }

    /// The bits of any field in packets that have these headers.
    fn bits(&self, field: Field) -> Result<Subfield, LowerError> {
        match layout::metadata(field) {
            Some(bits) => Ok(bits),
            None => self.place(field).map(|place| Subfield::new(place, 0, field.width() as u16)),
        }
    }
}

/// Whether an action can write the field: what the parser and the tracker found stays as it is.
const fn settable(field: Field) -> bool {
    !matches!(field, Field::Conjunction | Field::Conn | Field::EthType | Field::Vlan | Field::IpProto | Field::IpFrag)
}

/// Where the bits of a mask begin and how many there are, if they are next to each other and fit one action
/// (nicira-ext.h, `nx_action_reg_load`: at most 64).
fn run_of(mask: u128) -> Option<(u16, u16)> {
    let (offset, length) = (mask.trailing_zeros(), mask.count_ones());
    let one_run = (1..=64).contains(&length) && mask >> offset == u128::MAX >> (128 - length);
    one_run.then_some((offset as u16, length as u16))
}

struct Lowering<'a> {
    headers: Headers,
    ports: &'a PortMap,
    groups: &'a mut Groups,
    actions: Vec<OfAction>,
    /// Whether the packet left for the tracker: nothing may follow.
    tracked: bool,
    /// Whether the packet has a VLAN tag for sure.
    vlan: bool,
}

impl Lowering<'_> {
    fn action(&mut self, action: &Action, entry: &Entry) -> Result<(), LowerError> {
        if self.tracked {
            return Err(LowerError::AfterTracker);
        }
        match action {
            Action::Set(field, value) => self.set(*field, value.get())?,
            Action::SetBits(bits) => self.set_bits(bits.field, bits.value, bits.mask)?,
            Action::Copy { from, to } => self.copy(*from, *to)?,
            Action::ServiceFromDst => {
                let port = self.headers.place(Field::L4Dst)?;
                self.actions.extend(layout::service_from_port(port));
            }
            Action::ServiceFromSrc => {
                let port = self.headers.place(Field::L4Src)?;
                self.actions.extend(layout::service_from_port(port));
            }
            Action::ServiceFromIcmp => {
                let (kind, code) = (self.headers.place(Field::IcmpType)?, self.headers.place(Field::IcmpCode)?);
                self.actions.extend(layout::service_from_icmp(kind, code));
            }
            Action::ServiceFromProto => {
                self.headers.place(Field::IpProto)?;
                self.actions.extend(layout::service_from_protocol());
            }
            Action::SetOut(port) => {
                let number = self.port(port)?;
                self.actions.push(OfAction::load(layout::OUT_PORT, number.into()));
            }
            Action::Output(Output::InPort) => self.actions.push(OfAction::output(reserved::IN_PORT)),
            Action::Output(Output::Chosen) => {
                self.actions.push(OfAction::OutputReg { src: Subfield::whole(layout::OUT_PORT), max_len: 0 });
            }
            Action::Output(Output::OneOf(choice)) => {
                let numbers: BTreeSet<u32> = choice.iter().map(|port| self.port(port)).collect::<Result<_, _>>()?;
                if numbers.len() != choice.len() || choice.len() < 2 || !choice.is_sorted() {
                    return Err(LowerError::Choice(choice.len()));
                }
                self.actions.push(OfAction::Group(self.groups.number(numbers)?));
            }
            Action::Output(Output::Port(port)) => {
                let number = self.port(port)?;
                self.actions.push(OfAction::output(number));
            }
            Action::Track => {
                let Next::Stage(next) = entry.next else { return Err(LowerError::AfterTracker) };
                self.tracked = true;
                let ct = Ct { table: Some(forward(entry, next)?), ..ct() };
                self.tracker(ct)?;
            }
            Action::Commit => self.tracker(Ct { flags: Ct::COMMIT, actions: layout::remember().into(), ..ct() })?,
            Action::CommitAnew => {
                let flags = Ct::COMMIT | Ct::FORCE;
                self.tracker(Ct { flags, actions: layout::remember().into(), ..ct() })?;
            }
            Action::SwapEnds => self.actions.extend(layout::swap_ends()),
            Action::Recall => self.actions.extend(layout::recall()),
            Action::RecallService => self.actions.extend(layout::recall_service()),
            Action::Clause { conjunction, k, n } => {
                // nicira-ext.h, `nx_action_conjunction`: 2 to 64 clauses, and nothing else in such a flow.
                let alone = entry.actions.iter().all(|action| matches!(action, Action::Clause { .. }));
                let whole = (2..=64).contains(n) && (1..=*n).contains(k);
                if !(alone && whole && entry.next == Next::Done) {
                    return Err(LowerError::Clause { k: *k, n: *n });
                }
                self.actions.push(OfAction::Conjunction { id: *conjunction, clause: k.saturating_sub(1), clauses: *n });
            }
            Action::Reject => self.actions.push(Errand::Reject.action()),
            Action::Expired { from } => self.actions.push(Errand::Expired(*from).action()),
            Action::NoRoute { from } => self.actions.push(Errand::NoRoute(*from).action()),
            Action::TooBig { mtu } => self.actions.push(Errand::TooBig(*mtu).action()),
            Action::Probe => self.actions.push(Errand::Probe.action()),
            Action::Discover => self.actions.push(Errand::discover(entry.cause).action()),
            Action::DecTtl => {
                self.headers.place(Field::IpTtl)?;
                self.actions.push(OfAction::DecNwTtl);
            }
            Action::CheckSize(limit) => {
                let dst = self.headers.bits(Field::TooBig)?;
                self.actions.push(OfAction::CheckPktLarger { limit: *limit, dst });
            }
            Action::Fork { actions, to } => {
                let table = forward(entry, *to)?;
                let outer = std::mem::take(&mut self.actions);
                for action in &**actions {
                    match action {
                        Action::Set(field, value) => self.set(*field, value.get())?,
                        Action::Copy { from, to } => self.copy(*from, *to)?,
                        _ => return Err(LowerError::Copy),
                    }
                }
                let mut copy = std::mem::replace(&mut self.actions, outer);
                copy.push(OfAction::resubmit(table));
                self.actions.push(OfAction::Clone(copy));
            }
            Action::Log => self.actions.push(layout::log()),
            Action::PushVlan(id) => {
                let id = layout::metadata(*id).filter(|bits| u32::from(bits.bits) == Field::OutVlan.width());
                let id = id.ok_or(LowerError::NotSettable(Field::Vlan))?;
                self.actions.extend(layout::push_vlan(id));
                self.vlan = true;
            }
            Action::PopVlan => {
                if !self.vlan {
                    return Err(LowerError::Prerequisite { field: Field::Vlan, needs: "a tag" });
                }
                self.actions.push(OfAction::PopVlan);
                self.vlan = false;
            }
        }
        Ok(())
    }

    fn set(&mut self, field: Field, value: u128) -> Result<(), LowerError> {
        if !settable(field) {
            return Err(LowerError::NotSettable(field));
        }
        if value & !field.full_mask() != 0 {
            return Err(LowerError::TooWide { field, value });
        }
        self.actions.push(match layout::metadata(field) {
            // No metadata field is wider than 32 bits.
            Some(dst) => OfAction::Load { dst, value: value as u64 },
            None => OfAction::SetField { field: self.headers.place(field)?, value },
        });
        Ok(())
    }

    fn set_bits(&mut self, field: Field, value: u128, mask: u128) -> Result<(), LowerError> {
        if !settable(field) || layout::metadata(field).is_some() {
            return Err(LowerError::NotSettable(field));
        }
        let bits = run_of(mask).filter(|_| mask & !field.full_mask() == 0 && mask != field.full_mask());
        let (offset, length) = bits.filter(|_| value & !mask == 0).ok_or(LowerError::Bits { field, value, mask })?;
        let dst = Subfield::new(self.headers.place(field)?, offset, length);
        self.actions.push(OfAction::Load { dst, value: (value >> offset) as u64 });
        Ok(())
    }

    fn copy(&mut self, from: Field, to: Field) -> Result<(), LowerError> {
        if !settable(to) {
            return Err(LowerError::NotSettable(to));
        }
        if !from.copies_to(to) {
            return Err(LowerError::Widths { from, to });
        }
        let narrow = if from.width() == to.width() { None } else { layout::low_identity(from) };
        let (src, dst) = (narrow.map_or_else(|| self.headers.bits(from), Ok)?, self.headers.bits(to)?);
        self.actions.push(OfAction::Move { src, dst: dst.field, dst_offset: dst.offset });
        Ok(())
    }

    fn port(&self, port: &Port) -> Result<u32, LowerError> {
        self.ports.number(port).ok_or_else(|| LowerError::Port(port.clone()))
    }

    fn tracker(&mut self, ct: Ct) -> Result<(), LowerError> {
        if !self.headers.is_ip() {
            return Err(LowerError::Prerequisite { field: Field::Conn, needs: "eth_type of IPv4 or IPv6" });
        }
        self.actions.push(OfAction::Ct(ct));
        Ok(())
    }
}

/// Through the tracker in the network's zone, and nothing else.
fn ct() -> Ct {
    Ct { flags: 0, zone: CtZone::Field(layout::zone()), table: None, alg: 0, actions: Vec::new() }
}
