//! The built command, against files and canned answers.

use crate::common;
use common::{Server, bulkhead, code, text};
use std::{path::PathBuf, process::Command};

const ALLOW: &str = r#"{"verdict":"allow","from":"web-1","to":"app-1","protocol":"tcp","port":8080,
    "egress":{"verdict":"allow","policy":"p","rule":"http","tier":"application"},
    "ingress":{"verdict":"allow","policy":null,"rule":null,"tier":null}}"#;
const DENY: &str = r#"{"verdict":"deny","from":"web-1","to":"app-1","protocol":"tcp","port":8080,
    "egress":{"verdict":"allow","policy":"p","rule":"http","tier":"application"},
    "ingress":{"verdict":"deny","policy":null,"rule":"builtin/zone-isolation","tier":null,"zone":"shop"}}"#;

#[test]
fn exit_codes_are_the_contracts() {
    let yes = Server::new(&[("POST /v1/reach", 200, ALLOW)]);
    let no = Server::new(&[("POST /v1/reach", 200, DENY)]);
    let args = ["reach", "web-1", "app-1", "tcp/8080"];
    assert_eq!(code(&yes.run(&args, "")), 0);
    let output = no.run(&args, "");
    assert_eq!(code(&output), 3);
    assert!(text(&output.stdout).starts_with("deny: web-1 to app-1 tcp/8080\n"), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("zone shop"));
    let json = no.run(&[&args[..], &["-o", "json"]].concat(), "");
    assert_eq!(code(&json), 3);
    let parsed: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(parsed["ingress"]["zone"], "shop");
    assert_eq!(
        yes.asked.lock().unwrap().as_slice(),
        [r#"POST /v1/reach {"from":"web-1","to":"app-1","protocol":"tcp","port":8080}"#]
    );
    // Wrong usage, and nobody there.
    for args in [
        &["reach", "a", "b", "nonsense"][..],
        &["get", "polices"],
        &["apply"],
        &["get", "zones/a", "b"],
        &["delete", "zones"],
    ] {
        let output = bulkhead(args, "");
        assert_eq!(code(&output), 2, "{args:?} {}", text(&output.stderr));
    }
    let gone = bulkhead(&["status", "--server", "http://127.0.0.1:9"], "");
    assert_eq!(code(&gone), 1);
    assert!(text(&gone.stderr).contains("http://127.0.0.1:9") && text(&gone.stderr).contains("BULKHEAD_SERVER"));
    let drift = r#"{"revision":3,"ready":true,"switches":[{"name":"hv1","driver":"openflow","connected":true,"desired":3,
        "sent":3,"acknowledged":3,"entries":9,"pending":0,"drift":2}]}"#;
    assert_eq!(code(&Server::new(Box::leak(Box::new([("GET /v1/status", 200, drift)]))).run(&["status"], "")), 3);
    let waits = r#"{"revision":3,"ready":true,"switches":[{"name":"hv1","driver":"openflow","connected":true,"desired":3,
        "sent":3,"acknowledged":3,"entries":9,"pending":4,"missingPorts":["uplink0","w1"],"drift":0}]}"#;
    let output = Server::new(Box::leak(Box::new([("GET /v1/status", 200, waits)]))).run(&["status"], "");
    assert!(text(&output.stdout).contains("waits for port uplink0, w1"), "{}", text(&output.stdout));
    let doubled = r#"{"revision":3,"ready":true,"switches":[{"name":"hv1","driver":"openflow","connected":true,"desired":3,
        "sent":3,"acknowledged":3,"entries":9,"pending":4,"drift":0,
        "doubledPorts":[{"number":"5","name":"w1","has":"Workload/web-1","waits":"Workload/web-2"}]}]}"#;
    let output = Server::new(Box::leak(Box::new([("GET /v1/status", 200, doubled)]))).run(&["status"], "");
    let said = "port 5 is w1, which Workload/web-1 has; Workload/web-2 waits";
    assert!(text(&output.stdout).contains(said), "{}", text(&output.stdout));
}

