//! What is being waited for, while it is: on a terminal, and nowhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

/// How often it moves: often enough to be seen alive.
const TICK: Duration = Duration::from_millis(120);

/// A line on the operator's terminal, that goes away with this.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Something that nobody knows the length of.
    pub fn of(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, target());
        // Both templates are ours, and a test makes them.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(what.into());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// From now on it is this that takes so long.
    pub fn now(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// So many of so many are done.
    pub fn done(&self, done: usize, all: usize, what: &str) {
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {pos} of {len} {msg} ({elapsed})") {
            self.0.set_style(style.progress_chars("=> "));
        }
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
        self.0.set_message(what.to_owned());
    }

    /// Whether anybody sees it.
    pub fn is_seen(&self) -> bool {
        !self.0.is_hidden()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn target() -> ProgressDrawTarget {
    match stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}
