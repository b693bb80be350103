//! The ports of one switch: names and OpenFlow numbers.

use bulkhead_dataplane::PortState;
use bulkhead_pipeline::overlay::Tunnel;
use bulkhead_topology::Port;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tracing::warn;

/// Ports that a switch is believed to have, at most: OpenFlow's physical range in Open vSwitch (65279), and
/// the local port.
pub const MAX_PORTS: usize = 0xff00;

/// What a change of ports means for entries that are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renumbered {
    /// Every name that was known still means the same number, or is gone.
    No,
    /// A known name now means another number: installed entries name the old one, and must be read back.
    Yes,
}

/// The ports of a switch. Names that went are remembered with their last number, so that the entries which
/// name them can still be removed.
///
/// A name that several ports tell is nobody's: it is the beginning of longer ones (OF 1.3.5 §7.2.1 has room for 15 bytes,
/// switches have longer names), and whoever got it might be another's port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortMap {
    names: BTreeMap<u32, Arc<str>>,
    numbers: BTreeMap<Arc<str>, BTreeSet<u32>>,
    gone: BTreeMap<Arc<str>, u32>,
    /// Ports without a link, or switched off.
    down: BTreeSet<u32>,
}

impl PortMap {
    /// A port is there, or has a new name. Ports beyond [`MAX_PORTS`] are not taken.
    pub fn insert(&mut self, number: u32, name: &str) -> Renumbered {
        if self.names.get(&number).is_some_and(|known| &**known == name) || self.names.len() >= MAX_PORTS {
            return Renumbered::No;
        }
        let renamed = self.names.contains_key(&number);
        self.remove(number);
        let name: Arc<str> = name.into();
        self.names.insert(number, Arc::clone(&name));
        if name.is_empty() {
            return if renamed { Renumbered::Yes } else { Renumbered::No };
        }
        let before = self.own(&name);
        self.numbers.entry(Arc::clone(&name)).or_default().insert(number);
        match self.own(&name) {
            Some(_) => match self.gone.remove(&name) {
                Some(last) if last != number => Renumbered::Yes,
                _ if renamed => Renumbered::Yes,
                _ => Renumbered::No,
            },
            None => {
                warn!(%name, number, "several ports tell this name: it is no port's as long as they do");
                self.went(name, before);
                if renamed { Renumbered::Yes } else { Renumbered::No }
            }
        }
    }

    /// A port's link is there, or is not.
    pub fn link(&mut self, number: u32, up: bool) {
        if up {
            self.down.remove(&number);
        } else if self.names.contains_key(&number) {
            self.down.insert(number);
        }
    }

    /// What is known of every port, by number.
    pub fn states(&self) -> Vec<PortState> {
        let state = |(number, name): (&u32, &Arc<str>)| PortState {
            number: (!Self::is_overlay(name)).then_some(*number),
            name: self.name(*number).cloned(),
            up: !self.down.contains(number),
        };
        self.names.iter().map(state).collect()
    }

