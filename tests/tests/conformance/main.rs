//! One list of packets, every dataplane: the simulated switch, and a real Open vSwitch where there can be one. A
//! controller stands above either, so that documents, changes and counters go the way that an operator's do.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod builtins;
mod case;
mod cases;
mod changes;
mod device;
mod fabric;
mod frames;
mod hits;
mod mininet;
mod pipes;
mod plane;
mod routes;
mod sizes;
mod vlans;

use bulkhead_pipeline::overlay::Tunnel;
use case::{A, B, C, Case, EXT, VACANT};
use device::{Device, Leaves};
use fabric::Fabric;
use frames::Host;
use pipes::Pipes;
use plane::Spread;
use vlans::{BLUE, RED};

/// Everybody on one switch.
const TOGETHER: &[&[Host]] = &[&[A, B, C, EXT, RED, BLUE, VACANT]];
/// Who asks on one, who is asked and the uplink on the other.
const APART: &[&[Host]] = &[&[A, C, RED], &[B, EXT, BLUE, VACANT]];
/// The other way to divide them: what was together is apart. The uplinks move to another switch, too.
const ASUNDER: &[&[Host]] = &[&[A, B, RED, VACANT], &[C, EXT, BLUE]];
/// No two on one.
const ALONE: &[&[Host]] = &[&[A], &[B], &[C], &[EXT], &[RED], &[BLUE], &[VACANT]];

/// No two on one, and as many switches again without anybody.
const FORTY: [&[Host]; 32] = {
    let mut leaves: [&[Host]; 32] = [&[]; 32];
    let mut next = 0;
    while next < ALONE.len() {
        leaves[next * 4] = ALONE[next];
        next += 1;
    }
    leaves
};

fn on(hosts: &'static [&'static [Host]], encap: &'static str) -> Spread {
    Spread { hosts, encap, spines: 0, one_tracker: false, forgets: false }
}

/// Leaves with these hosts, and spines.
fn by_links(hosts: &'static [&'static [Host]], spines: usize) -> Spread {
    Spread { hosts, encap: "geneve", spines, one_tracker: false, forgets: false }
}

fn list() -> Vec<Case> {
    [cases::cases(), builtins::cases(), changes::cases(), vlans::cases(), routes::cases()].concat()
}

fn run(mut fabric: Fabric) {
    for case in list() {
        fabric.run(&case);
    }
}

/// The list without questions for a DHCP server at an uplink elsewhere, which links do not carry (ADR 13).
fn run_by_links(fabric: &mut Fabric) {
    for case in list().iter().filter(|case| !case.name.starts_with("DHCP")) {
        fabric.run(case);
    }
}

/// The same, and what only real links do.
fn run_by_real_links(mut fabric: Fabric) {
    run_by_links(&mut fabric);
    fabric.run(&sizes::whole(&[(A, B), (A, EXT), (EXT, A)], plane::LINK_MTU));
}

/// The list, and what only real tunnels do; `pairs` are on two switches.
fn run_across(spread: Spread, tunnel: Tunnel, pairs: &[(Host, Host)]) {
    let Some(mut fabric) = Fabric::real(spread) else { return };
    let most = plane::UNDERLAY_MTU - tunnel.overhead(false);
    for case in list().iter().chain([&sizes::case(pairs, most)]) {
        fabric.run(case);
    }
}

#[test]
fn on_the_simulated_switch() {
    run(Fabric::simulated(on(TOGETHER, "geneve")));
}

/// Over VXLAN, simulated switches have the group-policy extension.
#[test]
fn across_simulated_switches() {
    for hosts in [APART, ASUNDER, ALONE] {
        for encap in ["geneve", "vxlan"] {
            run(Fabric::simulated(on(hosts, encap)));
        }
    }
}

/// Without tunnels: leaf and spine, two of each.
#[test]
fn over_links_of_simulated_switches() {
    for hosts in [APART, ASUNDER] {
        run_by_links(&mut Fabric::simulated(by_links(hosts, 2)));
    }
}

/// The same with 32 leaves and 8 spines.
#[test]
fn over_links_of_forty_simulated_switches() {
    run_by_links(&mut Fabric::simulated(by_links(&FORTY, 8)));
}

/// Leaf and spine, two of each, of which no link is declared.
#[test]
fn over_links_of_open_vswitches() {
    let Some(fabric) = Fabric::real(by_links(APART, 2)) else { return };
    run_by_real_links(fabric);
}

/// The same, put up by Mininet.
#[test]
fn over_links_of_mininet() {
    if mininet::enter("over_links_of_mininet") {
        run_by_real_links(Fabric::mininet(Spread { one_tracker: true, ..by_links(APART, 2) }));
    }
}

#[test]
fn on_open_vswitch() {
    let Some(fabric) = Fabric::real(on(TOGETHER, "geneve")) else { return };
    run(fabric);
}

#[test]
fn across_open_vswitches_over_geneve() {
    run_across(on(APART, "geneve"), Tunnel::Geneve, &[(A, B), (EXT, A)]);
}

#[test]
fn across_open_vswitches_over_vxlan() {
    run_across(on(ASUNDER, "vxlan"), Tunnel::Vxlan, &[(A, C), (EXT, B)]);
}

#[test]
fn hits_on_the_simulated_switch() {
    hits::agree_with_packets(Fabric::simulated(on(TOGETHER, "geneve")));
}

#[test]
fn hits_on_open_vswitch() {
    let Some(fabric) = Fabric::real(on(TOGETHER, "geneve")) else { return };
    hits::agree_with_packets(fabric);
}

