//! What cannot be imported, is narrowed, or is hostile, and what is said of it.

use bulkhead_convert::{File, MAX_FINDINGS, kubernetes};
use bulkhead_policy::Resource;
use bulkhead_types::Severity;

fn import(text: &str) -> (Vec<Resource>, Vec<String>) {
    let imported = kubernetes::import(&[File { name: "f", content: text.as_bytes() }], Some(&"prod".parse().unwrap()));
    let wrong = imported.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert!(!wrong || imported.resources.is_empty(), "after an error nothing may be used");
    let said = imported.diagnostics.iter().map(|found| {
        let severity = if found.severity == Severity::Error { "error" } else { "warning" };
        let place = found.line.map(|line| format!("{line}:")).unwrap_or_default();
        let object = found.resource.as_deref().unwrap_or_default();
        format!("{severity} {place} {object} {}: {}", found.path, found.message)
    });
    (imported.resources, said.collect())
}

const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: store}\n";
const ADMIN: &str = "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\n";
const CLUSTER: &str =
    "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: a}\n";
const SPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: store}\n---\n";
const POD: &str = "apiVersion: v1\nkind: Pod\n";

#[test]
fn what_is_refused_says_where_and_why() {
    let np = |spec: &str| format!("{POLICY}spec: {{{spec}}}\n");
    let rule = |rule: &str| np(&format!("podSelector: {{}}, ingress: [{{{rule}}}]"));
    let admin = |rule: &str| format!("{ADMIN}spec: {{priority: 1, subject: {{namespaces: {{}}}}, {rule}}}\n");
    let pod = |rest: &str| format!("{SPACE}{POD}{rest}");
    for (text, expected) in [
        (POLICY.to_string(), "error 1: NetworkPolicy/store/p : `spec` is missing"),
        (np("podselector: {}"), "error 4: NetworkPolicy/store/p spec.podselector: `podselector` is not known here"),
        (rule("from: [{}]"), "error 4: NetworkPolicy/store/p spec.ingress[0].from[0]: a peer that says nothing"),
        (rule("from: [null]"), "error 4: NetworkPolicy/store/p spec.ingress[0].from[0]: a map is expected here"),
        (rule("from: {}"), "error 4: NetworkPolicy/store/p spec.ingress[0].from: a list is expected here"),
        (
            rule("from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].from[0]: an ipBlock together with a selector",
        ),
        (
            rule("from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].from[0].ipBlock.except[0]: 10.0.0.0/8 is not a part of 10.0.0.0/8",
        ),
        (
            rule("from: [{ipBlock: {cidr: 10.0.0.1/8}}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].from[0].ipBlock.cidr: `10.0.0.1/8` is no CIDR",
        ),
        (
            rule("ports: [{port: '80'}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].ports[0].port: `80` cannot be the name of a port",
        ),
        (
            rule("ports: [{port: 80, endPort: 79}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].ports[0].endPort: the range 80-79 ends before it begins",
        ),
        (
            rule("ports: [{port: 65536}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].ports[0].port: a number from 1 to 65535 is expected here",
        ),
        (
            rule("ports: [{endPort: 80}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].ports[0].endPort: `endPort` without `port`",
        ),
        (
            rule("ports: [{protocol: tcp}]"),
            "error 4: NetworkPolicy/store/p spec.ingress[0].ports[0].protocol: `tcp` is not a protocol",
        ),
        (
            np("podSelector: {matchExpressions: [{key: a, operator: In, values: []}]}"),
            "error 4: NetworkPolicy/store/p spec.podSelector.matchExpressions[0]: an operator whose values do not fit it",
        ),
        (
            np("podSelector: {matchLabels: {namespace.kubernetes.io/metadata.name: bank}}"),
            "error 4: NetworkPolicy/store/p spec.podSelector.matchLabels.namespace.kubernetes.io/metadata.name: \
             `namespace.kubernetes.io/metadata.name` is a pod's label that would be taken for its namespace's",
        ),
        (
            np("policyTypes: [ingress]"),
            "error 4: NetworkPolicy/store/p spec.policyTypes[0]: a policy type is Ingress or Egress",
        ),
        (
            POLICY.replace("/v1", "/v2") + "spec: {}\n",
            "error 1: NetworkPolicy/store/p : NetworkPolicy of networking.k8s.io/v2 is not known",
        ),
        (POLICY.replace("store", "a.b") + "spec: {}\n", "error 1: NetworkPolicy/a.b/p : `a.b` is no namespace's name"),
        (
            admin("egress: [{action: Deny, to: [{nodes: {}}]}]"),
            "error 4: AdminNetworkPolicy/a spec.egress[0].to[0].nodes: nodes are no workloads: this peer cannot be said",
        ),
        (
            admin("egress: [{action: Pass, to: [{domainNames: [a.example]}]}]"),
            "error 4: AdminNetworkPolicy/a spec.egress[0].to[0].domainNames: names are not addresses: this peer cannot be said",
        ),
        (
            admin("egress: [{action: Deny, to: []}]"),
            "error 4: AdminNetworkPolicy/a spec.egress[0].to: an empty list of peers",
        ),
        (
            admin("ingress: [{action: Deny, from: [{namespaces: {}, pods: {}}]}]"),
            "error 4: AdminNetworkPolicy/a spec.ingress[0].from[0]: exactly one of namespaces, pods is expected here",
        ),
        (
            admin("ingress: [{action: Accept, from: [{namespaces: {}}]}]"),
            "error 4: AdminNetworkPolicy/a spec.ingress[0].action: `Accept` is no action of this kind",
        ),
        (
            format!("{CLUSTER}spec: {{tier: Admin, priority: 1001, subject: {{namespaces: {{}}}}}}\n"),
            "error 4: ClusterNetworkPolicy/a spec.priority: a number from 0 to 1000 is expected here",
        ),
        (
            pod("metadata: {name: a, namespace: store, labels: {namespace/team: x}}\nstatus: {podIP: 10.0.0.1}\n"),
            "error 7: Pod/store/a metadata.labels.namespace/team: `namespace/team` is a pod's label that would be taken for its \
             namespace's",
        ),
        (
            pod("metadata: {name: a, namespace: store, labels: {bulkhead.io/x: x}}\nstatus: {podIP: 10.0.0.1}\n"),
            "error 5: Pod/store/a : the label `bulkhead.io/x` is Bulkhead's own",
        ),
        (
            pod("metadata: {name: a, namespace: bank}\nstatus: {podIP: 10.0.0.1}\n"),
            "error 5: Pod/bank/a : there is no namespace `bank` in these files, so its labels are not known",
        ),
        (
            pod("metadata: {name: a, namespace: store}\nstatus: {podIP: 10.0.0.01}\n"),
            "error 8: Pod/store/a status.podIP: `10.0.0.01` is no pod's address",
        ),
        (
            SPACE.replace("store}", "store, labels: {kubernetes.io/metadata.name: bank}}"),
            "error 3: Namespace/store metadata: the label `kubernetes.io/metadata.name` is another namespace's name",
        ),
        (
            format!("{POLICY}spec: {{}}\n---\n{POLICY}spec: {{}}\n"),
            "error 6: NetworkPolicy/store/p : this object is there twice",
        ),
        ("kind: Pod\n".into(), "error 1: Pod/ : an object has `apiVersion` and `kind`"),
        ("- &a [x]\n- *a\n".into(), "error 1:  : anchors (`&name`) are refused"),
    ] {
        let (_, said) = import(&text);
        assert!(said.iter().any(|said| said == expected), "{text}\nexpected {expected}\nsaid {said:#?}");
    }
}

#[test]
fn what_is_left_out_is_told_and_narrows() {
    let text = format!(
        "{ADMIN}spec: {{priority: 1, subject: {{namespaces: {{}}}}, egress: [{{action: Allow, to: [{{nodes: {{}}}}]}}]}}\n"
    );
    let (resources, said) = import(&text);
    assert_eq!(
        said,
        ["warning 4: AdminNetworkPolicy/a spec.egress[0].to[0].nodes: nodes are no workloads: this peer is left out"]
    );
    let policy = resources.iter().find_map(|resource| match resource {
        Resource::Policy(policy) if policy.name.as_str() == "anp_a" => Some(policy),
        _ => None,
    });
    assert_eq!(policy.unwrap().egress[0].peers, Some(vec![]), "not `None`, which is anyone");
    let pods = "metadata: {name: a, namespace: store}\nspec: {hostNetwork: true}\nstatus: {podIP: 10.0.0.1}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: store}\nstatus: {phase: Succeeded, podIP: 10.0.0.1}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: c, namespace: store}\nstatus: {phase: Pending}\n---\n\
                apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d, namespace: store}\n";
    let (resources, said) = import(&format!("{SPACE}{POD}{pods}"));
    assert_eq!(resources.len(), 1, "kubernetes-default");
    assert_eq!(said.len(), 4, "{said:#?}");
}

#[test]
fn a_denial_that_hangs_on_a_name_with_two_ports_is_refused() {
    let pod = "metadata: {name: a, namespace: store}\nspec: {containers: [{ports: [{name: http, containerPort: 80}]}, \
               {ports: [{name: http, containerPort: 81}]}]}\nstatus: {podIP: 10.0.0.1}\n---\n";
    let rule = |action: &str| {
        format!(
            "{SPACE}{POD}{pod}{ADMIN}spec: {{priority: 1, subject: {{namespaces: {{}}}}, ingress: [{{action: {action}, \
             from: [{{namespaces: {{}}}}], ports: [{{namedPort: http}}]}}]}}\n"
        )
    };
    assert_eq!(import(&rule("Allow")).0.len(), 3);
    let (resources, said) = import(&rule("Deny"));
    assert!(resources.is_empty() && said.iter().any(|said| said.contains("is two ports of Pod/store/a")), "{said:?}");
}

#[test]
fn a_pods_mac_address_is_what_its_network_plugin_says() {
    let mac = |annotation: &str| {
        let text = format!(
            "{SPACE}{POD}metadata: {{name: a, namespace: store, annotations: {{k8s.v1.cni.cncf.io/network-status: '{annotation}'}}}}\n\
             status: {{podIP: 10.0.0.1}}\n"
        );
        let (resources, said) = import(&text);
        let mac = resources.iter().find_map(|resource| match resource {
            Resource::Workload(workload) => Some(workload.interfaces[0].mac.to_string()),
            _ => None,
        });
        (mac.unwrap(), said.len())
    };
    let said = r#"[{"name":"x","ips":["10.9.9.9"],"mac":"02:00:00:00:00:09"},{"name":"y","ips":["10.0.0.1"],"mac":"02:00:00:00:00:01"}]"#;
    assert_eq!(mac(said), ("02:00:00:00:00:01".into(), 0));
    for other in ["", "[", "{}", "[1]", r#"[{"ips":"x"}]"#] {
        assert_eq!(mac(other), ("0a:58:0a:00:00:01".into(), 1), "{other}");
    }
}

#[test]
fn hostile_inputs_are_bounded() {
    // A thousand times a thousand rules in a few bytes: no aliases.
    let bomb: String = (0..20).map(|i| format!("a{i}: &a{i} [{}]\n", format!("*a{},", i + 1).repeat(10))).collect();
    assert!(import(&bomb).0.is_empty());
    for deep in ["[".repeat(1 << 20), "{\"a\":".repeat(1 << 20), "- ".repeat(1 << 20), "{a: ".repeat(1 << 16)] {
        let (resources, said) = import(&deep);
        assert!(resources.is_empty() && said.len() == 1, "{said:?}");
    }
    // A mistake in each of a million rules: the first ones are told, the others counted.
    let rules = r#"{"x":1},"#.repeat(1_000_000);
    let text = format!(
        r#"{{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{{"name":"p"}},"spec":{{"ingress":[{}]}}}}"#,
        rules.trim_end_matches(',')
    );
    let (resources, said) = import(&text);
    assert!(resources.is_empty() && said.len() == MAX_FINDINGS + 1, "{}", said.len());
    assert_eq!(said.last().unwrap(), &format!("error   : and {} more findings", 1_000_000 - MAX_FINDINGS));
    // And the same without a mistake is too much for one input, or it is all there.
    let (resources, said) = import(&text.replace(r#"{"x":1}"#, "{}"));
    assert!(resources.len() == 2 && said.is_empty(), "{said:?}");
    let (resources, said) = import(&"x".repeat((32 << 20) + 1));
    assert!(resources.is_empty() && said[0].contains("33554433 bytes"), "{said:?}");
}
