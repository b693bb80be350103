//! The list: policies, and what has to become of packets.

use crate::case::{
    A, B, C, Case, DEFAULT, EXT,
    Expect::{Delivered, Dropped, Reset, Unreachable},
    FROM_A, OTHER, OUT, for_app, for_b,
};

pub fn cases() -> Vec<Case> {
    vec![
        default_deny(),
        allow(),
        deny(),
        reject(),
        pass(),
        ranges(),
        named(),
        protocols(),
        icmp(),
        cidrs_in(),
        cidrs_out(),
        external(),
    ]
}

fn default_deny() -> Case {
    let mut case =
        Case::new("default deny", &["kind: AddressSet\nmetadata: {name: none}\nspec: {cidrs: [203.0.113.0/24]}"]);
    case.syn(A, B, 80, Dropped(DEFAULT));
    case.syn(EXT, B, 80, Dropped(DEFAULT));
    case.syn(A, EXT, 80, Dropped(DEFAULT));
    case
}

fn allow() -> Case {
    let rule = format!("{{action: allow, {FROM_A}, ports: [{{protocol: tcp, port: 80}}]}}");
    let mut case = Case::new("allow and its replies", &[OUT, &for_b("web", "priority: 100", &rule)]);
    case.syn(A, B, 80, Delivered("b"));
    case.syn_ack(B, A, 80, Delivered("a"));
    case.syn(A, B, 81, Dropped("web/builtin/isolation"));
    case.syn(C, B, 80, Dropped("web/builtin/isolation"));
    case.syn_ack(B, C, 80, Dropped("builtin/conntrack-invalid"));
    case.syn(B, A, 80, Dropped(DEFAULT));
    case
}

fn deny() -> Case {
    let stop = for_b("stop", "tier: emergency", &format!("{{action: deny, {FROM_A}}}"));
    let mut case = Case::new("deny in a stronger tier", &[OUT, &stop, &for_b("web", "priority: 1", "{action: allow}")]);
    case.syn(A, B, 80, Dropped("stop/ingress[0]"));
    case.syn(C, B, 80, Delivered("b"));
    case.syn_ack(B, C, 80, Delivered("c"));
    case
}

fn reject() -> Case {
    let mut case = Case::new("reject", &[OUT, &for_b("no", "priority: 1", "{action: reject}")]);
    case.syn(A, B, 80, Reset("no/ingress[0]"));
    for v6 in [false, true] {
        case.send(A.port, A.to(&B, v6).udp(40_001, 53), Unreachable("no/ingress[0]"));
    }
    case
}

fn pass() -> Case {
    let skip = "{action: pass, ports: [{protocol: tcp, port: 80}]}";
    let first = for_b("first", "tier: platform\n  priority: 10", skip);
    let second = for_b("second", "tier: platform", "{action: deny, ports: [{protocol: tcp, port: 1, endPort: 100}]}");
    let web = for_b("web", "priority: 1", "{action: allow, ports: [{protocol: tcp}]}");
    let mut case = Case::new("pass leaves the tier", &[OUT, &first, &second, &web]);
    case.syn(A, B, 80, Delivered("b"));
    case.syn(A, B, 81, Dropped("second/ingress[0]"));
    case.syn(A, B, 101, Delivered("b"));
    case
}

fn ranges() -> Case {
    let rule = "{action: allow, ports: [{protocol: tcp, port: 8079, endPort: 8083}]}";
    let mut case = Case::new("port ranges", &[OUT, &for_b("web", "priority: 1", rule)]);
    for port in [8079, 8080, 8083] {
        case.syn(A, B, port, Delivered("b"));
    }
    for port in [8078, 8084, 18_080] {
        case.syn(A, B, port, Dropped("web/builtin/isolation"));
    }
    case
}

fn named() -> Case {
    let rule = "{action: allow, ports: [{port: http}]}";
    let to_c = for_app("c", "c-web", "priority: 1", rule);
    let mut case = Case::new("named ports", &[OUT, &for_b("web", "priority: 1", rule), &to_c]);
    case.syn(A, B, 8080, Delivered("b"));
    case.syn(A, B, 80, Dropped("web/builtin/isolation"));
    case.syn(A, C, 8080, Dropped("c-web/builtin/isolation"));
    case
}

