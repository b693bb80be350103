//! Links between switches, and what is heard of them.

use super::{super::index::Claim, Check, Claimed, Key, Kind};
use crate::model::*;
use bulkhead_topology::Name;

/// What becomes of a link that ends at a switch of the overlay.
const UNUSED: &str = "a switch with a VTEP address has no links to other switches: its links are not used";

impl<'a> Check<'a> {
    /// A link is between two switches of the fabric.
    pub(super) fn link(&mut self, key: &Key, link: &Link) {
        if link.a.switch == link.b.switch {
            let hint = "a link is between two switches";
            self.warning(key, "spec.b.switch", "both ends are on one switch: the link is not used", hint);
        }
        for (path, at) in [("spec.a", &link.a), ("spec.b", &link.b)] {
            if self.switch(&Kind::Switch.named(&at.switch)).is_some_and(|switch| switch.vtep.is_some()) {
                self.warning(key, format!("{path}.switch"), UNUSED, "");
            }
        }
    }

    /// A switch with a VTEP address has no use for the links that end at it.
    pub(super) fn links_of(&mut self, key: &Key, switch: &Switch) {
        let stands = |(_, link): (_, &Name)| !self.changed(&Kind::Link.named(link));
        if switch.vtep.is_some() && self.state.links_of(&switch.name).any(stands) {
            self.warning(key, "spec.vtep", UNUSED, "");
        }
    }

    /// No link ends where a workload is plugged in, or where a network leaves.
    pub(super) fn ports_and_links(&mut self, claimed: &Claimed<'a>) {
        let hint = "a port with a workload or an uplink never leads to another switch";
        for (claim, owners) in claimed.all() {
            let other = match claim {
                Claim::Port(at) | Claim::Uplink(at, _) => {
                    let new = claimed.owner(&Claim::Link(at.clone()));
                    let standing = self.state.link_at(at).map(|link| Kind::Link.named(link));
                    new.cloned().or(standing.filter(|key| !self.changed(key)))
                }
                Claim::Link(at) => {
                    let workload = self.state.index.attached(at).map(|workload| Kind::Workload.named(&workload.name));
                    let uplinks = self.state.uplinks_at(at).map(|(_, network)| Kind::Network.named(network));
                    workload.into_iter().chain(uplinks).find(|key| !self.changed(key))
                }
                _ => None,
            };
            let Some(other) = other else { continue };
            self.claim_error(owners, || format!("{claim} is a port of {other}"), hint);
        }
    }

    /// What a switch is connected to is in order. (Nothing but Bulkhead itself says it.)
    pub(super) fn adjacency(&mut self, key: &Key, adjacency: &Adjacency) {
        for (i, (a, b)) in adjacency.ports.iter().zip(adjacency.ports.iter().skip(1)).enumerate() {
            if a.name >= b.name {
                self.error(key, format!("spec.ports[{}]", i + 1), "ports out of order, or one twice", "");
            }
        }
    }
}
