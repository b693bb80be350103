//! Security groups of AWS, from `aws ec2 describe-security-groups` and from `terraform show -json`.
//!
//! A group becomes a policy of its members, which it isolates both ways; what its rules allow is allowed, and nothing
//! else. A workload is a member if it has the label `security-group.aws/ID`, with any value, so that it can be in several.

mod describe;
mod rule;
mod terraform;

use crate::{
    File, Imported,
    finding::{Findings, short},
    value::{Reader, Value},
};
use bulkhead_policy::{Key, Resource, model::*};
use bulkhead_topology::{IpNet, Name, Operator, Requirement, Selector, check_key};
use std::{collections::BTreeMap, sync::Arc};

/// What the label of a group's members begins with; the group's id follows.
pub const MEMBER: &str = "security-group.aws/";

/// Where all groups stand: none is before another, because they only allow.
const PRIORITY: u16 = 1000;

/// Most rules of one direction that are looked at. AWS has at most 1000 for all groups of an interface (Amazon VPC quotas).
const MAX_RULES: usize = 1000;

/// Those who have a group's label.
fn members(group: &str) -> Selector {
    Selector::new([Requirement::new(format!("{MEMBER}{group}").into(), Operator::Exists, [])])
}

/// Imports security groups as policies.
pub fn import(files: &[File<'_>]) -> Imported {
    let mut import = Import::default();
    let documents = import.found.read(files);
    let roots: Vec<(&str, Value<'_>)> =
        documents.iter().flat_map(|(file, nodes)| nodes.iter().map(|node| (*file, Value::root(node)))).collect();
    // What is in prefix lists is known before it is asked for.
    for (file, root) in &roots {
        terraform::prefix_lists(&mut import, file, root);
    }
    for (file, root) in &roots {
        if root.field("SecurityGroups").is_some() {
            describe::groups(&mut import, file, root);
        } else if ["values", "planned_values", "format_version"].iter().any(|key| root.field(key).is_some()) {
            terraform::groups(&mut import, file, root);
        } else {
            let hint = "expected is what `aws ec2 describe-security-groups` or `terraform show -json` prints";
            import.reader(file, String::new()).refuse(root, "neither security groups nor Terraform's state", hint);
        }
    }
    for (file, root) in &roots {
        terraform::rules(&mut import, file, root);
    }
    let Import { found, groups, .. } = import;
    let resources = groups.into_values().map(|policy| Resource::Policy(Arc::new(policy)));
    let by_name: BTreeMap<Key, Resource> = resources.map(|resource| (resource.key(), resource)).collect();
    let resources = if found.wrong() { Vec::new() } else { by_name.into_values().collect() };
    Imported { resources, diagnostics: found.into_diagnostics() }
}

/// What is read so far.
#[derive(Default)]
struct Import {
    found: Findings,
    /// Policies by their groups' ids.
    groups: BTreeMap<String, Policy>,
    /// Entries of prefix lists by the lists' ids.
    lists: BTreeMap<String, Vec<IpNet>>,
}

impl Import {
    fn reader<'f>(&'f mut self, file: &'f str, object: String) -> Reader<'f> {
        Reader { file, object, found: &mut self.found }
    }

    /// Takes a group in, as yet without rules: it isolates its members.
    fn group(&mut self, file: &str, at: &Value<'_>, object: &str, id: &str) -> bool {
        let name: Option<Name> = id.parse().ok().filter(|_| check_key(&format!("{MEMBER}{id}")).is_ok());
        let Some(name) = name else {
            self.reader(file, object.into()).refuse(at, format!("`{}` is no group's id", short(id)), "");
            return false;
        };
        let policy = Policy {
            name,
            tier: Tier::Application,
            priority: PRIORITY,
            staged: false,
            stateful: false,
            subject: Subject::Selector(members(id)),
            isolate: Sides { ingress: true, egress: true },
            ingress: Vec::new(),
            egress: Vec::new(),
        };
        if self.groups.insert(id.into(), policy).is_some() {
            self.reader(file, object.into()).refuse(at, "this group is there twice", "keep one");
            return false;
        }
        true
    }

    /// Gives a group a rule.
    fn allow(&mut self, (file, object, at): (&str, &str, &Value<'_>), group: &str, direction: Direction, rule: Rule) {
        let Some(policy) = self.groups.get_mut(group) else { return };
        let rules = match direction {
            Direction::Ingress => &mut policy.ingress,
            Direction::Egress => &mut policy.egress,
        };
        // Terraform says rules of a state at their group and by themselves.
        if rules.len() < MAX_RULES {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        } else {
            self.reader(file, object.into()).refuse(at, format!("more than {MAX_RULES} rules of one group"), "");
        }
    }
}
