//! Small programs to read and review. Each file of `goldens` is what a switch gets; most show
//! only what these documents change in the program of a plain fabric. `UPDATE_GOLDEN=1` writes them anew.

use crate::common;
use common::{apply, changes, compile, difference, elsewhere, fabric, golden as check, state, text, workload};
use std::{fs, path::Path};

/// Two workloads of `side: a` and two of `side: b` at the switch, one of `side: a` elsewhere, and an uplink.
fn plain_fabric() -> String {
    fabric(&format!(
        "{}{}{}",
        workload(3, "side: a, n: three", ""),
        workload(4, "side: b, n: four", ""),
        elsewhere(5, "side: a, n: five")
    ))
}

/// What these documents change in the plain fabric.
fn changed(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(format!("{name}.yaml"));
    let mut state = state(&plain_fabric());
    let mut compiler = compile(&state);
    let before = text(&compiler);
    apply(&mut state, &mut compiler, &changes(&fs::read_to_string(path).unwrap())).unwrap();
    check(name, &difference(&before, &text(&compiler)));
}

#[test]
fn plain() {
    check("plain", &text(&compile(&state(&plain_fabric()))));
}

/// Of the demo's shop only what its policies come to.
#[test]
fn shop() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/three-tier");
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let documents = ["network", "switch", "zone", "workloads", "policies"].map(|file| read(&format!("{file}.yaml")));
    let program = text(&compile(&state(&documents.join("\n---\n"))));
    let judges = |line: &&str| ["egress-", "ingress-"].iter().any(|stage| line.starts_with(stage));
    check("shop", &program.lines().filter(judges).map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn except() {
    changed("except");
}

#[test]
fn conjunction() {
    changed("conjunction");
}

#[test]
fn isolation() {
    changed("isolation");
}

#[test]
fn reject() {
    changed("reject");
}

#[test]
fn persist() {
    changed("persist");
}