#[test]
fn what_changes_is_told_line_by_line() {
    let zone = |mode: &str| {
        format!(
            r#"{{"apiVersion":"bulkhead/v1","kind":"Zone","metadata":{{"name":"shop","resourceVersion":3}},"spec":{{"network":"prod",
            "selector":{{"matchLabels":{{"app":"shop"}}}},"isolate":[],"mode":"{mode}"}}}}"#
        )
        .replace('\n', "")
    };
    let list: &'static str = format!(r#"{{"revision":3,"items":[{}]}}"#, zone("enforce")).leak();
    let event = |revision: u64, change: &str, mode: &str| {
        let (name, zone) = ("shop", zone(mode));
        format!(
            "id: {revision}\nevent: change\ndata: {{\"revision\":{revision},\"kind\":\"Zone\",\"name\":\"{name}\",\
             \"change\":\"{change}\",\"resource\":{zone}}}\n\n"
        )
    };
    let end = |status: u16, kind: &str| {
        format!(
            "event: end\ndata: {{\"type\":\"urn:bulkhead:problem:{kind}\",\"title\":\"T\",\"status\":{status},\"detail\":\"d\"}}\n\n"
        )
    };
    // It is cut off by a controller that stops, and goes on from where it was.
    let first: &'static str = format!(": hi\n\n{}{}", event(4, "updated", "monitor"), end(503, "unavailable")).leak();
    let second: &'static str = format!("{}{}", event(6, "deleted", "monitor"), end(401, "stranger")).leak();
    let server = Server::new(Box::leak(Box::new([
        ("GET /v1/zones?limit=1", 200, list),
        ("GET /v1/zones", 200, list),
        ("GET /v1/watch?since=3&kinds=zones", 200, first),
        ("GET /v1/watch?since=4&kinds=zones", 200, second),
    ])));
    let output = server.run(&["get", "zones", "-w"], "");
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "CHANGE    NAME   NETWORK   SELECTOR   ISOLATE   MODE\n\
         listed    shop   prod      app=shop   -         enforce\n\
         updated   shop   prod      app=shop   -         monitor\n\
         deleted   shop   prod      app=shop   -         monitor\n"
    );
    assert!(text(&output.stderr).contains("going on") && text(&output.stderr).ends_with("error: T: d\n"));
    let output = server.run(&["get", "zones", "other", "-w", "-o", "json"], "");
    assert_eq!(code(&output), 1);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn staged_policies_are_shown_apart() {
    let staged = r#","staged":{"verdict":"deny",
        "egress":{"verdict":"allow","policy":"p","rule":"http","tier":"application"},
        "ingress":{"verdict":"deny","policy":"soon","rule":"shut","tier":"platform"}}}"#;
    let answer: &'static str = format!("{}{staged}", ALLOW.trim_end_matches('}').to_owned() + "}").leak();
    let policy = r#"{"apiVersion":"bulkhead/v1","kind":"Policy","metadata":{"name":"soon"},"spec":{"tier":"platform",
        "stage":"staged","subject":{"matchLabels":{"a":"b"}},"ingress":[{"name":"shut","action":"deny"}]}}"#;
    let hits = r#"[{"policy":"soon","direction":"ingress","index":0,"rule":"shut","total":{"packets":7,"bytes":700},"switches":{}}]"#;
    let server = Server::new(Box::leak(Box::new([
        ("POST /v1/reach", 200, answer),
        ("GET /v1/policies/soon", 200, policy),
        ("GET /v1/hits?policy=soon", 200, hits),
    ])));
    let output = server.run(&["reach", "web-1", "app-1", "tcp/8080"], "");
    assert_eq!(code(&output), 0, "staged policies decide nothing");
    let (is, would) = text(&output.stdout).split_once("deny if staged policies were active:").unwrap();
    assert!(!is.contains("soon") && would.contains("shut"), "{is}{would}");
    let output = server.run(&["describe", "policy", "soon"], "");
    let text = text(&output.stdout);
    assert!(text.contains("staged") && text.contains("WOULD-BE-PACKETS") && text.contains('7'), "{text}");
}

