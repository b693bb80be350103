//! What the userspace datapath keeps: megaflows, and the masks that each lookup may have to try.

use std::collections::{BTreeMap, BTreeSet};

/// Megaflows of one dump.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Megaflows {
    pub(super) count: usize,
    /// Different masks among them.
    pub(super) masks: usize,
    /// Most masks among those of one in-port: the datapath has a classifier for each, and a lookup tries those at most
    /// (ovs-vswitchd(8), "dpif-netdev").
    pub(super) of_one_port: usize,
}

impl Megaflows {
    /// Of `ovs-appctl dpctl/dump-flows -m`, where every field has its value, and a mask if that is not all ones.
    pub(super) fn of(dump: &str) -> Self {
        let mut by_port: BTreeMap<&str, BTreeSet<Vec<String>>> = BTreeMap::new();
        let mut count = 0;
        for key in dump.lines().filter_map(key) {
            count += 1;
            let port =
                key.split_once("in_port(").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(port, _)| port);
            by_port.entry(port).or_default().insert(mask(key));
        }
        let of_one_port = by_port.values().map(BTreeSet::len).max().unwrap_or(0);
        let all: BTreeSet<_> = by_port.into_values().flatten().collect();
        Self { count, masks: all.len(), of_one_port }
    }
}

/// A line's match: what is in front of the counters, without the flow's own name.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(", packets:")?;
    Some(key.strip_prefix("ufid:").and_then(|named| named.split_once(", ")).map_or(key, |(_, key)| key))
}

/// Which bits a match looks at, as sorted text: each field's name and mask, fields that are not looked at left out.
fn mask(key: &str) -> Vec<String> {
    let (mut fields, mut outer) = (Vec::new(), "");
    for part in key.split(',') {
        let (name, inner) = part.split_once('(').map_or(("", part), |(name, inner)| (name, inner));
        outer = if name.is_empty() { outer } else { name };
        let (field, value) = inner.split_once('=').unwrap_or(("", inner));
        let mask = value.trim_end_matches(')').split_once('/').map_or("all", |(_, mask)| mask);
        let empty = mask.chars().all(|digit| matches!(digit, '0' | 'x' | ':' | '.'));
        if !empty {
            fields.push(format!("{outer}.{field}/{mask}"));
        }
    }
    fields.sort();
    fields
}

/// How often a packet goes through the classifier, of `ovs-appctl dpif-netdev/pmd-stats-show`: of the thread that had
/// the most packets.
pub(super) fn passes(stats: &str) -> Option<f64> {
    let numbers = |word: &str| -> Vec<f64> {
        let told = stats
            .lines()
            .filter_map(|line| line.trim().strip_prefix(word)?.strip_prefix(':')?.split_whitespace().next());
        told.filter_map(|number| number.parse().ok()).collect()
    };
    let packets = numbers("packets received").into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?.0;
    numbers("avg. datapath passes per packet").get(packets).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DUMP: &str = "\
flow-dump from the main thread:
ufid:1, ct_state(0/0),recirc_id(0),in_port(p0),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:00/00:00:00:00:00:00,dst=02:00:00:00:00:01),eth_type(0x0800),ipv4(src=10.0.1.0,dst=10.0.1.1/0.0.0.0,proto=6,frag=no),tcp(src=1/0,dst=2), packets:1, bytes:2, used:0.1s, dp:ovs, actions:ct(zone=1),recirc(0x1)
ufid:2, recirc_id(0),in_port(p0),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:09/00:00:00:00:00:00,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.1.7,dst=10.0.1.2/0.0.0.0,proto=17,frag=no),tcp(src=3/0,dst=4), packets:1, bytes:2, used:0.1s, dp:ovs, actions:drop
ufid:3, ct_state(0x21/0x23),recirc_id(0),in_port(p0),packet_type(ns=0,id=0),eth(dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.1.7,proto=17,frag=no),tcp(dst=4), packets:1, bytes:2, used:0.1s, dp:ovs, actions:drop
ufid:4, recirc_id(0),in_port(p1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(src=10.0.1.0/255.0.0.0,dst=10.0.1.1/0.0.0.0,proto=6,frag=no), packets:0, bytes:0, used:never, dp:ovs, actions:p1
";

    #[test]
    fn masks_are_told_apart_by_the_bits_that_they_look_at() {
        assert_eq!(Megaflows::of(DUMP), Megaflows { count: 4, masks: 3, of_one_port: 2 });
    }

    #[test]
    fn passes_are_those_of_the_thread_that_works() {
        let stats = "\
pmd thread numa_id 0 core_id 1:
  packets received: 0
  avg. datapath passes per packet: 0.00
main thread:
  packets received: 12
  packet recirculations: 12
  avg. datapath passes per packet: 2.00
";
        assert_eq!(passes(stats), Some(2.0));
        assert_eq!(passes(""), None);
    }
}
