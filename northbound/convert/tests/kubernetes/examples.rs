//! What the public documentation of NetworkPolicy shows, in our own words and labels, imported and asked.

use super::{allows, state};
use bulkhead_convert::{File, kubernetes};
use bulkhead_policy::Service;
use bulkhead_types::Severity;

/// Two namespaces, and who lives there.
const CLUSTER: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: store, labels: {team: retail, kubernetes.io/metadata.name: store}, creationTimestamp: null}
- apiVersion: v1
  kind: Namespace
  metadata: {name: bank, labels: {team: finance}}
- apiVersion: v1
  kind: Pod
  metadata: {name: front, namespace: store, labels: {app: front}}
  spec: {containers: [{name: main, ports: [{name: http, containerPort: 8080}]}]}
  status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: data, namespace: store, labels: {app: data}}
  spec: {containers: [{name: main, ports: [{name: sql, containerPort: 5432}]}]}
  status: {podIP: 10.0.0.2}
- apiVersion: v1
  kind: Pod
  metadata: {name: ledger, namespace: bank, labels: {app: ledger}}
  spec: {containers: [{name: main}]}
  status: {podIP: 10.0.0.3}
"#;

const FRONT: &str = "10.0.0.1";
const DATA: &str = "10.0.0.2";
const LEDGER: &str = "10.0.0.3";
const NEAR: &str = "192.0.2.7";
const FAR: &str = "198.51.100.7";

fn check(policies: &str, asked: &[(&str, &str, &str, bool)]) {
    let files = [
        File { name: "cluster.yaml", content: CLUSTER.as_bytes() },
        File { name: "policies.yaml", content: policies.as_bytes() },
    ];
    let imported = kubernetes::import(&files, Some(&"prod".parse().unwrap()));
    let wrong: Vec<_> = imported.diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let state = state(&imported.resources);
    for (from, to, service, said) in asked {
        let (protocol, port) = service.split_once('/').unwrap();
        let service = match protocol {
            "icmp" => Service::Icmp { protocol: 1, icmp_type: 8, code: 0 },
            _ => Service::Port { protocol: if protocol == "tcp" { 6 } else { 17 }, port: port.parse().unwrap() },
        };
        let is = allows(&state, from.parse().unwrap(), to.parse().unwrap(), service);
        assert_eq!(is, *said, "{from} to {to} {service:?} under {policies}");
    }
}

/// A policy of the namespace `store`.
fn policy(spec: &str) -> String {
    let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: store}\nspec:\n";
    format!("{head}{spec}")
}

#[test]
fn nobody_is_isolated_whom_no_policy_selects() {
    check("", &[(FRONT, DATA, "tcp/5432", true), (FAR, LEDGER, "udp/53", true), (LEDGER, FAR, "icmp/", true)]);
}

#[test]
fn deny_all() {
    let within = "  podSelector: {}\n";
    let ingress = [(LEDGER, FRONT, "tcp/80", false), (FRONT, DATA, "tcp/80", false), (FRONT, LEDGER, "tcp/80", true)];
    let egress = [(LEDGER, FRONT, "tcp/80", true), (FRONT, DATA, "tcp/80", false), (FRONT, FAR, "udp/53", false)];
    check(&policy(&format!("{within}  policyTypes: [Ingress]\n")), &ingress);
    // The default of `policyTypes`, and of `podSelector`.
    check(&policy(within), &ingress);
    check(&policy("  ingress: []\n"), &ingress);
    check(&policy("  ingress: null\n  egress: []\n"), &ingress);
    check(&policy(&format!("{within}  policyTypes: [Egress]\n")), &egress);
    let both = [(LEDGER, FRONT, "tcp/80", false), (FRONT, LEDGER, "tcp/80", false), (LEDGER, FAR, "tcp/80", true)];
    check(&policy(&format!("{within}  policyTypes: [Ingress, Egress]\n")), &both);
}

#[test]
fn allow_all() {
    let both = "  podSelector: {}\n  policyTypes: [Ingress, Egress]\n";
    let allow = [(LEDGER, FRONT, "tcp/80", true), (FAR, DATA, "icmp/", true), (FRONT, LEDGER, "tcp/80", false)];
    check(&policy(&format!("{both}  ingress: [{{}}]\n")), &allow);
    // Empty lists of peers and ports are as good as none, here and in no other kind.
    check(&policy(&format!("{both}  ingress: [{{from: [], ports: []}}]\n")), &allow);
    check(&policy(&format!("{both}  ingress: [{{from: null}}]\n")), &allow);
    let egress = [(LEDGER, FRONT, "tcp/80", false), (FRONT, LEDGER, "udp/9", true), (FRONT, FAR, "icmp/", true)];
    check(&policy(&format!("{both}  egress:\n  - {{}}\n")), &egress);
    // What is allowed stays so, whatever else selects the pod.
    let all = policy("  podSelector: {}\n  ingress: [{}]\n");
    let none = policy("  podSelector: {}\n").replace("name: p", "name: q");
    check(&format!("{all}\n---\n{none}"), &allow[..2]);
}

