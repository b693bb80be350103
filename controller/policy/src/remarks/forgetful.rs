//! What a network asks for and a switch that remembers no connections has not.

use super::{Key, Name, Network, Remarks};
use crate::model::OnTighten;

impl Remarks<'_> {
    /// A network on all its switches: the first of those that remember nothing is named.
    pub(super) fn forgotten(&mut self, key: &Key, network: &Network) {
        let mut present = self.census.present(&network.name).map(|(name, _)| name);
        let switches = &self.state.switches;
        let first = present.find(|name: &&Name| switches.get(*name).is_some_and(|switch| !switch.driver.remembers()));
        if let Some(switch) = first {
            self.forgets(key, ["spec.onTighten", "spec.multicast", "spec.learnWorkloads"], network, switch);
        }
    }

    /// A network on one switch.
    pub(super) fn forgotten_on(&mut self, key: &Key, path: &str, network: &Name, switch: &Name) {
        let forgets = self.state.switches.get(switch).is_some_and(|switch| !switch.driver.remembers());
        if let Some(network) = self.state.networks.get(network).filter(|_| forgets) {
            self.forgets(key, [path; 3], network, switch);
        }
    }

    fn forgets(&mut self, key: &Key, [persist, multicast, learn]: [&str; 3], network: &Network, switch: &Name) {
        let name = &network.name;
        if network.on_tighten == OnTighten::Persist {
            let message = format!(
                "switch {switch} keeps no connections: those of network {name} that a change forbids end at once there"
            );
            self.warn(key, persist.into(), message, "");
        }
        if !network.multicast.is_empty() {
            let message = format!(
                "switch {switch} makes no copies: its workloads send nothing to the groups of network {name}, and get nothing of them"
            );
            self.warn(key, multicast.into(), message, "");
        }
        if network.learn_workloads {
            let message = format!("nobody is learned at ports of switch {switch}");
            self.warn(key, learn.into(), message, "");
        }
    }
}
