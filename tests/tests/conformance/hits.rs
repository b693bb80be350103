//! What `bulkhead describe policy` tells agrees with the packets that were sent, over edits of policies too.

use crate::case::{A, B, C, Case, EXT, Expect::Delivered, Expect::Dropped, OUT, for_b};
use crate::fabric::{Fabric, name};
use std::collections::BTreeMap;

fn web(rules: &str) -> String {
    for_b("web", "priority: 100", rules)
}

const HTTP: &str = "{name: http, action: allow, ports: [{protocol: tcp, port: 80}]}";
const HTTPS: &str = "{name: https, action: allow, ports: [{protocol: tcp, port: 443}]}";
const NO_C: &str = "{name: no-c, action: deny, from: [{matchLabels: {app: c}}], ports: [{protocol: tcp, port: 22}]}";

/// A case of which nothing but its packets is of interest, in both families each.
fn case(packets: impl FnOnce(&mut Case)) -> Case {
    let mut case = Case::new("hits", &[OUT, &web(&[HTTP, HTTPS, NO_C].join(", "))]);
    packets(&mut case);
    case
}

/// Packets and dropped ones of a policy's rules.
fn hits(fabric: &Fabric, policy: &str) -> BTreeMap<String, (u64, u64)> {
    fabric.count_cached_flows();
    let hits = fabric.client.hits(Some(policy)).unwrap();
    hits.iter().map(|hits| (name(hits), (hits.total.packets, hits.dropped))).collect()
}

fn expected(hits: &[(&str, u64, u64)]) -> BTreeMap<String, (u64, u64)> {
    hits.iter().map(|(name, packets, dropped)| ((*name).into(), (*packets, *dropped))).collect()
}

pub fn agree_with_packets(mut fabric: Fabric) {
    fabric.run(&case(|case| {
        // A connection's packets are judged one by one, its answers too: 3 in each family.
        case.open(A, B, 80);
        for from in [A, C, EXT] {
            case.syn(from, B, 443, Delivered("b"));
        }
        case.syn(C, B, 22, Dropped("web/no-c"));
        case.syn(A, B, 22, Dropped("web/builtin/isolation"));
        case.syn(A, B, 23, Dropped("web/builtin/isolation"));
    }));
    let isolated = ("web/builtin/isolation", 4, 4);
    let all = [("web/http", 6, 0), ("web/https", 6, 0), ("web/no-c", 2, 2), isolated];
    assert_eq!(hits(&fabric, "web"), expected(&all));

    // A policy beside it, and another one above it, change nothing.
    fabric.apply(&for_b("other", "tier: platform", "{action: deny, ports: [{protocol: udp, port: 1}]}"), "hits");
    assert_eq!(hits(&fabric, "web"), expected(&all));
    // Nor does a rule that comes, for those that stay where they were.
    let dns = "{name: dns, action: allow, ports: [{protocol: udp, port: 53}]}";
    fabric.apply(&web(&[HTTP, HTTPS, NO_C, dns].join(", ")), "hits");
    let more = [("web/http", 6, 0), ("web/https", 6, 0), ("web/no-c", 2, 2), ("web/dns", 0, 0), isolated];
    assert_eq!(hits(&fabric, "web"), expected(&more));
    // A rule that now says something else begins anew.
    let moved = HTTPS.replace("443", "8443");
    fabric.apply(&web(&[HTTP, &moved, NO_C, dns].join(", ")), "hits");
    let less = [("web/http", 6, 0), ("web/https", 0, 0), ("web/no-c", 2, 2), ("web/dns", 0, 0), isolated];
    assert_eq!(hits(&fabric, "web"), expected(&less));
}
