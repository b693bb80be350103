//! The driver's task: a task and a queue for each device, so that a slow one makes no other wait.

use crate::device::{Device, program};
use bulkhead_dataplane::{Address, Command, FromSwitch, ToDrivers};
use bulkhead_p4runtime::ElectionId;
use bulkhead_topology::Name;
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{error, warn};

/// Commands that may wait for a device; the controller has one or two under way.
const COMMANDS: usize = 64;
/// The places of these that are kept for commands that must not be lost.
const KEPT: usize = COMMANDS / 2;

/// A device that is driven; it is let go of when this is dropped.
struct Driven {
    commands: mpsc::Sender<(u64, Command)>,
    task: JoinHandle<()>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Drives devices until the controller's end of `commands` is gone. `term` is what it stands for primary with: the last
/// controller that began has the highest, and one without a term stands with the time.
pub async fn run(term: Option<u64>, mut commands: mpsc::Receiver<ToDrivers>, reports: mpsc::Sender<FromSwitch>) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let election = ElectionId(term.unwrap_or_else(now).into());
    let pipeline = match program() {
        Ok(pipeline) => pipeline,
        Err(error) => {
            error!("no P4 switch is driven: {error}");
            return;
        }
    };
    let mut devices: BTreeMap<Name, Driven> = BTreeMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            ToDrivers::Attach { switch, address: Address::Device { address, number, underlay }, attachment } => {
                let (to, queue) = mpsc::channel(COMMANDS);
                let reports = reports.clone();
                let switch_name = switch.clone();
                let device = Device {
                    switch: switch_name,
                    attachment,
                    address,
                    number,
                    underlay,
                    election,
                    commands: queue,
                    reports,
                };
                let task = tokio::spawn(device.run(pipeline.clone()));
                devices.insert(switch, Driven { commands: to, task });
            }
            ToDrivers::Attach { switch, .. } => {
                warn!(%switch, "asked to drive a switch that is no P4 device; left alone")
            }
            ToDrivers::Detach { switch } => drop(devices.remove(&switch)),
            ToDrivers::Command { switch, session, command } => {
                let Some(device) = devices.get(&switch) else { continue };
                if command.may_be_lost() && device.commands.capacity() <= KEPT {
                    continue;
                }
                if device.commands.try_send((session, command)).is_err() {
                    warn!(%switch, "the device does not keep up; a command is lost, and is asked for again");
                }
            }
        }
    }
}
