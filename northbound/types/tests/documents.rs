//! What operators write, what it becomes, and what they are told.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_policy::{Resource, model::*};
use bulkhead_topology::alone;
use bulkhead_types::{
    Diagnostic, Format, MAX_DEPTH, MAX_INPUT, MAX_NODES, Severity, canonical, load, read, read_removals, validate,
};
use std::sync::Arc;

fn good(text: &str) -> Resource {
    let mut parsed = read(None, text.as_bytes(), Format::Any);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.documents.pop().unwrap().resource
}

fn found(text: &str) -> Vec<Diagnostic> {
    let parsed = read(Some("f.yaml"), text.as_bytes(), Format::Any);
    assert!(!parsed.diagnostics.is_empty(), "nothing found in {text}");
    assert!(parsed.diagnostics.iter().all(|d| d.file.as_deref() == Some("f.yaml") && d.line.is_some()));
    parsed.diagnostics
}

/// The one finding: (line, column, path, message, hint).
fn refused(text: &str) -> (u32, u32, String, String, String) {
    let mut all = found(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    let d = all.pop().unwrap();
    assert_eq!(d.severity, Severity::Error, "{d:?}");
    (d.line.unwrap(), d.column.unwrap(), d.path, d.message, d.hint)
}

fn policy(text: &str) -> Arc<Policy> {
    match good(&format!("kind: Policy\nmetadata: {{name: p}}\nspec:\n  subject: {{zone: z}}\n{text}")) {
        Resource::Policy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

fn policy_refused(text: &str) -> (String, String) {
    let full = format!("kind: Policy\nmetadata: {{name: p}}\nspec:\n  subject: {{zone: z}}\n{text}");
    let (_, _, path, message, _) = refused(&full);
    (path, message)
}

fn workload(labels: &str, interface: &str) -> String {
    format!(
        "kind: Workload\nmetadata: {{name: w, labels: {{{labels}}}}}\nspec: {{network: n, interfaces: [{interface}]}}"
    )
}

#[test]
fn the_contract_is_read() {
    let text = r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: prod}
spec: {vni: 5001, subnets: [10.1.0.0/16, "fd00:1::/64"], encap: geneve,
       defaultAction: deny, onTighten: revoke,
       uplinks: [{switch: hv1, port: uplink0, vlan: 0}]}    # addresses of no workload are looked for there only
---
kind: Workload                      # apiVersion may be left out
metadata: {name: web-1, labels: {app: shop, tier: web, env: prod}}
spec:
  network: prod
  interfaces: [{mac: "02:00:00:00:00:01", ips: [10.1.0.11, "fd00:1::11"],
                attachment: {switch: hv1, port: web-1}}]     # port: name or number; left out until known
  namedPorts: {http: 8080/tcp}
---
kind: Zone
metadata: {name: shop}
spec: {network: prod, selector: {matchLabels: {app: shop}}, isolate: [ingress, egress], mode: enforce}
---
kind: Policy
metadata: {name: web-to-app}
spec:
  tier: application
  priority: 100
  stage: active                     # or staged
  subject: {matchLabels: {app: shop, tier: app}}             # or zone: shop
  ingress:
  - {name: http, action: allow, from: [{matchLabels: {app: shop, tier: web}}],
     ports: [{protocol: tcp, port: 8080, endPort: 8081}], log: false}
---
kind: Switch
metadata: {name: hv1}
spec: {driver: openflow, datapathId: "0x1", vtep: 192.0.2.1, role: hypervisor, ovsdb: "unix:/run/openvswitch/db.sock"}
---
kind: AddressSet
metadata: {name: corp}
spec: {cidrs: [198.51.100.0/24], except: [198.51.100.9/32]}
---
kind: Link                          # declared; discovered ones appear in status
metadata: {name: leaf1-spine1}
spec: {a: {switch: leaf1, port: "1"}, b: {switch: spine1, port: "1"}}
"#;
    let parsed = read(None, text.as_bytes(), Format::Any);
    assert_eq!(parsed.diagnostics, []);
    let keys: Vec<String> = parsed.documents.iter().map(|d| d.key.to_string()).collect();
    assert_eq!(
        keys,
        [
            "Network/prod",
            "Workload/web-1",
            "Zone/shop",
            "Policy/web-to-app",
            "Switch/hv1",
            "AddressSet/corp",
            "Link/leaf1-spine1"
        ]
    );
    for document in &parsed.documents {
        let text = canonical(&document.resource);
        assert_eq!(load(&text).unwrap(), document.resource, "{text}");
        assert_eq!(canonical(&load(&text).unwrap()), text);
    }
    // The same as a JSON list, as a JSON stream, and as a YAML list.
    let values: Vec<_> = parsed.documents.iter().map(|d| d.to_value()).collect();
    let list = serde_json::to_string_pretty(&values).unwrap();
    let stream: String = values.iter().map(|v| v.to_string() + "\n").collect();
    for other in [list, stream] {
        let again = read(None, other.as_bytes(), Format::Json);
        assert_eq!(again.diagnostics, []);
        let resources = |p: &bulkhead_types::Parsed| p.documents.iter().map(|d| d.resource.clone()).collect::<Vec<_>>();
        assert_eq!(resources(&again), resources(&parsed));
    }
}

#[test]
fn the_example_is_clean() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/three-tier");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    assert_eq!(files.len(), 5);
    assert_eq!(validate(files.iter().map(|(name, content)| (name.as_str(), content.as_slice()))), []);
}

#[test]
fn a_missing_reference_is_found_at_its_place() {
    let text = b"kind: Policy\nmetadata: {name: p}\nspec:\n  subject:\n    zone: nowhere\n  ingress: []\n";
    let found = validate([("p.yaml", &text[..])]);
    assert!(found.iter().any(|d| d.severity == Severity::Error && d.line == Some(5)), "{found:?}");
}

#[test]
fn a24_empty_never_widens() {
    // Absent and empty are different, through the canonical form and back.
    for (text, peers) in [("", None), ("from: []", Some(vec![]))] {
        let comma = if text.is_empty() { "" } else { ", " };
        let full = format!(
            "kind: Policy\nmetadata: {{name: p}}\nspec: {{subject: {{zone: z}}, ingress: [{{action: allow{comma}{text}}}]}}"
        );
        let parsed = read(None, full.as_bytes(), Format::Any);
        let Resource::Policy(policy) = &parsed.documents[0].resource else { panic!() };
        assert_eq!(policy.ingress[0].peers, peers);
        let Resource::Policy(again) = read(None, canonical(&parsed.documents[0].resource).as_bytes(), Format::Json)
            .documents
            .pop()
            .unwrap()
            .resource
        else {
            panic!()
        };
        assert_eq!(again.ingress[0].peers, peers);
        // An empty list is remarked on.
        assert_eq!(parsed.diagnostics.len(), usize::from(peers.is_some()));
    }
    // Nothing that could be read as "any" by accident.
    for (text, path) in [
        ("  ingress: [{action: allow, from: [{}]}]", "spec.ingress[0].from[0]"),
        ("  ingress: [{action: allow, ports: [{}]}]", "spec.ingress[0].ports[0]"),
        ("  egress: [{action: allow, to: [{external: false}]}]", "spec.egress[0].to[0].external"),
        ("  egress: [{action: allow, to: [{except: [10.0.0.0/8]}]}]", "spec.egress[0].to[0]"),
        (
            "  egress: [{action: allow, to: [{matchExpressions: [{key: a, operator: In}]}]}]",
            "spec.egress[0].to[0].matchExpressions[0]",
        ),
    ] {
        assert_eq!(policy_refused(text).0, path, "{text}");
    }
    let null = "kind: Policy\nmetadata: {name: p}\nspec:\n  subject: {zone: z}\n  ingress:\n  - action: allow\n    from:\n    ports: []\n";
    assert_eq!((refused(null).0, refused(null).1, refused(null).3), (7, 5, "`from` has no value".into()));
    for subject in ["{}", "{zone: z, matchLabels: {a: b}}"] {
        let text = format!("kind: Policy\nmetadata: {{name: p}}\nspec: {{subject: {subject}, ingress: []}}");
        assert_eq!(refused(&text).2, "spec.subject");
    }
    let zone = "kind: Zone\nmetadata: {name: z}\nspec: {network: n, selector: {}}";
    assert_eq!(refused(zone).2, "spec.selector");
    // Written out, everything is everything.
    assert_eq!(
        policy("  ingress: [{action: allow, from: [{matchLabels: {}}]}]").ingress[0].peers,
        Some(vec![Peer::Selector(bulkhead_topology::Selector::everything())])
    );
}

#[test]
fn a25_reserved_labels_are_refused() {
    let text = workload("bulkhead.io/zone: prod, app: shop", "{mac: \"02:00:00:00:00:01\", ips: [10.0.0.1]}");
    let (line, column, path, message, _) = refused(&text);
    assert_eq!((line, path.as_str()), (2, "metadata.labels.bulkhead.io/zone"));
    assert_eq!(text.lines().nth(1).unwrap()[column as usize - 1..].split(',').next(), Some("prod"));
    assert!(message.contains("bulkhead.io/"));
}

#[test]
fn a26_letter_case_is_one_canonical_form() {
    let lower = good(&workload("", "{mac: \"02:ab:cd:00:00:01\", ips: [\"fd00:1::ab\"]}"));
    let upper = good(&workload("", "{mac: \"02-AB-CD-00-00-01\", ips: [\"FD00:1:0::AB\"]}"));
    assert_eq!(canonical(&lower), canonical(&upper));
    // Names have no other case at all.
    let (_, _, path, ..) =
        refused("kind: Zone\nmetadata: {name: Shop}\nspec: {network: n, selector: {matchLabels: {}}}");
    assert_eq!(path, "metadata.name");
    assert_eq!(refused("kind: zone\nmetadata: {name: z}\nspec: {}").4, "did you mean `Zone`?");
    // Label values keep theirs, as in Kubernetes.
    let Resource::Workload(w) = good(&workload("app: Shop", "{mac: \"02:00:00:00:00:01\", ips: []}")) else { panic!() };
    assert_eq!(&**w.labels.get("app").unwrap(), "Shop");
}

#[test]
fn a29_unknown_fields_are_refused_with_the_nearest_name() {
    let text = "kind: Network\nmetadata: {name: n}\nspec:\n  vni: 1\n  subnet: [10.0.0.0/8]\n";
    assert_eq!(
        refused(text),
        (5, 3, "spec.subnet".into(), "unknown field `subnet`".into(), "did you mean `subnets`?".into())
    );
    let text = "kind: Policy\nmetadata: {name: p}\nspec:\n  subject: {zone: z}\n  ingress:\n  - action: allow\n    form: [{zone: z}]\n";
    let (line, column, path, _, hint) = refused(text);
    assert_eq!((line, column, path.as_str(), hint.as_str()), (7, 5, "spec.ingress[0].form", "did you mean `from`?"));
    let text = "kind: Network\nmetadata: {name: n, flows: [drop]}\nspec: {vni: 1, subnets: [10.0.0.0/8]}";
    assert_eq!((refused(text).0, refused(text).2), (2, "metadata.flows".into()));
    assert_eq!(refused("kind: Network\nmetadata: {name: n}\nspec: {vni: 1, subnets: []}\nstatus: {}").2, "status");
}

#[test]
fn a37_what_expands_is_refused() {
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    assert!(refused(bomb).3.contains("anchors"));
    assert!(refused("a: *b\n").3.contains("YAML") || refused("a: *b\n").3.contains("aliases"));
    assert!(refused("kind: !!str Network\n").3.contains("tags"));
    assert!(refused("a: {<<: {b: c}}\n").3.contains("merge"));
    assert!(refused("kind: Zone\nkind: Network\n").3.contains("twice"));
    assert!(refused("{\"kind\": \"Zone\", \"kind\": \"Zone\"}").3.contains("twice"));
    assert!(refused("{[a]: b}").3.contains("key"));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = open.repeat(100_000) + "1" + &close.repeat(100_000);
        let message = refused(&deep).3;
        assert!(message.contains(&MAX_DEPTH.to_string()) || message.contains("recursion limit"), "{message}");
    }
    let block: String = (0..200).map(|i| " ".repeat(i) + "a:\n").collect();
    assert!(refused(&block).3.contains("deeper"));
    assert!(refused(&" ".repeat(MAX_INPUT + 1)).3.contains("bytes"));
    assert!(refused(&"- a\n".repeat(MAX_NODES + 1)).3.contains("values"));
    assert!(refused(&"---\na\n".repeat(200_001)).3.contains("documents"));
}

