//! Who may do what, as a table: ways around a scope are rows of it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_access::{Grant, Principal, Refusal, Verb, may};
use bulkhead_policy::{Change, Key, Resource, State};
use bulkhead_types::{Format, read};

/// Two applications, the platform's guards, and a zone of each sort.
const FABRIC: &str = r#"
kind: Network
metadata: {name: prod}
spec: {vni: 5001, subnets: [10.1.0.0/16]}
---
kind: Network
metadata: {name: lab}
spec: {vni: 5002, subnets: [10.1.0.0/16]}
---
kind: Switch
metadata: {name: hv1}
spec: {driver: sim}
---
kind: AddressSet
metadata: {name: offices}
spec: {cidrs: [198.51.100.0/24]}
---
kind: AddressSet
metadata: {name: partners}
spec: {cidrs: [203.0.113.0/24]}
---
kind: Workload
metadata: {name: shop-1, labels: {app: shop, tier: web}}
spec: {network: prod, interfaces: [{mac: "02:00:00:00:00:01", ips: [10.1.0.11]}], namedPorts: {http: 8080/tcp, own: 9/tcp}}
---
kind: Workload
metadata: {name: shop-bad, labels: {app: shop, tier: web, quarantine: "true"}}
spec: {network: prod, interfaces: [{mac: "02:00:00:00:00:02", ips: [10.1.0.12]}]}
---
kind: Workload
metadata: {name: pay-1, labels: {app: pay, tier: db}}
spec: {network: prod, interfaces: [{mac: "02:00:00:00:00:03", ips: [10.1.0.21]}]}
---
kind: Workload
metadata: {name: shop-lab, labels: {app: shop, tier: web}}
spec: {network: lab, interfaces: [{mac: "02:00:00:00:00:01", ips: [10.1.0.11]}]}
---
kind: Zone
metadata: {name: shop}
spec: {network: prod, selector: {matchLabels: {app: shop}}, isolate: [ingress]}
---
kind: Zone
metadata: {name: shop-web}
spec: {network: prod, selector: {matchLabels: {app: shop, tier: web}}}
---
kind: Zone
metadata: {name: trial}
spec: {network: prod, selector: {matchLabels: {trial: "true"}}, mode: monitor}
---
kind: Policy
metadata: {name: shop-own}
spec:
  subject: {matchLabels: {app: shop}}
  ingress: [{action: allow, from: [{addressSet: offices}], ports: [{port: own}]}]
---
kind: Policy
metadata: {name: pay-lets-in}
spec:
  subject: {matchLabels: {app: pay}}
  ingress:
  - {action: allow, from: [{matchLabels: {role: auditor}}]}
  - {action: allow, from: [{matchLabels: {app: shop, tier: cart}}]}
  - {action: allow, from: [{zone: shop-web}]}
  egress: [{action: allow, to: [{matchLabels: {app: shop}}], ports: [{port: http}]}]
---
kind: Policy
metadata: {name: guard}
spec:
  tier: platform
  subject: {matchLabels: {app: shop, quarantine: "true"}}
  ingress: [{action: deny}]
  egress: [{action: deny, to: [{addressSet: partners}]}]
---
kind: Policy
metadata: {name: monitoring}
spec:
  tier: platform
  subject: {matchExpressions: [{key: app, operator: Exists}]}
  ingress: [{action: allow, from: [{matchLabels: {app: shop, probe: "true"}}]}]
"#;

fn documents(text: &str) -> Vec<Resource> {
    let parsed = read(None, text.as_bytes(), Format::Any);
    assert!(!parsed.has_errors(), "{:?} in {text}", parsed.diagnostics);
    parsed.documents.into_iter().map(|document| document.resource).collect()
}

fn fabric() -> State {
    let changes: Vec<Change> = documents(FABRIC).into_iter().map(Change::set).collect();
    let mut state = State::default();
    let errors: Vec<_> =
        state.check(&changes).into_iter().filter(|d| d.severity == bulkhead_policy::Severity::Error).collect();
    assert_eq!(errors, []);
    state.apply(&changes);
    state
}

