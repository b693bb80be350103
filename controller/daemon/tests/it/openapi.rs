//! What schemathesis finds wrong between the program and its OpenAPI document; `make schemathesis` installs it.

use std::{path::Path, process::Command};

#[test]
fn schemathesis_finds_nothing() {
    let program = Path::new(env!("CARGO_BIN_EXE_bulkheadd"));
    let python = program.ancestors().nth(2).unwrap().join("schemathesis/bin/python");
    if !python.exists() {
        eprintln!("NOT TESTED: schemathesis is not installed (make schemathesis)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/openapi.py");
    // Few of each operation, and none of those that are worked out from every word of the document: those take minutes.
    let few = ["--phases", "fuzzing", "--max-examples", "8"];
    let ran = Command::new(python).arg(script).arg(program).args(few).output().unwrap();
    assert!(ran.status.success(), "{}\n{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}