#[test]
fn scalars_are_what_they_look_like() {
    let label = |value: &str| {
        read(None, workload(&format!("a: {value}"), "{mac: \"02:00:00:00:00:01\", ips: []}").as_bytes(), Format::Any)
    };
    for (value, text) in
        [("\"1\"", "1"), ("'true'", "true"), ("yes", "yes"), ("0x1f", "0x1f"), ("010", "010"), ("\"\"", "")]
    {
        let parsed = label(value);
        assert_eq!(parsed.diagnostics, [], "{value}");
        let Resource::Workload(w) = &parsed.documents[0].resource else { panic!() };
        assert_eq!(&**w.labels.get("a").unwrap(), text);
    }
    for value in ["1", "true", "1.5", "-3"] {
        let parsed = label(value);
        assert_eq!(parsed.diagnostics[0].hint, "put it in quotes", "{value}");
        assert_eq!(parsed.diagnostics[0].path, "metadata.labels.a");
    }
    let vni = |vni: &str| format!("kind: Network\nmetadata: {{name: n}}\nspec: {{vni: {vni}, subnets: [10.0.0.0/8]}}");
    assert_eq!(refused(&vni("\"5\"")).4, "write a plain number, without quotes");
    for bad in ["0", "16777216", "-1", "4294967296", "1.5"] {
        assert_eq!(refused(&vni(bad)).2, "spec.vni", "{bad}");
    }
}

