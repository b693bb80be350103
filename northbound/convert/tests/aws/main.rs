//! Security groups, imported: they mean what AWS says.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod mistakes;

use bulkhead_convert::{File, Imported, aws};
use bulkhead_policy::{Change, Decision, Flow, Service, Severity, State, verdict};
use bulkhead_topology::Name;
use bulkhead_types::load;
use proptest::{collection::vec, prelude::*, sample::select, sample::subsequence};
use serde_json::{Value, json};
use std::net::IpAddr;

const GROUPS: [&str; 3] = ["sg-0a", "sg-0b", "sg-0c"];
const CIDRS: [&str; 4] = ["10.0.0.0/24", "10.0.0.1/32", "192.0.2.0/24", "0.0.0.0/0"];
const CIDRS6: [&str; 3] = ["fd00::/64", "fd00::2/128", "::/0"];
const MACHINES: u8 = 5;

/// A rule in its own words: protocol, two numbers, and whom it is about.
#[derive(Debug, Clone)]
struct Rule {
    protocol: &'static str,
    ports: Option<(i32, i32)>,
    cidrs: Vec<&'static str>,
    cidrs6: Vec<&'static str>,
    groups: Vec<&'static str>,
}

#[derive(Debug, Clone)]
struct Group {
    id: &'static str,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

fn import(text: &str) -> Imported {
    aws::import(&[File { name: "f", content: text.as_bytes() }])
}

/// As `describe-security-groups` has it.
fn described(groups: &[Group]) -> Value {
    let permission = |rule: &Rule| {
        let mut value = json!({
            "IpProtocol": rule.protocol,
            "IpRanges": rule.cidrs.iter().map(|cidr| json!({"CidrIp": cidr, "Description": "x"})).collect::<Vec<_>>(),
            "Ipv6Ranges": rule.cidrs6.iter().map(|cidr| json!({"CidrIpv6": cidr})).collect::<Vec<_>>(),
            "UserIdGroupPairs": rule.groups.iter().map(|id| json!({"GroupId": id, "UserId": "1"})).collect::<Vec<_>>(),
            "PrefixListIds": [],
        });
        if let Some((from, to)) = rule.ports {
            value["FromPort"] = json!(from);
            value["ToPort"] = json!(to);
        }
        value
    };
    let group = |group: &Group| {
        json!({
            "GroupId": group.id, "GroupName": "x", "OwnerId": "1", "VpcId": "vpc-1",
            "IpPermissions": group.ingress.iter().map(permission).collect::<Vec<_>>(),
            "IpPermissionsEgress": group.egress.iter().map(permission).collect::<Vec<_>>(),
        })
    };
    json!({"SecurityGroups": groups.iter().map(group).collect::<Vec<_>>()})
}

/// As Terraform's state has it: rules at their groups, and every second one as a resource of its own.
fn terraformed(groups: &[Group]) -> Value {
    let (mut root, mut child) = (Vec::new(), Vec::new());
    for group in groups {
        let inline = |rule: &Rule| {
            let (from, to) = rule.ports.unwrap_or(if rule.protocol == "-1" { (0, 0) } else { (-1, -1) });
            let others: Vec<_> = rule.groups.iter().filter(|id| **id != group.id).collect();
            json!({
                "protocol": rule.protocol, "from_port": from, "to_port": to, "cidr_blocks": rule.cidrs,
                "ipv6_cidr_blocks": rule.cidrs6, "security_groups": others, "self": rule.groups.contains(&group.id),
                "prefix_list_ids": [], "description": "",
            })
        };
        let mut values = json!({"id": group.id, "name": "x", "revoke_rules_on_delete": false});
        for (field, rules) in [("ingress", &group.ingress), ("egress", &group.egress)] {
            values[field] = rules.iter().map(inline).collect();
            for rule in rules.iter().skip(1) {
                let mut alone = inline(rule);
                let fields = alone.as_object_mut().unwrap();
                fields.insert("type".into(), json!(field));
                fields.insert("security_group_id".into(), json!(group.id));
                child.push(json!({"address": "module.m.aws_security_group_rule.r", "mode": "managed", "type": "aws_security_group_rule", "values": alone}));
            }
        }
        root.push(json!({"address": "aws_security_group.g", "mode": "managed", "type": "aws_security_group", "values": values}));
    }
    json!({"format_version": "1.0", "terraform_version": "1.9.0", "values": {
        "root_module": {"resources": root, "child_modules": [{"address": "module.m", "resources": child}]}}})
}

fn within(cidr: &str, ip: IpAddr) -> bool {
    let (net, length) = cidr.split_once('/').unwrap();
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => format!("{:032b}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:0128b}", v6.to_bits()),
    };
    let (net, ip) = (bits(net.parse().unwrap()), bits(ip));
    net.len() == ip.len() && ip.starts_with(&net[..length.parse().unwrap()])
}

/// What AWS says of one rule.
fn allows(rule: &Rule, ip: IpAddr, member_of: &[&str], service: Service) -> bool {
    let whom = rule.cidrs.iter().chain(&rule.cidrs6).any(|cidr| within(cidr, ip))
        || rule.groups.iter().any(|group| member_of.contains(group));
    let (from, to) = rule.ports.unwrap_or((-1, -1));
    let ports = |number: u8, port: u16| {
        let named = match rule.protocol {
            "tcp" => 6,
            "udp" => 17,
            other => other.parse().unwrap_or_default(),
        };
        named == number && (from == -1 || (from..=to).contains(&i32::from(port)) || named == 132)
    };
    let what = match service {
        _ if rule.protocol == "-1" => true,
        Service::Port { protocol, port } => ports(protocol, port),
        Service::Icmp { protocol, icmp_type, code } => {
            rule.protocol == (if protocol == 1 { "icmp" } else { "icmpv6" })
                && (from == -1 || (from == i32::from(icmp_type) && (to == -1 || to == i32::from(code))))
        }
        Service::Protocol(number) => rule.protocol == number.to_string(),
    };
    whom && what
}