#[test]
fn the_servers_findings_are_shown_in_the_operators_own_files() {
    let refused = r#"{"type":"urn:bulkhead:problem:refused","title":"The documents are refused","status":422,"diagnostics":[
        {"severity":"error","line":1,"column":77,"resource":"Policy/p","path":"spec.subject.zone","message":"there is no zone `nowhere`","hint":"apply it first"}]}"#;
    let server = Server::new(Box::leak(Box::new([("POST /v1/apply", 422, refused)])));
    let document = "kind: Policy\nmetadata: {name: p}\nspec:\n  subject:\n    zone: nowhere\n  ingress: []\n";
    let output = server.run(&["apply", "-f", "-"], document);
    assert_eq!(code(&output), 1);
    assert_eq!(
        text(&output.stderr),
        "<stdin>:5:11: error: there is no zone `nowhere`\n5 |     zone: nowhere\n  |           ^\n  hint: apply it first\nnothing was changed\n"
    );
    // What is wrong by itself never gets as far as the server.
    let output = server.run(&["apply", "-f", "-"], "kind: Zone\nmetadata: {name: z}\nspec: {}\n");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("<stdin>:3:"), "{}", text(&output.stderr));
    assert_eq!(server.asked.lock().unwrap().len(), 1);
}

#[test]
fn a_large_file_goes_to_the_server_as_it_is_and_its_findings_come_back_with_their_places() {
    let refused = r#"{"type":"urn:bulkhead:problem:refused","title":"The documents are refused","status":422,"diagnostics":[
        {"severity":"error","line":5,"column":11,"resource":"Policy/p","path":"spec.subject.zone","message":"there is no zone `nowhere`","hint":"apply it first"}]}"#;
    let nothing = r#"{"revision":7,"changes":[],"diagnostics":[]}"#;
    let server =
        Server::new(Box::leak(Box::new([("POST /v1/apply", 422, refused), ("POST /v1/delete", 200, nothing)])));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.yaml");
    let file = file.to_str().unwrap();
    let document = "kind: Policy\nmetadata: {name: p}\nspec:\n  subject:\n    zone: nowhere\n  ingress: []\n";
    let large = document.to_string() + &"# nothing more\n".repeat((1 << 20) / 15);
    std::fs::write(file, &large).unwrap();
    let output = server.run(&["apply", "-f", file], "");
    assert_eq!(code(&output), 1);
    assert_eq!(
        text(&output.stderr),
        format!(
            "{file}:5:11: error: there is no zone `nowhere`\n5 |     zone: nowhere\n  |           ^\n  hint: apply it first\nnothing was changed\n"
        )
    );
    let output = server.run(&["delete", "-f", file], "");
    assert_eq!((code(&output), text(&output.stderr)), (1, &*format!("error: there is no document in {file}\n")));
    let asked = server.asked.lock().unwrap();
    assert_eq!(*asked, [format!("POST /v1/apply {large}"), format!("POST /v1/delete {large}")]);
    let heads = server.heads.lock().unwrap();
    assert!(heads.iter().all(|head| head.contains("content-type: application/yaml\r\n")), "{heads:?}");
}

#[test]
fn what_the_server_does_not_take_as_it_is_is_read_here_and_sent_shorter() {
    let busy = r#"{"type":"urn:bulkhead:problem:busy","title":"Service Unavailable","status":503,"detail":"try again in a moment","diagnostics":[]}"#;
    let server = Server::new(Box::leak(Box::new([("POST /v1/apply", 503, busy)])));
    let document = "kind: AddressSet\nmetadata: {name: corp}\nspec: {cidrs: [192.0.2.0/24]}\n";
    let large = document.to_string() + &"# nothing more\n".repeat((1 << 20) / 15);
    let output = server.run(&["apply", "-f", "-"], &large);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("try again in a moment"), "{}", text(&output.stderr));
    let shorter = r#"[{"kind":"AddressSet","metadata":{"name":"corp"},"spec":{"cidrs":["192.0.2.0/24"]}}]"#;
    assert_eq!(*server.asked.lock().unwrap(), [format!("POST /v1/apply {large}"), format!("POST /v1/apply {shorter}")]);
    // And what is wrong in it is said where nobody is there.
    let output = crate::common::bulkhead(&["apply", "-f", "-"], &large.replace("cidrs", "cdirs"));
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).starts_with("<stdin>:3:8: error: unknown field `cdirs`"), "{}", text(&output.stderr));
}