#[test]
fn isolation_defaults_to_the_sections_that_are_there() {
    let both = |ingress, egress| Sides { ingress, egress };
    assert_eq!(policy("  ingress: []").isolate, both(true, false));
    assert_eq!(policy("  egress: []").isolate, both(false, true));
    assert_eq!(policy("  ingress: []\n  egress: []").isolate, both(true, true));
    assert_eq!(policy("  ingress: []\n  isolate: []").isolate, both(false, false));
    assert_eq!(policy("  isolate: [egress]").isolate, both(false, true));
    assert_eq!(policy("  tier: platform\n  ingress: [{action: deny}]").isolate, both(false, false));
    assert_eq!(policy_refused("  tier: baseline\n  isolate: [ingress]").0, "spec.isolate");
    assert_eq!(policy_refused("  ingress: []\n  isolate: [inbound]").0, "spec.isolate[0]");
}

#[test]
fn defaults_are_the_contracts() {
    let p = policy("  ingress: [{action: deny}]");
    assert_eq!((p.tier, p.priority, p.staged), (Tier::Application, 1000, false));
    assert_eq!((p.ingress[0].priority, p.ingress[0].log, &*p.ingress[0].name), (0, false, ""));
    assert!(p.ingress[0].peers.is_none() && p.ingress[0].ports.is_none());
    let Resource::Network(n) = good("kind: Network\nmetadata: {name: n}\nspec: {vni: 1, subnets: [10.0.0.0/8]}") else {
        panic!()
    };
    assert_eq!((n.encap, n.default_action, n.on_tighten), (Encap::Geneve, DefaultAction::Deny, OnTighten::Revoke));
}

