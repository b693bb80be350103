//! A step: what a bundle holds, and how far it has come.

use super::parts::PART_SHIFT;
use crate::{
    flow::{Flow, FlowKey},
    groups::Groups,
};
use bulkhead_openflow::{FlowCommand, FlowMod, wire::group::GroupMod};
use bulkhead_pipeline::{Delta, render_entry};

/// What was put into a bundle, to name it when the switch refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Stray,
    Remove(usize),
    Add(usize),
    Group(u32),
}

/// What a bundle does.
pub(super) enum Change {
    Flow(FlowMod),
    Group(GroupMod),
}

/// What a bundle holds, by transaction id.
#[derive(Debug)]
pub(super) struct Items(Vec<(u32, Item)>);

impl Items {
    pub fn new(mut items: Vec<(u32, Item)>) -> Self {
        // They are in order already, unless the transaction ids began again among them.
        items.sort_unstable_by_key(|item| item.0);
        Self(items)
    }

    pub fn get(&self, xid: u32) -> Option<Item> {
        let at = self.0.binary_search_by_key(&xid, |item| item.0).ok()?;
        self.0.get(at).map(|item| item.1)
    }
}

/// A step on its way.
#[derive(Debug)]
pub(super) struct Step {
    pub number: u64,
    pub delta: Delta,
    /// The groups that there are once it is in force.
    pub groups: Groups,
    pub bundle: u32,
    pub items: Items,
    pub open: u32,
    /// The barrier behind the changes, then the one behind the commit.
    pub barrier: u32,
    pub commit: Option<u32>,
    pub committed: bool,
    /// Why it is refused: the first complaint about an entry, or else about the bundle.
    pub complaint: Option<String>,
    /// Whether the complaint names an entry.
    pub named: bool,
}

pub(super) fn removal(key: FlowKey, cookie: u64, cookie_mask: u64) -> FlowMod {
    FlowMod {
        table: key.table,
        priority: key.priority,
        matching: key.matches,
        cookie,
        cookie_mask,
        ..FlowMod::new(FlowCommand::DeleteStrict)
    }
}

pub(super) fn addition(flow: Flow, part: u64) -> FlowMod {
    FlowMod {
        table: flow.key.table,
        priority: flow.key.priority,
        matching: flow.key.matches,
        cookie: flow.cookie | part << PART_SHIFT,
        instructions: flow.instructions,
        ..FlowMod::new(FlowCommand::Add)
    }
}

pub(super) fn describe(item: Item, delta: &Delta) -> String {
    let text = match item {
        Item::Stray => None,
        Item::Remove(at) => delta.remove.get(at).map(|key| format!("removal of {key:?}")),
        Item::Add(at) => delta.add.get(at).map(render_entry),
        Item::Group(number) => Some(format!("group {number:#x} of ports")),
    };
    text.unwrap_or_else(|| "removal of an entry that is not ours".into())
}
