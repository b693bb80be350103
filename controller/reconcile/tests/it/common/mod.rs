//! Small programs from numbers.

// Every test file uses a part of it.
#![allow(dead_code)]

pub mod bench;

use bulkhead_pipeline::{Action, Cause, Entry, Field, Match, Next, Program, Stage};
use bulkhead_topology::Port;

pub fn port(n: u8) -> Port {
    Port::Name(format!("p{n}").into())
}

/// Lets the port's packets in.
pub fn classify(n: u8, id: u32) -> Entry {
    let actions = vec![Action::set(Field::SrcId, id.into())];
    Entry::new(Stage::Classify, 1, Match::any().port(port(n)), actions, Next::Stage(Stage::Antispoof), Cause::Rule(id))
}

/// Leads to a port.
pub fn locate(address: u32, n: u8) -> Entry {
    let matches = Match::any().with(Field::Ipv4Dst, address);
    Entry::new(Stage::Locate, 1, matches, vec![Action::SetOut(port(n))], Next::Stage(Stage::Track), Cause::Rule(0))
}

/// Names no port.
pub fn policy(source: u32, cause: u32) -> Entry {
    let matches = Match::any().with(Field::SrcId, source);
    Entry::new(Stage::EgressApplication, 1, matches, Vec::new(), Next::Stage(Stage::Spread), Cause::Rule(cause))
}

pub fn program(entries: impl IntoIterator<Item = Entry>) -> Program {
    entries.into_iter().collect()
}
