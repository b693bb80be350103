//! One line per new connection that a rule asked to log.

use crate::core::Core;
use bulkhead_compile::CauseName;
use bulkhead_dataplane::Logged;
use bulkhead_pipeline::{Field, Packet, ethertype, ip_proto};
use bulkhead_policy::model::{Action, Policy};
use bulkhead_topology::{Name, Port};
use std::{net::IpAddr, time::Duration};

/// The target of these lines: a filter for them alone is `bulkhead::flow=info`.
const TARGET: &str = "bulkhead::flow";

/// Lines a second of all switches together: with a thousand switches, each below its own bound, a flood would load the
/// disk and whoever collects the lines (A19).
const LINES_PER_SECOND: u32 = 1000;

/// How many lines may still be written.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// The second that is counted, and its lines.
    second: u64,
    written: u32,
    /// Lines that were left out since the last that was written.
    missed: u64,
}

impl Budget {
    /// Whether a line may be written now, which is to tell of `missed` before it: how many with those left out here.
    pub(crate) fn take(&mut self, missed: u64, now: Duration) -> Option<u64> {
        if self.second != now.as_secs() {
            (self.second, self.written) = (now.as_secs(), 0);
        }
        let missed = self.missed.saturating_add(missed);
        if self.written >= LINES_PER_SECOND {
            self.missed = missed.saturating_add(1);
            return None;
        }
        self.written += 1;
        self.missed = 0;
        Some(missed)
    }
}

/// Writes the line of a logged packet, with `missed` left out before it.
pub(crate) fn write(core: &Core, switch: &Name, logged: &Logged, missed: u64) {
    // A rule that has gone meanwhile cannot be named any more.
    let Some(CauseName::Rule { policy, direction, index }) = core.describe(logged.cause) else { return };
    let accepted = core.accepted();
    let Some(text) = accepted.state.policies.get(&policy) else { return };
    let Some(rule) = text.rules(direction).get(index) else { return };
    let name = if rule.name.is_empty() { format!("{}[{index}]", direction.as_str()) } else { rule.name.to_string() };
    let packet = &logged.packet;
    let [from, to] = ends(packet);
    let [source_port, port] = [Field::L4Src, Field::L4Dst].map(|field| packet.get(field));
    let [icmp_type, icmp_code] = [Field::IcmpType, Field::IcmpCode].map(|field| packet.get(field));
    let in_port = match &packet.in_port {
        // It is the switch's word for it, and may hold anything: also what would be a line of its own.
        Port::Name(name) => name.escape_debug().to_string(),
        Port::Number(number) => number.to_string(),
    };
    tracing::info!(
        target: TARGET,
        verdict = verdict(text, rule.action, logged.dropped),
        %policy,
        rule = %name,
        direction = direction.as_str(),
        from = from.map(tracing::field::display),
        to = to.map(tracing::field::display),
        protocol = %protocol(packet.value(Field::IpProto)),
        source_port = source_port.map(|port| port as u64),
        port = port.map(|port| port as u64),
        icmp_type = icmp_type.map(|kind| kind as u64),
        icmp_code = icmp_code.map(|code| code as u64),
        %switch,
        %in_port,
        missed_before = missed,
        "new connection"
    );
}

/// What became of it, or would have: of staged policies, and of denials that are not enforced.
fn verdict(policy: &Policy, action: Action, dropped: bool) -> &'static str {
    let reported = policy.staged || !dropped;
    match action {
        Action::Allow if policy.staged => "would-allow",
        Action::Deny if reported => "would-deny",
        Action::Reject if reported => "would-reject",
        decided => decided.as_str(),
    }
}

fn ends(packet: &Packet) -> [Option<IpAddr>; 2] {
    match packet.value(Field::EthType) {
        ethertype::IPV4 => [Field::Ipv4Src, Field::Ipv4Dst].map(|field| {
            packet.get(field).and_then(|bits| u32::try_from(bits).ok()).map(|bits| IpAddr::V4(bits.into()))
        }),
        ethertype::IPV6 => {
            [Field::Ipv6Src, Field::Ipv6Dst].map(|field| packet.get(field).map(|bits| IpAddr::V6(bits.into())))
        }
        _ => [None, None],
    }
}

fn protocol(number: u128) -> String {
    match number {
        ip_proto::TCP => "tcp".into(),
        ip_proto::UDP => "udp".into(),
        ip_proto::SCTP => "sctp".into(),
        ip_proto::ICMP => "icmp".into(),
        ip_proto::ICMPV6 => "icmpv6".into(),
        other => other.to_string(),
    }
}
