//! Questions about connections, answered by the reference semantics.

use crate::documents::guess;
use bulkhead_policy::{Decision, Endpoint, Flow, Kind, Service, SideVerdict, State, model::*, verdict, verdict_staged};
use bulkhead_topology::{IpNet, Name, parse_ip};
use bulkhead_types::{
    FlowQuestion, MatrixRow, ReachAnswer, ServiceText, SideAnswer, StagedAnswer, Verdict, parse_service, protocol,
};
use std::{collections::BTreeSet, net::IpAddr};

/// What decides between workloads of different networks.
const OTHER_NETWORK: &str = "builtin/other-network";
/// What decides between two outside addresses: the pipeline's own rule of that name.
const TRANSIT: &str = "builtin/transit";
/// What decides about addresses of no workload that no single host has, or that no router forwards to: likewise.
const MULTICAST: &str = "builtin/multicast";

/// Type of an ICMP echo request (RFC 792), and of an ICMPv6 one (RFC 4443 §4.1).
const ECHO_REQUEST: (u8, u8) = (8, 128);

/// A question, resolved against the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// A connection inside one network.
    Flow(Flow),
    /// The two workloads are in different networks: nothing passes between them.
    Apart,
}

/// One end as the question names it.
enum End<'a> {
    Workload(&'a Workload),
    Address(IpAddr),
}

fn end<'a>(state: &'a State, text: &str) -> Result<End<'a>, String> {
    if let Some(ip) = text.strip_prefix("ip:") {
        return parse_ip(ip).map(End::Address).map_err(|e| e.to_string());
    }
    match state.workloads.get(text) {
        Some(workload) => Ok(End::Workload(workload)),
        None if parse_ip(text).is_ok() => Err(format!("there is no workload `{text}`; write an address as ip:{text}")),
        None => {
            let name: Result<Name, _> = text.to_ascii_lowercase().parse();
            let near = name.map(|name| guess(state, &Kind::Workload.named(&name))).unwrap_or_default();
            Err(format!("there is no workload `{}`{near}", text.chars().take(64).collect::<String>()))
        }
    }
}

/// The service that a question asks about, checked and with ICMP's defaults.
pub fn service(question: &FlowQuestion) -> Result<Service, String> {
    let plain = protocol::number(&question.protocol.to_ascii_lowercase()).or_else(|| question.protocol.parse().ok());
    let text = &question.protocol;
    let protocol = plain.ok_or_else(|| match parse_service(text) {
        Ok(_) => format!("`{text}`: write the port as a field of its own"),
        Err(e) => e.to_string(),
    })?;
    let icmp = question.icmp_type.is_some() || question.icmp_code.is_some();
    if protocol::has_ports(protocol) {
        if icmp {
            return Err(format!("{} has no ICMP type", protocol::name(protocol)));
        }
        let port = question.port.filter(|p| *p != 0);
        let port = port.ok_or_else(|| format!("{} needs a port from 1 to 65535", protocol::name(protocol)))?;
        return Ok(Service::Port { protocol, port });
    }
    if question.port.is_some() {
        return Err(format!("{} has no ports", protocol::name(protocol)));
    }
    if protocol::is_icmp(protocol) {
        let echo = if protocol == protocol::ICMP { ECHO_REQUEST.0 } else { ECHO_REQUEST.1 };
        let icmp_type = question.icmp_type.unwrap_or(echo);
        return Ok(Service::Icmp { protocol, icmp_type, code: question.icmp_code.unwrap_or(0) });
    }
    if icmp {
        return Err(format!("{} has no ICMP type", protocol::name(protocol)));
    }
    Ok(Service::Protocol(protocol))
}

/// The family that the service needs, if it needs one.
fn family_of(service: Service) -> Option<bool> {
    match service.protocol() {
        protocol::ICMP => Some(true),
        protocol::ICMPV6 => Some(false),
        _ => None,
    }
}

fn addresses<'a>(end: &'a End<'_>) -> Box<dyn Iterator<Item = IpAddr> + 'a> {
    match end {
        End::Workload(workload) => Box::new(workload.interfaces.iter().flat_map(|i| i.ips.iter().copied())),
        End::Address(ip) => Box::new(std::iter::once(*ip)),
    }
}

