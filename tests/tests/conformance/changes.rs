//! The list: what a change does to connections that live, and to new ones.

use crate::case::{
    A, B, C, Case, DEFAULT, EXT,
    Expect::{Answered, Delivered, Dropped},
    FROM_A, OTHER, OUT, SPARE, UPLINK, for_app, for_b,
};
use crate::frames::{Host, SYN};
use bulkhead_pipeline::Field;

pub fn cases() -> Vec<Case> {
    let mut all: Vec<_> = tightenings().iter().flat_map(|one| [one.revoked(), one.kept()]).collect();
    all.extend([relabelled(), moved(), removed(), modes()]);
    all
}

/// A change that forbids something.
struct Tightening {
    name: &'static str,
    documents: Vec<String>,
    /// What else the network has.
    network: &'static str,
    change: String,
    /// A connection that the change forbids, and the rule that then stops it.
    forbidden: (Host, Host, u16),
    cause: &'static str,
    /// One that it has nothing to do with.
    unrelated: (Host, Host, u16),
}

impl Tightening {
    fn case(&self, what: &str, on_tighten: &str) -> Case {
        let documents: Vec<_> = self.documents.iter().map(String::as_str).collect();
        let mut case = Case::new(format!("{}: a live connection is {what}", self.name), &documents);
        case.network = format!("{UPLINK}\n  onTighten: {on_tighten}\n  {}", self.network);
        case
    }

    fn revoked(&self) -> Case {
        let mut case = self.case("cut", "revoke");
        let (from, to, port) = self.forbidden;
        let live = case.open(from, to, port);
        let unrelated = case.open(self.unrelated.0, self.unrelated.1, self.unrelated.2);
        case.apply(&self.change);
        case.lives(unrelated);
        case.cut(live, self.cause);
        case.refused(from, to, port, self.cause);
        case.lives(unrelated);
        case
    }

    fn kept(&self) -> Case {
        let mut case = self.case("kept", "persist");
        let (from, to, port) = self.forbidden;
        let live = case.open(from, to, port);
        let unrelated = case.open(self.unrelated.0, self.unrelated.1, self.unrelated.2);
        case.apply(&self.change);
        case.lives(live);
        case.lives(unrelated);
        case.refused(from, to, port, self.cause);
        case.lives(live);
        case
    }
}

/// A policy for b with these rules.
fn web(rules: &[&str]) -> String {
    for_b("web", "priority: 100", &rules.join(", "))
}

const FROM_C: &str = "{action: allow, from: [{matchLabels: {app: c}}]}";

/// A rule of b's for a, with these ports.
fn for_a(ports: &str) -> String {
    format!("{{action: allow, {FROM_A}, ports: [{{protocol: tcp, {ports}}}]}}")
}

/// A workload as it is at first, but with this label and port.
fn workload(host: Host, name: &str, app: &str, port: &str) -> String {
    let [.., last] = host.v4;
    format!(
        "kind: Workload\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nspec:\n  network: net\n  interfaces: \
         [{{mac: \"02:00:00:00:00:{last:02x}\", ips: [10.1.0.{last}, \"fd00:1::{last:x}\"], attachment: {{switch: hv1, \
         port: {port}}}}}]\n"
    )
}

fn clients(cidrs: &[&str]) -> String {
    format!("kind: AddressSet\nmetadata: {{name: clients}}\nspec: {{cidrs: [{}]}}", cidrs.join(", "))
}

fn tightenings() -> Vec<Tightening> {
    let usual = || vec![OUT.to_owned(), web(&[&for_a("port: 80"), FROM_C])];
    let closed = "web/builtin/isolation";
    let tightening = |name, documents, change, cause| Tightening {
        name,
        documents,
        network: "",
        change,
        forbidden: (A, B, 80),
        cause,
        unrelated: (C, B, 80),
    };
    let zone = "kind: Zone\nmetadata: {name: shut}\nspec: {network: net, selector: {matchLabels: {app: b}}, isolate: [ingress]}";
    let (both, one) = (["198.51.100.0/24", "\"2001:db8::/64\""], ["198.51.100.7/32", "\"2001:db8::7/128\""]);
    let from_set = "{action: allow, from: [{addressSet: clients}]}";
    vec![
        tightening("a rule is deleted", usual(), web(&[FROM_C]), closed),
        Tightening {
            unrelated: (A, B, 81),
            forbidden: (A, B, 88),
            ..tightening(
                "ports are narrowed",
                vec![OUT.into(), web(&[&for_a("port: 80, endPort: 90")])],
                web(&[&for_a("port: 80, endPort: 85")]),
                closed,
            )
        },
        tightening(
            "a deny is put above",
            usual(),
            for_b("stop", "tier: emergency", &format!("{{name: no-a, action: deny, {FROM_A}}}")),
            "stop/no-a",
        ),
        tightening("the source is relabelled", usual(), workload(A, "a", "other", "a"), closed),
        Tightening {
            unrelated: (A, C, 80),
            ..tightening(
                "the destination is relabelled",
                [usual(), vec![for_app("c", "c-web", "priority: 1", "{action: allow}")]].concat(),
                workload(B, "b", "other", "b"),
                DEFAULT,
            )
        },
        Tightening {
            forbidden: (OTHER, B, 80),
            unrelated: (EXT, B, 80),
            ..tightening(
                "an address set shrinks",
                vec![OUT.into(), clients(&both), web(&[from_set])],
                clients(&one),
                closed,
            )
        },
        Tightening {
            network: "defaultAction: allow",
            unrelated: (A, C, 80),
            ..tightening("a zone isolates", Vec::new(), zone.into(), "builtin/zone-isolation (shut)")
        },
    ]
}

