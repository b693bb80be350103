//! The ports of one switch: names and OpenFlow numbers.

use bulkhead_topology::Port;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortMap {
    names: BTreeMap<u32, Arc<str>>,
    numbers: BTreeMap<Arc<str>, u32>,
    gone: BTreeMap<Arc<str>, u32>,
}

impl PortMap {
    /// A port is there, or has a new name. Of two ports that tell the same name (OF 1.3.5 §7.2.1 has 15 letters,
    /// switches have more), the first one keeps it. Ports beyond [`MAX_PORTS`] are not taken.
    pub fn insert(&mut self, number: u32, name: &str) -> Renumbered {
        if self.names.get(&number).is_some_and(|known| &**known == name) || self.names.len() >= MAX_PORTS {
            return Renumbered::No;
        }
        let renamed = self.remove(number);
        let name: Arc<str> = name.into();
        self.names.insert(number, Arc::clone(&name));
        if name.is_empty() || self.numbers.contains_key(&name) {
            return Renumbered::No;
        }
        self.numbers.insert(Arc::clone(&name), number);
        match self.gone.remove(&name) {
            Some(last) if last != number => Renumbered::Yes,
            _ if renamed => Renumbered::Yes,
            _ => Renumbered::No,
        }
    }

    /// A port is gone; whether there was one.
    pub fn remove(&mut self, number: u32) -> bool {
        let Some(name) = self.names.remove(&number) else { return false };
        if self.numbers.get(&name) == Some(&number) {
            self.numbers.remove(&name);
            if self.gone.len() < MAX_PORTS {
                self.gone.insert(name, number);
            }
        }
        true
    }

    /// The number of a port that is there.
    pub fn number(&self, port: &Port) -> Option<u32> {
        match port {
            Port::Name(name) => self.numbers.get(name).copied(),
            Port::Number(number) => self.names.contains_key(number).then_some(*number),
        }
    }

    /// The number of a port that is there or was: enough to remove its entries.
    pub fn last_number(&self, port: &Port) -> Option<u32> {
        match port {
            Port::Name(name) => self.numbers.get(name).or_else(|| self.gone.get(name)).copied(),
            Port::Number(number) => Some(*number),
        }
    }

    /// The name of a port that is there, if that name means this port.
    pub fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.names.get(&number).filter(|name| self.numbers.get(*name) == Some(&number))
    }

    /// Every port, by name and by number: what a program may name.
    pub fn all(&self) -> BTreeSet<Port> {
        let names = self.numbers.keys().map(|name| Port::Name(Arc::clone(name)));
        names.chain(self.names.keys().map(|number| Port::Number(*number))).collect()
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
    fn a_port_that_went_is_known_for_removals_only() {
        let mut ports = PortMap::default();
        ports.insert(5, "web-1");
        assert!(ports.remove(5) && !ports.remove(5));
        assert_eq!((ports.number(&named("web-1")), ports.last_number(&named("web-1"))), (None, Some(5)));
        assert_eq!(ports.insert(5, "web-1"), Renumbered::No);
        ports.remove(5);
        assert_eq!(ports.insert(6, "web-1"), Renumbered::Yes);
        assert_eq!(ports.last_number(&named("web-1")), Some(6));
    }

    #[test]
    fn two_ports_of_one_name_do_not_change_places() {
        let mut ports = PortMap::default();
        ports.insert(1, "a");
        ports.insert(2, "a");
        assert_eq!(ports.number(&named("a")), Some(1));
        assert_eq!((ports.name(1).map(|n| &**n), ports.name(2)), (Some("a"), None));
        assert_eq!(ports.number(&Port::Number(2)), Some(2));
    }

    #[test]
    fn another_name_on_a_number_is_a_renumbering() {
        let mut ports = PortMap::default();
        ports.insert(1, "a");
        assert_eq!(ports.insert(1, "b"), Renumbered::Yes);
        assert_eq!((ports.number(&named("a")), ports.number(&named("b"))), (None, Some(1)));
    }
}
