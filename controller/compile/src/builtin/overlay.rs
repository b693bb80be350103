//! What a switch's overlay ports need, and how tunnels' headers carry identities.

use super::{Entries, Here, ip, to};
use bulkhead_pipeline::{
    Action, Builtin, Entry, Field, Match, Next, Stage,
    overlay::{ETHERNET_HEADER, PROBE_ETHERTYPE, Tunnel},
};
use bulkhead_policy::{
    model::{Encap, Host, Switch},
    overlay::{TunnelKind, does_geneve},
};
use bulkhead_topology::Port;

/// Largest IP packet of an underlay that nobody has said anything about: Ethernet's own (RFC 894).
const DEFAULT_UNDERLAY_MTU: u16 = 1500;

/// The encapsulation of a kind of tunnel, and the field that carries the identity, if one does.
pub(super) fn header(kind: TunnelKind) -> (Tunnel, Option<Field>) {
    match kind {
        TunnelKind::Geneve => (Tunnel::Geneve, Some(Field::TunIdentity)),
        TunnelKind::Vxlan => (Tunnel::Vxlan, None),
        TunnelKind::VxlanGbp => (Tunnel::Vxlan, Some(Field::TunGbp)),
    }
}

/// The encapsulations that a switch has a port for.
fn encapsulations(switch: &Switch) -> impl Iterator<Item = Tunnel> {
    let geneve = does_geneve(&switch.driver);
    let all = Tunnel::ALL.into_iter().filter(move |tunnel| geneve || *tunnel != Tunnel::Geneve);
    all.filter(|_| switch.vtep.is_some())
}

/// The ports that a network's packets may come by: VXLAN is what ends agree on that cannot do what it asks for.
pub(super) fn ports(here: &Here<'_>) -> impl Iterator<Item = Port> {
    let switch = here.fabric.switches.get(here.switch);
    let asked = here.network.encap == Encap::Geneve;
    let used = switch.into_iter().flat_map(|switch| encapsulations(switch));
    used.filter(move |tunnel| asked || *tunnel != Tunnel::Geneve).map(Tunnel::port)
}

/// The entries of a switch with a VTEP address: what no network owns is dropped, probes are told of, and what leaves has
/// to fit the underlay.
pub(crate) fn overlay(switch: &Switch, host: Option<&Host>) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    let Some(vtep) = switch.vtep else { return e.0 };
    let underlay = host.and_then(|host| host.underlay_mtu).unwrap_or(DEFAULT_UNDERLAY_MTU);
    for tunnel in encapsulations(switch) {
        let came = Match::any().port(tunnel.port());
        e.drop(Stage::Classify, 40, came, Builtin::Tunnel);
        let probe = ip(PROBE_ETHERTYPE).port(tunnel.port()).with(Field::TunId, 0u8);
        e.add(Stage::Classify, 100, probe, vec![Action::Probe], Next::Drop, Builtin::Probe);
        let mtu = underlay.saturating_sub(tunnel.overhead(vtep.is_ipv6()));
        let leaves = Match::any().with(Field::OutTunnel, tunnel as u8);
        let check = vec![Action::CheckSize(mtu.saturating_add(ETHERNET_HEADER))];
        e.add(Stage::Fit, 10, leaves.clone(), check, to(Stage::Deliver), Builtin::Mtu);
        let too_big = leaves.with(Field::TooBig, 1u8);
        e.add(Stage::Deliver, 100, too_big, vec![Action::TooBig { mtu }], Next::Drop, Builtin::Mtu);
    }
    e.0
}