/// The connection that a question means. The error is a sentence for the operator.
pub fn resolve(state: &State, question: &FlowQuestion) -> Result<Resolved, String> {
    let service = service(question)?;
    let from = end(state, &question.from).map_err(|e| format!("from: {e}"))?;
    let to = end(state, &question.to).map_err(|e| format!("to: {e}"))?;
    let network = match (&from, &to) {
        (End::Workload(a), End::Workload(b)) if a.network != b.network => return Ok(Resolved::Apart),
        (End::Workload(a), _) | (_, End::Workload(a)) => a.network.clone(),
        (End::Address(_), End::Address(_)) => match (&question.network, state.networks.len()) {
            (Some(name), _) => match state.networks.get_key_value(name.as_str()) {
                Some((name, _)) => name.clone(),
                None => return Err(format!("there is no network `{}`", name.chars().take(64).collect::<String>())),
            },
            (None, 1) => state.networks.keys().next().cloned().ok_or("there is no network")?,
            (None, _) => return Err("say which network: both ends are addresses".into()),
        },
    };
    if let Some(asked) = question.network.as_ref().filter(|asked| **asked != network.as_str()) {
        let asked: String = asked.chars().take(64).collect();
        return Err(format!("the workload is in network {network}, not in {asked}"));
    }
    let asked = match question.family {
        None => None,
        Some(4) => Some(true),
        Some(6) => Some(false),
        Some(other) => return Err(format!("there is no address family {other}; write 4 or 6")),
    };
    let needed = family_of(service);
    if let (Some(needed), Some(asked)) = (needed, asked)
        && needed != asked
    {
        return Err("icmp is of family 4, icmpv6 of family 6".into());
    }
    let pick = |v4: bool| {
        let of = |end: &End<'_>| addresses(end).find(|ip| ip.is_ipv4() == v4);
        Some((of(&from)?, of(&to)?))
    };
    let families: &[bool] = match needed.or(asked) {
        Some(true) => &[true],
        Some(false) => &[false],
        None => &[true, false],
    };
    let Some((from_ip, to_ip)) = families.iter().find_map(|v4| pick(*v4)) else {
        return Err(match needed {
            Some(true) => "not both ends have an IPv4 address; over IPv6 ask for icmpv6".into(),
            Some(false) => "not both ends have an IPv6 address; over IPv4 ask for icmp".into(),
            None => "the two ends have no address family in common".into(),
        });
    };
    let endpoint = |end: &End<'_>, ip: IpAddr| match end {
        End::Workload(workload) => Endpoint { ip, workload: Some(workload.name.clone()) },
        End::Address(_) => Endpoint { ip, workload: state.workload_at(&network, ip).map(|w| w.name.clone()) },
    };
    let (from, to) = (endpoint(&from, from_ip), endpoint(&to, to_ip));
    Ok(Resolved::Flow(Flow { network, from, to, service }))
}

fn word(decision: Decision) -> Verdict {
    match decision {
        Decision::Allow => Verdict::Allow,
        Decision::Deny => Verdict::Deny,
        Decision::Reject => Verdict::Reject,
    }
}

/// A rule's name, or its direction and index.
pub fn rule_name(rule: Option<&Rule>, direction: Direction, index: usize) -> String {
    match rule {
        Some(rule) if !rule.name.is_empty() => rule.name.to_string(),
        _ => format!("{}[{index}]", direction.as_str()),
    }
}

fn side(state: &State, side: &SideVerdict, direction: Direction) -> SideAnswer {
    let verdict = word(side.decision());
    let none = SideAnswer { verdict, policy: None, rule: None, tier: None, zone: None };
    match side {
        SideVerdict::Unmanaged => none,
        SideVerdict::Rule { tier, policy, index, .. } => SideAnswer {
            policy: Some(policy.to_string()),
            rule: Some(rule_name(
                state.policies.get(policy).and_then(|p| p.rules(direction).get(*index)),
                direction,
                *index,
            )),
            tier: Some(tier.as_str().into()),
            ..none
        },
        SideVerdict::Isolated { policy } => SideAnswer {
            policy: Some(policy.to_string()),
            rule: Some("builtin/isolation".into()),
            tier: Some(Tier::Application.as_str().into()),
            ..none
        },
        SideVerdict::ZoneIsolated { zone } => {
            SideAnswer { rule: Some("builtin/zone-isolation".into()), zone: Some(zone.to_string()), ..none }
        }
        SideVerdict::Default(_) => SideAnswer { rule: Some(format!("builtin/default-{}", verdict.as_str())), ..none },
    }
}

/// Both sides of a verdict.
fn sides(state: &State, verdict: &bulkhead_policy::Verdict) -> (Verdict, SideAnswer, SideAnswer) {
    let egress = side(state, &verdict.egress, Direction::Egress);
    (word(verdict.decision), egress, side(state, &verdict.ingress, Direction::Ingress))
}

