//! What `aws ec2 describe-security-groups` prints.

use super::{
    Import,
    rule::{Peers, service},
};
use crate::value::Value;
use bulkhead_policy::model::Direction;

pub(super) fn groups(import: &mut Import, file: &str, root: &Value<'_>) {
    let listed = import.reader(file, String::new()).list(root, "SecurityGroups").unwrap_or_default();
    for group in &listed {
        let Some(id) = group.text_of("GroupId") else {
            import.reader(file, String::new()).refuse(group, "`GroupId` is missing", "");
            continue;
        };
        let object = format!("SecurityGroup/{}", crate::finding::short(id));
        if !import.group(file, group, &object, id) {
            continue;
        }
        for (field, direction) in [("IpPermissions", Direction::Ingress), ("IpPermissionsEgress", Direction::Egress)] {
            let mut reader = import.reader(file, object.clone());
            let Some(permissions) = reader.list(group, field) else {
                reader.warn(group, format!("`{field}` is missing: nothing is allowed"), "");
                continue;
            };
            for permission in &permissions {
                self::permission(import, file, &object, permission, id, direction);
            }
        }
    }
}

fn permission(import: &mut Import, file: &str, object: &str, at: &Value<'_>, id: &str, direction: Direction) {
    let lists = std::mem::take(&mut import.lists);
    let mut reader = import.reader(file, object.into());
    let known = ["IpProtocol", "FromPort", "ToPort", "UserIdGroupPairs", "IpRanges", "Ipv6Ranges", "PrefixListIds"];
    reader.only(at, &known);
    let allowed = service(&mut reader, at, ["IpProtocol", "FromPort", "ToPort"]);
    let mut peers = Peers::default();
    for (field, key) in [("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("PrefixListIds", "PrefixListId")] {
        for range in reader.list(at, field).unwrap_or_default() {
            let Some(value) = reader.needed(&range, key) else { continue };
            match field {
                "PrefixListIds" => peers.list(&mut reader, &value, &lists),
                _ => peers.cidr(&mut reader, &value),
            }
        }
    }
    for pair in reader.list(at, "UserIdGroupPairs").unwrap_or_default() {
        match (pair.field("GroupId"), pair.text_of("PeeringStatus").unwrap_or("active")) {
            (None, _) => reader.warn(&pair, "a group without `GroupId` is left out", "only groups of a VPC have one"),
            (Some(group), "active") => peers.group(&mut reader, &group),
            (Some(_), status) => {
                let message = format!(
                    "the peering by which this group is reached is {}: it is left out",
                    crate::finding::short(status)
                );
                reader.warn(&pair, message, "");
            }
        }
    }
    import.lists = lists;
    if let Some(allowed) = allowed {
        import.allow((file, object, at), id, direction, peers.rule(allowed));
    }
}