#[test]
fn hits_across_open_vswitches() {
    let Some(fabric) = Fabric::real(on(APART, "geneve")) else { return };
    hits::agree_with_packets(fabric);
}

/// Dropped under another name: nobody knows that no connection is.
const NAME: &str = "an answer to nothing is dropped by the rule that would have let it be one";
/// No connection, so no errors about one.
const ERRORS: &str = "ICMP errors are dropped";
/// Nothing lives there that could.
const KEPT: &str = "onTighten: persist is revoke";
/// Who may be asked as well as ask is sent what may be an answer.
const ANSWER: &str = "a segment of the connection passes as an answer that a policy allows in the other direction";

/// Cases that a switch without a memory decides otherwise from some step on, and why (docs/p4.md).
const OTHERWISE: [(&str, &str); 13] = [
    ("ICMP errors belong to connections", ERRORS),
    ("ICMP errors on VLANs", ERRORS),
    ("a deny is put above: a live connection is kept", KEPT),
    ("a gateway routes between subnets", ERRORS),
    ("a rule is deleted: a live connection is kept", KEPT),
    ("a workload is removed", ANSWER),
    ("a zone isolates: a live connection is cut", ANSWER),
    ("allow and its replies", NAME),
    ("an address set shrinks: a live connection is cut", ANSWER),
    ("ports are narrowed: a live connection is kept", KEPT),
    ("the destination is relabelled: a live connection is kept", KEPT),
    ("the source is relabelled: a live connection is kept", KEPT),
    ("two networks on one uplink port", NAME),
];

/// One more where who is refused is on another such switch than who refuses.
const OTHERWISE_APART: [(&str, &str); 1] =
    [("reject", "the ICMP error that tells the sender is dropped at its switch")];

fn forgets(hosts: &'static [&'static [Host]], encap: &'static str) -> Spread {
    Spread { forgets: true, ..on(hosts, encap) }
}

/// Hosts on two switches, the encapsulation between them, and some who are apart.
type Apart = (Spread, Tunnel, [(Host, Host); 2]);

fn across() -> [Apart; 2] {
    [
        (forgets(APART, "geneve"), Tunnel::Geneve, [(A, B), (EXT, A)]),
        (forgets(ASUNDER, "vxlan"), Tunnel::Vxlan, [(A, C), (EXT, B)]),
    ]
}

fn stand_ins(spread: Spread) -> Fabric {
    Fabric::programmed(spread, Leaves::new(spread, |_| Some(Device::stand_in())).unwrap())
}

/// `None` where there can be none.
fn bmv2s(spread: Spread) -> Option<Fabric> {
    let leaves = Leaves::new(spread, |ports| Some(Device::Bmv2(Pipes::start(ports)?)))?;
    Some(Fabric::programmed(spread, leaves))
}

/// The list by way of P4Runtime. An answer counts also at the denial of its first view.
fn run_alike(mut fabric: Fabric, cases: &[Case], otherwise: &[(&str, &str)]) {
    let otherwise = OTHERWISE.iter().chain(otherwise);
    for case in cases.iter().filter(|case| otherwise.clone().all(|(name, _)| *name != case.name)) {
        fabric.run(case);
    }
}

/// What is said to be otherwise is.
fn run_otherwise(mut fabric: Fabric, otherwise: &[(&str, &str)]) {
    let cases = list();
    for (name, why) in OTHERWISE.iter().chain(otherwise) {
        let case = cases.iter().find(|case| case.name == *name).unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fabric.run(case)));
        let Err(found) = ran else { panic!("{name} is as elsewhere, and should not be: {why}") };
        eprintln!("{name}: {why}\n  {}", found.downcast_ref::<String>().map_or("", String::as_str));
    }
}

#[test]
fn on_p4_target() {
    run_alike(stand_ins(forgets(TOGETHER, "geneve")), &list(), &[]);
}

#[test]
fn otherwise_on_p4_target() {
    run_otherwise(stand_ins(forgets(TOGETHER, "geneve")), &[]);
}

/// And what only tunnels do: the longest packets that fit, and longer ones.
fn run_across_alike((spread, tunnel, pairs): Apart, mut fabric: Fabric, cases: &[Case]) {
    fabric.run(&sizes::case(&pairs, plane::UNDERLAY_MTU - tunnel.overhead(false)));
    let together = spread.of(A.port) == spread.of(B.port);
    run_alike(fabric, cases, if together { &[] } else { &OTHERWISE_APART });
}

#[test]
fn across_p4_targets() {
    let [geneve, vxlan] = across();
    run_across_alike(geneve, stand_ins(geneve.0), &list());
    // Of what is judged nothing depends on the encapsulation.
    run_across_alike(vxlan, stand_ins(vxlan.0), &cases::cases());
}

#[test]
fn otherwise_across_p4_targets() {
    let [(spread, ..), _] = across();
    run_otherwise(stand_ins(spread), &OTHERWISE_APART);
}

#[test]
fn on_bmv2() {
    if let Some(fabric) = bmv2s(forgets(TOGETHER, "geneve")) {
        run_alike(fabric, &list(), &[]);
    }
}

#[test]
fn otherwise_on_bmv2() {
    if let Some(fabric) = bmv2s(forgets(TOGETHER, "geneve")) {
        run_otherwise(fabric, &[]);
    }
}

#[test]
fn across_bmv2s() {
    for apart in across() {
        let Some(fabric) = bmv2s(apart.0) else { return };
        run_across_alike(apart, fabric, &list());
    }
}
