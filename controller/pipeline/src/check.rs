//! Every entry against its stage's declaration.

use crate::{
    entry::{Action, Entry, MAX_PORTS, Next, Output, SetBits},
    field::{Field, conn},
    program::Program,
    render::render_entry,
};
use bulkhead_topology::Port;
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
    if let Some((field, ..)) = matches.fields().find(|(field, ..)| !spec.matches.contains(field)) {
        return Some(format!("matches {}", field.as_str()));
    }
    for action in &*entry.actions {
        let Action::Fork { actions, to } = action else { continue };
        if !spec.next.contains(to) {
            return Some(format!("sends a copy to {}", to.spec().name));
        }
        if !actions.iter().all(|action| matches!(action, Action::Set(..) | Action::Copy { .. })) {
            return Some("does more to a copy than set fields".into());
        }
    }
    let copies = entry.actions.iter().filter_map(|action| match action {
        Action::Fork { actions, .. } => Some(actions),
        _ => None,
    });
    for action in entry.actions.iter().chain(copies.flatten()) {
        let set = match action {
            Action::Set(field, _) | Action::Copy { to: field, .. } => *field,
            Action::SetBits(bits) => bits.field,
            Action::Output(Output::OneOf(ports)) if !whole_choice(ports) => {
                return Some(format!(
                    "chooses among {} ports that are not two or more, each once and in order",
                    ports.len()
                ));
            }
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
        if let Action::SetBits(bits) = action
            && let SetBits { field, value, mask } = **bits
            && !some_bits(field, value, mask)
        {
            return Some(format!("sets bits {mask:#x} of {} to {value:#x}", field.as_str()));
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
    let reported = entry.actions.iter().position(|action| matches!(action, Action::Discover));
    if reported.is_some_and(|at| at + 1 != entry.actions.len() || entry.next != Next::Drop) {
        return Some("does something with a frame that it reports".into());
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

/// Whether these are ports to choose among.
fn whole_choice(ports: &[Port]) -> bool {
    (2..=MAX_PORTS).contains(&ports.len()) && ports.is_sorted_by(|a, b| a < b)
}

/// Whether these are some bits of a packet's field, next to each other.
fn some_bits(field: Field, value: u128, mask: u128) -> bool {
    let run = mask >> mask.trailing_zeros().min(127);
    let one_run = mask != 0 && run & run.wrapping_add(1) == 0 && run.count_ones() <= 64;
    let some = mask & !field.full_mask() == 0 && mask != field.full_mask();
    one_run && some && value & !mask == 0 && !field.is_metadata()
}