fn principal(grants: &[&str]) -> Principal {
    let grants = grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect();
    Principal { name: "somebody".into(), grants }
}

/// What comes of giving one resource this document; `-KIND/NAME` removes it.
fn change(state: &State, grants: &[&str], document: &str) -> Result<(), Refusal> {
    let of = |key: &Key| state.get(key);
    let (before, after) = match document.strip_prefix('-') {
        Some(name) => (state.resources().find(|resource| resource.key().to_string() == name), None),
        None => {
            let [after] = <[Resource; 1]>::try_from(documents(document)).unwrap();
            (of(&after.key()), Some(after))
        }
    };
    may(&principal(grants), Verb::Change, before.as_ref(), after.as_ref(), state)
}

const SHOP: &str = "editor@app=shop";
const SHOP_OPERATOR: &str = "operator@app=shop";
const SHOP_ZONE: &str = "editor@zone:shop";

fn policy(tier: &str, subject: &str) -> String {
    format!(
        "{{kind: Policy, metadata: {{name: new}}, spec: {{tier: {tier}, subject: {subject}, ingress: [{{action: allow}}]}}}}"
    )
}

fn shop_1(labels: &str, rest: &str) -> String {
    let interface = r#"{mac: "02:00:00:00:00:01", ips: [10.1.0.11]}"#;
    let spec = if rest.is_empty() { "namedPorts: {http: 8080/tcp, own: 9/tcp}" } else { rest };
    let interfaces = if spec.contains("interfaces") { String::new() } else { format!("interfaces: [{interface}],") };
    let network = if spec.contains("network:") { "" } else { "network: prod," };
    format!(
        "{{kind: Workload, metadata: {{name: shop-1, labels: {{{labels}}}}}, spec: {{{network} {interfaces} {spec}}}}}"
    )
}

fn workload(name: &str, labels: &str) -> String {
    format!(
        r#"{{kind: Workload, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{network: prod, interfaces: [{{mac: "02:00:00:00:00:0f", ips: [10.1.0.99]}}]}}}}"#
    )
}

fn zone(name: &str, selector: &str, rest: &str) -> String {
    format!("{{kind: Zone, metadata: {{name: {name}}}, spec: {{network: prod, selector: {selector}{rest}}}}}")
}

const PORTS: &str = "namedPorts: {http: 8080/tcp, own: 9/tcp}";

