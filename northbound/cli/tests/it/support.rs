//! The support bundle: what is in it, and what is not.

use crate::common;
use common::{Server, bulkhead};
use flate2::read::GzDecoder;
use std::{collections::BTreeMap, fs, io::Read, os::unix::fs::PermissionsExt, path::Path};

const STATUS: &str = r#"{"revision":7,"ready":true,"switches":[{"name":"hv1","driver":"sim",
    "connected":true,"desired":7,"sent":7,"acknowledged":7,"entries":9,"pending":0,"drift":0}]}"#;
const ANSWERS: &[(&str, u16, &str)] = &[
    ("GET /v1/status", 200, STATUS),
    ("GET /metrics", 200, "bulkhead_revision 7\n"),
    ("GET /v1/topology", 200, r#"{"switches":[],"links":[]}"#),
    ("GET /v1/hits", 200, "[]"),
    ("GET /v1/attachments", 200, "[]"),
    ("GET /v1/tokens", 403, r#"{"type":"urn:bulkhead:problem:forbidden","title":"forbidden","status":403}"#),
    (
        "GET /v1/policies",
        200,
        r#"{"revision":7,"items":[{"kind":"Policy","metadata":{"name":"secret-policy"},"spec":{}}]}"#,
    ),
];

fn contents(file: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(fs::File::open(file).unwrap())).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.insert(path.strip_prefix("bulkhead-support/").unwrap().to_owned(), text);
    }
    found
}

#[test]
fn it_has_what_there_is_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(ANSWERS);
    let run = |file: &Path, more: &[&str]| {
        let done = server.run(&[&["support-bundle", file.to_str().unwrap()], more].concat(), "");
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let file = folder.path().join("all.tar.gz");
    let (code, said, _) = run(&file, &[]);
    assert!(code == Some(0) && said.contains("all.tar.gz (with all documents"), "{code:?} {said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let found = contents(&file);
    assert!(found["status.json"].contains("\"revision\": 7") && found["metrics.txt"].contains("bulkhead_revision 7"));
    assert!(found["documents/policies.yaml"].contains("secret-policy"));
    assert!(found["missing.txt"].contains("tokens.json: forbidden"), "{}", found["missing.txt"]);

    // What is there is kept.
    let (code, _, said) = run(&file, &[]);
    assert!(code == Some(1) && said.contains("cannot write"), "{said}");

    let file = folder.path().join("less.tar.gz");
    let (code, said, _) = run(&file, &["--no-documents"]);
    assert!(code == Some(0) && said.contains("without documents"), "{said}");
    let found = contents(&file);
    assert!(found.values().all(|text| !text.contains("secret-policy")), "{found:?}");
}

#[test]
fn without_a_controller_it_says_so_and_has_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.tar.gz");
    let done = bulkhead(&["support-bundle", file.to_str().unwrap()], "");
    assert_eq!(done.status.code(), Some(1));
    let found = contents(&file);
    assert!(found["missing.txt"].contains("status.json: no answer from http://127.0.0.1:9"), "{found:?}");
}
