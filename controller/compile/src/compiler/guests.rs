//! Workloads behind switches that judge nothing: wherever their network is present on a switch that does, they are judged
//! as if they were plugged in there.

use super::{Compiler, places::attached};
use crate::dirty::Dirty;
use bulkhead_topology::Name;
use std::collections::BTreeSet;

impl Compiler {
    /// Counts an interface behind such a switch in (1) or out (-1), where its network is present.
    pub(super) fn guest(&mut self, network: &Name, identity: u32, by: i32, dirty: &mut Dirty) {
        let of = self.guests.entry(network.clone()).or_default();
        let count = of.entry(identity).or_default();
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            of.remove(&identity);
        }
        if of.is_empty() {
            self.guests.remove(network);
        }
        let places = self.fabric.present(network).filter(|place| !self.fabric.has_guests(place));
        for place in places.cloned().collect::<Vec<_>>() {
            self.count(&place, identity, by, dirty);
        }
    }

    /// A network has come to a switch (1) or left it (-1): its guests are judged there, or no more.
    pub(super) fn host_guests(&mut self, network: &Name, switch: &Name, by: i32, dirty: &mut Dirty) {
        if self.fabric.has_guests(switch) {
            return;
        }
        for (identity, count) in self.guests.get(network).cloned().unwrap_or_default() {
            self.count(switch, identity, by.saturating_mul(count.cast_signed()), dirty);
        }
    }

    /// Counts whatever a switch has to do with guests in (1) or out (-1), as it is known now: its own workloads, or those
    /// of others that are judged there.
    pub(super) fn count_guests(&mut self, switch: &Name, by: i32, dirty: &mut Dirty) {
        if self.fabric.has_guests(switch) {
            let plugged = self.plugged.get(switch).into_iter().flatten().filter_map(|name| self.workloads.get(name));
            let plugged = plugged.flat_map(|(workload, identity)| {
                attached(workload).filter(|at| *at == switch).map(|_| (workload.network.clone(), *identity))
            });
            for (network, identity) in plugged.collect::<Vec<_>>() {
                self.guest(&network, identity, by, dirty);
            }
        } else {
            for network in self.present_on(switch).cloned().collect::<BTreeSet<_>>() {
                self.host_guests(&network, switch, by, dirty);
            }
        }
    }
}
