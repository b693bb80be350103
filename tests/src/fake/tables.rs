//! A simulated switch's entries.

use bulkhead_openflow::wire::flow::ALL_TABLES;
use bulkhead_openflow::{Action, FlowCommand, FlowMod, FlowStats, FlowStatsRequest, Instruction, Match};
use std::collections::BTreeMap;

type Key = (u8, u16, Match);

/// Entries by what makes them unique (OF 1.3.5 §6.4).
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<Key, FlowMod>);

/// Whether a change adds an entry.
pub(super) fn adds(change: &FlowMod) -> bool {
    change.command == FlowCommand::Add
}

/// The groups that an entry names.
pub(super) fn groups(change: &FlowMod) -> impl Iterator<Item = u32> {
    let applied = change.instructions.iter().filter_map(|instruction| match instruction {
        Instruction::ApplyActions(actions) => Some(actions),
        _ => None,
    });
    applied.flatten().filter_map(|action| if let Action::Group(id) = action { Some(*id) } else { None })
}

fn key(change: &FlowMod) -> Key {
    let mut matches = change.matching.clone();
    matches.sort();
    (change.table, change.priority, matches)
}

fn has_cookie(have: u64, cookie: u64, mask: u64) -> bool {
    have & mask == cookie & mask
}

impl Tables {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn flows(&self) -> impl Iterator<Item = &FlowMod> {
        self.0.values()
    }

    /// A group goes, and with it every entry that names it (OF 1.3.5 §6.5).
    pub(super) fn forget(&mut self, group: u32) {
        self.0.retain(|_, entry| groups(entry).all(|named| named != group));
    }

    /// How many entries there would be after these changes.
    pub(super) fn len_after<'a>(&self, changes: impl Iterator<Item = &'a FlowMod>) -> usize {
        let (mut new, mut gone) = (0, 0);
        for change in changes {
            let there = self.0.contains_key(&key(change));
            match change.command {
                FlowCommand::Add if !there => new += 1,
                FlowCommand::DeleteStrict if there => gone += 1,
                _ => {}
            }
        }
        (self.0.len() + new).saturating_sub(gone)
    }

    /// Carries out a change; how many entries it concerned. What Bulkhead does not use is not there: modifications,
    /// and removals by a match.
    pub(super) fn apply(&mut self, change: FlowMod) -> usize {
        match change.command {
            FlowCommand::Add => {
                self.0.insert(key(&change), change);
                1
            }
            FlowCommand::DeleteStrict => {
                let key = key(&change);
                let found = self.0.get(&key);
                if found.is_some_and(|found| has_cookie(found.cookie, change.cookie, change.cookie_mask)) {
                    self.0.remove(&key);
                    return 1;
                }
                0
            }
            FlowCommand::Delete => {
                let before = self.0.len();
                self.0.retain(|key, found| {
                    let meant = change.table == ALL_TABLES || change.table == key.0;
                    !meant || !has_cookie(found.cookie, change.cookie, change.cookie_mask)
                });
                before - self.0.len()
            }
            FlowCommand::Modify | FlowCommand::ModifyStrict => 0,
        }
    }

    /// The entries that a question is about.
    pub(super) fn stats(&self, request: &FlowStatsRequest) -> Vec<FlowStats> {
        let meant = self.0.values().filter(|flow| {
            (request.table == ALL_TABLES || request.table == flow.table)
                && has_cookie(flow.cookie, request.cookie, request.cookie_mask)
        });
        meant
            .map(|flow| FlowStats {
                table: flow.table,
                duration_sec: 0,
                duration_nsec: 0,
                priority: flow.priority,
                idle_timeout: flow.idle_timeout,
                hard_timeout: flow.hard_timeout,
                flags: flow.flags,
                cookie: flow.cookie,
                packets: 0,
                bytes: 0,
                matching: flow.matching.clone(),
                instructions: flow.instructions.clone(),
            })
            .collect()
    }
}
