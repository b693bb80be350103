//! What a link may do as a bridge's port (bridge(8)).

use netlink_packet_route::link::InfoBridgePort;

/// The groups that a bridge itself is meant to hear, 01:80:c2:00:00:00 to :0f (IEEE 802.1D table 7-10), a bit for each.
/// Without its bit, a frame to one is not the bridge's, but the host's, which gets it from the port itself. That of
/// pause frames (:01) cannot be set: they are dropped (br_private.h, BR_GROUPFWD_MACPAUSE).
const LINK_LOCAL: u16 = 0xfffd;

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
    /// What is for the groups that bridges themselves hear is carried as for any other: by the same checks, and past
    /// whatever is between the bridge and the host. Otherwise the host gets it from the port, unchecked.
    pub link_local: bool,
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
            InfoBridgePort::GroupFwdMask(if self.link_local { LINK_LOCAL } else { 0 }),
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
            link_local: is(|one| matches!(one, InfoBridgePort::GroupFwdMask(LINK_LOCAL))),
        }
    }
}
