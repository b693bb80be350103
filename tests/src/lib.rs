//! Tests of the whole: one list of packets for every dataplane, the programs as an operator runs them, and switches that
//! are not there: [`fake`] speaks OpenFlow as Open vSwitch does, in any number and as badly as it is told to.

pub mod controller;
pub mod fake;
pub mod soak;
