//! What cannot be imported or is narrowed, and what is said of it.

use super::import;
use bulkhead_policy::{Resource, model::Peer};
use bulkhead_types::Severity;
use serde_json::{Value, json};

fn said(text: &str) -> (Vec<Resource>, Vec<String>) {
    let imported = import(text);
    let said = imported.diagnostics.iter().map(|found| {
        let severity = if found.severity == Severity::Error { "error" } else { "warning" };
        format!("{severity} {} {}: {}", found.resource.as_deref().unwrap_or_default(), found.path, found.message)
    });
    (imported.resources, said.collect())
}

/// A group with one permission.
fn group(permission: Value) -> String {
    json!({"SecurityGroups": [{"GroupId": "sg-1", "IpPermissions": [permission], "IpPermissionsEgress": []}]})
        .to_string()
}

fn peers(resources: &[Resource]) -> Option<Vec<Peer>> {
    match &resources[0] {
        Resource::Policy(policy) => policy.ingress[0].peers.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn prefix_lists_are_left_out_and_told_unless_their_entries_are_there() {
    let permission = json!({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]});
    let (resources, found) = said(&group(permission));
    assert_eq!(peers(&resources), Some(vec![]), "not `None`, which is anyone");
    assert_eq!(
        found,
        ["warning SecurityGroup/sg-1 IpPermissions[0].PrefixListIds[0].PrefixListId: what is in prefix list pl-1 is not in \
          these files: it is left out"]
        .map(|text| text.replace("IpPermissions", "SecurityGroups[0].IpPermissions"))
    );
    let state = |lists: Value| {
        let rule = json!({"security_group_id": "sg-1", "ip_protocol": "tcp", "from_port": 1, "to_port": 2, "prefix_list_id": "pl-1"});
        let group = json!({"id": "sg-1", "ingress": [], "egress": []});
        json!({"values": {"root_module": {"resources": [
            {"type": "aws_vpc_security_group_ingress_rule", "mode": "managed", "address": "rule", "values": rule},
            {"type": "aws_security_group", "mode": "managed", "address": "group", "values": group},
            lists,
        ]}}})
        .to_string()
    };
    for lists in [
        json!({"type": "aws_ec2_managed_prefix_list", "values": {"id": "pl-1", "entry": [{"cidr": "10.0.0.0/8"}]}}),
        json!({"type": "aws_prefix_list", "mode": "data", "values": {"id": "pl-1", "cidr_blocks": ["10.0.0.0/8"]}}),
        json!({"type": "aws_ec2_managed_prefix_list_entry", "values": {"prefix_list_id": "pl-1", "cidr": "10.0.0.0/8"}}),
    ] {
        let (resources, found) = said(&state(lists));
        assert!(matches!(peers(&resources).unwrap().as_slice(), [Peer::Cidr(set)] if set.cidrs.len() == 1));
        assert_eq!(
            found,
            ["warning rule values.root_module.resources[0].values.prefix_list_id: the entries of prefix list pl-1 \
                            are taken as they are now"]
        );
    }
}

#[test]
fn what_is_refused_says_where_and_why() {
    let at = "SecurityGroup/sg-1 SecurityGroups[0].IpPermissions[0]";
    for (text, expected) in [
        (
            group(json!({"IpProtocol": "tcp", "FromPort": 80, "ToPort": 79})),
            format!("error {at}: 80 and 79 do not go with tcp"),
        ),
        (group(json!({"IpProtocol": "tcp", "FromPort": 80})), format!("error {at}: 80 and -1 do not go with tcp")),
        (
            group(json!({"IpProtocol": "icmp", "FromPort": -1, "ToPort": 3})),
            format!("error {at}: -1 and 3 do not go with icmp"),
        ),
        (group(json!({"IpProtocol": "gre"})), format!("error {at}.IpProtocol: `gre` is not a protocol")),
        (group(json!({"IpProtocol": "256"})), format!("error {at}.IpProtocol: `256` is not a protocol")),
        (group(json!({"FromPort": 1})), format!("error {at}: `IpProtocol` is missing")),
        (
            group(json!({"IpProtocol": "tcp", "FromPort": 65536, "ToPort": 65536})),
            format!("error {at}.FromPort: a number from -1 to 65535 is expected here"),
        ),
        (
            group(json!({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.1/8"}]})),
            format!("error {at}.IpRanges[0].CidrIp: `10.0.0.1/8` is no CIDR"),
        ),
        (group(json!({"IpProtocol": "-1", "Unless": []})), format!("error {at}.Unless: `Unless` is not known here")),
        (
            group(json!({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "a b"}]})),
            format!("error {at}.UserIdGroupPairs[0].GroupId: `a b` is no group's id"),
        ),
        ("{}".into(), "error  : neither security groups nor Terraform's state".into()),
        (r#"{"SecurityGroups":[{}]}"#.into(), "error  SecurityGroups[0]: `GroupId` is missing".into()),
        (
            r#"{"SecurityGroups":[{"GroupId":"sg-1"},{"GroupId":"sg-1"}]}"#.into(),
            "error SecurityGroup/sg-1 SecurityGroups[1]: this group is there twice".into(),
        ),
        (
            r#"{"format_version":"1.2","planned_values":{"root_module":{}}}"#.into(),
            "error  planned_values: this is a plan: what AWS will answer is not known in it".into(),
        ),
    ] {
        let (resources, found) = said(&text);
        assert!(resources.is_empty(), "{text}");
        assert!(found.contains(&expected), "{text}\nexpected {expected}\nsaid {found:#?}");
    }
}

#[test]
fn what_is_left_out_is_told() {
    let peering = json!({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-9", "PeeringStatus": "deleted"}, {"GroupName": "x"}]});
    let (resources, found) = said(&group(peering));
    assert_eq!((peers(&resources), found.len()), (Some(vec![]), 2), "{found:?}");
    let (_, found) = said(&group(json!({"IpProtocol": "udp", "FromPort": 0, "ToPort": 9})));
    assert!(found[0].contains("port 0 is left out"), "{found:?}");
    let rule = json!({"security_group_id": "sg-9", "type": "ingress", "protocol": "-1", "cidr_blocks": ["0.0.0.0/0"]});
    let state =
        json!({"values": {"root_module": {"resources": [{"type": "aws_security_group_rule", "values": rule}]}}});
    let (resources, found) = said(&state.to_string());
    assert!(resources.is_empty() && found[0].contains("the group sg-9 is not in these files"), "{found:?}");
}

#[test]
fn a_group_with_too_many_rules_is_refused() {
    let group = |count: u32| {
        let rule = |i| json!({"IpProtocol": "-1", "IpRanges": [{"CidrIp": format!("{}/32", std::net::Ipv4Addr::from_bits(i))}]});
        let rules: Vec<Value> = (0..count).map(rule).collect();
        json!({"SecurityGroups": [{"GroupId": "sg-1", "IpPermissions": rules, "IpPermissionsEgress": []}]}).to_string()
    };
    assert_eq!(said(&group(1000)).0.len(), 1);
    let (resources, found) = said(&group(1001));
    assert!(resources.is_empty() && found[0].ends_with("more than 1000 rules of one group"), "{found:?}");
}
