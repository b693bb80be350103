//! Ports into the underlay.

use super::{super::index::Claim, Check, Claimed, Key, Kind};
use crate::model::*;

impl<'a> Check<'a> {
    /// Where tunnels' packets come and go nobody is plugged in, and no network leaves.
    pub(super) fn ports_and_underlays(&mut self, claimed: &Claimed<'a>) {
        let hint = "a port into the underlay has tunnels alone; name another port";
        for (claim, owners) in claimed.all() {
            let other = match claim {
                Claim::Port(at) | Claim::Uplink(at, _) => {
                    let claim = Claim::Underlay(at.clone());
                    let standing = self.state.index.owner(&claim).filter(|key| !self.changed(key));
                    let new = claimed.owner(&claim);
                    new.cloned().or(standing).map(|switch| format!("leads into the underlay of {switch}"))
                }
                Claim::Underlay(at) => {
                    let workload = self.state.index.attached(at).map(|workload| Kind::Workload.named(&workload.name));
                    let uplinks = self.state.uplinks_at(at).map(|(_, network)| Kind::Network.named(network));
                    let whose = workload.into_iter().chain(uplinks).find(|key| !self.changed(key));
                    whose.map(|key| format!("is a port of {key}"))
                }
                _ => None,
            };
            let Some(other) = other else { continue };
            self.claim_error(owners, || format!("{claim} {other}"), hint);
        }
    }

    /// A P4 switch has no routes but those that are written.
    pub(super) fn underlay(&mut self, key: &Key, switch: &Switch) {
        if switch.vtep.is_some() && matches!(switch.driver, Driver::P4runtime { underlay: None, .. }) {
            let message = "a VTEP address, and nothing about the underlay: there are no tunnels from or to this switch";
            self.warning(key, "spec.vtep", message, "say in `underlay` by which ports other VTEPs are reached");
        }
    }
}