/// Whether the fabric drops what is sent to this address, unless a workload has it: multicast, the reserved block with
/// the limited broadcast (RFC 1112 §4), link-local IPv6, the broadcasts of the network's own subnets, and no address.
fn multicast(state: &State, flow: &Flow) -> bool {
    match flow.to.ip {
        IpAddr::V4(ip) => {
            let subnets = state.networks.get(&flow.network).map_or(&[][..], |network| &network.subnets);
            // A subnet of two addresses or one has no broadcast (RFC 3021).
            let broadcast = |subnet: &IpNet| {
                let (bits, mask) = subnet.to_bits();
                subnet.is_ipv4()
                    && subnet.prefix_len() < 31
                    && bits | !mask & u128::from(u32::MAX) == ip.to_bits().into()
            };
            ip.octets()[0] >= 224 || ip.is_unspecified() || subnets.iter().any(broadcast)
        }
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

/// Whether these packets are for a group that the sender's network asks for.
fn is_for_group(state: &State, flow: &Flow) -> bool {
    let asked = state.networks.get(&flow.network).is_some_and(|network| network.multicast.contains(&flow.to.ip));
    let datagram = matches!(flow.service, Service::Port { protocol: protocol::UDP, .. });
    asked && datagram && flow.from.workload.is_some() && flow.to.workload.is_none()
}

/// Who decides about a connection, and how; and what would change if staged policies were active.
pub fn reach(state: &State, question: &FlowQuestion) -> Result<ReachAnswer, String> {
    let service = service(question)?;
    let (port, icmp_type, icmp_code) = match service {
        Service::Port { port, .. } => (Some(port), None, None),
        Service::Icmp { icmp_type, code, .. } => (None, Some(icmp_type), Some(code)),
        Service::Protocol(_) => (None, None, None),
    };
    let fabric = |rule: &str| {
        let side = SideAnswer { verdict: Verdict::Deny, policy: None, rule: Some(rule.into()), tier: None, zone: None };
        ((Verdict::Deny, side.clone(), side), None)
    };
    let mut note = String::new();
    let ((decision, egress, ingress), staged) = match resolve(state, question)? {
        Resolved::Flow(flow)
            if flow.to.workload.is_none() && multicast(state, &flow) && !is_for_group(state, &flow) =>
        {
            fabric(MULTICAST)
        }
        // No policy is about either end, and no switch carries it.
        Resolved::Flow(flow) if flow.from.workload.is_none() && flow.to.workload.is_none() => fabric(TRANSIT),
        Resolved::Flow(flow) => {
            if is_for_group(state, &flow) {
                note = format!(
                    "{} is a group of network {}: egress rules see this address and cannot tell receivers apart; each \
                     workload of the network gets a copy if its own ingress rules let {} in (ask `reach {} RECEIVER`)",
                    flow.to.ip, flow.network, question.from, question.from
                );
            }
            let is = verdict(state, &flow);
            let staged = state.policies.values().any(|policy| policy.staged);
            let would = staged.then(|| verdict_staged(state, &flow)).filter(|would| *would != is);
            let staged = would.map(|would| {
                let (verdict, egress, ingress) = sides(state, &would);
                StagedAnswer { verdict, egress, ingress }
            });
            (sides(state, &is), staged)
        }
        Resolved::Apart => fabric(OTHER_NETWORK),
    };
    Ok(ReachAnswer {
        verdict: decision,
        from: question.from.clone(),
        to: question.to.clone(),
        protocol: protocol::name(service.protocol()),
        port,
        icmp_type,
        icmp_code,
        egress,
        ingress,
        staged,
        note,
    })
}

/// A cell of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The pair, and what becomes of the connection.
    pub row: MatrixRow,
    /// What would become of it if staged policies were active.
    pub staged: Verdict,
}

/// One row of the matrix: what `from` reaches of `to`. Pairs without a common address family are left out.
pub fn matrix_row(state: &State, from: &Name, to: &[Name], services: &[ServiceText]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for to in to.iter().filter(|to| *to != from) {
        for service in services {
            let question = FlowQuestion { from: from.to_string(), to: to.to_string(), ..FlowQuestion::default() };
            // The workloads may have gone since the row was planned.
            let Ok(answer) = reach(state, &service.ask(question)) else { continue };
            let ReachAnswer { verdict, from, to, protocol, port, icmp_type, icmp_code, staged, .. } = answer;
            let staged = staged.map_or(verdict, |staged| staged.verdict);
            let row = MatrixRow { verdict, from, to, protocol, port, icmp_type, icmp_code };
            cells.push(Cell { row, staged });
        }
    }
    cells
}

/// The services that policies and named ports speak of: the first port of each range, echo request for ICMP.
pub fn known_services(state: &State) -> BTreeSet<ServiceText> {
    let mut services = BTreeSet::new();
    let plain = |protocol, port| ServiceText { protocol, port, icmp_type: None, icmp_code: None };
    for policy in state.policies.values() {
        let rules = policy.ingress.iter().chain(&policy.egress);
        services.extend(rules.flat_map(|rule| rule.ports.iter().flatten()).filter_map(|port| match port {
            PortMatch::Ports { protocol, first, .. } => Some(plain(*protocol, Some(*first))),
            PortMatch::Icmp { protocol, icmp_type, code } => {
                Some(ServiceText { protocol: *protocol, port: None, icmp_type: *icmp_type, icmp_code: *code })
            }
            PortMatch::Protocol(protocol) if !protocol::has_ports(*protocol) => Some(plain(*protocol, None)),
            PortMatch::Protocol(_) | PortMatch::Named { .. } => None,
        }));
    }
    for workload in state.workloads.values() {
        services.extend(workload.named_ports.values().map(|p| plain(p.protocol, Some(p.port))));
    }
    services
}
