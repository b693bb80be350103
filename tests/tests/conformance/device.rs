//! A switch that P4 programs, with frames in and out: BMv2, or the stand-in, which forwards in this process.

use crate::pipes::Pipes;
use bulkhead_p4_target::{Software, Target};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};
use tokio::{runtime::Runtime, sync::mpsc};

pub enum Device {
    Bmv2(Pipes),
    StandIn {
        software: Software,
        target: Target,
        /// What came out of each port.
        out: BTreeMap<u32, VecDeque<Vec<u8>>>,
        /// Of the target's tasks.
        _runtime: Runtime,
    },
}

impl Device {
    /// The stand-in; its ports are all that there may be.
    pub fn stand_in() -> Self {
        let runtime = Runtime::new().unwrap();
        let software = Software::default();
        let (_, told) = mpsc::channel(1);
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let target = Target::start(anywhere, 1, Box::new(software.clone()), told);
        let target = runtime.block_on(target).unwrap();
        Self::StandIn { software, target, out: BTreeMap::new(), _runtime: runtime }
    }

    /// HOST:PORT of its P4Runtime server.
    pub fn address(&self) -> String {
        match self {
            Self::Bmv2(pipes) => pipes.address.clone(),
            Self::StandIn { target, .. } => target.address().to_string(),
        }
    }

    pub fn send(&mut self, port: u32, frame: &[u8]) {
        match self {
            Self::Bmv2(pipes) => pipes.send(port, frame),
            Self::StandIn { software, out, .. } => {
                if let Some((port, frame)) = software.pass(port, frame) {
                    out.entry(port).or_default().push_back(frame);
                }
            }
        }
    }

    /// What came out of a port next, if something does within this time.
    pub fn next(&mut self, port: u32, patience: Duration) -> Option<Vec<u8>> {
        match self {
            Self::Bmv2(pipes) => pipes.next(port, patience),
            Self::StandIn { out, .. } => out.get_mut(&port)?.pop_front(),
        }
    }
}
