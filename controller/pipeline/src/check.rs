//! Every entry against its stage's declaration.

use crate::{
    entry::{Action, Entry, Next},
    field::{Field, conn},
    program::Program,
    render::render_entry,
};
use std::fmt;

/// An entry that its stage's declaration forbids: a mistake of the compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The entry, rendered.
    pub entry: String,
    /// What it may not do.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.entry, self.what)
    }
}

/// What a program does that its stages do not allow; empty for every program that may be sent.
pub fn check(program: &Program) -> Vec<Violation> {
    program.iter().filter_map(|entry| Some(Violation { what: complaint(entry)?, entry: render_entry(entry) })).collect()
}

fn complaint(entry: &Entry) -> Option<String> {
    let spec = entry.key.stage.spec();
    let matches = &entry.key.matches;
    if matches.in_port.is_some() && !spec.in_port {
        return Some("matches the in-port".into());
    }
    if let Some((field, ..)) = matches.fields().iter().find(|(field, ..)| !spec.matches.contains(field)) {
        return Some(format!("matches {}", field.as_str()));
    }
    for action in &entry.actions {
        let set = match action {
            Action::Set(field, _) | Action::Copy { to: field, .. } => *field,
            Action::ServiceFromDst | Action::ServiceFromSrc | Action::ServiceFromIcmp | Action::ServiceFromProto => {
                Field::Service
            }
            Action::PushVlan(Field::InVlan | Field::OutVlan) | Action::PopVlan => Field::Vlan,
            Action::DecTtl => Field::IpTtl,
            Action::CheckSize(_) => Field::TooBig,
            Action::PushVlan(other) => return Some(format!("tags with {}, which is no VLAN", other.as_str())),
            _ => continue,
        };
        if !spec.sets.contains(&set) {
            return Some(format!("sets {}", set.as_str()));
        }
        if let Action::Copy { from, to } = action
            && !from.copies_to(*to)
        {
            return Some(format!("copies {} into {} of another width", from.as_str(), to.as_str()));
        }
    }
    if matches.get(Field::IpTtl).is_some() && matches.exact(Field::IpTtl).is_none() {
        return Some("matches ip_ttl under a mask".into());
    }
    let clause = entry.actions.iter().any(|action| matches!(action, Action::Clause { .. }));
    if clause && (entry.next != Next::Done || !entry.actions.iter().all(|a| matches!(a, Action::Clause { .. }))) {
        return Some("is a clause and does something else".into());
    }
    let whole = |action: &Action| match action {
        Action::Clause { k, n, .. } => (2..=8).contains(n) && (1..=*n).contains(k),
        _ => true,
    };
    if !entry.actions.iter().all(whole) {
        return Some("is a clause of a conjunction of fewer than two or more than eight".into());
    }
    let tracked = entry.actions.iter().position(|action| matches!(action, Action::Track));
    if tracked.is_some_and(|at| at + 1 != entry.actions.len() || !matches!(entry.next, Next::Stage(_))) {
        return Some("does something after the tracker took the packet".into());
    }
    let new = matches.get(Field::Conn).is_some_and(|(value, mask)| value & mask & conn::NEW != 0);
    if entry.actions.contains(&Action::Log) && !new {
        return Some("logs more than new connections".into());
    }
    if let Next::Stage(next) = entry.next
        && !spec.next.contains(&next)
    {
        return Some(format!("goes to {}", next.spec().name));
    }
    if matches.get(Field::Conn).is_some_and(|(_, mask)| mask & !(conn::TRK | 31) != 0) {
        return Some("matches unknown connection bits".into());
    }
    None
}
