//! `bulkhead import`, against files and canned answers.

use crate::common;
use common::{Server, bulkhead, bulkhead_in, code, text};

const CLUSTER: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: store, labels: {team: retail}}
---
apiVersion: v1
kind: Pod
metadata: {name: front, namespace: store, labels: {app: front}}
spec: {containers: [{name: main, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: front, namespace: store}
spec:
  podSelector: {matchLabels: {app: front}}
  ingress: [{ports: [{port: http}]}]
";

const POLICY: &str = r#"apiVersion: bulkhead/v1
kind: Policy
metadata:
  name: store.front
spec:
  ingress:
  - action: allow
    log: false
    ports:
    - port: http
      protocol: tcp
    priority: 0
  isolate:
  - ingress
  priority: 1000
  stage: active
  subject:
    matchLabels:
      app: front
      namespace.kubernetes.io/metadata.name: store
  tier: application
"#;

#[test]
fn what_is_imported_is_printed_and_can_be_applied() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cluster.yaml"), CLUSTER).unwrap();
    let args = ["import", "k8s", "-f", "cluster.yaml", "--network", "prod"];
    let output = bulkhead_in(folder.path(), &args, "");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let documents: Vec<&str> = printed.split("---\n").collect();
    let [workload, default, policy] = documents[..] else { panic!("{printed}") };
    assert!(workload.contains("name: store.front") && workload.contains("mac: \"0a:58:0a:01:00:01\""), "{workload}");
    assert!(workload.contains("namespace/team: retail"), "{workload}");
    assert!(default.contains("name: kubernetes-default") && default.contains("tier: baseline"), "{default}");
    assert_eq!(policy, POLICY);
    assert!(text(&output.stderr).contains("do not say their MAC address"), "{}", text(&output.stderr));
    // As one list in JSON, and all of it understood.
    let json = bulkhead_in(folder.path(), &[&args[..], &["-o", "json"]].concat(), "");
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(listed.len(), 3);
    let network = "kind: Network\nmetadata: {name: prod}\nspec: {vni: 7, subnets: [10.1.0.0/16]}\n---\n";
    let valid = bulkhead(&["validate", "-f", "-"], &format!("{network}{printed}"));
    assert_eq!(code(&valid), 0, "{}", text(&valid.stderr));
}

#[test]
fn what_is_wrong_is_shown_where_it_is_and_nothing_is_imported() {
    let wrong = CLUSTER.replace("ports: [{port: http}]", "from: [{ipBlock: {cidr: 10.0.0.1/8}}]");
    let output = bulkhead(&["import", "kubernetes", "-f", "-", "--network", "prod"], &wrong);
    assert_eq!(code(&output), 1);
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert!(
        said.contains("`10.0.0.1/8` is no CIDR") && said.contains("it has host bits set; write 10.0.0.0/8"),
        "{said}"
    );
    assert!(said.starts_with("<stdin>:16:38: error: ") && said.contains("\n16 |   ingress: [{from:"), "{said}");
    assert!(said.ends_with("nothing was imported\n"), "{said}");
    // A pod without a network, a file with nothing in it, and words that do not go together.
    let output = bulkhead(&["import", "k8s", "-f", "-"], CLUSTER);
    assert!(code(&output) == 1 && text(&output.stderr).contains("--network NAME"), "{}", text(&output.stderr));
    assert_eq!(code(&bulkhead(&["import", "k8s", "-f", "-"], "")), 1);
    for args in [&["import", "k8s"][..], &["import", "k8s", "-f", "-", "--yes"], &["import", "gcp", "-f", "-"]] {
        assert_eq!(code(&bulkhead(args, CLUSTER)), 2, "{args:?}");
    }
}

#[test]
fn security_groups_are_imported() {
    let groups = r#"{"SecurityGroups":[{"GroupId":"sg-1","IpPermissions":[{"IpProtocol":"tcp","FromPort":443,"ToPort":443,
        "IpRanges":[{"CidrIp":"0.0.0.0/0"}]}],"IpPermissionsEgress":[]}]}"#;
    let output = bulkhead(&["import", "aws", "-f", "-"], groups);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    for line in
        ["  name: sg-1\n", "    - key: security-group.aws/sg-1\n", "    - cidr: 0.0.0.0/0\n", "    - port: 443\n"]
    {
        assert!(printed.contains(line), "{printed}");
    }
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn apply_shows_the_plan_and_asks_unless_it_is_told_not_to() {
    let planned = r#"{"revision":6,"changes":[{"kind":"Policy","name":"sg-1","change":"created"}],"diagnostics":[],
        "plan":{"switches":{"hv1":{"added":2,"removed":0,"modified":1}},"gained":[],"lost":[],"stagedGained":[],"stagedLost":[],
        "services":0,"incomplete":""}}"#;
    let done = r#"{"revision":7,"changes":[{"kind":"Policy","name":"sg-1","change":"created"}],"diagnostics":[]}"#;
    let server =
        Server::new(Box::leak(Box::new([("POST /v1/apply?dryRun=true", 200, planned), ("POST /v1/apply", 200, done)])));
    let groups = r#"{"SecurityGroups":[{"GroupId":"sg-1","IpPermissions":[],"IpPermissionsEgress":[]}]}"#;
    let args = ["import", "aws", "-f", "-", "--apply"];
    // Standard input is no terminal.
    assert_eq!(code(&server.run(&args, groups)), 2);
    assert!(server.asked.lock().unwrap().is_empty());
    let output = server.run(&[&args[..], &["--dry-run"]].concat(), groups);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).ends_with("dry run against revision 6: nothing was changed\n"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    let output = server.run(&[&args[..], &["--yes"]].concat(), groups);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains("hv1      +2      -0        ~1\n")
            && said.matches("policy/sg-1 created\n").count() == 1
            && said.ends_with("\nrevision 7\n"),
        "{said}"
    );
    let asked = server.asked.lock().unwrap();
    assert!(asked[2].starts_with("POST /v1/apply [{") && asked[2].contains(r#""name":"sg-1""#), "{asked:?}");
}
