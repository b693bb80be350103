//! How far a revision has come on the switches.

use crate::core::Core;
use bulkhead_topology::Name;
use std::collections::BTreeMap;

/// How far a revision has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Realization {
    /// The revision that was asked about.
    pub revision: u64,
    /// Whether it, or a newer one, is in force as a whole on every connected switch that is not still to connect.
    pub realized: bool,
    /// Connected switches that have not, and just declared ones that are about to connect.
    pub waiting: Vec<Name>,
    /// Switches that are not connected; they get it when they come.
    pub disconnected: Vec<Name>,
    /// Switches that refused it or a newer one, with their reason. That of an older one says nothing: this one may mend it.
    pub failed: BTreeMap<Name, String>,
}

impl Core {
    /// How far `revision` has come now.
    pub fn realization(&self, revision: u64) -> Realization {
        let mut answer = Realization { revision, ..Realization::default() };
        for (name, progress, expected) in self.fabric.progress() {
            if progress.acknowledged >= revision {
                // A switch that is away has it all the same, and keeps it.
            } else if progress.refused.is_some_and(|refused| refused >= revision) {
                answer.failed.insert(name.clone(), progress.last_error.clone());
            } else if progress.connected || expected {
                answer.waiting.push(name.clone());
            } else {
                answer.disconnected.push(name.clone());
            }
        }
        answer.realized = answer.waiting.is_empty() && answer.failed.is_empty();
        answer
    }
}
