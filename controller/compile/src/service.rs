//! Services as numbers: protocol, then port or ICMP type and code, in 24 bits.
//!
//! Every port match is a range of such numbers, so a list of them is a union of ranges, and its
//! cheapest form is the aligned blocks of that union.

use bulkhead_policy::model::PortMatch;
use bulkhead_topology::ProtocolPort;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Value and mask of one block of services.
pub(crate) type Block = (u32, u32);

/// First and last service of a range.
pub(crate) type Range = (u32, u32);

const BITS: u32 = 24;
/// Every service.
const ANY: Range = (0, 0xff_ffff);

/// The range of one match; a name has none of its own.
fn range(ports: &PortMatch) -> Option<Range> {
    let whole = |protocol: u8| (u32::from(protocol) << 16, u32::from(protocol) << 16 | 0xffff);
    Some(match ports {
        PortMatch::Ports { protocol, first, last } => {
            let base = u32::from(*protocol) << 16;
            (base | u32::from(*first), base | u32::from(*last))
        }
        PortMatch::Named { .. } => return None,
        PortMatch::Icmp { protocol, icmp_type: None, .. } => whole(*protocol),
        PortMatch::Icmp { protocol, icmp_type: Some(kind), code } => {
            let base = u32::from(*protocol) << 16 | u32::from(*kind) << 8;
            (base | code.map_or(0, u32::from), base | code.map_or(0xff, u32::from))
        }
        PortMatch::Protocol(protocol) => whole(*protocol),
    })
}

/// The ranges, ascending, those that touch as one.
fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// The fewest blocks that cover exactly some merged ranges.
fn cut(merged: Vec<Range>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (mut first, last) in merged {
        while first <= last {
            let aligned = if first == 0 { BITS } else { first.trailing_zeros().min(BITS) };
            let fitting = (last - first + 1).ilog2();
            let bits = aligned.min(fitting);
            blocks.push((first, (0xff_ffff >> bits) << bits));
            first += 1 << bits;
        }
    }
    blocks
}

/// A rule's ports: what they are by number, and the names that are looked up at the destination.
#[derive(Debug)]
pub(crate) struct Services<'a> {
    fixed: Vec<Range>,
    /// Each name with the protocols that it may have.
    names: BTreeMap<&'a str, BTreeSet<Option<u8>>>,
}

impl<'a> Services<'a> {
    /// What a list of ports says.
    pub fn of(ports: &'a [PortMatch]) -> Self {
        let mut names: BTreeMap<&'a str, BTreeSet<Option<u8>>> = BTreeMap::new();
        for port in ports {
            if let PortMatch::Named { name, protocol } = port {
                names.entry(name).or_default().insert(*protocol);
            }
        }
        Self { fixed: merged(ports.iter().filter_map(range).collect()), names }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.names.keys().copied()
    }

    /// The services that a destination's port names add to those by number, ascending.
    pub fn named(&self, ports: &BTreeMap<Arc<str>, ProtocolPort>) -> Vec<u32> {
        let found = ports.iter().filter(|_| !self.names.is_empty()).filter(|(name, port)| {
            let protocols = self.names.get(name.as_ref());
            protocols.is_some_and(|p| p.contains(&None) || p.contains(&Some(port.protocol)))
        });
        let numbers = found.map(|(_, port)| u32::from(port.protocol) << 16 | u32::from(port.port));
        let mut added: Vec<u32> = numbers.filter(|number| !self.has(*number)).collect();
        added.sort_unstable();
        added.dedup();
        added
    }

    fn has(&self, service: u32) -> bool {
        let behind = self.fixed.partition_point(|(first, _)| *first <= service);
        behind.checked_sub(1).and_then(|at| self.fixed.get(at)).is_some_and(|(_, last)| service <= *last)
    }

    /// Whether no number is among them.
    pub fn only_names(&self) -> bool {
        self.fixed.is_empty()
    }

    /// The fewest blocks of the ports by number and these others.
    pub fn blocks(&self, others: &[u32]) -> Vec<Block> {
        cut(merged(self.fixed.iter().copied().chain(singles(others)).collect()))
    }
}

