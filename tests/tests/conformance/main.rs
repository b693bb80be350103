//! One list of packets, every dataplane: the simulated switch, and a real Open vSwitch where there can be one. A
//! controller stands above either, so that documents, changes and counters go the way that an operator's do.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod builtins;
mod case;
mod cases;
mod changes;
mod fabric;
mod frames;
mod hits;
mod vlans;

use case::{A, B, C, Case, EXT};
use fabric::Fabric;
use vlans::{BLUE, RED};

fn list() -> Vec<Case> {
    [cases::cases(), builtins::cases(), changes::cases(), vlans::cases()].concat()
}

#[test]
fn on_the_simulated_switch() {
    let mut fabric = Fabric::simulated();
    for case in list() {
        fabric.run(&case);
    }
}

#[test]
fn on_open_vswitch() {
    let Some(mut fabric) = Fabric::real(&[A, B, C, EXT, RED, BLUE]) else { return };
    for case in list() {
        fabric.run(&case);
    }
}

#[test]
fn hits_on_the_simulated_switch() {
    hits::agree_with_packets(Fabric::simulated());
}

#[test]
fn hits_on_open_vswitch() {
    let Some(fabric) = Fabric::real(&[A, B, C, EXT]) else { return };
    hits::agree_with_packets(fabric);
}