#[test]
fn apply_prints_the_revision_and_waits() {
    let server = Server::new(&[
        (
            "POST /v1/apply",
            200,
            r#"{"revision":7,"changes":[{"kind":"Zone","name":"z","change":"created"}],"diagnostics":[]}"#,
        ),
        (
            "GET /v1/realization?revision=7&wait=1000ms",
            200,
            r#"{"revision":7,"realized":true,"waiting":[],"disconnected":["hv2"],"failed":{}}"#,
        ),
    ]);
    let document = "kind: Zone\nmetadata: {name: z}\nspec: {network: n, selector: {matchLabels: {a: b}}}\n";
    let output = server.run(&["apply", "-f", "-", "--wait"], document);
    assert_eq!((code(&output), text(&output.stdout)), (0, "zone/z created\nrevision 7\n"));
    assert!(text(&output.stderr).contains("not connected: hv2"));
}

#[test]
fn what_get_prints_can_be_applied_again() {
    let server = Server::new(&[
        (
            "GET /v1/zones",
            200,
            r#"{"revision":1,"items":[
            {"apiVersion":"bulkhead/v1","kind":"Zone","metadata":{"name":"a","resourceVersion":1},
             "spec":{"network":"n","selector":{"matchLabels":{"x":"1"}},"isolate":[],"mode":"enforce"}},
            {"apiVersion":"bulkhead/v1","kind":"Zone","metadata":{"name":"b","resourceVersion":1},
             "spec":{"network":"n","selector":{"matchLabels":{"x":"true"}},"isolate":["ingress"],"mode":"monitor"}}]}"#,
        ),
        ("POST /v1/apply", 200, r#"{"revision":2,"changes":[],"diagnostics":[]}"#),
    ]);
    let table = server.run(&["get", "zones"], "");
    assert_eq!(
        text(&table.stdout),
        "NAME   NETWORK   SELECTOR   ISOLATE   MODE\na      n         x=1        -         enforce\n\
         b      n         x=true     ingress   monitor\n"
    );
    let yaml = server.run(&["get", "zn", "-o", "yaml"], "");
    assert!(text(&yaml.stdout).contains("      x: \"true\"\n"), "{}", text(&yaml.stdout));
    assert_eq!(code(&server.run(&["apply", "-f", "-"], text(&yaml.stdout))), 0);
}

#[test]
fn validate_needs_no_server() {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"));
    let mut examples = 0;
    for example in std::fs::read_dir(&dir).unwrap() {
        let example = example.unwrap().path();
        let output = bulkhead(&["validate", "-f", example.to_str().unwrap()], "");
        assert_eq!((code(&output), text(&output.stderr)), (0, ""), "{}", example.display());
        examples += 1;
    }
    assert!(examples >= 2);
    let output = bulkhead(&["validate", "-f", dir.join("three-tier").to_str().unwrap()], "");
    assert_eq!((code(&output), text(&output.stdout)), (0, "18 documents are valid\n"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), "{\"kind\": \"Zone\",}").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not read").unwrap();
    let output = bulkhead(&["validate", "-f", folder.path().to_str().unwrap()], "");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("a.json:1:17: error: not JSON"), "{}", text(&output.stderr));
    assert_eq!(code(&bulkhead(&["validate", "-f", "/nonexistent"], "")), 1);
}

#[test]
fn completions_exist_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = bulkhead(&["completions", shell], "");
        assert!(code(&output) == 0 && text(&output.stdout).contains("bulkhead"), "{shell}");
    }
}

#[test]
fn a_zone_does_not_lose_its_last_label() {
    let zone = r#"{"apiVersion":"bulkhead/v1","kind":"Zone","metadata":{"name":"z","resourceVersion":3},
        "spec":{"network":"n","selector":{"matchLabels":{"a":"b"},"matchExpressions":[]}}}"#;
    let server = Server::new(Box::leak(Box::new([("GET /v1/zones/z", 200, zone)])));
    let output = server.run(&["zone", "label", "z", "a-"], "");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("would select every workload"), "{}", text(&output.stderr));
    assert!(server.asked.lock().unwrap().iter().all(|asked| asked.starts_with("GET ")));
}