/// The fewest blocks of single services.
pub(crate) fn blocks(services: &[u32]) -> Vec<Block> {
    cut(merged(singles(services).collect()))
}

fn singles(services: &[u32]) -> impl Iterator<Item = Range> {
    services.iter().map(|service| (*service, *service))
}

/// What a list of ports may match, whatever names resolve to, as merged ranges; `None` is anything.
pub(crate) fn spans(ports: Option<&[PortMatch]>) -> Arc<[Range]> {
    let span = |ports: &PortMatch| match ports {
        PortMatch::Named { protocol: Some(protocol), .. } => range(&PortMatch::Protocol(*protocol)),
        PortMatch::Named { protocol: None, .. } => Some(ANY),
        _ => range(ports),
    };
    match ports {
        Some(ports) => merged(ports.iter().filter_map(span).collect()).into(),
        None => [ANY].into(),
    }
}

/// Whether a service is in both lists of merged ranges.
pub(crate) fn meet(a: &[Range], b: &[Range]) -> bool {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        if x.1 < y.0 {
            a.next();
        } else if y.1 < x.0 {
            b.next();
        } else {
            return true;
        }
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn blocks(ports: &[PortMatch]) -> Vec<Block> {
        Services::of(ports).blocks(&[])
    }

    #[test]
    fn ranges_become_the_fewest_blocks() {
        let ports = |first, last| PortMatch::Ports { protocol: 6, first, last };
        let block = |port: u32, mask: u32| (6 << 16 | port, 0xff_0000 | mask);
        assert_eq!(blocks(&[ports(8080, 8081)]), [block(8080, 0xfffe)]);
        assert_eq!(blocks(&[ports(1, 65535)]).len(), 16);
        assert_eq!(blocks(&[ports(0, 65535)]), [(6 << 16, 0xff_0000)]);
        assert_eq!(blocks(&[ports(8081, 8081), ports(8080, 8080), ports(8080, 8080)]), [block(8080, 0xfffe)]);
        assert!(blocks(&[]).is_empty());
    }

    #[test]
    fn blocks_cover_exactly_the_range() {
        for (first, last) in [(0, 0), (3, 17), (1000, 2047), (65535, 65535), (1, 65534)] {
            let blocks = blocks(&[PortMatch::Ports { protocol: 17, first, last }]);
            for port in 0..=u16::MAX {
                let service = 17 << 16 | u32::from(port);
                let hits = blocks.iter().filter(|(value, mask)| service & mask == *value).count();
                assert_eq!(hits, usize::from((first..=last).contains(&port)), "{port} in {first}-{last}");
            }
        }
    }

    #[test]
    fn names_add_what_is_not_there_by_number() {
        let named = |name: &str, protocol| PortMatch::Named { name: name.into(), protocol };
        let ports = [PortMatch::Ports { protocol: 6, first: 80, last: 90 }, named("web", None), named("dns", Some(17))];
        let services = Services::of(&ports);
        let has = |ports: &[(&str, u8, u16)]| {
            let ports = ports
                .iter()
                .map(|(name, protocol, port)| (Arc::from(*name), ProtocolPort { protocol: *protocol, port: *port }));
            services.named(&ports.collect())
        };
        assert_eq!(has(&[("web", 6, 85), ("other", 6, 1), ("dns", 6, 53)]), Vec::<u32>::new());
        assert_eq!(has(&[("web", 17, 85), ("dns", 17, 53)]), [17 << 16 | 53, 17 << 16 | 85]);
        assert_eq!(
            services.blocks(&[6 << 16 | 91]),
            self::blocks(&[PortMatch::Ports { protocol: 6, first: 80, last: 91 }])
        );
    }

    #[test]
    fn ranges_meet_where_a_service_is_in_both() {
        assert!(meet(&[(1, 3), (8, 9)], &[(4, 6), (9, 20)]));
        assert!(!meet(&[(1, 3), (8, 9)], &[(4, 7), (10, 20)]));
        assert!(!meet(&[], &[ANY]));
    }
}
