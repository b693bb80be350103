//! What a link may do as a bridge's port (bridge(8)).

use netlink_packet_route::link::InfoBridgePort;

/// The settings of a bridge's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgePort {
    /// The bridge learns from it who is behind it.
    pub learning: bool,
    /// What is for nobody known goes out of it.
    pub unicast_flood: bool,
    /// What is for a group goes out of it.
    pub multicast_flood: bool,
    /// What is for everybody goes out of it.
    pub broadcast_flood: bool,
    /// The bridge answers questions for neighbours behind it.
    pub neighbour_suppression: bool,
    /// Nothing goes between it and other isolated ports.
    pub isolated: bool,
    /// What comes in by it has to be from an address that is known to be behind it.
    pub locked: bool,
}

impl BridgePort {
    pub(crate) fn attributes(self) -> Vec<InfoBridgePort> {
        vec![
            InfoBridgePort::Learning(self.learning),
            InfoBridgePort::UnicastFlood(self.unicast_flood),
            InfoBridgePort::MulticastFlood(self.multicast_flood),
            InfoBridgePort::BroadcastFlood(self.broadcast_flood),
            InfoBridgePort::NeighSupress(self.neighbour_suppression),
            InfoBridgePort::Isolated(self.isolated),
            InfoBridgePort::Locked(self.locked),
        ]
    }

    pub(crate) fn read(told: &[InfoBridgePort]) -> BridgePort {
        let is = |wanted: fn(&InfoBridgePort) -> bool| told.iter().any(wanted);
        BridgePort {
            learning: is(|one| matches!(one, InfoBridgePort::Learning(true))),
            unicast_flood: is(|one| matches!(one, InfoBridgePort::UnicastFlood(true))),
            multicast_flood: is(|one| matches!(one, InfoBridgePort::MulticastFlood(true))),
            broadcast_flood: is(|one| matches!(one, InfoBridgePort::BroadcastFlood(true))),
            neighbour_suppression: is(|one| matches!(one, InfoBridgePort::NeighSupress(true))),
            isolated: is(|one| matches!(one, InfoBridgePort::Isolated(true))),
            locked: is(|one| matches!(one, InfoBridgePort::Locked(true))),
        }
    }
}
