//! One simulated switch.

use crate::tracker::{Headers, Tracker};
use bulkhead_dataplane::{Capabilities, Counter, PortState};
use bulkhead_pipeline::{
    Action, Delta, Entry, EntryKey, Field, Next, Outcome, Packet, PacketError, Program, Violation, Walk, check,
    overlay, walk,
};
use bulkhead_topology::Port;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// Entries that a simulated switch takes: more than any test needs, less than would hurt the host.
const MAX_ENTRIES: u32 = 2_000_000;

/// A switch in memory: its program, its connections, its counters.
#[derive(Debug)]
pub struct Switch {
    /// `None`: it has every port that the program names.
    ports: Option<BTreeSet<Port>>,
    max_entries: u32,
    program: Program,
    tracker: Tracker,
    /// Packets and bytes of each entry that matched, since it came.
    counters: BTreeMap<EntryKey, (u64, u64)>,
    changes: u64,
    vtep: Option<IpAddr>,
    /// Ports that were ever taken down, and whether they are up.
    links: BTreeMap<Port, bool>,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            ports: None,
            max_entries: MAX_ENTRIES,
            program: Program::new(),
            tracker: Tracker::default(),
            counters: BTreeMap::new(),
            changes: 0,
            vtep: None,
            links: BTreeMap::new(),
        }
    }
}

impl Switch {
    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            conntrack: true,
            conjunction: true,
            max_entries: self.max_entries,
            max_by_stage: Arc::default(),
            any_port: self.ports.is_none(),
        }
    }

    /// Its ports: those that were set, else those that its program names.
    pub fn ports(&self) -> BTreeSet<Port> {
        self.ports.clone().unwrap_or_else(|| self.program.iter().flat_map(Entry::ports).cloned().collect())
    }

    /// Gives it exactly these ports; from then on it refuses entries that name others.
    pub fn set_ports(&mut self, ports: BTreeSet<Port>) {
        self.ports = Some(ports);
    }

    /// Limits how many entries it takes.
    pub fn set_max_entries(&mut self, most: u32) {
        self.max_entries = most;
    }

    /// Its entries.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Its connection tracker.
    pub fn tracker_mut(&mut self) -> &mut Tracker {
        &mut self.tracker
    }

    /// Entries added, rewritten and removed, ever.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Changes an entry behind the controller's back.
    pub fn tamper(&mut self, delta: &Delta) {
        self.program.apply(delta);
    }

    /// Carries out a step as a whole, or says why it does not.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), String> {
        let added: Program = delta.add.iter().cloned().collect();
        if let Some(Violation { entry, what }) = check(&added).into_iter().next() {
            return Err(format!("{entry}: {what}"));
        }
        if let Some(ports) = &self.ports
            && let Some(missing) = delta.add.iter().flat_map(Entry::ports).find(|port| !ports.contains(port))
        {
            return Err(format!("there is no port {missing}"));
        }
        let new = delta.add.iter().filter(|entry| self.program.get(&entry.key).is_none()).count();
        let gone = delta.remove.iter().filter(|key| self.program.get(key).is_some()).count();
        let after = (self.program.len() + new).saturating_sub(gone);
        if after > self.max_entries as usize {
            return Err(format!("the table is full: {after} entries, {} fit", self.max_entries));
        }
        self.changes += (delta.add.len() + gone) as u64;
        // As a flow's, an entry's counters go with it, and stay when it is rewritten.
        for key in &delta.remove {
            self.counters.remove(key);
        }
        self.program.apply(delta);
        Ok(())
    }

    /// Gives it an address in the underlay, where tunnels end.
    pub fn set_vtep(&mut self, vtep: IpAddr) {
        self.vtep = Some(vtep);
    }

    /// Its address in the underlay.
    pub fn vtep(&self) -> Option<IpAddr> {
        self.vtep
    }

    /// What is known of its ports, see [`bulkhead_dataplane::Report::PortStates`].
    pub fn port_states(&self) -> Vec<PortState> {
        let states = self.links.iter().map(|(port, up)| match port.clone() {
            Port::Name(name) => PortState { number: None, name: Some(name), up: *up },
            Port::Number(number) => PortState { number: Some(number), name: None, up: *up },
        });
        states.collect()
    }

    pub(crate) fn set_link(&mut self, port: Port, up: bool) {
        if !up || self.links.contains_key(&port) {
            self.links.insert(port, up);
        }
    }

    fn is_down(&self, port: &Port) -> bool {
        self.links.get(port) == Some(&false)
    }

    /// Whether it can send out of a port.
    pub(crate) fn can_send(&self, port: &Port) -> bool {
        !self.is_down(port) && self.ports.as_ref().is_none_or(|ports| ports.contains(port))
    }

    /// Whether its program reports a frame that comes in by a port and may tell of a link.
    pub(crate) fn discovers(&mut self, port: &Port, frame: &[u8]) -> bool {
        !self.is_down(port)
            && self.inject(port.clone(), frame).is_ok_and(|walk| matches!(walk.outcome, Outcome::Discovered(_)))
    }

    /// Whether its program reports a probe that comes by this overlay port, from this outer address.
    pub fn probed(&mut self, port: &Port, from: IpAddr) -> bool {
        let sent = Packet::new(port.clone()).with(Field::EthType, overlay::PROBE_ETHERTYPE);
        let walk = self.pass(overlay::arrive(&sent, port.clone(), from), &[]);
        matches!(walk.outcome, Outcome::Probe(_))
    }

    /// What becomes of a frame that comes in by a port.
    pub fn inject(&mut self, port: Port, frame: &[u8]) -> Result<Walk<'_>, PacketError> {
        let packet = Packet::parse(port, frame)?;
        Ok(self.pass(packet, frame))
    }

    /// What becomes of a packet, of this frame: one that another switch sent by a tunnel ([`overlay::arrive`]), for
    /// instance.
    pub fn pass(&mut self, packet: Packet, frame: &[u8]) -> Walk<'_> {
        self.tracker.look(Headers::parse(&packet, frame));
        let walk = walk(&self.program, &mut self.tracker, packet);
        for entry in walk.steps.iter().filter_map(|step| step.entry) {
            let (packets, bytes) = match self.counters.get_mut(&entry.key) {
                Some(counter) => counter,
                None => self.counters.entry(entry.key.clone()).or_default(),
            };
            *packets += 1;
            *bytes += frame.len() as u64;
        }
        walk
    }

    /// What the entries matched, by cause.
    pub fn counters(&self) -> Vec<Counter> {
        let mut sums: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for (key, (packets, bytes)) in &self.counters {
            let Some(entry) = self.program.get(key) else { continue };
            let sum = sums.entry((entry.cause, drops(entry))).or_default();
            *sum = (sum.0 + packets, sum.1 + bytes);
        }
        let counter = |((cause, dropped), (packets, bytes))| Counter { cause, dropped, packets, bytes };
        sums.into_iter().map(counter).collect()
    }
}

/// Whether an entry ends every packet that it matches.
fn drops(entry: &Entry) -> bool {
    entry.next == Next::Drop || entry.actions.iter().any(Action::refuses)
}
