//! What metrics tell of a switch beside how far it has come.

use bulkhead_dataplane::{Capabilities, Counter};
use bulkhead_pipeline::Cause;
use std::{borrow::Cow, collections::BTreeMap, time::Duration};

/// Numbers of one switch, since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    /// What it could do when it connected last.
    pub capabilities: Option<Capabilities>,
    /// When the first change came that it does not have yet; none of a switch that is away.
    pub behind_since: Option<Duration>,
    pub errors: Errors,
    pub drops: Drops,
}

/// How often something went wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Errors {
    /// A step was refused.
    pub refused: u64,
    /// A session ended.
    pub disconnected: u64,
    /// Somebody else had changed entries.
    pub drifted: u64,
    /// Counters were not told.
    pub not_counted: u64,
}

/// Dropped packets by reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drops(BTreeMap<Cow<'static, str>, Dropped>);

#[derive(Debug, Clone, Copy, Default)]
struct Dropped {
    /// As the switch told last, of the entries that it then had.
    told: u64,
    /// Ever.
    total: u64,
}

impl Drops {
    /// Takes in what a switch counts. An entry's count goes with it, so that what a switch tells of a reason can become
    /// less; what was counted stays counted, and what came meanwhile is not known.
    pub fn count(&mut self, counters: &[Counter]) {
        let mut told: BTreeMap<Cow<'static, str>, u64> = BTreeMap::new();
        for counter in counters.iter().filter(|counter| counter.dropped) {
            let sum = told.entry(reason(counter.cause)).or_default();
            *sum = sum.saturating_add(counter.packets);
        }
        for (reason, dropped) in &mut self.0 {
            if !told.contains_key(reason) {
                dropped.told = 0;
            }
        }
        for (reason, now) in told {
            let dropped = self.0.entry(reason).or_default();
            dropped.total = dropped.total.saturating_add(now.saturating_sub(dropped.told));
            dropped.told = now;
        }
    }

    /// Every reason for which something was dropped, and how much was.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().filter(|(_, dropped)| dropped.total > 0).map(|(reason, dropped)| (&**reason, dropped.total))
    }
}

/// A cause without who wrote it: a metric that named every rule would be as many as there are rules.
fn reason(cause: Cause) -> Cow<'static, str> {
    match cause {
        Cause::Rule(_) => "policy".into(),
        Cause::Isolation(_) => "isolation".into(),
        Cause::Zone(_) => "zone-isolation".into(),
        Cause::Default(_) => "default".into(),
        Cause::Builtin(builtin) => builtin.as_str().trim_start_matches("builtin/").into(),
        Cause::Miss(stage) => format!("miss-{}", stage.spec().name).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_never_become_fewer() {
        let mut drops = Drops::default();
        let mut told = |counters: &[(Cause, u64)]| -> Vec<(String, u64)> {
            let counter =
                |(cause, packets): &(Cause, u64)| Counter { cause: *cause, dropped: true, packets: *packets, bytes: 0 };
            drops.count(&counters.iter().map(counter).collect::<Vec<_>>());
            drops.iter().map(|(reason, total)| (reason.to_owned(), total)).collect()
        };
        assert_eq!(told(&[(Cause::Rule(1), 5), (Cause::Rule(2), 7), (Cause::Zone(1), 0)]), [("policy".into(), 12)]);
        // A rule's entries went, and seven packets with them.
        assert_eq!(told(&[(Cause::Rule(1), 6)]), [("policy".into(), 12)]);
        assert_eq!(told(&[(Cause::Rule(1), 9)]), [("policy".into(), 15)]);
        // The switch began anew.
        assert_eq!(told(&[]), [("policy".into(), 15)]);
        let default = ("default".to_owned(), 3);
        assert_eq!(told(&[(Cause::Rule(1), 2), (Cause::Default(1), 3)]), [default, ("policy".into(), 17)]);
    }

    #[test]
    fn what_passed_is_no_drop() {
        let mut drops = Drops::default();
        drops.count(&[Counter { cause: Cause::Rule(1), dropped: false, packets: 5, bytes: 9 }]);
        assert_eq!(drops.iter().count(), 0);
    }
}
