//! Select groups: how a flow chooses among several ports (OF 1.3.5 §5.6.1).
//!
//! One group for each set of ports that some entry of ours chooses among. A set never changes: an entry that is to
//! choose among others gets another group, in the same bundle. A group that no entry uses any more goes a moment later:
//! what Open vSwitch has decided about a connection names the group until it has looked at it again, and without the group
//! it would drop the connection's packets.
//! A bucket watches its port, so that the switch itself leaves out those whose link is down.

use crate::{
    error::LowerError,
    flow::{Flow, FlowKey},
};
use bulkhead_openflow::wire::{
    action::Action,
    group::{ANY, Bucket, GroupCommand, GroupDesc, GroupMod, GroupType},
    instruction::Instruction,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Top byte of the numbers of our groups; all others are foreign, and never touched.
pub const GROUP_OWNER: u32 = 0xb1 << 24;
/// The bits by which groups are known as ours.
pub const GROUP_MASK: u32 = 0xff << 24;
/// Numbers above it would be another's, see [`GROUP_MASK`].
const LAST: u32 = GROUP_OWNER | !GROUP_MASK;
/// How long a group stays when no flow uses it any more. Open vSwitch looks at what it has decided twice a second, and
/// less often under load (`max-revalidator` in ovs-vswitchd.conf.db(5)).
const GRACE: Duration = Duration::from_secs(5);
/// Every bucket has the same share.
const WEIGHT: u16 = 1;

/// Our groups on a switch, and the flows that use them. Numbers of groups are nobody's business but the switch's: which
/// group a set of ports has depends on what was there before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// The ports of each; `None` for one that is in our range and not as we make them.
    ports: BTreeMap<u32, Option<BTreeSet<u32>>>,
    numbers: BTreeMap<BTreeSet<u32>, u32>,
    /// The groups that a flow names, and the flow's cookie.
    users: BTreeMap<FlowKey, (u64, BTreeSet<u32>)>,
    /// Groups that no flow uses, and since when.
    unused: BTreeMap<u32, Duration>,
}

impl Groups {
    /// Those that a switch tells. Foreign ones are left out.
    pub fn told(all: &[GroupDesc]) -> Self {
        let mut groups = Self::default();
        for told in all.iter().filter(|told| told.id & GROUP_MASK == GROUP_OWNER) {
            let ports = ports_of(told);
            if let Some(ports) = &ports {
                groups.numbers.insert(ports.clone(), told.id);
            }
            groups.ports.insert(told.id, ports);
        }
        groups
    }

    /// The ports of a group that is as we make them.
    pub fn ports(&self, number: u32) -> Option<&BTreeSet<u32>> {
        self.ports.get(&number)?.as_ref()
    }

    /// The group of these ports, a new one if there is none.
    pub fn number(&mut self, ports: BTreeSet<u32>) -> Result<u32, LowerError> {
        if let Some(number) = self.numbers.get(&ports) {
            return Ok(*number);
        }
        // The first number that is free; taken ones are in order.
        let taken = self.ports.keys();
        let free = taken.fold(GROUP_OWNER, |free, taken| if *taken == free { free.saturating_add(1) } else { free });
        if free > LAST {
            return Err(LowerError::Groups);
        }
        self.numbers.insert(ports.clone(), free);
        self.ports.insert(free, Some(ports));
        Ok(free)
    }

    /// A flow is there, and uses the groups that it names.
    pub fn using(&mut self, flow: &Flow) {
        let named: BTreeSet<u32> = flow.instructions.iter().flat_map(named).collect();
        if named.is_empty() {
            self.users.remove(&flow.key);
        } else {
            self.users.insert(flow.key.clone(), (flow.cookie, named));
        }
    }

    /// A flow is no longer there, if its cookie is this one under this mask.
    pub fn gone(&mut self, key: &FlowKey, cookie: u64, mask: u64) {
        if self.users.get(key).is_some_and(|(has, _)| has & mask == cookie & mask) {
            self.users.remove(key);
        }
    }

    /// Looks at which groups no flow uses now.
    pub fn look(&mut self, now: Duration) {
        let used: BTreeSet<u32> = self.users.values().flat_map(|(_, used)| used).copied().collect();
        let unused = self.ports.keys().filter(|number| !used.contains(number));
        self.unused = unused.map(|number| (*number, self.unused.get(number).copied().unwrap_or(now))).collect();
    }

    /// When the next group goes, unless a flow uses it by then.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.unused.values().min().map(|since| *since + GRACE)
    }

    /// Forgets the groups that no flow has used for long enough; which.
    pub fn sweep(&mut self, now: Duration) -> Vec<u32> {
        let gone: Vec<u32> =
            self.unused.iter().filter(|(_, since)| **since + GRACE <= now).map(|(number, _)| *number).collect();
        for number in &gone {
            self.unused.remove(number);
            self.ports.remove(number);
        }
        self.numbers.retain(|_, number| self.ports.contains_key(number));
        gone
    }

    /// What makes the groups that were not there `before`.
    pub fn additions(&self, before: &Self) -> impl Iterator<Item = GroupMod> {
        let new = self.ports.iter().filter(|(number, _)| !before.ports.contains_key(number));
        new.filter_map(|(number, ports)| Some(change(GroupCommand::Add, *number, ports.as_ref()?)))
    }
}

/// The groups of ours that an instruction names.
fn named(instruction: &Instruction) -> impl Iterator<Item = u32> {
    let actions = match instruction {
        Instruction::ApplyActions(actions) => actions.as_slice(),
        _ => &[],
    };
    actions.iter().filter_map(|action| match action {
        Action::Group(number) if number & GROUP_MASK == GROUP_OWNER => Some(*number),
        _ => None,
    })
}

fn bucket(port: u32) -> Bucket {
    Bucket { weight: WEIGHT, watch_port: port, watch_group: ANY, actions: vec![Action::output(port)] }
}

fn change(command: GroupCommand, id: u32, ports: &BTreeSet<u32>) -> GroupMod {
    let buckets = ports.iter().copied().map(bucket).collect();
    GroupMod { command, kind: GroupType::Select, id, buckets }
}

/// What takes a group away.
pub(crate) fn removal(number: u32) -> GroupMod {
    change(GroupCommand::Delete, number, &BTreeSet::new())
}

/// The ports of a group that is as we make them, buckets in order.
fn ports_of(told: &GroupDesc) -> Option<BTreeSet<u32>> {
    let port = |bucket: &Bucket| match bucket.actions.as_slice() {
        [Action::Output { port, .. }] => Some(*port),
        _ => None,
    };
    let ports: BTreeSet<u32> = told.buckets.iter().map(port).collect::<Option<_>>()?;
    let ours = change(GroupCommand::Add, told.id, &ports);
    (ports.len() > 1 && told.kind == ours.kind && told.buckets == ours.buckets).then_some(ports)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
