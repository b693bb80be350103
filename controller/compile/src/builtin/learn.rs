//! Where a network learns its workloads: what is told to the controller, and goes no further.

use super::{Entries, Here, ip, nd};
use bulkhead_pipeline::{Action, Builtin, Field, Match, Next, Stage, ethertype};
use bulkhead_topology::{Mac, Port};

/// Whoever is heard at a port that is nobody's.
pub(super) fn strangers(e: &mut Entries) {
    for kind in [ethertype::ARP, ethertype::IPV4, ethertype::IPV6] {
        // Below all that is of workloads, uplinks and links.
        tell(e, Stage::Classify, 5, ip(kind).with(Field::Vlan, 0u8));
    }
}

/// Questions of the network's workloads for addresses that nobody has: an uplink is asked before.
pub(super) fn unknown(e: &mut Entries, here: &Here<'_>) {
    if !here.network.learn_workloads
        || !here.remembers()
        || here.fabric.switches.get(here.switch).is_none_or(|s| s.vtep.is_some())
    {
        return;
    }
    tell(e, Stage::ArpNd, 45, here.inside(ip(ethertype::ARP).with(Field::ArpOp, 1u8)));
    tell(e, Stage::ArpNd, 45, here.inside(nd(135)));
}

/// What a learned workload sends from another address of its network.
pub(super) fn addresses(e: &mut Entries, here: &Here<'_>, mac: Mac, port: &Port) {
    let own = |m: Match| m.port(port.clone()).with(Field::EthSrc, mac.to_bits());
    for subnet in &here.network.subnets {
        let (bits, mask) = subnet.to_bits();
        if subnet.is_ipv4() {
            let says = own(ip(ethertype::ARP)).with(Field::ArpSha, mac.to_bits());
            tell(e, Stage::Antispoof, 20, says.masked(Field::ArpSpa, bits, mask));
            tell(e, Stage::Antispoof, 20, own(ip(ethertype::IPV4)).masked(Field::Ipv4Src, bits, mask));
        } else {
            // Its other solicitations are told of above.
            tell(e, Stage::Antispoof, 20, own(ip(ethertype::IPV6)).masked(Field::Ipv6Src, bits, mask));
        }
    }
}

/// Tells of what matches, and drops it.
pub(super) fn tell(e: &mut Entries, stage: Stage, priority: u16, matches: Match) {
    e.add(stage, priority, matches, vec![Action::Discover], Next::Drop, Builtin::Learn);
}
