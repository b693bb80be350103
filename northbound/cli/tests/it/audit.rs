//! The audit log on the command line.

use crate::common;
use bulkhead_types::{AuditAnswer, AuditHead, AuditObject, AuditRecord};
use common::{Server, bulkhead, code, text};
use std::fs;

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lines() -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for number in 1..=3_u64 {
        let record = AuditRecord {
            number,
            previous: lines.last().map(|line| sha256(line.as_bytes())).unwrap_or_default(),
            time: 1_790_000_000_000 + number,
            user: if number == 2 { "bob".into() } else { "alice\u{1b}[31m".into() },
            known: "token".into(),
            from: "192.0.2.1:5".into(),
            action: "POST /v1/apply".into(),
            outcome: "done".into(),
            revision: Some(number),
            objects: vec![AuditObject { key: "Policy/web".into(), before: None, after: Some("x".into()) }],
            ..AuditRecord::default()
        };
        lines.push(serde_json::to_string(&record).unwrap());
    }
    lines
}

fn server(records: Vec<String>, head: &str) -> Server {
    let head = AuditHead { number: 3, digest: sha256(head.as_bytes()) };
    let answer = serde_json::to_string(&AuditAnswer { head, oldest: 1, records }).unwrap();
    let empty = r#"{"head":{"number":3,"digest":""},"oldest":1,"records":[]}"#;
    Server::new(Box::leak(Box::new([
        ("GET /v1/audit?after=0&limit=1000", 200, &*answer.leak()),
        ("GET /v1/audit?after=2&limit=1000", 200, empty),
        ("GET /v1/audit?after=3&limit=1000", 200, empty),
    ])))
}

#[test]
fn records_are_listed_and_held_against_each_other() {
    let whole = lines();
    let good = server(whole.clone(), &whole[2]);
    let listed = good.run(&["audit", "list"], "");
    let told = text(&listed.stdout);
    assert_eq!(code(&listed), 0, "{}", text(&listed.stderr));
    assert!(told.contains("revision 1 +policy/web") && !told.contains('\u{1b}') && told.lines().count() == 4, "{told}");
    let bob = good.run(&["audit", "list", "--user", "bob"], "");
    assert!(text(&bob.stdout).lines().count() == 2 && text(&bob.stdout).contains("bob"), "{}", text(&bob.stdout));
    assert!(text(&good.run(&["audit", "list", "--since", "1h"], "").stdout).starts_with("no records"));
    let digest = sha256(whole[2].as_bytes());
    let verified = good.run(&["audit", "verify"], "");
    assert_eq!(code(&verified), 0, "{}", text(&verified.stdout));
    assert_eq!(text(&verified.stdout), format!("records 1 to 3 fit together; the newest is\n3:{digest}\n"));
    assert!(text(&verified.stderr).contains("--head"));
    let second = format!("2:{}", sha256(whole[1].as_bytes()));
    assert_eq!(code(&good.run(&["audit", "verify", "--head", &second], "")), 0);

    let mut changed = whole.clone();
    changed[1] = changed[1].replace("bob", "eve");
    let mut cut = whole.clone();
    cut.pop();
    let other = format!("2:{}", sha256(b"something else"));
    let later = format!("9:{}", sha256(b"something else"));
    for (server, args, wanted) in [
        (server(changed, &whole[2]), &["audit", "verify"][..], "record 2 is not what it was"),
        (server(cut, &whole[2]), &["audit", "verify"], "the newest record is 3:"),
        (server(whole.clone(), &whole[2]), &["audit", "verify", "--head", &other], "record 2, or one before it"),
        (server(whole.clone(), &whole[2]), &["audit", "verify", "--head", &later], "record 9 is missing"),
    ] {
        let output = server.run(args, "");
        assert_eq!(code(&output), 3, "{args:?} {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(wanted), "{args:?} {}", text(&output.stdout));
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let path = file.to_str().unwrap();
    assert_eq!(code(&good.run(&["audit", "export", path], "")), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), whole.iter().map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(code(&bulkhead(&["audit", "verify", "--file", path], "")), 0);
    fs::write(&file, format!("{}\n{}\n", whole[0], whole[2])).unwrap();
    let missing = bulkhead(&["audit", "verify", "--file", path], "");
    assert!(code(&missing) == 3 && text(&missing.stdout).contains("after record 1 comes 3"));
    for wrong in ["3", "3:abc", "0:", "x:y"] {
        assert_eq!(code(&bulkhead(&["audit", "verify", "--head", wrong], "")), 2, "{wrong}");
    }
}