#[test]
fn a_zones_expressions_and_the_servers_remarks_are_told_beside_its_labels() {
    let zone = r#"{"apiVersion":"bulkhead/v1","kind":"Zone","metadata":{"name":"z","resourceVersion":3},
        "spec":{"network":"n","selector":{"matchExpressions":[{"key":"app","operator":"In","values":["x"]}]}}}"#;
    let answer = r#"{"revision":8,"changes":[{"kind":"Zone","name":"z","change":"updated"}],
        "diagnostics":[{"severity":"warning","path":"spec.selector","message":"no workload has these labels"}]}"#;
    let answers = [("GET /v1/zones/z", 200, zone), ("PUT /v1/zones/z", 200, answer)];
    let server = Server::new(Box::leak(Box::new(answers)));
    let output = server.run(&["zone", "label", "z", "env=prod"], "");
    assert_eq!((code(&output), text(&output.stdout)), (0, "zone/z updated\nrevision 8\n"));
    let told = text(&output.stderr);
    assert!(told.contains("note: the zone's expressions stay: it selects by `"), "{told}");
    assert!(told.contains("app") && told.contains("env"), "{told}");
    assert!(told.contains("warning: spec.selector: no workload has these labels"), "{told}");
}

#[test]
fn what_is_empty_is_empty_in_json_and_yaml_too() {
    let empty = r#"{"revision":7,"items":[]}"#;
    let answers = [("GET /v1/workloads", 200, empty), ("GET /v1/workloads?labelSelector=a%3Db", 200, empty)];
    let server = Server::new(Box::leak(Box::new(answers)));
    for (verb, selector, json, yaml) in [
        ("get", None, "[]\n", ""),
        ("describe", None, "[]\n", ""),
        ("describe", Some("a=b"), "[]\n", ""),
        (
            "delete",
            Some("a=b"),
            "{\n  \"changes\": [],\n  \"diagnostics\": [],\n  \"revision\": 7\n}\n",
            "changes: []\ndiagnostics: []\nrevision: 7\n",
        ),
    ] {
        let selector: Vec<&str> = selector.into_iter().flat_map(|selector| ["-l", selector]).collect();
        for (form, expected) in [("json", json), ("yaml", yaml)] {
            let output = server.run(&[&[verb, "workloads", "-o", form], selector.as_slice()].concat(), "");
            assert_eq!((code(&output), text(&output.stdout)), (0, expected), "{verb} {form}");
        }
        let output = server.run(&[&[verb, "workloads"], selector.as_slice()].concat(), "");
        assert!(text(&output.stdout).starts_with("no workloads "), "{verb}");
    }
}

#[test]
fn a_matrix_tells_icmp_types_apart() {
    let rows = r#"[{"from":"a","to":"b","protocol":"icmp","port":null,"icmpType":8,"icmpCode":0,"verdict":"allow"},
        {"from":"a","to":"b","protocol":"icmp","port":null,"icmpType":3,"icmpCode":4,"verdict":"deny"},
        {"from":"a","to":"b","protocol":"tcp","port":443,"verdict":"allow"}]"#;
    let server = Server::new(Box::leak(Box::new([("GET /v1/matrix", 200, rows)])));
    let output = server.run(&["matrix"], "");
    let table = text(&output.stdout);
    assert!(table.contains("icmp/8/0,tcp/443") && table.contains("asked: icmp/3/4, icmp/8/0, tcp/443;"), "{table}");
    let output = server.run(&["matrix", "-o", "wide"], "");
    assert!(text(&output.stdout).contains("icmp/3/4   deny"), "{}", text(&output.stdout));
}

#[test]
fn an_editor_that_fails_changes_nothing_and_keeps_the_edit() {
    let zone = r#"{"apiVersion":"bulkhead/v1","kind":"Zone","metadata":{"name":"z","resourceVersion":3},
        "spec":{"network":"n","selector":{"matchLabels":{"a":"b"}}}}"#;
    let server = Server::new(Box::leak(Box::new([("GET /v1/zones/z", 200, zone)])));
    let folder = tempfile::tempdir().unwrap();
    let editor = folder.path().join("editor");
    std::fs::write(&editor, "echo '# half an edit' >> \"$1\"; exit 7\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["edit", "zone", "z", "--server", &server.url])
        .env("VISUAL", format!("sh {}", editor.display()))
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let told = text(&output.stderr);
    assert_eq!((code(&output), text(&output.stdout)), (1, ""), "{told}");
    assert!(told.contains("exit status: 7; nothing was changed"), "{told}");
    let file = told.lines().find_map(|line| line.strip_prefix("your edit is kept in ")).unwrap();
    assert!(std::fs::read_to_string(file).unwrap().ends_with("# half an edit\n"));
    assert!(server.asked.lock().unwrap().iter().all(|asked| asked.starts_with("GET ")));
}