fn rule() -> impl Strategy<Value = Rule> {
    let service = prop_oneof![
        Just(("-1", None)),
        (select(&["tcp", "udp"][..]), select(&[(80, 80), (0, 65535), (1000, 9000), (443, 8080)][..]))
            .prop_map(|(protocol, ports)| (protocol, Some(ports))),
        (select(&["icmp", "icmpv6"][..]), select(&[(-1, -1), (8, -1), (8, 0), (3, 4), (128, 0)][..]))
            .prop_map(|(protocol, ports)| (protocol, Some(ports))),
        select(&["47", "132"][..]).prop_map(|protocol| (protocol, None)),
    ];
    let whom = (subsequence(&CIDRS[..], 0..2), subsequence(&CIDRS6[..], 0..2), subsequence(&GROUPS[..], 0..2));
    (service, whom).prop_map(|((protocol, ports), (cidrs, cidrs6, groups))| Rule {
        protocol,
        ports,
        cidrs,
        cidrs6,
        groups,
    })
}

fn groups() -> impl Strategy<Value = Vec<Group>> {
    let one = |id: &'static str| {
        (vec(rule(), 0..4), vec(rule(), 0..4)).prop_map(move |(ingress, egress)| Group { id, ingress, egress })
    };
    GROUPS.map(one).into_iter().collect::<Vec<_>>()
}

/// The groups that each machine is in, at least one.
fn memberships() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    vec(subsequence(&GROUPS[..], 1..=3), usize::from(MACHINES))
}

fn state(imported: &Imported, memberships: &[Vec<&str>]) -> State {
    let network =
        r#"{"kind":"Network","metadata":{"name":"prod"},"spec":{"vni":7,"subnets":["10.0.0.0/24","fd00::/64"]}}"#;
    let machine = |(i, groups): (usize, &Vec<&str>)| {
        let labels: serde_json::Map<_, _> =
            groups.iter().map(|group| (format!("security-group.aws/{group}"), json!("member"))).collect();
        json!({"kind": "Workload", "metadata": {"name": format!("m{i}"), "labels": labels}, "spec": {"network": "prod",
            "interfaces": [{"mac": format!("02:00:00:00:00:0{}", i + 1), "ips": [format!("10.0.0.{}", i + 1), format!("fd00::{}", i + 1)]}]}})
    };
    let documents: Vec<String> =
        memberships.iter().enumerate().map(|machine_of| machine(machine_of).to_string()).collect();
    let fabric =
        std::iter::once(network).chain(documents.iter().map(String::as_str)).map(|document| load(document).unwrap());
    let changes: Vec<Change> = fabric.chain(imported.resources.iter().cloned()).map(Change::set).collect();
    let mut state = State::default();
    let found = state.check(&changes);
    assert!(found.iter().all(|found| found.severity != Severity::Error), "{found:#?}");
    state.apply(&changes);
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn groups_mean_what_aws_says(groups in groups(), memberships in memberships()) {
        let imported = import(&described(&groups).to_string());
        prop_assert!(imported.diagnostics.is_empty(), "{:#?}", imported.diagnostics);
        let state = state(&imported, &memberships);
        let network: Name = "prod".parse().unwrap();
        let ports = |protocol| [80, 443, 5000, 9001].map(move |port| Service::Port { protocol, port });
        let icmp = [(1, 8, 0), (1, 8, 1), (1, 3, 4), (58, 128, 0)];
        let icmp = icmp.map(|(protocol, icmp_type, code)| Service::Icmp { protocol, icmp_type, code });
        let mut services: Vec<Service> = [6, 17, 132].into_iter().flat_map(ports).chain(icmp).collect();
        services.push(Service::Protocol(47));
        let ends = |v6: bool| {
            let own = (1..=MACHINES).map(move |i| if v6 { format!("fd00::{i}") } else { format!("10.0.0.{i}") });
            let outside = if v6 { ["2001:db8::1"] } else { ["192.0.2.9"] };
            own.chain(outside.map(String::from)).map(|ip| ip.parse::<IpAddr>().unwrap()).collect::<Vec<_>>()
        };
        for v6 in [false, true] {
            let ends = ends(v6);
            for (i, from) in ends.iter().enumerate() {
                for (j, to) in ends.iter().enumerate().filter(|(j, _)| *j != i) {
                    for service in services.iter().filter(|s| !matches!(s, Service::Icmp { protocol, .. } if (*protocol == 58) != v6)) {
                        let of = |i: usize| memberships.get(i).cloned().unwrap_or_default();
                        let (source, destination) = (of(i), of(j));
                        let rules = |group: &&Group, egress: bool| if egress { group.egress.clone() } else { group.ingress.clone() };
                        let side = |own: &[&str], other: &[&str], ip: IpAddr, egress: bool| {
                            own.is_empty() || groups.iter().filter(|group| own.contains(&group.id))
                                .any(|group| rules(&group, egress).iter().any(|rule| allows(rule, ip, other, *service)))
                        };
                        let said = side(&source, &destination, *to, true) && side(&destination, &source, *from, false);
                        let is = verdict(&state, &Flow::between(&state, &network, *from, *to, *service)).decision == Decision::Allow;
                        prop_assert_eq!(said, is, "{} to {} {:?}", from, to, service);
                    }
                }
            }
        }
    }

    #[test]
    fn terraforms_state_says_the_same(groups in groups()) {
        let (one, other) = (import(&described(&groups).to_string()), import(&terraformed(&groups).to_string()));
        prop_assert_eq!(one, other);
    }
}