    /// A port is gone.
    pub fn remove(&mut self, number: u32) -> Renumbered {
        self.down.remove(&number);
        let Some(name) = self.names.remove(&number) else { return Renumbered::No };
        let before = self.own(&name);
        if let Some(numbers) = self.numbers.get_mut(&name) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.numbers.remove(&name);
            }
        }
        // What several told may be one's own now.
        match self.own(&name) {
            Some(own) => match self.gone.remove(&name) {
                Some(last) if last != own => Renumbered::Yes,
                _ => Renumbered::No,
            },
            None => {
                self.went(name, before);
                Renumbered::No
            }
        }
    }

    /// The only port that tells a name.
    fn own(&self, name: &str) -> Option<u32> {
        let numbers = self.numbers.get(name)?;
        numbers.first().copied().filter(|_| numbers.len() == 1)
    }

    /// A name means a port no more.
    fn went(&mut self, name: Arc<str>, last: Option<u32>) {
        if let Some(last) = last
            && self.gone.len() < MAX_PORTS
        {
            self.gone.insert(name, last);
        }
    }

    /// Whether tunnels begin and end at a port: nobody is plugged in there, by whatever number.
    fn is_overlay(name: &Arc<str>) -> bool {
        Tunnel::of(&Port::Name(Arc::clone(name))).is_some()
    }

    /// The number of a port that is there. Overlay ports are known by name alone.
    pub fn number(&self, port: &Port) -> Option<u32> {
        match port {
            Port::Name(name) => self.own(name),
            Port::Number(number) => self.names.get(number).filter(|name| !Self::is_overlay(name)).map(|_| *number),
        }
    }

    /// The number of a port that is there or was: enough to remove its entries.
    pub fn last_number(&self, port: &Port) -> Option<u32> {
        match port {
            Port::Name(name) => self.own(name).or_else(|| self.gone.get(name).copied()),
            Port::Number(number) => Some(*number),
        }
    }

    /// The name of a port that is there, if that name means this port.
    pub fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.names.get(&number).filter(|name| self.own(name) == Some(number))
    }

    /// Every port, by name and by number: what a program may name.
    pub fn all(&self) -> BTreeSet<Port> {
        let names =
            self.numbers.keys().filter(|name| self.own(name).is_some()).map(|name| Port::Name(Arc::clone(name)));
        let numbers = self.names.iter().filter(|(_, name)| !Self::is_overlay(name)).map(|(number, _)| *number);
        names.chain(numbers.map(Port::Number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Port {
        Port::Name(name.into())
    }

    #[test]
    fn a_port_is_found_by_name_and_by_number() {
        let mut ports = PortMap::default();
        assert_eq!(ports.insert(5, "web-1"), Renumbered::No);
        assert_eq!(ports.number(&named("web-1")), Some(5));
        assert_eq!(ports.number(&Port::Number(5)), Some(5));
        assert_eq!(ports.number(&Port::Number(6)), None);
        assert_eq!(ports.all(), [named("web-1"), Port::Number(5)].into());
    }

    #[test]
    fn a_port_is_up_unless_it_says_otherwise() {
        let mut ports = PortMap::default();
        ports.insert(5, "web-1");
        ports.insert(6, "bh-vxlan");
        ports.link(5, false);
        // Nobody's.
        ports.link(7, false);
        let state = |number, name: &str, up| PortState { number, name: Some(name.into()), up };
        assert_eq!(ports.states(), [state(Some(5), "web-1", false), state(None, "bh-vxlan", true)]);
        ports.remove(5);
        ports.insert(5, "web-1");
        ports.insert(7, "db-1");
        assert!(ports.states().iter().all(|state| state.up));
        ports.link(5, false);
        ports.link(5, true);
        assert!(ports.states().iter().all(|state| state.up));
    }

    #[test]
    fn a_port_that_went_is_known_for_removals_only() {
        let mut ports = PortMap::default();
        ports.insert(5, "web-1");
        ports.remove(5);
        assert_eq!((ports.number(&named("web-1")), ports.last_number(&named("web-1"))), (None, Some(5)));
        assert_eq!(ports.insert(5, "web-1"), Renumbered::No);
        ports.remove(5);
        assert_eq!(ports.insert(6, "web-1"), Renumbered::Yes);
        assert_eq!(ports.last_number(&named("web-1")), Some(6));
    }

    #[test]
    fn a_name_that_two_ports_tell_is_nobodys_until_one_of_them_goes() {
        let shared = "vhostuser-web-1";
        let mut ports = PortMap::default();
        assert_eq!(ports.insert(1, shared), Renumbered::No);
        assert_eq!(ports.number(&named(shared)), Some(1));
        // The beginning of vhostuser-web-10, or of whatever else.
        assert_eq!(ports.insert(2, shared), Renumbered::No);
        assert_eq!((ports.number(&named(shared)), ports.name(1), ports.name(2)), (None, None, None));
        assert_eq!(ports.all(), [Port::Number(1), Port::Number(2)].into());
        assert_eq!(ports.last_number(&named(shared)), Some(1), "what is installed there can be removed");
        let mut other = ports.clone();
        assert_eq!(ports.remove(2), Renumbered::No);
        assert_eq!(ports.number(&named(shared)), Some(1));
        // The name means another port than what was installed by it.
        assert_eq!(other.remove(1), Renumbered::Yes);
        assert_eq!(other.number(&named(shared)), Some(2));
        assert_eq!(other.name(2).map(|name| &**name), Some(shared));
    }

    #[test]
    fn the_number_of_a_tunnel_port_is_nobodys() {
        let mut ports = PortMap::default();
        ports.insert(3, "web-1");
        assert_eq!(ports.number(&Port::Number(3)), Some(3));
        for name in ["bh-geneve", "bh-vxlan"] {
            assert_eq!(ports.insert(3, name), Renumbered::Yes);
            assert_eq!((ports.number(&named(name)), ports.number(&Port::Number(3))), (Some(3), None));
            assert_eq!(ports.all(), [named(name)].into());
        }
        assert_eq!(ports.last_number(&Port::Number(3)), Some(3), "what is installed there can be removed");
        assert_eq!(ports.insert(4, "bh-vxlan"), Renumbered::No);
        assert_eq!(ports.number(&Port::Number(4)), None, "whatever else is wrong with it");
        ports.remove(4);
        assert_eq!(ports.insert(3, "web-1"), Renumbered::Yes);
        assert_eq!(ports.number(&Port::Number(3)), Some(3));
    }

    #[test]
    fn another_name_on_a_number_is_a_renumbering() {
        let mut ports = PortMap::default();
        ports.insert(1, "a");
        assert_eq!(ports.insert(1, "b"), Renumbered::Yes);
        assert_eq!((ports.number(&named("a")), ports.number(&named("b"))), (None, Some(1)));
    }
}
