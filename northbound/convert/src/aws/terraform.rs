//! Terraform's state, as `terraform show -json` prints it.

use super::{
    Import,
    rule::{Peers, service},
};
use crate::{
    finding::short,
    value::{Reader, Value},
};
use bulkhead_policy::model::Direction;

/// What is done with a resource: its type, its values, what findings call it.
type Visit<'v> = &'v mut dyn FnMut(&mut Import, &str, &Value<'_>, &str);

/// Visits all resources of a state, those of modules too. `data`: only what was looked up, or only what is managed.
fn each(import: &mut Import, root: &Value<'_>, data: Option<bool>, visit: Visit<'_>) {
    let Some(values) = root.field("values") else { return };
    let mut modules: Vec<Value<'_>> = values.field("root_module").into_iter().collect();
    while let Some(module) = modules.pop() {
        for resource in module.field("resources").iter().flat_map(Value::items) {
            let looked_up = resource.text_of("mode") == Some("data");
            if data.is_some_and(|data| data != looked_up) {
                continue;
            }
            let (Some(kind), Some(values)) = (resource.text_of("type"), resource.field("values")) else { continue };
            let called = short(resource.text_of("address").unwrap_or(kind));
            visit(import, kind, &values, &called);
        }
        modules.extend(module.field("child_modules").iter().flat_map(Value::items));
    }
}

/// Learns what is in prefix lists, managed or looked up.
pub(super) fn prefix_lists(import: &mut Import, file: &str, root: &Value<'_>) {
    each(import, root, None, &mut |import, kind, values, called| {
        let (list, fields) = match kind {
            "aws_ec2_managed_prefix_list" => ("id", ["entry", "entries"]),
            "aws_prefix_list" => ("id", ["cidr_blocks", ""]),
            "aws_ec2_managed_prefix_list_entry" => ("prefix_list_id", ["", ""]),
            _ => return,
        };
        let Some(id) = values.text_of(list) else { return };
        let mut cidrs: Vec<Value<'_>> = values.field("cidr").into_iter().collect();
        for item in
            fields.iter().filter_map(|field| values.field(field)).flat_map(|list| list.items().collect::<Vec<_>>())
        {
            cidrs.push(item.field("cidr").unwrap_or(item));
        }
        let mut reader = Reader { file, object: called.into(), found: &mut import.found };
        let entries = import.lists.entry(id.into()).or_default();
        for cidr in cidrs {
            match cidr.as_text().and_then(|text| text.parse().ok()) {
                Some(net) => entries.push(net),
                None => reader.refuse(&cidr, "an entry of a prefix list that is no CIDR", ""),
            }
        }
    });
}

/// Takes in the groups, with the rules that are said at them.
pub(super) fn groups(import: &mut Import, file: &str, root: &Value<'_>) {
    if root.field("values").is_none() {
        let hint = "apply the plan, and give what `terraform show -json` prints then";
        match root.field("planned_values") {
            Some(plan) => import.reader(file, String::new()).refuse(
                &plan,
                "this is a plan: what AWS will answer is not known in it",
                hint,
            ),
            None => import.reader(file, String::new()).warn(root, "this state has nothing in it", ""),
        }
    }
    each(import, root, Some(false), &mut |import, kind, values, called| {
        if !matches!(kind, "aws_security_group" | "aws_default_security_group") {
            return;
        }
        let Some(id) = values.text_of("id") else {
            import.reader(file, called.into()).refuse(values, "`id` is missing", "");
            return;
        };
        if !import.group(file, values, called, id) {
            return;
        }
        for (field, direction) in [("ingress", Direction::Ingress), ("egress", Direction::Egress)] {
            let mut reader = import.reader(file, called.into());
            let Some(rules) = reader.list(values, field) else {
                reader.warn(values, format!("`{field}` is missing: nothing is allowed but by rules of their own"), "");
                continue;
            };
            for rule in &rules {
                let known = [
                    "cidr_blocks",
                    "description",
                    "from_port",
                    "ipv6_cidr_blocks",
                    "prefix_list_ids",
                    "protocol",
                    "security_groups",
                    "self",
                    "to_port",
                ];
                import.reader(file, called.into()).only(rule, &known);
                self::rule(import, file, called, rule, id, direction, "protocol");
            }
        }
    });
}

/// Takes in the rules that are resources of their own.
pub(super) fn rules(import: &mut Import, file: &str, root: &Value<'_>) {
    each(import, root, Some(false), &mut |import, kind, values, called| {
        let (direction, protocol) = match kind {
            "aws_security_group_rule" => {
                let direction = match values.text_of("type") {
                    Some("ingress") => Direction::Ingress,
                    Some("egress") => Direction::Egress,
                    _ => {
                        import.reader(file, called.into()).refuse(values, "`type` is ingress or egress", "");
                        return;
                    }
                };
                (direction, "protocol")
            }
            "aws_vpc_security_group_ingress_rule" => (Direction::Ingress, "ip_protocol"),
            "aws_vpc_security_group_egress_rule" => (Direction::Egress, "ip_protocol"),
            _ => return,
        };
        let Some(id) = values.text_of("security_group_id") else {
            import.reader(file, called.into()).refuse(values, "`security_group_id` is missing", "");
            return;
        };
        if !import.groups.contains_key(id) {
            let message = format!("the group {} is not in these files: this rule is left out", short(id));
            import.reader(file, called.into()).warn(values, message, "");
            return;
        }
        rule(import, file, called, values, id, direction, protocol);
    });
}

fn rule(import: &mut Import, file: &str, called: &str, at: &Value<'_>, id: &str, direction: Direction, protocol: &str) {
    let lists = std::mem::take(&mut import.lists);
    let mut reader = import.reader(file, called.into());
    let allowed = service(&mut reader, at, [protocol, "from_port", "to_port"]);
    let mut peers = Peers::default();
    for field in ["cidr_blocks", "ipv6_cidr_blocks"] {
        reader.list(at, field).iter().flatten().for_each(|value| peers.cidr(&mut reader, value));
    }
    for field in ["cidr_ipv4", "cidr_ipv6"] {
        at.field(field).iter().for_each(|value| peers.cidr(&mut reader, value));
    }
    reader.list(at, "security_groups").iter().flatten().for_each(|value| peers.group(&mut reader, value));
    for field in ["source_security_group_id", "referenced_security_group_id"] {
        at.field(field).iter().for_each(|value| peers.group(&mut reader, value));
    }
    reader.list(at, "prefix_list_ids").iter().flatten().for_each(|value| peers.list(&mut reader, value, &lists));
    at.field("prefix_list_id").iter().for_each(|value| peers.list(&mut reader, value, &lists));
    if reader.flag(at, "self") {
        peers.member(id);
    }
    import.lists = lists;
    if let Some(allowed) = allowed {
        import.allow((file, called, at), id, direction, peers.rule(allowed));
    }
}
