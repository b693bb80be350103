//! In which steps a plan goes to a switch.
//!
//! A step is atomic, so inside one there is no order. Small plans are one step. A large one is cut only
//! where every state in between is safe.

use bulkhead_pipeline::{Delta, EntryKey, Stage};
use std::collections::VecDeque;

/// Most entries in one step of a plan that is cut up. An atomic update stops a software switch from
/// forwarding while it is carried out: about 25 ms for this many on Open vSwitch 3.1, ten times that for
/// 100,000.
pub const MAX_STEP: usize = 10_000;

/// Whether ports may be open while a plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    /// No port leads into the pipeline once the removals of [`OPENING`] are done.
    Closed,
    /// Some port does: anything but an atomic step could let a packet see half a policy.
    Open,
}

/// The stage that lets packets in: without its entries nothing passes, whatever the others hold.
pub const OPENING: Stage = Stage::Classify;

/// Where a change stands in a plan that is cut up; smaller goes first. "A port is closed until its
/// program is there": what lets packets in goes first and comes last, and in between the pipeline is
/// taken down from its front and filled from its back.
fn rank(key: &EntryKey, change: Change) -> (u8, u8) {
    let (index, last) = (key.stage as u8, Stage::ALL.len() as u8);
    match (change, key.stage == OPENING) {
        (Change::Remove, true) => (0, 0),
        (Change::Remove, false) => (1, index),
        (Change::Add, false) => (2, last - index),
        (Change::Add, true) => (3, 0),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Remove,
    Add,
}

/// A plan as the steps to send one after another, each after the one before was confirmed.
pub fn steps(mut delta: Delta, doors: Doors) -> VecDeque<Delta> {
    if delta.remove.len() + delta.add.len() <= MAX_STEP || doors == Doors::Open {
        return VecDeque::from([delta]);
    }
    delta.remove.sort_by_key(|key| rank(key, Change::Remove));
    delta.add.sort_by_key(|entry| rank(&entry.key, Change::Add));
    let removals = delta.remove.chunks(MAX_STEP).map(|keys| Delta { remove: keys.to_vec(), add: Vec::new() });
    let additions = delta.add.chunks(MAX_STEP).map(|entries| Delta { remove: Vec::new(), add: entries.to_vec() });
    removals.chain(additions).collect()
}