#[test]
fn peers_in_one_item_are_both_and_in_two_either() {
    let rule = "  podSelector: {matchLabels: {app: data}}\n  ingress:\n  - from:\n";
    let namespace = "    - namespaceSelector: {matchLabels: {team: finance}}\n";
    let both = format!("{rule}{namespace}      podSelector: {{matchLabels: {{app: front}}}}\n");
    check(&policy(&both), &[(FRONT, DATA, "tcp/1", false), (LEDGER, DATA, "tcp/1", false)]);
    let either = format!("{rule}{namespace}    - podSelector: {{matchLabels: {{app: front}}}}\n");
    check(
        &policy(&either),
        &[(FRONT, DATA, "tcp/1", true), (LEDGER, DATA, "tcp/1", true), (FAR, DATA, "tcp/1", false)],
    );
    // A pod selector alone stays in the policy's namespace; a namespace selector alone takes all pods, and only pods.
    let own = format!("{rule}    - podSelector: {{}}\n");
    check(&policy(&own), &[(FRONT, DATA, "tcp/1", true), (LEDGER, DATA, "tcp/1", false)]);
    let all = format!("{rule}    - namespaceSelector: {{}}\n");
    check(
        &policy(&all),
        &[
            (FRONT, DATA, "tcp/1", true),
            (LEDGER, DATA, "tcp/1", true),
            (FAR, DATA, "tcp/1", false),
            ("10.0.0.200", DATA, "tcp/1", false),
        ],
    );
    let named = "    - namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [bank, x]}]}";
    check(&policy(&format!("{rule}{named}\n")), &[(FRONT, DATA, "tcp/1", false), (LEDGER, DATA, "tcp/1", true)]);
}

#[test]
fn addresses_with_exceptions() {
    let rule = "  podSelector: {matchLabels: {app: front}}\n  policyTypes: [Egress]\n  egress:\n";
    let to =
        "  - to: [{ipBlock: {cidr: 192.0.0.0/8, except: [192.0.2.0/25]}}]\n    ports: [{port: 53, protocol: UDP}]\n";
    check(
        &policy(&format!("{rule}{to}")),
        &[
            (FRONT, "192.0.2.200", "udp/53", true),
            (FRONT, NEAR, "udp/53", false),
            (FRONT, "192.0.2.200", "tcp/53", false),
            (FRONT, FAR, "udp/53", false),
        ],
    );
    // An address matches whether or not a pod has it.
    let pods = "  - to: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.3/32]}}]\n";
    check(&policy(&format!("{rule}{pods}")), &[(FRONT, DATA, "tcp/1", true), (FRONT, LEDGER, "tcp/1", false)]);
}

#[test]
fn ports_by_number_range_and_name() {
    let rule = "  podSelector: {}\n  ingress:\n  - ports:\n";
    check(
        &policy(&format!("{rule}    - {{port: 5432}}\n    - {{protocol: UDP}}\n")),
        &[
            (LEDGER, DATA, "tcp/5432", true),
            (LEDGER, DATA, "tcp/5433", false),
            (LEDGER, DATA, "udp/5433", true),
            (LEDGER, DATA, "icmp/", false),
        ],
    );
    check(
        &policy(&format!("{rule}    - {{protocol: TCP, port: 32000, endPort: 32768}}\n")),
        &[
            (LEDGER, DATA, "tcp/31999", false),
            (LEDGER, DATA, "tcp/32000", true),
            (LEDGER, DATA, "tcp/32768", true),
            (LEDGER, DATA, "tcp/32769", false),
        ],
    );
    // A name is another port at every pod, and none at a pod that does not have it.
    check(
        &policy(&format!("{rule}    - {{port: sql}}\n")),
        &[(LEDGER, DATA, "tcp/5432", true), (LEDGER, FRONT, "tcp/5432", false), (LEDGER, FRONT, "tcp/8080", false)],
    );
    check(&policy(&format!("{rule}    - {{port: sql, protocol: UDP}}\n")), &[(LEDGER, DATA, "udp/5432", false)]);
}

#[test]
fn who_is_told_apart_by_expressions() {
    let rule = "  podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [front]}]}\n  ingress:\n";
    let from = "  - from: [{podSelector: {matchExpressions: [{key: app, operator: Exists}]}}]\n";
    check(
        &policy(&format!("{rule}{from}")),
        &[(LEDGER, FRONT, "tcp/1", true), (FRONT, DATA, "tcp/1", true), (LEDGER, DATA, "tcp/1", false)],
    );
}

#[test]
fn admin_comes_before_and_baseline_after() {
    let cluster = |kind: &str, name: &str, rest: &str| {
        format!(
            "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  \
             subject: {{namespaces: {{matchLabels: {{team: retail}}}}}}\n{rest}---\n"
        )
    };
    let finance = "    from: [{namespaces: {matchLabels: {team: finance}}}]\n";
    let rule = |action: &str, port: u16| {
        format!("  - action: {action}\n{finance}    ports: [{{portNumber: {{protocol: TCP, port: {port}}}}}]\n")
    };
    let admin = format!("  priority: 5\n  ingress:\n{}{}{}", rule("Allow", 1), rule("Deny", 2), rule("Pass", 3));
    let later = format!("  priority: 6\n  ingress:\n{}{}", rule("Deny", 3), rule("Deny", 4));
    let last = format!("  ingress:\n{}{}", rule("Allow", 5), rule("Deny", 6));
    let all = cluster("AdminNetworkPolicy", "a", &admin)
        + &cluster("AdminNetworkPolicy", "b", &later)
        + &cluster("BaselineAdminNetworkPolicy", "default", &last);
    let front = |said: [bool; 7]| {
        let ports = ["tcp/1", "tcp/2", "tcp/3", "tcp/4", "tcp/5", "tcp/6", "tcp/7"];
        ports.into_iter().zip(said).map(|(port, said)| (LEDGER, FRONT, port, said)).collect::<Vec<_>>()
    };
    check(&all, &front([true, false, true, false, true, false, true]));
    // Where a NetworkPolicy isolates, nothing gets to the baseline.
    let isolating = policy("  podSelector: {matchLabels: {app: front}}\n  ingress: [{ports: [{port: 6}]}]\n");
    check(&(all + &isolating), &front([true, false, false, false, false, true, false]));
}
