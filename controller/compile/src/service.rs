//! Services as numbers: protocol, then port or ICMP type and code, in 24 bits.
//!
//! Every port match is a range of such numbers, so a list of them is a union of ranges, and its
//! cheapest form is the aligned blocks of that union.

use bulkhead_policy::model::PortMatch;
use bulkhead_topology::ProtocolPort;
use std::{collections::BTreeMap, sync::Arc};

/// Value and mask of one block of services.
pub(crate) type Block = (u32, u32);

const BITS: u32 = 24;

/// The range of one match; a name is looked up in the destination's `named` ports.
fn range(ports: &PortMatch, named: Option<&BTreeMap<Arc<str>, ProtocolPort>>) -> Option<(u32, u32)> {
    let whole = |protocol: u8| (u32::from(protocol) << 16, u32::from(protocol) << 16 | 0xffff);
    Some(match ports {
        PortMatch::Ports { protocol, first, last } => {
            let base = u32::from(*protocol) << 16;
            (base | u32::from(*first), base | u32::from(*last))
        }
        PortMatch::Named { name, protocol } => {
            let found = named?.get(name).filter(|found| protocol.is_none_or(|p| p == found.protocol))?;
            let number = u32::from(found.protocol) << 16 | u32::from(found.port);
            (number, number)
        }
        PortMatch::Icmp { protocol, icmp_type: None, .. } => whole(*protocol),
        PortMatch::Icmp { protocol, icmp_type: Some(kind), code } => {
            let base = u32::from(*protocol) << 16 | u32::from(*kind) << 8;
            (base | code.map_or(0, u32::from), base | code.map_or(0xff, u32::from))
        }
        PortMatch::Protocol(protocol) => whole(*protocol),
    })
}

/// The fewest blocks that cover exactly what `ports` match; names only if `named` is given.
pub(crate) fn blocks<'a>(
    ports: impl IntoIterator<Item = &'a PortMatch>,
    named: Option<&BTreeMap<Arc<str>, ProtocolPort>>,
) -> Vec<Block> {
    let mut ranges: Vec<_> = ports.into_iter().filter_map(|ports| range(ports, named)).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
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

/// Whether two port lists could both match one service, whatever names resolve to.
pub(crate) fn may_overlap(a: Option<&[PortMatch]>, b: Option<&[PortMatch]>) -> bool {
    let (Some(a), Some(b)) = (a, b) else {
        return a.is_none_or(|a| !a.is_empty()) && b.is_none_or(|b| !b.is_empty());
    };
    let span = |ports: &PortMatch| match ports {
        PortMatch::Named { protocol: Some(protocol), .. } => range(&PortMatch::Protocol(*protocol), None),
        PortMatch::Named { protocol: None, .. } => Some((0, 0xff_ffff)),
        _ => range(ports, None),
    };
    a.iter().filter_map(span).any(|a| b.iter().filter_map(span).any(|b| a.0 <= b.1 && b.0 <= a.1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_the_fewest_blocks() {
        let ports = |first, last| PortMatch::Ports { protocol: 6, first, last };
        let block = |port: u32, mask: u32| (6 << 16 | port, 0xff_0000 | mask);
        assert_eq!(blocks(&[ports(8080, 8081)], None), [block(8080, 0xfffe)]);
        assert_eq!(blocks(&[ports(1, 65535)], None).len(), 16);
        assert_eq!(blocks(&[ports(0, 65535)], None), [(6 << 16, 0xff_0000)]);
        assert_eq!(blocks(&[ports(8081, 8081), ports(8080, 8080), ports(8080, 8080)], None), [block(8080, 0xfffe)]);
        assert!(blocks(&[], None).is_empty());
    }

    #[test]
    fn blocks_cover_exactly_the_range() {
        for (first, last) in [(0, 0), (3, 17), (1000, 2047), (65535, 65535), (1, 65534)] {
            let blocks = blocks(&[PortMatch::Ports { protocol: 17, first, last }], None);
            for port in 0..=u16::MAX {
                let service = 17 << 16 | u32::from(port);
                let hits = blocks.iter().filter(|(value, mask)| service & mask == *value).count();
                assert_eq!(hits, usize::from((first..=last).contains(&port)), "{port} in {first}-{last}");
            }
        }
    }
}
