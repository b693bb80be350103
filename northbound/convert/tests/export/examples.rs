//! What an export looks like, and what it tells.

use bulkhead_convert::export;
use bulkhead_types::{Severity, load};
use serde_json::{Value, json};

fn exported(documents: &[Value], home: Option<&str>) -> (Vec<Value>, Vec<String>) {
    let resources = documents.iter().map(|document| load(&document.to_string()).unwrap());
    let exported = export::network_policies(resources, &"shop".parse().unwrap(), home);
    let said = exported.diagnostics.iter().map(|found| {
        let severity = if found.severity == Severity::Error { "error" } else { "warning" };
        format!("{severity} {} {}: {}", found.resource.as_deref().unwrap_or_default(), found.path, found.message)
    });
    (exported.documents, said.collect())
}

fn fabric() -> Vec<Value> {
    vec![
        json!({"kind": "Network", "metadata": {"name": "prod"}, "spec": {"vni": 7, "subnets": ["10.0.0.0/24"]}}),
        json!({"kind": "Zone", "metadata": {"name": "shop"}, "spec": {"network": "prod", "selector": {"matchLabels": {"app": "shop"}},
            "isolate": ["ingress", "egress"]}}),
        json!({"kind": "AddressSet", "metadata": {"name": "corp"}, "spec": {"cidrs": ["198.51.100.0/24"], "except": ["198.51.100.9/32"]}}),
        json!({"kind": "Workload", "metadata": {"name": "web", "labels": {"app": "shop", "tier": "web"}}, "spec": {"network": "prod",
            "interfaces": [{"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1"]}]}}),
    ]
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "Policy", "metadata": {"name": name}, "spec": spec})
}

#[test]
fn a_zone_with_policies_that_allow() {
    let mut all = fabric();
    all.push(policy(
        "web_in",
        json!({"subject": {"matchLabels": {"tier": "web"}}, "ingress": [{"action": "allow",
            "from": [{"matchLabels": {"tier": "lb"}}, {"addressSet": "corp"}],
            "ports": [{"protocol": "tcp", "port": 8080, "endPort": 8081}, {"port": "http"}]}]}),
    ));
    let (documents, said) = exported(&all, Some("store"));
    assert_eq!(
        documents,
        [
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "bulkhead-zone-shop", "namespace": "store"},
                "spec": {"podSelector": {"matchLabels": {"app": "shop"}}, "policyTypes": ["Ingress", "Egress"]}}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "web-in", "namespace": "store"},
                "spec": {"podSelector": {"matchLabels": {"app": "shop", "tier": "web"}}, "policyTypes": ["Ingress"], "ingress": [{
                    "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"tier": "lb"}}},
                        {"ipBlock": {"cidr": "198.51.100.0/24", "except": ["198.51.100.9/32"]}}],
                    "ports": [{"protocol": "TCP", "port": 8080, "endPort": 8081}, {"protocol": "TCP", "port": "http"},
                        {"protocol": "UDP", "port": "http"}, {"protocol": "SCTP", "port": "http"}]}]}}),
        ]
    );
    assert_eq!(
        said,
        ["warning Policy/web_in spec.ingress[0].from[1]: the addresses of corp are written as they are now"]
    );
    let (documents, said) = exported(&all, None);
    assert!(documents.is_empty(), "{documents:?}");
    assert_eq!(said, ["error Zone/shop : the workload web is in no namespace; name one for such workloads"]);
}

