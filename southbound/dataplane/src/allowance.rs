//! How often something is done at most, whatever comes.

use std::time::Duration;

/// A token bucket: a second's worth of packets, refilled as time passes.
#[derive(Debug)]
pub struct Allowance {
    rate: u32,
    left: u32,
    since: Duration,
}

impl Allowance {
    /// So many in a second; all of them may come at once.
    pub fn new(rate: u32) -> Self {
        Self { rate, left: rate, since: Duration::ZERO }
    }

    /// Whether there is room for one more; `now` is the time since any beginning.
    pub fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.since).as_millis() * u128::from(self.rate) / 1000;
        if earned > 0 {
            self.since = now;
            let earned = u32::try_from(earned).unwrap_or(self.rate);
            self.left = self.left.saturating_add(earned).min(self.rate);
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::REJECTS_PER_SECOND;

    #[test]
    fn a19_a_flood_of_refused_packets_is_answered_at_a_rate() {
        let mut allowance = Allowance::new(REJECTS_PER_SECOND);
        let second = (0..10_000).filter(|_| allowance.take(Duration::from_secs(1))).count();
        assert_eq!(second, REJECTS_PER_SECOND as usize);
        let tenth = (0..10_000).filter(|_| allowance.take(Duration::from_millis(1100))).count();
        assert_eq!(tenth, REJECTS_PER_SECOND as usize / 10);
    }
}