fn protocols() -> Case {
    let ports = "[{protocol: udp, port: 53}, {protocol: sctp, port: 3868}]";
    let rules = format!("{{action: allow, ports: {ports}}}");
    let mut case = Case::new("UDP and SCTP", &[OUT, &for_b("some", "priority: 1", &rules)]);
    for v6 in [false, true] {
        let way = A.to(&B, v6);
        case.send("a", way.udp(40_002, 53), Delivered("b"));
        case.send("b", way.back().udp(53, 40_002), Delivered("a"));
        case.send("a", way.udp(40_002, 54), Dropped("some/builtin/isolation"));
        case.send("a", way.gre(), Dropped("some/builtin/isolation"));
        case.send("a", way.sctp(40_002, 3868), Delivered("b"));
        let other = C.to(&B, v6);
        case.send("c", other.sctp(40_002, 3869), Dropped("some/builtin/isolation"));
    }
    case.syn(A, B, 53, Dropped("some/builtin/isolation"));
    case
}

fn icmp() -> Case {
    let ports = "[{protocol: icmp, type: 8}, {protocol: icmpv6, type: 128}]";
    let mut case =
        Case::new("ICMP by type", &[OUT, &for_b("ping", "priority: 1", &format!("{{action: allow, ports: {ports}}}"))]);
    for (v6, echo, reply) in [(false, 8, 0), (true, 128, 129)] {
        let way = A.to(&B, v6);
        case.send("a", way.icmp(echo, 1), Delivered("b"));
        case.send("b", way.back().icmp(reply, 1), Delivered("a"));
        // The same identifier in the other direction is another question.
        case.send("b", way.back().icmp(echo, 1), Dropped(DEFAULT));
        case.send("c", C.to(&B, v6).icmp(echo, 3), Delivered("b"));
    }
    case.syn(A, B, 80, Dropped("ping/builtin/isolation"));
    case
}

fn cidrs_in() -> Case {
    let cidrs = r#"cidrs: [198.51.100.0/24, 10.1.0.0/24, "2001:db8::/64", "fd00:1::/120"]"#;
    let except = r#"except: [198.51.100.9/32, 10.1.0.19/32, "2001:db8::9/128", "fd00:1::13/128"]"#;
    let set = format!("kind: AddressSet\nmetadata: {{name: some}}\nspec: {{{cidrs}, {except}}}");
    let rule = "{action: allow, from: [{addressSet: some}], ports: [{protocol: tcp, port: 80}]}";
    let mut case = Case::new("CIDR with except, into the fabric", &[&set, OUT, &for_b("web", "priority: 1", rule)]);
    case.syn(EXT, B, 80, Delivered("b"));
    case.syn_ack(B, EXT, 80, Delivered("uplink0"));
    case.syn(OTHER, B, 80, Dropped("web/builtin/isolation"));
    case.syn(EXT, B, 81, Dropped("web/builtin/isolation"));
    case.syn(A, B, 80, Delivered("b"));
    case.syn(C, B, 80, Dropped("web/builtin/isolation"));
    case
}

fn cidrs_out() -> Case {
    let policy = r#"
kind: Policy
metadata: {name: asks}
spec:
  subject: {matchLabels: {app: a}}
  egress:
  - action: allow
    to:
    - {cidr: 198.51.100.0/24, except: [198.51.100.9/32]}
    - {cidr: "2001:db8::/64", except: ["2001:db8::9/128"]}
    - {cidr: 10.1.0.0/24, except: [10.1.0.19/32]}
    - {cidr: "fd00:1::/120", except: ["fd00:1::13/128"]}
    ports: [{protocol: tcp, port: 443}]
"#;
    let any = |app| for_app(app, &format!("any-{app}"), "priority: 1", "{action: allow}");
    let mut case = Case::new("CIDR with except, out of the fabric", &[policy, &any("b"), &any("c")]);
    for (to, stranger) in [(EXT, OTHER), (B, C)] {
        case.syn(A, to, 443, Delivered(to.port));
        case.syn_ack(to, A, 443, Delivered("a"));
        case.syn(A, stranger, 443, Dropped("asks/builtin/isolation"));
        case.syn(A, to, 80, Dropped("asks/builtin/isolation"));
    }
    case
}

fn external() -> Case {
    let policy = r#"
kind: Policy
metadata: {name: outbound}
spec:
  subject: {matchLabels: {app: a}}
  egress:
  - {action: allow, to: [{external: true}], ports: [{protocol: tcp, port: 443}]}
  - {action: deny, to: [{cidr: 198.51.100.9/32}, {cidr: "2001:db8::9/128"}]}
"#;
    let mut case = Case::new("out of the fabric", &[policy]);
    case.syn(A, EXT, 443, Delivered("uplink0"));
    case.syn_ack(EXT, A, 443, Delivered("a"));
    case.syn(A, OTHER, 443, Dropped("outbound/egress[1]"));
    case.syn(A, EXT, 80, Dropped("outbound/builtin/isolation"));
    case.syn(A, B, 443, Dropped("outbound/builtin/isolation"));
    case
}
