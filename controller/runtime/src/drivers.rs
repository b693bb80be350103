//! The way to the drivers.

use crate::{hosts::Keeper, links::Prober};
use bulkhead_dataplane::{Address, ToDrivers};
use bulkhead_policy::model::Driver;
use tokio::sync::mpsc;

/// How many commands may be on their way inside a driver's channel. What is beyond waits in front of it. That is little:
/// a switch's machine sends nothing before it has the answer to what it sent last, so there is never more than a step, a
/// read-back and a count per switch. Probes are beside that, some a second and switch; a driver never waits for a switch,
/// and leaves them out for one that is busy ([`Command::may_be_lost`](bulkhead_dataplane::Command::may_be_lost)).
const DEPTH: usize = 64;

/// Where each switch's commands go.
#[derive(Debug, Clone)]
pub struct Drivers {
    /// One channel per driver task.
    pub channels: Vec<mpsc::UnboundedSender<ToDrivers>>,
    /// Which channel a switch's driver is behind, and how the driver finds the switch; `None` if this
    /// program has no driver for it.
    pub route: fn(&Driver) -> Option<(usize, Address)>,
    /// Who keeps the hosts of switches with an `ovsdb` address; `None` leaves them alone.
    pub keeper: Option<Keeper>,
    /// How links are found; `None` finds none.
    pub prober: Option<Prober>,
}

impl Drivers {
    /// Sends a command; a driver that has ended takes nothing more.
    pub(crate) fn send(&self, channel: usize, command: ToDrivers) {
        if let Some(sender) = self.channels.get(channel) {
            // The driver's task has ended: the program is ending.
            let _ = sender.send(command);
        }
    }
}

/// A channel to a driver: the loop's end, which never makes it wait, and the driver's.
pub fn channel<T: Send + 'static>() -> (mpsc::UnboundedSender<T>, mpsc::Receiver<T>) {
    let (sender, mut waiting) = mpsc::unbounded_channel();
    let (forward, receiver) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        while let Some(command) = waiting.recv().await {
            if forward.send(command).await.is_err() {
                return;
            }
        }
    });
    (sender, receiver)
}