#[test]
fn ports_are_checked() {
    let ports = |text: &str| {
        policy(&format!("  ingress: [{{action: allow, ports: [{text}]}}]")).ingress[0].ports.clone().unwrap()
    };
    let bad = |text: &str| policy_refused(&format!("  ingress: [{{action: allow, ports: [{text}]}}]")).0;
    assert_eq!(ports("{protocol: tcp, port: 80}"), [PortMatch::Ports { protocol: 6, first: 80, last: 80 }]);
    assert_eq!(
        ports("{protocol: 17, port: 1, endPort: 65535}"),
        [PortMatch::Ports { protocol: 17, first: 1, last: 65535 }]
    );
    assert_eq!(ports("{protocol: sctp}"), [PortMatch::Protocol(132)]);
    assert_eq!(ports("{protocol: 47}"), [PortMatch::Protocol(47)]);
    assert_eq!(ports("{protocol: icmp}"), [PortMatch::Icmp { protocol: 1, icmp_type: None, code: None }]);
    assert_eq!(
        ports("{protocol: 58, type: 128, code: 0}"),
        [PortMatch::Icmp { protocol: 58, icmp_type: Some(128), code: Some(0) }]
    );
    assert_eq!(ports("{port: http}"), [PortMatch::Named { name: "http".into(), protocol: None }]);
    for (text, field) in [
        ("{protocol: tcp, port: 0}", ".port"),
        ("{protocol: tcp, port: 65536}", ".port"),
        ("{protocol: tcp, port: 80, endPort: 79}", ".endPort"),
        ("{protocol: tcp, endPort: 79}", ".endPort"),
        ("{port: http, endPort: 79}", ".endPort"),
        ("{port: 80}", ""),
        ("{protocol: tcpp, port: 80}", ".protocol"),
        ("{protocol: 256}", ".protocol"),
        ("{protocol: icmp, port: 80}", ""),
        ("{protocol: tcp, type: 8}", ""),
        ("{protocol: icmp, code: 0}", ".code"),
        ("{protocol: icmp, type: 256}", ".type"),
        ("{protocol: tcp, port: \"80\"}", ".port"),
    ] {
        assert_eq!(bad(text), format!("spec.ingress[0].ports[0]{field}"), "{text}");
    }
}