fn relabelled() -> Case {
    let rules = [
        &for_a("port: 80")[..],
        "{action: allow, from: [{matchLabels: {app: other}}], ports: [{protocol: tcp, port: 81}]}",
    ];
    let mut case = Case::new("a relabelled workload has what its new labels have", &[OUT, &web(&rules)]);
    let closed = "web/builtin/isolation";
    for (app, open, shut) in [("other", 81, 80), ("a", 80, 81), ("other", 81, 80)] {
        case.apply(&workload(A, "a", app, "a"));
        case.syn(A, B, open, Delivered("b"));
        case.refused(A, B, shut, closed);
    }
    case
}

fn moved() -> Case {
    let mut case = Case::new("a workload moves to another port", &[OUT, &web(&[&for_a("port: 80")])]);
    let here = case.open(A, B, 80);
    let there = Host { port: SPARE, ..A };
    case.apply(&workload(A, "a", "a", SPARE));
    // Its connections move with it.
    case.passes(here.with(there, B));
    case.syn(there, B, 81, Dropped("web/builtin/isolation"));
    for v6 in [false, true] {
        case.send("a", A.to(&B, v6).tcp(SYN, 40_100, 80), Dropped("builtin/miss-classify"));
    }
    case.send("a", A.to(&B, false).arp(A.mac), Dropped("builtin/miss-classify"));
    let answer = vec![(Field::ArpOp, 2), (Field::ArpSpa, u32::from_be_bytes(A.v4).into())];
    case.send("b", B.to(&A, false).arp(B.mac), Answered(answer));
    case.apply(&workload(A, "a", "a", "a"));
    case.passes(here);
    case.send(SPARE, A.to(&B, false).tcp(SYN, 40_101, 80), Dropped("builtin/miss-classify"));
    case
}

fn removed() -> Case {
    let mut case = Case::new("a workload is removed", &[OUT, &web(&[&for_a("port: 80")])]);
    let live = case.open(A, B, 80);
    let unrelated = case.open(B, EXT, 80);
    case.delete("Workload", "a");
    case.lives(unrelated);
    for v6 in [false, true] {
        case.send("a", A.to(&B, v6).tcp(SYN, 40_102, 80), Dropped("builtin/miss-classify"));
    }
    // Its addresses are nobody's now: they are asked for at the uplink, and nothing from outside reaches them.
    case.send("b", B.to(&A, false).arp(B.mac), Delivered("uplink0"));
    case.send("b", B.to(&A, true).solicit(), Delivered("uplink0"));
    case.syn(EXT, A, 80, Dropped("builtin/transit"));
    case.answers_cut(live, "web/builtin/isolation");
    // Whoever has them next has its own permissions.
    case.apply(&workload(A, "a", "a", SPARE));
    case.passes(live.with(Host { port: SPARE, ..A }, B));
    case
}

fn modes() -> Case {
    let zone = |mode| {
        format!(
            "kind: Zone\nmetadata: {{name: shop}}\nspec: {{network: net, selector: {{matchLabels: {{app: b}}}}, mode: {mode}}}"
        )
    };
    let mut case = Case::new("a zone's mode", &[OUT, &web(&[FROM_C]), &zone("enforce")]);
    let closed = "web/builtin/isolation";
    case.refused(A, B, 80, closed);
    for _ in 0..2 {
        case.apply(&zone("monitor"));
        let live = case.open(A, B, 80);
        let allowed = case.open(C, B, 80);
        case.apply(&zone("enforce"));
        // Its end is somebody else now, and is so once the switch forgot who it was.
        case.passes(allowed);
        case.cut(live, closed);
        case.refused(A, B, 80, closed);
    }
    case
}
