//! Switches that P4 programs, with frames in and out: BMv2, or the stand-in, which forwards in this process. Of several,
//! the underlay between them carries each frame to whom it is for.

use crate::{
    pipes::Pipes,
    plane::{Spread, UNDERLAY_MTU, switch, vtep},
};
use bulkhead_p4_target::{Sent, Software, Target};
use bulkhead_topology::Mac;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// How long a port is listened to before the underlay is looked at again.
const TURN: Duration = Duration::from_millis(2);

/// The switches of a fabric.
pub struct Leaves {
    devices: Vec<Device>,
    spread: Spread,
}

/// A switch's Ethernet address in the underlay, the first one's being 0.
fn own_mac(number: usize) -> Mac {
    Mac([0x02, 0xbe, 0, 0, 0, number as u8 + 1])
}

impl Leaves {
    /// Each with the same ports, and one more that leads into the underlay.
    pub fn new(spread: Spread, mut device: impl FnMut(u32) -> Option<Device>) -> Option<Self> {
        let devices: Option<_> = spread.hosts.iter().map(|_| device(spread.ports() + 1)).collect();
        Some(Self { devices: devices?, spread })
    }

    /// The documents that declare them.
    pub fn documents(&self) -> String {
        let mut documents = String::new();
        for (number, device) in self.devices.iter().enumerate() {
            let (name, address, port) = (switch(number), device.address(), self.underlay_port());
            writeln!(documents, "---\nkind: Switch\nmetadata: {{name: {name}}}\nspec:\n  driver: p4runtime").unwrap();
            writeln!(documents, "  address: \"{address}\"\n  deviceId: 1").unwrap();
            if self.devices.len() == 1 {
                continue;
            }
            let others = (0..self.devices.len()).filter(|other| *other != number).map(|other| {
                format!("{{to: {}/32, via: [{{port: {port}, mac: \"{}\"}}]}}", vtep(other), own_mac(other))
            });
            let routes = others.collect::<Vec<_>>().join(", ");
            let mac = own_mac(number);
            writeln!(
                documents,
                "  vtep: {}\n  underlay: {{mac: \"{mac}\", mtu: {UNDERLAY_MTU}, routes: [{routes}]}}",
                vtep(number)
            )
            .unwrap();
        }
        documents
    }

    fn underlay_port(&self) -> u32 {
        self.spread.ports() + 1
    }

    /// Whether all that becomes of a frame without the controller has become of it when it was sent.
    pub fn are_prompt(&self) -> bool {
        self.devices.iter().all(|device| matches!(device, Device::StandIn { .. }))
    }

    pub fn send(&mut self, at: &str, frame: &[u8]) {
        let (of, port) = (self.spread.of(at), self.spread.number(at));
        self.devices[of].send(port, frame);
        self.carry();
    }

    /// What left for the underlay arrives.
    fn carry(&mut self) {
        let port = self.underlay_port();
        for from in 0..self.devices.len() {
            while let Some(frame) = self.devices[from].next(port, Duration::ZERO) {
                let to = (0..self.devices.len()).find(|number| own_mac(*number).0 == frame[..6]);
                self.devices[to.unwrap_or_else(|| panic!("nobody's: {frame:02x?}"))].send(port, &frame);
            }
        }
    }

    /// What came out of a port next, if something does within this time.
    pub fn next(&mut self, at: &str, patience: Duration) -> Option<Vec<u8>> {
        let (of, port, began) = (self.spread.of(at), self.spread.number(at), Instant::now());
        loop {
            self.carry();
            let found = self.devices[of].next(port, patience.min(TURN));
            if found.is_some() || began.elapsed() >= patience {
                return found;
            }
        }
    }
}

pub enum Device {
    Bmv2(Pipes),
    StandIn {
        software: Software,
        target: Target,
        /// What the controller has it send.
        sent: Sent,
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
        let (software, told, sent) = Software::new();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let target = Target::start(anywhere, 1, Box::new(software.clone()), told);
        let target = runtime.block_on(target).unwrap();
        Self::StandIn { software, target, sent, out: BTreeMap::new(), _runtime: runtime }
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
            Self::StandIn { out, sent, .. } => {
                let began = Instant::now();
                loop {
                    while let Ok((port, frame)) = sent.try_recv() {
                        out.entry(port).or_default().push_back(frame);
                    }
                    let found = out.get_mut(&port).and_then(VecDeque::pop_front);
                    if found.is_some() || began.elapsed() >= patience {
                        return found;
                    }
                    std::thread::sleep(TURN / 2);
                }
            }
        }
    }
}
