//! The Prometheus text format (version 0.0.4).

use std::{
    fmt::{Display, Write},
    time::Duration,
};

/// Upper bounds of the classes in which times are counted, in seconds: from what one edit takes to what nobody wants to
/// wait for.
const BOUNDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];

/// How long something took, as a histogram.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// How many took at most as long as each of [`BOUNDS`], and longer than the one before.
    counts: [u64; BOUNDS.len()],
    sum: Duration,
}

impl Histogram {
    /// One more took so long.
    pub(crate) fn add(&mut self, took: Duration) {
        self.sum = self.sum.saturating_add(took);
        let class = BOUNDS.iter().zip(&mut self.counts).find(|(bound, _)| took.as_secs_f64() <= **bound);
        if let Some((_, count)) = class {
            *count += 1;
        }
    }

    pub(crate) fn render(&self, name: &str, help: &str, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut so_far = 0;
        for (bound, count) in BOUNDS.iter().zip(&self.counts) {
            so_far += count;
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".into() };
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {so_far}");
        }
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {so_far}", self.sum.as_secs_f64());
    }
}

/// Writes one metric: its name, kind, help, and the numbers with their labels.
pub fn metric<'a, L, V>(
    out: &mut String,
    (name, kind, help): (&str, &str, &str),
    samples: impl IntoIterator<Item = (L, V)>,
) where
    L: IntoIterator<Item = (&'a str, &'a str)>,
    V: Display,
{
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        // Switch names and our own words need no escaping.
        let labels: Vec<String> = labels.into_iter().map(|(key, label)| format!("{key}=\"{label}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}