#[test]
fn changes() {
    let state = fabric();
    let shop = "{matchLabels: {app: shop}}";
    let pay = "{matchLabels: {app: pay}}";
    let offices = |cidr: &str| format!("{{kind: AddressSet, metadata: {{name: offices}}, spec: {{cidrs: [{cidr}]}}}}");
    let partners = "{kind: AddressSet, metadata: {name: partners}, spec: {cidrs: [192.0.2.0/24]}}".to_owned();
    let network =
        "{kind: Network, metadata: {name: prod}, spec: {vni: 5001, subnets: [10.1.0.0/16], defaultAction: allow}}";
    let switch = "{kind: Switch, metadata: {name: hv1}, spec: {driver: sim, role: leaf}}";
    // Expected: what the refusal's text contains; empty is a yes.
    let rows: Vec<(&str, String, &str)> = vec![
        // Roles without a scope.
        ("viewer", policy("application", shop), "editor"),
        ("vtep@hv1", policy("application", shop), "editor"),
        ("editor", policy("application", shop), ""),
        ("editor", policy("baseline", "{matchLabels: {}}"), ""),
        ("editor", policy("platform", shop), "tier platform"),
        ("editor", policy("emergency", shop), "tier emergency"),
        ("editor", workload("new", "app: shop"), ""),
        ("editor", "-Workload/pay-1".into(), ""),
        ("editor", "-Policy/guard".into(), "tier platform"),
        ("editor", "-Policy/pay-lets-in".into(), ""),
        ("editor", zone("new", shop, ""), "operator"),
        ("editor", zone("trial", "{matchLabels: {}}", ", mode: monitor"), "operator"),
        ("editor", "-Zone/shop".into(), "operator"),
        ("editor", network.into(), "operator"),
        ("editor", switch.into(), "operator"),
        ("editor", offices("192.0.2.0/24"), ""),
        ("editor", partners.clone(), "Policy/guard"),
        ("editor", "-AddressSet/partners".into(), "Policy/guard"),
        ("operator", policy("emergency", "{matchLabels: {}}"), ""),
        ("operator", zone("trial", "{matchLabels: {}}", ", mode: monitor"), ""),
        ("operator", network.into(), ""),
        ("operator", switch.into(), ""),
        ("operator", partners.clone(), ""),
        ("admin", policy("emergency", "{matchLabels: {}}"), ""),
        // A scope: policies.
        (SHOP, policy("application", shop), ""),
        (SHOP, policy("application", "{matchLabels: {app: shop, tier: web}}"), ""),
        (SHOP, policy("application", "{zone: shop-web}"), ""),
        (SHOP, policy("application", pay), "would be outside"),
        (SHOP, policy("application", "{matchLabels: {}}"), "would be outside"),
        (SHOP, policy("application", "{zone: trial}"), "would be outside"),
        (SHOP, policy("application", "{zone: nobody}"), "would be outside"),
        (SHOP, policy("application", "{matchLabels: {tier: web}}"), "would be outside"),
        (SHOP, policy("application", "{matchExpressions: [{key: app, operator: Exists}]}"), "would be outside"),
        (
            SHOP,
            policy("application", "{matchExpressions: [{key: app, operator: In, values: [shop, pay]}]}"),
            "would be outside",
        ),
        (
            SHOP,
            policy("application", "{matchExpressions: [{key: app, operator: NotIn, values: [pay]}]}"),
            "would be outside",
        ),
        (SHOP, policy("platform", shop), "tier platform"),
        (SHOP, "-Policy/shop-own".into(), ""),
        (SHOP, "-Policy/pay-lets-in".into(), "is outside"),
        (SHOP, "-Policy/guard".into(), "tier platform"),
        (SHOP, "-Policy/never".into(), ""),
        // Somebody else's policy is not made one's own by writing over it.
        (SHOP, policy("application", shop).replace("new", "pay-lets-in"), "is outside"),
        (SHOP, policy("application", shop).replace("new", "guard"), "tier platform"),
        // A scope: labels that bring a workload into it, or out of it.
        (SHOP, shop_1("app: pay, tier: web", ""), "would be outside"),
        (SHOP, shop_1("tier: web", ""), "would be outside"),
        (SHOP, workload("pay-1", "app: shop, tier: db"), "is outside"),
        // Labels by which others trust, guard or watch.
        (SHOP, shop_1("app: shop, tier: web, note: x", ""), ""),
        (SHOP, shop_1("app: shop, tier: web, role: auditor", ""), "bring it into Policy/pay-lets-in"),
        (SHOP, shop_1("app: shop, tier: web, probe: 'true'", ""), "bring it into Policy/monitoring"),
        (SHOP, shop_1("app: shop, tier: web, trial: 'true'", ""), "bring it into Zone/trial"),
        (SHOP, shop_1("app: shop, tier: db", ""), "take it out of Zone/shop-web"),
        (SHOP, shop_1("app: shop, tier: web, quarantine: 'true'", ""), "bring it into Policy/guard"),
        (
            SHOP,
            workload("shop-bad", "app: shop, tier: web").replace("0f", "02").replace("99", "12"),
            "take it out of Policy/guard",
        ),
        (SHOP, "-Workload/shop-bad".into(), "inventory"),
        (SHOP, workload("new", "app: shop"), "inventory"),
        // Places and addresses.
        (
            SHOP,
            shop_1(
                "app: shop, tier: web",
                &format!(r#"interfaces: [{{mac: "02:00:00:00:00:01", ips: [10.1.0.22]}}], {PORTS}"#),
            ),
            "inventory",
        ),
        (
            SHOP,
            shop_1(
                "app: shop, tier: web",
                &format!(
                    r#"interfaces: [{{mac: "02:00:00:00:00:01", ips: [10.1.0.11], attachment: {{switch: hv1, port: "1"}}}}], {PORTS}"#
                ),
            ),
            "inventory",
        ),
        (SHOP, shop_1("app: shop, tier: web", &format!("network: lab, {PORTS}")), "inventory"),
        // Named ports.
        (SHOP, shop_1("app: shop, tier: web", "namedPorts: {http: 8080/tcp, own: 10/tcp, more: 11/tcp}"), ""),
        (
            SHOP,
            shop_1("app: shop, tier: web", "namedPorts: {http: 22/tcp, own: 9/tcp}"),
            "`http` is named by Policy/pay-lets-in",
        ),
        (SHOP, shop_1("app: shop, tier: web", "namedPorts: {own: 9/tcp}"), "`http` is named by Policy/pay-lets-in"),
        // What others write their rules with.
        (SHOP, zone("shop-web", "{matchLabels: {}}", ""), "operator"),
        (SHOP, zone("shop", shop, ", mode: monitor"), "operator"),
        (SHOP, offices("0.0.0.0/0"), "without a scope"),
        (SHOP, partners, "without a scope"),
        (SHOP, network.into(), "without a scope"),
        (SHOP, switch.into(), "without a scope"),
        // A scope that is a zone is in one network.
        (SHOP_ZONE, policy("application", "{zone: shop}"), ""),
        (SHOP_ZONE, policy("application", "{zone: shop-web}"), ""),
        (SHOP_ZONE, policy("application", shop), "would be outside"),
        (SHOP_ZONE, shop_1("app: shop, tier: web, note: x", ""), ""),
        (SHOP_ZONE, "-Workload/shop-lab".into(), "is outside"),
        (SHOP_ZONE, zone("shop", "{matchLabels: {}}", ""), "operator"),
        ("editor@zone:nobody", policy("application", shop), "would be outside"),
        ("editor@zone:nobody", shop_1("app: shop, tier: web, note: x", ""), "is outside"),
        // An operator within a scope.
        (SHOP_OPERATOR, policy("emergency", shop), ""),
        (SHOP_OPERATOR, policy("emergency", "{matchLabels: {}}"), "would be outside"),
        (SHOP_OPERATOR, "-Policy/guard".into(), ""),
        (SHOP_OPERATOR, "-Policy/monitoring".into(), "is outside"),
        (SHOP_OPERATOR, zone("shop", shop, ", isolate: [ingress], mode: monitor"), ""),
        (SHOP_OPERATOR, zone("shop-web", "{matchLabels: {app: shop}}", ""), "used by Policy/pay-lets-in"),
        (SHOP_OPERATOR, zone("new", "{matchLabels: {app: shop, tier: db}}", ""), ""),
        (SHOP_OPERATOR, zone("new", "{matchLabels: {}}", ""), "would be outside"),
        (SHOP_OPERATOR, zone("trial", shop, ""), "is outside"),
        (SHOP_OPERATOR, "-AddressSet/offices".into(), "without a scope"),
        (SHOP_OPERATOR, network.into(), "without a scope"),
        ("operator@zone:shop", zone("shop", "{matchLabels: {app: shop, tier: web}}", ""), "the scope itself"),
        ("operator@zone:shop", zone("shop", shop, ", mode: canary"), ""),
        ("operator@zone:shop", "-Zone/shop".into(), "the scope itself"),
    ];
    for (grant, document, expected) in rows {
        let found = change(&state, &[grant], &document);
        match &found {
            Ok(()) => assert!(expected.is_empty(), "{grant} may: {document}"),
            Err(refusal) => assert!(
                !expected.is_empty() && refusal.to_string().contains(expected),
                "{grant}: {document}: {refusal}"
            ),
        }
    }
}

#[test]
fn two_grants_are_not_one_wide_one() {
    let state = fabric();
    let both = [SHOP, "editor@app=pay"];
    assert_eq!(change(&state, &both, &policy("application", "{matchLabels: {app: pay}}")), Ok(()));
    // It would be handed from one to the other.
    assert!(change(&state, &both, &shop_1("app: pay, tier: web", "")).is_err());
    let subject = "{matchExpressions: [{key: app, operator: In, values: [shop, pay]}]}";
    assert!(change(&state, &both, &policy("application", subject)).is_err());
    assert!(change(&state, &[], &policy("application", subject)).is_err());
}

#[test]
fn other_verbs() {
    let state = fabric();
    let (hv1, hv2) = ("hv1".parse().unwrap(), "hv2".parse().unwrap());
    let verbs = [
        Verb::Read,
        Verb::Ask,
        Verb::Backup,
        Verb::Restore,
        Verb::Tokens,
        Verb::Audit,
        Verb::Vtep(&hv1),
        Verb::Vtep(&hv2),
    ];
    let rows = [
        ("vtep@hv1", "------y-"),
        ("viewer", "yy------"),
        ("viewer@app=shop", "y-------"),
        ("editor", "yy------"),
        (SHOP, "yy------"),
        ("operator", "yyy---yy"),
        (SHOP_OPERATOR, "yy------"),
        ("admin", "yyyyyyyy"),
    ];
    for (grant, expected) in rows {
        let who = principal(&[grant]);
        let found = verbs.map(|verb| if may(&who, verb, None, None, &state).is_ok() { 'y' } else { '-' });
        assert_eq!(found.iter().collect::<String>(), expected, "{grant}");
    }
}

#[test]
fn what_a_viewer_with_a_scope_sees() {
    let state = fabric();
    let sees = |grant: &str| {
        let who = principal(&[grant]);
        let seen = state.resources().filter(|resource| may(&who, Verb::Read, None, Some(resource), &state).is_ok());
        seen.map(|resource| resource.key().to_string()).collect::<Vec<_>>().join(" ")
    };
    let shared = "Network/lab Network/prod AddressSet/offices AddressSet/partners";
    assert_eq!(
        sees("viewer@app=shop"),
        format!(
            "{shared} Workload/shop-1 Workload/shop-bad Workload/shop-lab Zone/shop Zone/shop-web Policy/guard Policy/shop-own"
        )
    );
    assert_eq!(sees("viewer@zone:shop"), format!("{shared} Workload/shop-1 Workload/shop-bad Zone/shop Zone/shop-web"));
    assert_eq!(sees("viewer").split(' ').count(), state.resources().count());
    assert_eq!(sees("vtep@hv1"), "");
}

#[test]
fn what_bulkhead_finds_itself_is_nobodys_to_change() {
    let state = fabric();
    let host = bulkhead_policy::model::Host { name: "hv1".parse().unwrap(), underlay_mtu: None, plugged: Vec::new() };
    let host = Resource::Host(host.into());
    assert!(may(&principal(&["admin"]), Verb::Change, None, Some(&host), &state).is_err());
}

proptest::proptest! {
    /// Whatever an editor with a scope is let do to a workload's labels, nobody outside of the scope is reached, and no
    /// guard is escaped, that was not before.
    #[test]
    fn labels_never_bring_what_was_not_given(
        labels in proptest::collection::btree_map(
            proptest::sample::select(vec!["app", "tier", "role", "probe", "trial", "quarantine"]),
            proptest::sample::select(vec!["shop", "pay", "web", "cart", "auditor", "true"]),
            0..5,
        ),
    ) {
        let state = fabric();
        let text: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: '{value}'")).collect();
        let document = shop_1(&text.join(", "), "");
        if change(&state, &[SHOP], &document).is_ok() {
            let get = |key| labels.get(key).copied();
            proptest::prop_assert_eq!(get("app"), Some("shop"));
            proptest::prop_assert_eq!(get("tier"), Some("web"));
            for (key, value) in [("role", "auditor"), ("probe", "true"), ("trial", "true"), ("quarantine", "true")] {
                proptest::prop_assert_ne!(get(key), Some(value));
            }
        }
    }
}
