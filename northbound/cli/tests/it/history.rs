//! Earlier revisions and backups on the command line.

use crate::common;
use bulkhead_types::BackupSum;
use common::{Server, code, text};
use std::fs;

const HISTORY: &str = r#"{"revision":9,"oldest":4,"items":[
    {"revision":9,"author":"alice@hv1","time":"2026-05-01T10:00:00.125Z","more":3,"changes":[
        {"kind":"Policy","name":"p","change":"updated"},{"kind":"Zone","name":"z","change":"created"},
        {"kind":"Workload","name":"w","change":"deleted"},{"kind":"Workload","name":"x","change":"deleted"}]},
    {"revision":8,"author":"observed on the hosts","time":"2026-05-01T09:00:00.000Z","changes":[]}]}"#;

#[test]
fn history_is_a_table() {
    let server = Server::new(&[
        ("GET /v1/history?limit=20", 200, HISTORY),
        ("GET /v1/history?before=9&limit=5", 200, r#"{"revision":9,"oldest":0,"items":[]}"#),
    ]);
    let output = server.run(&["history"], "");
    let told = text(&output.stdout);
    assert_eq!(code(&output), 0);
    let lines: Vec<Vec<&str>> =
        told.lines().map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(lines[1], ["9", "2026-05-01 10:00:00Z", "alice@hv1", "~policy/p +zone/z -workload/w and 4 more"]);
    assert_eq!(lines[2], ["8", "2026-05-01 09:00:00Z", "observed on the hosts", "-"]);
    assert!(told.contains("kept from revision 4 on"), "{told}");
    assert!(text(&server.run(&["history", "-o", "wide"], "").stdout).contains("-workload/x and 3 more"));
    assert_eq!(text(&server.run(&["history", "-n", "5", "--before", "9"], "").stdout), "no revisions\n");
}

#[test]
fn a_difference_is_told_and_is_a_no() {
    let server = Server::new(&[
        (
            "GET /v1/diff?from=3&to=5",
            200,
            r#"{"from":3,"to":5,"plan":{"switches":{},"services":4,"gained":[],
            "lost":[{"from":"a","to":"b","protocol":"tcp","port":80,"verdict":"deny"}]},
            "resources":[{"kind":"Policy","name":"p","change":"deleted","from":{},"to":null}]}"#,
        ),
        ("GET /v1/diff?from=3", 200, r#"{"from":3,"to":7,"plan":{"switches":{}},"resources":[]}"#),
    ]);
    let output = server.run(&["diff", "3", "5"], "");
    assert_eq!(code(&output), 3);
    assert_eq!(text(&output.stdout), "policy/p deleted\n\na loses b tcp/80\n");
    let same = server.run(&["diff", "3"], "");
    assert_eq!((code(&same), text(&same.stdout)), (0, "revisions 3 and 7 have the same content\n"));
}

const PLAN: &str = r#"{"revision":9,"changes":[{"kind":"Policy","name":"p","change":"created"}],"diagnostics":[],
    "plan":{"switches":{"hv1":{"added":4,"removed":0,"modified":0}},"gained":[],"lost":[],"services":3}}"#;
const DONE: &str = r#"{"revision":10,"changes":[{"kind":"Policy","name":"p","change":"created"}],"diagnostics":[]}"#;

#[test]
fn going_back_shows_what_it_does_and_does_only_that() {
    let server = Server::new(&[("POST /v1/rollback?dryRun=true", 200, PLAN), ("POST /v1/rollback", 200, DONE)]);
    // Nobody is there to be asked.
    let output = server.run(&["rollback", "3"], "yes\n");
    assert_eq!(code(&output), 2);
    assert!(server.asked.lock().unwrap().is_empty() && text(&output.stderr).contains("--yes"));
    let output = server.run(&["rollback", "3", "--dry-run"], "");
    assert!(text(&output.stdout).contains("hv1") && text(&output.stdout).contains("dry run against revision 9"));
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    let output = server.run(&["rollback", "3", "--yes"], "");
    assert_eq!(code(&output), 0);
    let told = text(&output.stdout);
    assert!(told.contains("+4") && told.ends_with("revision 10\n"), "{told}");
    // Against what was shown, and nothing newer.
    assert_eq!(server.asked.lock().unwrap().last().unwrap(), r#"POST /v1/rollback {"revision":3,"newest":9}"#);
}

/// A backup of nothing, as text that lives on.
fn backup() -> &'static str {
    let mut sum = BackupSum::default();
    let head = sum.head(7);
    let row = "{\"row\":\"store\",\"revision\":7,\"oldest\":0}\n";
    sum.row(row.as_bytes());
    Box::leak((head + row + &sum.tail()).into_boxed_str())
}

#[test]
fn a_backup_gets_its_name_once_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = backup();
    let path = folder.path().join("b");
    let name = path.to_str().unwrap();
    for (text, good) in [(whole, true), (&whole[..whole.len() - 9], false), ("", false)] {
        let server = Server::new(Box::leak(Box::new([("GET /v1/backup", 200, text)])));
        let output = server.run(&["backup", name], "");
        assert_eq!((code(&output) == 0, path.exists()), (good, good), "{output:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), usize::from(good), "something is left behind");
        if good {
            assert_eq!(fs::read_to_string(&path).unwrap(), whole);
            // One that is there is not written over.
            assert_eq!(code(&server.run(&["backup", name], "")), 1);
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_damaged_backup_is_not_even_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b");
    let restored = r#"{"revision":7,"resources":3}"#;
    let server = Server::new(Box::leak(Box::new([("POST /v1/restore", 200, restored)])));
    let run = |text: &str| {
        fs::write(&path, text).unwrap();
        server.run(&["restore", path.to_str().unwrap()], "")
    };
    let output = run(&backup().replace("\"oldest\":0", "\"oldest\":1"));
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("sum does not fit") && text(&output.stderr).contains("nothing was changed"));
    assert!(server.asked.lock().unwrap().is_empty());
    let output = run(backup());
    assert_eq!((code(&output), text(&output.stdout)), (0, "revision 7 is in force again, with 3 resources\n"));
    assert_eq!(*server.asked.lock().unwrap(), [format!("POST /v1/restore {}", backup())]);
}
