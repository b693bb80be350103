//! `bulkhead export`, against canned answers.

use crate::common;
use common::{Server, code, text};

const NETWORKS: &str = r#"{"revision":5,"items":[{"kind":"Network","metadata":{"name":"prod","resourceVersion":1},
    "spec":{"vni":7,"subnets":["10.0.0.0/24"]}}]}"#;
const NONE: &str = r#"{"revision":5,"items":[]}"#;
const WORKLOADS: &str = r#"{"revision":5,"items":[{"kind":"Workload","metadata":{"name":"web","labels":{"app":"shop"}},
    "spec":{"network":"prod","interfaces":[{"mac":"02:00:00:00:00:01","ips":["10.0.0.1"]}]}}]}"#;
const ZONES: &str = r#"{"revision":5,"items":[{"kind":"Zone","metadata":{"name":"shop"},
    "spec":{"network":"prod","selector":{"matchLabels":{"app":"shop"}},"isolate":["ingress"]}}]}"#;
const POLICIES: &str = r#"{"revision":5,"items":[{"kind":"Policy","metadata":{"name":"web"},"spec":{"subject":{"zone":"shop"},
    "ingress":[{"action":"allow","from":[{"external":true}]},
        {"action":"allow","from":[{"cidr":"192.0.2.0/24"}],"ports":[{"protocol":"tcp","port":443}]}]}}]}"#;

fn server(policies: &'static str) -> Server {
    Server::new(Box::leak(Box::new([
        ("GET /v1/networks", 200, NETWORKS),
        ("GET /v1/addresssets", 200, NONE),
        ("GET /v1/workloads", 200, WORKLOADS),
        ("GET /v1/zones", 200, ZONES),
        ("GET /v1/policies", 200, policies),
    ])))
}

#[test]
fn a_zones_policies_are_printed_and_what_they_cannot_say_is_told() {
    let output = server(POLICIES).run(&["export", "networkpolicy", "--zone", "shop", "--namespace", "store"], "");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: bulkhead-zone-shop
  namespace: store
spec:
  podSelector:
    matchLabels:
      app: shop
  policyTypes:
  - Ingress
  - Egress
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: store
spec:
  ingress:
  - from:
    - ipBlock:
        cidr: 192.0.2.0/24
    ports:
    - port: 443
      protocol: TCP
  podSelector:
    matchLabels:
      app: shop
  policyTypes:
  - Ingress
"
    );
    assert_eq!(
        text(&output.stderr),
        "warning: Policy/web: spec.ingress[0].from[0]: addresses of no workload cannot be said: this peer is left out\n  \
         hint: name them as CIDRs\n"
    );
}

#[test]
fn what_would_be_wider_is_not_exported() {
    let output = server(POLICIES).run(&["export", "netpol", "--zone", "shop"], "");
    assert_eq!((code(&output), text(&output.stdout)), (1, ""));
    let said = text(&output.stderr);
    assert!(said.contains("the workload web is in no namespace") && said.contains("--namespace NAME"), "{said}");
    let output = server(POLICIES).run(&["export", "netpol", "--zone", "shap", "--namespace", "store"], "");
    assert!(code(&output) == 1 && text(&output.stderr).contains("there is no zone shap"), "{}", text(&output.stderr));
    for args in [
        &["export", "netpol"][..],
        &["export", "netpol", "--zone", "A"],
        &["export", "netpol", "--zone", "a", "--namespace", "A"],
    ] {
        assert_eq!(code(&server(POLICIES).run(args, "")), 2, "{args:?}");
    }
}

#[test]
fn a_fabric_that_changes_meanwhile_is_read_again_and_given_up_at_last() {
    let server = server(r#"{"revision":6,"items":[]}"#);
    let output = server.run(&["export", "netpol", "--zone", "shop", "--namespace", "store"], "");
    assert!(code(&output) == 1 && text(&output.stderr).contains("try again"), "{}", text(&output.stderr));
    assert_eq!(server.asked.lock().unwrap().len(), 25);
}