#[test]
fn peers_are_of_one_kind() {
    let bad = |text: &str| policy_refused(&format!("  egress: [{{action: allow, to: [{text}]}}]")).0;
    assert_eq!(bad("{zone: a, network: b}"), "spec.egress[0].to[0]");
    assert_eq!(bad("{cidr: 10.0.0.0/8, external: true}"), "spec.egress[0].to[0]");
    assert_eq!(bad("{zone: a, except: [10.0.0.0/8]}"), "spec.egress[0].to[0].except");
    assert_eq!(bad("{cidr: 10.0.0.1/8}"), "spec.egress[0].to[0].cidr");
    assert_eq!(bad("{cidr: 10.0.0.0/8, except: [x]}"), "spec.egress[0].to[0].except[0]");
    let p = policy("  egress: [{action: allow, to: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {external: true}]}]");
    assert_eq!(p.egress[0].peers.as_ref().unwrap().len(), 2);
}

#[test]
fn interfaces_are_checked() {
    for (interface, path) in [
        ("{mac: \"03:00:00:00:00:01\", ips: []}", "spec.interfaces[0].mac"),
        ("{mac: \"ff:ff:ff:ff:ff:ff\", ips: []}", "spec.interfaces[0].mac"),
        ("{mac: \"00:00:00:00:00:00\", ips: []}", "spec.interfaces[0].mac"),
        ("{mac: \"02:00:00:00:00\", ips: []}", "spec.interfaces[0].mac"),
        ("{mac: \"02:00:00:00:00:01\", ips: [10.0.0.1, 10.0.0.1]}", "spec.interfaces[0].ips[1]"),
        ("{mac: \"02:00:00:00:00:01\", ips: [224.0.0.1]}", "spec.interfaces[0].ips[0]"),
        ("{mac: \"02:00:00:00:00:01\", ips: [\"::ffff:1.2.3.4\"]}", "spec.interfaces[0].ips[0]"),
        (
            "{mac: \"02:00:00:00:00:01\", ips: [], attachment: {switch: hv1, port: 0}}",
            "spec.interfaces[0].attachment.port",
        ),
        (
            "{mac: \"02:00:00:00:00:01\", ips: [], attachment: {switch: hv1, port: \"a b\"}}",
            "spec.interfaces[0].attachment.port",
        ),
    ] {
        assert_eq!(refused(&workload("", interface)).2, path, "{interface}");
    }
    let text = "kind: Network\nmetadata: {name: n}\nspec: {vni: 1, subnets: [10.0.0.0/8], uplinks: [{switch: s, port: p, vlan: 4095}]}";
    assert_eq!(refused(text).2, "spec.uplinks[0].vlan");
}

#[test]
fn switches_have_what_their_driver_needs() {
    let switch = |spec: &str| format!("kind: Switch\nmetadata: {{name: s}}\nspec: {{{spec}}}");
    for good_one in
        ["driver: sim", "driver: openflow, datapathId: 0x1", "driver: p4runtime, address: \"h:9559\", deviceId: 1"]
    {
        good(&switch(good_one));
    }
    for (bad, path) in [
        ("driver: openflow", "spec"),
        ("driver: openflow, datapathId: \"0x0\"", "spec.datapathId"),
        ("driver: sim, datapathId: \"0x1\"", "spec.datapathId"),
        ("driver: p4runtime, address: h, deviceId: 1", "spec.address"),
        ("driver: netconf", "spec.driver"),
        ("driver: sim, vtep: 224.0.0.1", "spec.vtep"),
        ("driver: sim, ovsdb: /run/db.sock", "spec.ovsdb"),
    ] {
        assert_eq!(refused(&switch(bad)).2, path, "{bad}");
    }
}