#[test]
fn what_cannot_be_said_is_told_by_name_and_is_never_wider() {
    let mut all = fabric();
    let web = json!({"matchLabels": {"tier": "web"}});
    all.push(policy(
        "guard",
        json!({"tier": "platform", "subject": web, "ingress": [
            {"action": "reject", "from": [{"cidr": "192.0.2.0/24"}]},
            {"action": "pass", "from": [{"external": true}], "ports": [{"protocol": "udp", "port": 53}]}]}),
    ));
    all.push(policy(
        "web",
        json!({"subject": web, "ingress": [
            {"action": "allow", "ports": [{"protocol": "tcp", "port": 80}]},
            {"action": "allow", "from": [{"cidr": "203.0.113.0/24"}, {"external": true}], "ports": [{"protocol": "tcp", "port": 81}]},
            {"action": "allow", "from": [{"cidr": "203.0.113.0/24"}], "ports": [{"protocol": "icmp"}, {"protocol": 47}]}]}),
    ));
    all.push(policy("soon", json!({"stage": "staged", "subject": {"zone": "shop"}, "ingress": [{"action": "allow"}]})));
    all.push(policy(
        "last",
        json!({"tier": "baseline", "subject": {"zone": "shop"}, "ingress": [
        {"action": "allow", "from": [{"cidr": "203.0.113.0/24"}]}]}),
    ));
    let (documents, said) = exported(&all, Some("store"));
    assert_eq!(
        said,
        [
            "warning Policy/soon spec.stage: a staged policy cannot be said: it is left out",
            "warning Policy/guard spec.ingress[0]: a rule that says reject cannot be said",
            "warning Policy/guard spec.ingress[1]: a rule that says pass cannot be said",
            "warning Policy/web spec.ingress[0]: spec.ingress[0] of guard may come before it: this rule is left out",
            "warning Policy/web spec.ingress[1]: spec.ingress[0] of guard may come before it: this rule is left out",
            "warning Policy/last spec.ingress[0]: whom web isolates it does not help: this rule is left out",
            "warning Policy/web spec.ingress[2].ports[0]: ICMP cannot be said: it is left out",
            "warning Policy/web spec.ingress[2].ports[1]: IP protocol 47 cannot be said: it is left out",
        ]
    );
    // No rule is left of it, so there is none: an empty one would be anyone and anything.
    assert_eq!(documents.len(), 2);
    assert_eq!(
        documents[1]["spec"],
        json!({"podSelector": {"matchLabels": {"app": "shop", "tier": "web"}}, "policyTypes": ["Ingress"]})
    );
}

#[test]
fn workloads_of_namespaces_and_others_are_kept_apart() {
    let mut all = fabric();
    let key = "namespace.kubernetes.io/metadata.name";
    all.push(json!({"kind": "Workload", "metadata": {"name": "bank.ledger", "labels": {key: "bank", "namespace/team": "finance"}},
        "spec": {"network": "prod", "interfaces": [{"mac": "02:00:00:00:00:02", "ips": ["10.0.0.2"]}]}}));
    let asked = |operator: &str| json!({"matchExpressions": [{"key": key, "operator": operator}]});
    let bank = json!({"matchLabels": {key: "bank"}});
    let both = json!({"matchLabels": {"namespace/team": "finance", "app": "ledger"}});
    all.push(policy(
        "web",
        json!({"subject": {"zone": "shop"}, "ingress": [
        {"action": "allow", "from": [asked("Exists"), asked("DoesNotExist"), bank, both]}]}),
    ));
    let (documents, said) = exported(&all, Some("store"));
    assert_eq!(said, Vec::<String>::new());
    let name = "kubernetes.io/metadata.name";
    assert_eq!(
        documents[1]["spec"]["ingress"][0]["from"],
        json!([
            // Whoever has a namespace's label is not in the one that was named, and the others are.
            {"namespaceSelector": {"matchExpressions": [{"key": name, "operator": "NotIn", "values": ["store"]}]}},
            {"podSelector": {}},
            {"namespaceSelector": {"matchLabels": {name: "bank"}}},
            {"namespaceSelector": {"matchLabels": {"team": "finance"}}, "podSelector": {"matchLabels": {"app": "ledger"}}},
        ])
    );
    // The name of a namespace that there is already would mix them up.
    let (documents, said) = exported(&all, Some("bank"));
    assert!(documents.is_empty() && said[0].contains("there are workloads of a namespace bank already"), "{said:?}");
}
