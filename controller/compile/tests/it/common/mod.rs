//! States from documents, and small fabrics.

// Every test file uses a part of it.
#![allow(dead_code)]

use bulkhead_compile::{Compiler, TooLarge};
use bulkhead_pipeline::{Field, Memory, Outcome, Packet, Tracker, Walk, conn, ethertype, render_program, walk};
use bulkhead_policy::{Change, State};
use bulkhead_topology::{Mac, Name, Port};
use bulkhead_types::{Format, read};
use std::{fmt::Write, fs, net::Ipv4Addr, path::Path};

/// The switch of [`fabric`].
pub const SWITCH: &str = "hv1";

/// One network with 10.0.0.0/16 and one switch.
pub const BASE: &str = "
kind: Network
metadata: {name: net}
spec: {vni: 1, subnets: [10.0.0.0/16], uplinks: [{switch: hv1, port: up}]}
---
kind: Switch
metadata: {name: hv1}
spec: {driver: sim}
";

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The changes of a stream of documents. They have no findings that refuse them.
pub fn changes(documents: &str) -> Vec<Change> {
    let parsed = read(None, documents.as_bytes(), Format::Any);
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    parsed.changes()
}

/// The valid state of a stream of documents.
pub fn state(documents: &str) -> State {
    let changes = changes(documents);
    let mut state = State::default();
    let found = state.check(&changes);
    assert!(found.iter().all(|f| f.severity == bulkhead_policy::Severity::Warning), "{found:#?}");
    state.apply(&changes);
    state
}

/// A workload `w<n>` with the address 10.0.x.y, MAC 02:00:00:00:x:y and port `w<n>` of the switch.
pub fn workload(n: u16, labels: &str, more: &str) -> String {
    let [x, y] = n.to_be_bytes();
    format!(
        "---\nkind: Workload\nmetadata: {{name: w{n}, labels: {{{labels}}}}}\nspec: {{network: net, interfaces: \
         [{{mac: \"02:00:00:00:{x:02x}:{y:02x}\", ips: [10.0.{x}.{y}], attachment: {{switch: hv1, port: w{n}}}}}]{more}}}\n"
    )
}

/// As [`workload`], on no switch.
pub fn elsewhere(n: u16, labels: &str) -> String {
    workload(n, labels, "").replace(&format!(", attachment: {{switch: hv1, port: w{n}}}"), "")
}

/// A policy with this `spec`.
pub fn policy(name: &str, spec: &str) -> String {
    format!("---\nkind: Policy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// [`BASE`] with two workloads, `side: a` and `side: b`, and more.
pub fn fabric(more: &str) -> String {
    format!("{BASE}{}{}{more}", workload(1, "side: a", ""), workload(2, "side: b", ""))
}

pub fn compile(state: &State) -> Compiler {
    Compiler::new(state, Default::default()).unwrap().0
}

/// The switch's program as text.
pub fn text(compiler: &Compiler) -> String {
    render_program(compiler.program(&name(SWITCH)).unwrap())
}

pub fn len(compiler: &Compiler) -> usize {
    compiler.program(&name(SWITCH)).unwrap().len()
}

/// Applies documents to a state and its compiler.
pub fn apply(state: &mut State, compiler: &mut Compiler, changes: &[Change]) -> Result<(), TooLarge> {
    let mut after = state.clone();
    after.apply(changes);
    compiler.apply(changes)?;
    *state = after;
    Ok(())
}

/// Tells every packet that its connection is new.
struct New;

impl Tracker for New {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (conn::NEW, Memory::default())
    }
    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

/// The first TCP packet from workload `from` to workload `to`, put in by a port.
pub fn syn(port: &str, from: u16, to: u16, service: u16) -> Packet {
    let ip = |n: u16| u128::from(Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8).to_bits());
    let mac = |n: u16| Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]).to_bits();
    Packet::new(Port::Name(port.into()))
        .with(Field::EthSrc, mac(from))
        .with(Field::EthDst, mac(to))
        .with(Field::Vlan, 0u8)
        .with(Field::IpFrag, 0u8)
        .with(Field::EthType, ethertype::IPV4)
        .with(Field::IpProto, 6u8)
        .with(Field::Ipv4Src, ip(from))
        .with(Field::Ipv4Dst, ip(to))
        .with(Field::L4Src, 40_000u16)
        .with(Field::L4Dst, service)
}

/// What becomes of a packet.
pub fn outcome(compiler: &Compiler, packet: Packet) -> Outcome {
    let walked: Walk<'_> = walk(compiler.program(&name(SWITCH)).unwrap(), &mut New, packet);
    walked.outcome
}

/// Whether workload `from` reaches workload `to`.
pub fn reaches(compiler: &Compiler, from: u16, to: u16, service: u16) -> bool {
    matches!(outcome(compiler, syn(&format!("w{from}"), from, to, service)), Outcome::Delivered { .. })
}

/// Lines that came and lines that went, each behind its sign.
pub fn difference(before: &str, after: &str) -> String {
    let mut out = String::new();
    let missing = |line: &&str, from: &str| !from.lines().any(|other| other == *line);
    for line in before.lines().filter(|line| missing(line, after)) {
        let _ = writeln!(out, "- {line}");
    }
    for line in after.lines().filter(|line| missing(line, before)) {
        let _ = writeln!(out, "+ {line}");
    }
    out
}

/// Holds what was found against a file of `goldens`; `UPDATE_GOLDEN=1` writes it anew.
pub fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == found, "{name} differs (UPDATE_GOLDEN=1 writes it anew):\n{}", difference(&kept, found));
}
