//! Differences of programs, one after another and as one.

use bulkhead_pipeline::{Builtin, Cause, Delta, Entry, EntryKey, Match, Next, Program, Stage};

fn entry(priority: u16, cause: Builtin) -> Entry {
    Entry::new(Stage::Classify, priority, Match::default(), Vec::new(), Next::Drop, Cause::Builtin(cause))
}

fn key(priority: u16) -> EntryKey {
    entry(priority, Builtin::Gateway).key.clone()
}

/// A difference over few keys: bit 0 of each pair of bits says whether the key is in it, bit 1 whether it comes or goes.
fn delta(bits: u64, cause: Builtin) -> Delta {
    let mut delta = Delta::default();
    for priority in 0..4_u16 {
        match bits >> (2 * priority) & 3 {
            1 => delta.remove.push(key(priority)),
            3 => delta.add.push(entry(priority, cause)),
            _ => {}
        }
    }
    delta
}

#[test]
fn two_as_one_come_to_the_same_as_one_after_another() {
    let start: Program = [0, 2].map(|priority| entry(priority, Builtin::Arp)).into_iter().collect();
    // Every first one with every second one.
    for first in 0..1 << 8 {
        for second in 0..1 << 8 {
            let (first, second) = (delta(first, Builtin::Gateway), delta(second, Builtin::Nd));
            let mut apart = start.clone();
            apart.apply(&first);
            apart.apply(&second);
            let mut one = first;
            one.then(second);
            let mut together = start.clone();
            together.apply(&one);
            assert_eq!(apart, together);
            let mut keys: Vec<_> = one.remove.iter().chain(one.add.iter().map(|entry| &entry.key)).collect();
            let count = keys.len();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), count, "a key is in it twice");
        }
    }
}