/// What is wrong with the underlay of a P4 switch is told where it stands; what is right has one form.
#[test]
fn a_p4_switch_may_say_how_it_reaches_others() {
    let hop = "{port: 4, mac: 02:00:00:02:00:04}, {port: 3, mac: 02:00:00:02:00:03}";
    let switch = |vtep: &str, underlay: &str| {
        format!(
            "kind: Switch\nmetadata: {{name: s}}\nspec: {{driver: p4runtime, address: \"h:1\", deviceId: 1{vtep}, underlay: {{{underlay}}}}}"
        )
    };
    let v4 = ", vtep: 192.0.2.1";
    let mac = "mac: 02:00:00:01:00:01";
    let text = switch(
        v4,
        &format!("{mac}, mtu: 9000, routes: [{{to: 192.0.2.0/24, via: [{hop}]}}, {{to: 0.0.0.0/0, via: [{hop}]}}]"),
    );
    let text = canonical(&good(&text));
    let routes = text.find("0.0.0.0/0").unwrap() < text.find("192.0.2.0/24").unwrap();
    assert!(routes && text.contains("\"via\":[{\"port\":3,"), "{text}");
    assert_eq!(canonical(&load(&text).unwrap()), text);
    let many: String = (0..513).map(|n| format!("{{to: 10.{}.{}.0/24, via: [{hop}]}}, ", n / 256, n % 256)).collect();
    let wide: String = (1..18).map(|n| format!("{{port: {n}, mac: 02:00:00:02:00:01}}, ")).collect();
    for (vtep, underlay, path) in [
        ("", format!("{mac}, routes: []"), "spec.underlay"),
        (v4, "mac: 01:00:00:01:00:01, routes: []".into(), "spec.underlay.mac"),
        (v4, "mac: 00:00:00:00:00:00, routes: []".into(), "spec.underlay.mac"),
        (v4, format!("{mac}, mtu: 575, routes: []"), "spec.underlay.mtu"),
        (v4, format!("{mac}, mtu: 65536, routes: []"), "spec.underlay.mtu"),
        (v4, format!("{mac}, routes: [{{to: \"::/0\", via: [{hop}]}}]"), "spec.underlay.routes[0].to"),
        (v4, format!("{mac}, routes: [{{to: 10.0.0.1/24, via: [{hop}]}}]"), "spec.underlay.routes[0].to"),
        (
            v4,
            format!("{mac}, routes: [{{to: 10.0.0.0/8, via: [{hop}]}}, {{to: 10.0.0.0/8, via: [{hop}]}}]"),
            "spec.underlay.routes[1].to",
        ),
        (v4, format!("{mac}, routes: [{{to: 10.0.0.0/8, via: []}}]"), "spec.underlay.routes[0].via"),
        (v4, format!("{mac}, routes: [{{to: 10.0.0.0/8, via: [{wide}]}}]"), "spec.underlay.routes[0].via"),
        (v4, format!("{mac}, routes: [{many}]"), "spec.underlay.routes"),
        (
            v4,
            format!("{mac}, routes: [{{to: 10.0.0.0/8, via: [{{port: 511, mac: 02:00:00:02:00:04}}]}}]"),
            "spec.underlay.routes[0].via[0].port",
        ),
        (
            v4,
            format!("{mac}, routes: [{{to: 10.0.0.0/8, via: [{{port: 5, mac: ff:ff:ff:ff:ff:ff}}]}}]"),
            "spec.underlay.routes[0].via[0].mac",
        ),
        (
            v4,
            format!("{mac}, routes: [{{to: 10.0.0.0/8, via: [{hop}, {{port: 4, mac: 02:00:00:02:00:04}}]}}]"),
            "spec.underlay.routes[0].via[2]",
        ),
    ] {
        assert_eq!(refused(&switch(vtep, &underlay)).2, path, "{underlay:.200}");
    }
    let sim = format!(
        "kind: Switch\nmetadata: {{name: s}}\nspec: {{driver: sim, vtep: 192.0.2.1, underlay: {{{mac}, routes: []}}}}"
    );
    assert_eq!(refused(&sim).2, "spec.underlay");
}

#[test]
fn doubles_in_one_change_are_refused() {
    let zone = "kind: Zone\nmetadata: {name: z}\nspec: {network: n, selector: {matchLabels: {}}}\n";
    let (line, _, path, message, hint) = refused(&format!("{zone}---\n{zone}"));
    assert_eq!((line, path.as_str()), (6, "metadata.name"));
    assert!(message.contains("Zone/z") && hint.contains("line 2"));
}

