//! Durations, and what is said of them.

use serde_json::{Value, json};
use std::time::Duration;

/// Durations of the same thing, done again and again.
#[derive(Debug, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Adds all of another.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How long all of them took together.
    pub(crate) fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// The smallest duration that `percent` of them do not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// Median, 99th percentile and number, in microseconds.
    pub(crate) fn microseconds(&self) -> Value {
        let of = |duration: Duration| (duration.as_secs_f64() * 1e7).round() / 10.0;
        json!({"p50us": of(self.percentile(50)), "p99us": of(self.percentile(99)), "runs": self.0.len()})
    }

    /// Median, smallest, largest and number, in milliseconds.
    pub(crate) fn milliseconds(&self) -> Value {
        let of = |duration: Duration| (duration.as_secs_f64() * 1e5).round() / 100.0;
        let (least, most) = (self.0.iter().min(), self.0.iter().max());
        json!({
            "medianMs": of(self.median()),
            "minMs": of(least.copied().unwrap_or_default()),
            "maxMs": of(most.copied().unwrap_or_default()),
            "runs": self.0.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let mut sample = Sample::default();
        assert_eq!(sample.median(), Duration::ZERO);
        for millis in [5, 1, 4, 2, 3] {
            sample.add(Duration::from_millis(millis));
        }
        assert_eq!(sample.median(), Duration::from_millis(3));
        assert_eq!(sample.percentile(99), Duration::from_millis(5));
        assert_eq!(sample.percentile(20), Duration::from_millis(1));
        assert_eq!(sample.total(), Duration::from_millis(15));
    }
}
