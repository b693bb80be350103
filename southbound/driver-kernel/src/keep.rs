//! A host is kept as it is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use bulkhead_netlink::{Error, Netlink};

use crate::actual::Actual;
use crate::plan::plan;
use crate::wanted::{Wanted, mark};

/// How often in a row a host is looked at again after something was done about it. A network needs three rounds: its
/// bridge, what joins it, and what is switched on then; what two more cannot do, such as to fill a table that steps
/// emptied, somebody undoes.
const ROUNDS: usize = 5;

/// Keeps one host.
#[derive(Debug)]
pub struct Keeper {
    netlink: Netlink,
    mark: String,
    /// What was wanted when the host was last as it is to be.
    done: Option<Wanted>,
    /// Interfaces that were not there then.
    missing: BTreeSet<String>,
}

/// What came of a look at a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// What was done because something else was wanted than before.
    pub changed: Vec<String>,
    /// What was done because somebody else had changed something.
    pub repaired: Vec<String>,
    /// What stands in the way.
    pub troubles: Vec<String>,
    /// Whether everything is as it is to be, but for interfaces that are not there.
    pub in_shape: bool,
}

impl Keeper {
    /// Keeps the host for the VTEP of a switch; it is the network namespace of the calling thread, which alone may use
    /// it.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn of(switch: &str) -> Result<Keeper, Error> {
        Ok(Keeper { netlink: Netlink::here()?, mark: mark(switch), done: None, missing: BTreeSet::new() })
    }

    /// Makes the host what is `wanted`.
    ///
    /// # Errors
    /// When the kernel does not answer. What it refuses is among the troubles.
    pub fn keep(&mut self, wanted: &Wanted) -> Result<Kept, Error> {
        let mut kept = Kept::default();
        let drift = self.done.as_ref() == Some(wanted);
        for round in 0..=ROUNDS {
            let actual = Actual::read(&mut self.netlink, &self.mark, wanted)?;
            let plan = plan(wanted, &actual, &self.mark);
            let mut troubles = plan.troubles;
            if plan.groups.is_empty() {
                kept.in_shape = true;
            } else if round == ROUNDS {
                troubles.push(format!("it does not stay: {} after {ROUNDS} rounds", plan.groups.len()));
            }
            if plan.groups.is_empty() || round == ROUNDS {
                kept.troubles.extend(troubles);
                if kept.in_shape {
                    // What was refused before was done after all.
                    kept.troubles.retain(|trouble| !trouble.starts_with(REFUSED));
                    self.done = Some(wanted.clone());
                    self.missing = plan.missing;
                }
                return Ok(kept);
            }
            kept.troubles.clear();
            for group in plan.groups {
                for step in group {
                    match step.carry_out(&mut self.netlink) {
                        // That an interface came is nobody's doing.
                        Ok(()) if drift && !self.missing.contains(step.link()) => kept.repaired.push(step.to_string()),
                        Ok(()) => kept.changed.push(step.to_string()),
                        Err(error) => {
                            kept.troubles.push(format!("{REFUSED}{error}"));
                            break;
                        }
                    }
                }
            }
        }
        Ok(kept)
    }

    /// Removes everything of ours from the host, and leaves workloads' interfaces switched off, as nothing keeps them from
    /// the host any more; what was done.
    ///
    /// # Errors
    /// When the kernel does not answer, or refuses.
    pub fn leave(&mut self) -> Result<Vec<String>, Error> {
        self.done = None;
        let nothing = Wanted { vtep: Ipv4Addr::UNSPECIFIED.into(), networks: BTreeMap::new() };
        let actual = Actual::read(&mut self.netlink, &self.mark, &nothing)?;
        let steps = plan(&nothing, &actual, &self.mark).groups.into_iter().flatten();
        let gone = steps.map(|step| step.carry_out(&mut self.netlink).map(|()| step.to_string()));
        gone.collect()
    }
}

/// How troubles begin that a step met.
const REFUSED: &str = "refused: ";