#[test]
fn nobody_gains_or_loses_only_where_that_was_compared() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("z.yaml");
    std::fs::write(&file, "kind: Zone\nmetadata: {name: z}\nspec: {network: n, selector: {matchLabels: {a: b}}}\n")
        .unwrap();
    let row = r#"[{"from":"a","to":"b","protocol":"tcp","port":1,"verdict":"allow"}]"#;
    for (more, said) in [
        (String::new(), true),
        (r#","incomplete":"32 of 40 services are compared""#.into(), false),
        (format!(r#","gained":{row}"#), false),
        (format!(r#","stagedGained":{row}"#), false),
        (format!(r#","stagedLost":{row}"#), false),
    ] {
        let answer =
            format!(r#"{{"revision":1,"changes":[],"diagnostics":[],"plan":{{"switches":{{}},"services":4{more}}}}}"#);
        let server = Server::new(Box::leak(Box::new([("POST /v1/apply?dryRun=true", 200, &*answer.leak())])));
        let output = server.run(&["plan", "-f", file.to_str().unwrap()], "");
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let sentence = "Between the workloads, nobody gains or loses anybody (compared: 4 services; outside addresses are \
                        not compared).\n";
        let told = text(&output.stdout);
        assert_eq!((told.contains(sentence), told.contains("obody")), (said, said), "{more}: {told}");
    }
}

const TOPOLOGY: &str = r#"{"revision":7,"switches":[
    {"name":"leaf1","role":"leaf","connected":true,"edge":true},
    {"name":"spine1","role":"spine","connected":true,"edge":false},
    {"name":"spine2","role":"spine","connected":false,"edge":false}],
    "links":[
    {"name":"up1","a":{"switch":"leaf1","port":"1"},"b":{"switch":"spine1","port":"1"},"discovered":true,"state":"up"},
    {"a":{"switch":"leaf1","port":"p\"2<"},"b":{"switch":"spine2","port":"p1"},"discovered":false,"state":"conflict",
     "why":"spine2:p1 hears leaf9:p1"}],
    "foreignLldp":[{"switch":"leaf1","port":"p9","frames":12,"sender":"core-7 port Gi0/1"}]}"#;

#[test]
fn the_topology_is_told_and_drawn() {
    let server = Server::new(&[("GET /v1/topology", 200, TOPOLOGY)]);
    let table = server.run(&["topology"], "");
    assert_eq!(
        (code(&table), text(&table.stdout)),
        (
            0,
            "\
SWITCH   ROLE    CONNECTED   EDGE   LINKS-UP
leaf1    leaf    yes         yes    1/2
spine1   spine   yes         no     1/1
spine2   spine   no          no     0/1

A            B           STATE      DECLARED-BY   DISCOVERED   WHY
leaf1:1      spine1:1    up         up1           yes          -
leaf1:p\"2<   spine2:p1   conflict   -             no           spine2:p1 hears leaf9:p1

FOREIGN-LLDP-AT   PORT   FRAMES   SENDER
leaf1             p9     12       core-7 port Gi0/1
"
        )
    );
    assert_eq!(
        text(&server.run(&["topology", "-o", "dot"], "").stdout),
        r##"graph bulkhead {
  node [shape=box];
  { rank=same; "spine1"; "spine2"; }
  { rank=same; "leaf1"; }
  "leaf1" -- "spine1" [taillabel="1", headlabel="1", color="#2a7f3f", style=solid, tooltip="up "];
  "leaf1" -- "spine2" [taillabel="p\"2<", headlabel="p1", color="#c02020", style=dashed, tooltip="conflict spine2:p1 hears leaf9:p1"];
}
"##
    );
    let picture = server.run(&["topology", "-o", "svg"], "");
    let picture = text(&picture.stdout);
    assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 312 312\""), "{picture}");
    assert!(picture.ends_with("</svg>\n"), "{picture}");
    assert_eq!((picture.matches("<rect").count(), picture.matches("<path").count()), (3, 2));
    assert!(picture.contains("leaf1:p&quot;2&lt; - spine2:p1 conflict"), "{picture}");
    let json: serde_json::Value = serde_json::from_slice(&server.run(&["topology", "-o", "json"], "").stdout).unwrap();
    assert_eq!(json["links"][0]["name"], "up1");
    assert_eq!(code(&server.run(&["status", "-o", "svg"], "")), 2, "nothing else is drawn");
}

#[test]
fn ports_are_told_with_what_is_there() {
    const PORTS: &str = r#"{"switch":"leaf1","connected":true,"ports":[
        {"name":"web-1","number":1,"up":true,"at":"workload","of":"web-1"},
        {"name":"p2","number":2,"up":false,"at":"link","of":"spine1:p1 down"},
        {"name":"br-int","number":4294967294,"up":true,"at":"host"},{"number":7,"up":true,"at":"quarantine","of":"x\u001b"}]}"#;
    const AWAY: &str = r#"{"switch":"leaf1","connected":false,"ports":[]}"#;
    let output = Server::new(&[("GET /v1/ports?switch=leaf1", 200, PORTS)]).run(&["ports", "leaf1"], "");
    let expected = "\
PORT     NUMBER       UP    AT           OF
web-1    1            yes   workload     web-1
p2       2            no    link         spine1:p1 down
br-int   4294967294   yes   host         -
-        7            yes   quarantine   x\u{fffd}
";
    assert_eq!((code(&output), text(&output.stdout)), (0, expected));
    let output = Server::new(&[("GET /v1/ports?switch=leaf1", 200, AWAY)]).run(&["ports", "leaf1"], "");
    assert_eq!(text(&output.stdout), "switch leaf1 is not connected: its ports are not known\n");
    const NONE: &str = r#"{"switch":"host1","connected":true,"ports":[]}"#;
    let output = Server::new(&[("GET /v1/ports?switch=host1", 200, NONE)]).run(&["ports", "host1"], "");
    assert_eq!(text(&output.stdout), "switch host1 tells no ports\n");
}

