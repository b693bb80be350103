//! Who is there, as the compiler's index knows it.

use crate::{
    compiler::Compiler,
    index::{GroupKey, selects},
};
use bulkhead_policy::{Census, NamedPorts};
use bulkhead_topology::{Name, Selector};
use std::collections::BTreeSet;

impl Census for Compiler {
    /// At once for what a policy or zone in force selects; other selectors are held against every identity.
    fn any(&self, network: Option<&Name>, selector: &Selector, has: &dyn Fn(&NamedPorts) -> bool) -> bool {
        let key = GroupKey { network: network.cloned(), selector: selector.clone() };
        match self.index.find(&key) {
            Some(group) => {
                let members = group.members.iter().filter_map(|member| self.index.identities.get(member));
                members.into_iter().any(|identity| has(&identity.ports))
            }
            None => {
                let mut identities = self.index.identities.values();
                identities.any(|identity| selects(&key, &identity.network, &identity.labels) && has(&identity.ports))
            }
        }
    }

    fn present<'a>(&'a self, network: &Name) -> Box<dyn Iterator<Item = (&'a Name, u32)> + 'a> {
        Box::new(self.fabric.counts(network))
    }

    fn count(&self, network: &Name, switch: &Name) -> u32 {
        self.fabric.count(network, switch)
    }

    fn networks_on(&self, switch: &Name) -> BTreeSet<Name> {
        self.present_on(switch).cloned().collect()
    }
}