#[test]
fn syntax_errors_have_a_place() {
    assert!(refused("kind: Zone\n\tmetadata: {}\n").4.contains("spaces"));
    assert_eq!(refused("kind: Zone\nmetadata: {name: [a}\n").0, 2);
    let (line, column, ..) = refused("{\"kind\": \"Zone\",\n  \"metadata\" {}}");
    assert_eq!((line, column), (2, 14));
    assert!(refused("{\"kind\": \"Zo").3.contains("closing quote"));
    let bad = read(Some("f"), b"kind: Zone\n# \xff\n", Format::Any);
    assert_eq!((bad.diagnostics[0].line, bad.diagnostics[0].column), (Some(2), Some(3)));
    assert_eq!(refused("just text").3, "a document is a map with `kind`, `metadata` and `spec`");
    assert!(read(None, b"", Format::Any).documents.is_empty());
    assert!(read(None, b"# nothing\n---\n---\n", Format::Any).diagnostics.is_empty());
    assert_eq!(refused("metadata: {name: a}").3, "`kind` is missing");
    assert_eq!(refused("kind: Zone\nmetadata: {name: a}").3, "`spec` is missing");
}

#[test]
fn what_is_seen_on_hosts_is_stored_but_nobody_applies_it() {
    let text = r#"{"apiVersion":"bulkhead/v1","kind":"Host","metadata":{"name":"hv1"},"spec":{"underlayMtu":1500,"plugged":[{"port":7,"workload":"web-1","mac":"02:00:00:00:00:01"}]}}"#;
    let host = load(text).unwrap();
    assert_eq!(canonical(&host), text);
    let parsed = read(None, text.as_bytes(), Format::Json);
    assert_eq!(parsed.documents, []);
    assert_eq!(parsed.diagnostics[0].message, "there is no kind `Host`");
    let removal = read_removals(None, text.as_bytes(), Format::Json, alone);
    assert_eq!(removal.documents, []);
    assert_eq!(removal.diagnostics[0].message, "there is no kind `Host`");
}

#[test]
fn gateways_are_addresses_in_one_spelling_and_order() {
    let network = |gateways: &str| {
        format!(
            "kind: Network\nmetadata: {{name: n}}\nspec: {{vni: 1, subnets: [10.1.0.0/16, \"fd00:1::/64\"], gateways: [{gateways}]}}\n"
        )
    };
    let one = good(&network("\"FD00:1:0::1\", 10.1.0.1"));
    assert_eq!(one, good(&network("10.1.0.1, \"fd00:1::1\"")));
    assert!(canonical(&one).ends_with(r#""gateways":["10.1.0.1","fd00:1::1"]}}"#));
    let bad = read(None, network("10.1.0.1/16").as_bytes(), Format::Any);
    assert_eq!(bad.diagnostics[0].path, "spec.gateways[0]");
    let groups = good(&network("], multicast: [\"ff02::00fb\", 239.1.2.3, \"ff02::fb\""));
    assert!(canonical(&groups).ends_with(r#""multicast":["239.1.2.3","ff02::fb"]}}"#), "{}", canonical(&groups));
}

#[test]
fn who_was_learned_is_written_by_bulkhead_alone() {
    let learns =
        good("kind: Network\nmetadata: {name: n}\nspec: {vni: 1, subnets: [10.1.0.0/16], learnWorkloads: true}\n");
    assert!(canonical(&learns).ends_with(r#""learnWorkloads":true}}"#), "{}", canonical(&learns));
    let document = "kind: Workload\nmetadata: {name: w, labels: {bulkhead/learned: \"true\"}}\nspec: {network: n, \
                    interfaces: [{mac: \"02:00:00:00:00:01\", ips: [10.1.0.1]}]}\n";
    let (_, _, path, message, _) = refused(document);
    assert_eq!((&*path, message.contains("learned")), ("metadata.labels", true));
    // What Bulkhead stores is read again.
    let label = r#""bulkhead/learned":"true""#;
    let stored = canonical(&good(&document.replace("bulkhead/learned: \"true\"", "a: b"))).replace(r#""a":"b""#, label);
    assert!(stored.contains(label));
    assert_eq!(canonical(&bulkhead_types::load(&stored).unwrap()), stored);
}