#[test]
fn a_path_is_told_link_by_link() {
    let hop = r#"{"from":{"switch":"leaf1","port":"p1"},"to":{"switch":"spine1","port":"p1"}}"#;
    let found: &'static str = format!(
        r#"{{"from":"a","to":"b","fromSwitch":"leaf1","toSwitch":"leaf2","found":true,"paths":2,"steps":[[{hop}],[]]}}"#
    )
    .leak();
    let none = r#"{"from":"a","to":"b","fromSwitch":"leaf1","toSwitch":"leaf2","found":false,"paths":0,"steps":[],
        "why":"no links that are up lead from one to the other"}"#;
    let server = Server::new(Box::leak(Box::new([("POST /v1/path", 200, found)])));
    let output = server.run(&["path", "a", "b"], "");
    let expected = "2 equal ways: leaf1 to leaf2, 2 links\nLINK   FROM       TO\n1      leaf1:p1   spine1:p1\n";
    assert_eq!((code(&output), text(&output.stdout)), (0, expected));
    assert_eq!(server.asked.lock().unwrap().as_slice(), [r#"POST /v1/path {"from":"a","to":"b"}"#]);
    let output = Server::new(Box::leak(Box::new([("POST /v1/path", 200, none)]))).run(&["path", "a", "b"], "");
    let expected = "no way: leaf1 to leaf2, 0 links\nno links that are up lead from one to the other\n";
    assert_eq!((code(&output), text(&output.stdout)), (3, expected));
}

#[test]
fn status_tells_links_that_are_not_up_and_foreign_lldp() {
    let status = r#"{"revision":7,"ready":true,"switches":[],"links":{"up":3,"notUp":[
        {"a":{"switch":"leaf1","port":"p2"},"b":{"switch":"spine2","port":"p1"},"discovered":true,"state":"down",
         "why":"port leaf1:p2 is down"}],
        "foreignLldp":[{"switch":"leaf1","port":"p9","frames":12}]}}"#;
    let output = Server::new(Box::leak(Box::new([("GET /v1/status", 200, status)]))).run(&["status"], "");
    let expected = "\
revision 7

no switches

links: 3 up, 1 down

NOT-UP     B           STATE   DECLARED-BY   DISCOVERED   WHY
leaf1:p2   spine2:p1   down    -             yes          port leaf1:p2 is down

FOREIGN-LLDP-AT   PORT   FRAMES   SENDER
leaf1             p9     12       -
";
    assert_eq!((code(&output), text(&output.stdout)), (0, expected));
}

#[test]
fn status_tells_of_certificates_that_end_and_files_that_are_not_in_use() {
    let status = r#"{"revision":7,"ready":true,"switches":[],"southboundTls":{"certificates":[
        {"role":"authority","file":"/etc/ca.pem","owner":"pki","expires":1,"expired":true,"warning":"the authority is over"},
        {"role":"certificate","file":"/etc/c.pem","owner":"ctl","expires":2,"expired":false,"warning":"it is near its end"},
        {"role":"certificate","file":"/etc/d.pem","owner":"new","expires":3,"expired":false}],
        "trouble":"the private key /etc/k.pem is another one's"},
        "apiTls":{"certificates":[],"trouble":"the certificate /etc/a.pem is nonsense"}}"#;
    let server = Server::new(Box::leak(Box::new([("GET /v1/status", 200, status)])));
    let output = server.run(&["status"], "");
    let expected = "\
revision 7
expired: the authority is over
expires soon: it is near its end
not in use: the files of TLS with switches have changed, and the private key /etc/k.pem is another one's
not in use: the files of TLS of the API have changed, and the certificate /etc/a.pem is nonsense

no switches
";
    assert_eq!((code(&output), text(&output.stdout)), (0, expected));
    let json: serde_json::Value = serde_json::from_slice(&server.run(&["status", "-o", "json"], "").stdout).unwrap();
    assert_eq!(json["southboundTls"]["certificates"][2]["expires"], 3);
}

#[test]
fn where_a_host_saw_a_workload_is_shown_with_who_says_so() {
    let workload = r#"{"apiVersion":"bulkhead/v1","kind":"Workload","metadata":{"name":"w","resourceVersion":1},
        "spec":{"network":"n","interfaces":[
            {"mac":"02:00:00:00:00:01","ips":["10.0.0.1"],"attachment":{"switch":"hv1","port":"eth7"}},
            {"mac":"02:00:00:00:00:02","ips":["10.0.0.2"]},
            {"mac":"02:00:00:00:00:03","ips":["10.0.0.3"]}]}}"#;
    let seen = r#"[{"workload":"w","mac":"02:00:00:00:00:02","switch":"hv2","port":"tap2"}]"#;
    let zones = r#"{"revision":1,"items":[]}"#;
    let server = Server::new(Box::leak(Box::new([
        ("GET /v1/workloads/w", 200, workload),
        ("GET /v1/attachments?workload=w", 200, seen),
        ("GET /v1/zones", 200, zones),
    ])));
    let table = server.run(&["get", "workload", "w"], "");
    assert!(text(&table.stdout).contains("hv1:eth7,hv2:tap2(seen)"), "{}", text(&table.stdout));
    let told = server.run(&["describe", "workload", "w"], "");
    let rows: Vec<Vec<&str>> = text(&told.stdout).lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        &["INTERFACE", "IPS", "ATTACHED", "SAID-BY"][..],
        &["02:00:00:00:00:01", "10.0.0.1", "hv1:eth7", "document"],
        &["02:00:00:00:00:02", "10.0.0.2", "hv2:tap2", "host"],
        &["02:00:00:00:00:03", "10.0.0.3", "not", "attached", "-"],
    ] {
        assert!(rows.iter().any(|found| found == row), "{row:?} in {}", text(&told.stdout));
    }
    let json = server.run(&["describe", "workload", "w", "-o", "json"], "");
    let parsed: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let seen = &parsed["attachments"][1];
    assert_eq!((&seen["switch"], &seen["from"]), (&"hv2".into(), &"host".into()), "{parsed}");
    assert_eq!(parsed["attachments"].as_array().unwrap().len(), 2);
    // What is applied again says nothing of it.
    let yaml = server.run(&["get", "workload", "w", "-o", "yaml"], "");
    assert!(!text(&yaml.stdout).contains("tap2"));
}
