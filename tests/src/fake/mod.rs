//! A simulated OpenFlow 1.3 switch: it holds tables and bundles, and forwards nothing.
//!
//! [`Switch`] is bytes in, bytes out; [`run`] gives it a TCP connection. It answers as Open vSwitch 3.1 does: what it
//! refuses when it is added is left out of the bundle and named by an error; a bundle that fails at its commit changes
//! nothing. [`Manners`] say how badly it behaves.

pub mod run;
mod tables;

use bulkhead_openflow::wire::{
    group::{GroupCommand, GroupDesc, GroupMod},
    header::VERSION,
    hello::{ErrorMsg, Hello, error_type, experimenter_error},
    meter::{Meter, MeterCommand, MeterMod},
    port::Port,
    switch::Features,
    tlv::TlvTable,
};
use bulkhead_openflow::{
    BundleControl, BundleStep, DecodeError, FlowMod, Msg, MultipartBody, MultipartReply, MultipartRequest,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tables::Tables;

/// Entries in one message of a read-back: each is at most some hundred bytes of the 65,535 that a message has.
const FLOWS_PER_REPLY: usize = 100;
/// The ONF's number, for errors about bundles (OF 1.4.1 §7.5.4.18).
const ONF: u32 = 0x4f4e_4600;

/// What a switch refuses in bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refuses {
    /// Nothing.
    #[default]
    Nothing,
    /// Additions to this table, when they are added: a match or action that it does not have.
    Table(u8),
    /// The commit of every bundle.
    Commits,
    /// Its first commits, this many.
    FirstCommits(u32),
}

/// What becomes of an answer. Answers are counted from 0 in each session, hello, features and echoes left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    /// They are sent.
    #[default]
    All,
    /// This one is lost.
    Without(u64),
    /// This one is sent twice.
    Twice(u64),
    /// From this one on, nothing is answered; echoes still are.
    Until(u64),
}

/// How a switch behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// How long it thinks before it answers what it has read, echoes included.
    pub delay: Duration,
    /// What it refuses.
    pub refuses: Refuses,
    /// Most entries that it holds; a bundle that would make more of them fails with "table full".
    pub capacity: usize,
    /// It says that bundles are committed and forgets them.
    pub lies: bool,
    /// What becomes of its answers.
    pub answers: Answers,
    /// The connection ends when this many bytes of the controller's were read.
    pub cut: Option<usize>,
}

impl Default for Manners {
    /// Quick and honest.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            refuses: Refuses::default(),
            capacity: usize::MAX,
            lies: false,
            answers: Answers::default(),
            cut: None,
        }
    }
}

/// What a switch did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sessions begun.
    pub sessions: u64,
    /// Bundles committed.
    pub commits: u64,
    /// Bundles refused.
    pub refusals: u64,
    /// Entries added, replaced and removed.
    pub changes: u64,
    /// Read-backs answered.
    pub reads: u64,
}

/// A bundle that is open.
#[derive(Debug, Default)]
struct Bundle {
    changes: Vec<(u32, Change)>,
}

/// One message of a bundle.
#[derive(Debug)]
enum Change {
    Flow(FlowMod),
    Group(GroupMod),
}

impl Bundle {
    fn flows(&self) -> impl DoubleEndedIterator<Item = (u32, &FlowMod)> {
        self.changes.iter().filter_map(|(xid, change)| match change {
            Change::Flow(change) => Some((*xid, change)),
            Change::Group(_) => None,
        })
    }

    /// The message that names a group which is not there when it is its turn.
    fn dangling(&self, groups: &BTreeMap<u32, GroupDesc>) -> Option<u32> {
        let mut there: BTreeSet<u32> = groups.keys().copied().collect();
        self.changes.iter().find_map(|(xid, change)| match change {
            Change::Flow(change) => tables::groups(change).any(|group| !there.contains(&group)).then_some(*xid),
            Change::Group(GroupMod { command: GroupCommand::Delete, id, .. }) => {
                there.remove(id);
                None
            }
            Change::Group(GroupMod { id, .. }) => {
                there.insert(*id);
                None
            }
        })
    }
}

/// A switch. Its tables outlive its sessions.
#[derive(Debug)]
pub struct Switch {
    datapath: u64,
    ports: Vec<Port>,
    /// How it behaves from now on.
    pub manners: Manners,
    /// What it did.
    pub counts: Counts,
    /// Its meters, by id; they outlive its sessions too.
    pub meters: BTreeMap<u32, Meter>,
    /// Its groups, by number, likewise.
    pub groups: BTreeMap<u32, GroupDesc>,
    tables: Tables,
    bundles: BTreeMap<u32, Bundle>,
    /// Answers of this session.
    answered: u64,
    commits_refused: u32,
    /// Bytes of this session.
    read: usize,
    partial: Vec<u8>,
    output: Vec<u8>,
    /// Answers to its own echo requests, by what they carry.
    echoes: Vec<Vec<u8>>,
}

impl Switch {
    /// A switch with ports of these names, numbered from 1.
    pub fn new(datapath: u64, ports: &[String]) -> Self {
        let port = |(at, name): (usize, &String)| Port {
            number: at as u32 + 1,
            mac: [2, 0, 0, 0, 0, at as u8],
            name: name.clone(),
            config: 0,
            state: 0,
            features: [0; 4],
            speed_kbps: 0,
            max_speed_kbps: 0,
        };
        Self {
            datapath,
            ports: ports.iter().enumerate().map(port).collect(),
            manners: Manners::default(),
            counts: Counts::default(),
            meters: BTreeMap::new(),
            groups: BTreeMap::new(),
            tables: Tables::default(),
            bundles: BTreeMap::new(),
            answered: 0,
            commits_refused: 0,
            read: 0,
            partial: Vec::new(),
            output: Vec::new(),
            echoes: Vec::new(),
        }
    }

    /// Its datapath id.
    pub fn datapath(&self) -> u64 {
        self.datapath
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.tables.len() == 0
    }

    /// What it has, as changes that would make it, in order.
    pub fn flows(&self) -> impl Iterator<Item = &FlowMod> {
        self.tables.flows()
    }

    /// Changes an entry behind the controller's back.
    pub fn tamper(&mut self, change: FlowMod) {
        self.tables.apply(change);
    }

    /// Begins a session: what was half done in the last one is gone, the tables stay.
    pub fn connect(&mut self) {
        self.counts.sessions += 1;
        self.bundles.clear();
        self.partial.clear();
        self.output.clear();
        self.echoes.clear();
        (self.answered, self.read) = (0, 0);
        self.send(0, &Msg::Hello(Hello::only(VERSION)));
    }

    /// Takes bytes from the controller. `Err` if the session ends here, because they make no sense or because
    /// [`Manners::cut`] says so.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let left = self.manners.cut.map_or(usize::MAX, |cut| cut.saturating_sub(self.read));
        let taken = bytes.get(..left.min(bytes.len())).unwrap_or(bytes);
        self.read += taken.len();
        self.partial.extend_from_slice(taken);
        let partial = std::mem::take(&mut self.partial);
        let mut rest = partial.as_slice();
        while let Some(length) = whole(rest) {
            let (head, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = tail;
            let (header, msg) = Msg::decode(head)?;
            self.message(header.xid, msg);
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    /// Whether [`Manners::cut`] was reached.
    pub fn is_cut(&self) -> bool {
        self.manners.cut.is_some_and(|cut| self.read >= cut)
    }

    /// What it has to say.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Asks the controller whether it is there; the answer comes with the same bytes in [`Self::take_echoes`].
    pub fn ask(&mut self, data: Vec<u8>) {
        self.send(0, &Msg::EchoRequest(data));
    }

    /// Answers to what it asked.
    pub fn take_echoes(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.echoes)
    }

    fn send(&mut self, xid: u32, msg: &Msg) {
        msg.encode(xid, &mut self.output);
    }

    fn answer(&mut self, xid: u32, msg: &Msg) {
        let number = self.answered;
        self.answered += 1;
        let times = match self.manners.answers {
            Answers::Without(lost) if lost == number => 0,
            Answers::Twice(twice) if twice == number => 2,
            Answers::Until(last) if number >= last => 0,
            _ => 1,
        };
        for _ in 0..times {
            self.send(xid, msg);
        }
    }

    fn complain(&mut self, xid: u32, kind: u16, code: u16) {
        let experimenter = (kind == error_type::EXPERIMENTER).then_some(ONF);
        self.answer(xid, &Msg::Error(ErrorMsg { kind, code, experimenter, data: Vec::new() }));
    }

    fn message(&mut self, xid: u32, msg: Msg) {
        match msg {
            Msg::EchoRequest(data) => self.send(xid, &Msg::EchoReply(data)),
            Msg::EchoReply(data) => self.echoes.push(data),
            Msg::FeaturesRequest => {
                let tables = u8::MAX - 1;
                let features =
                    Features { datapath_id: self.datapath, buffers: 0, tables, auxiliary: 0, capabilities: 0 };
                self.send(xid, &Msg::FeaturesReply(features));
            }
            // Part of the greeting; counted as no answer.
            Msg::TlvTableRequest => {
                let table = TlvTable { max_space: 256, max_fields: 64, maps: Vec::new() };
                self.send(xid, &Msg::TlvTableReply(table));
            }
            Msg::BarrierRequest => self.answer(xid, &Msg::BarrierReply),
            Msg::MultipartRequest(request) => self.question(xid, request),
            Msg::FlowMod(change) => self.change(Change::Flow(change)),
            Msg::BundleControl(control) => self.bundle(xid, control),
            Msg::GroupMod(change) => self.change(Change::Group(change)),
            Msg::BundleAdd { id, message, .. } => match (*message, self.manners.refuses) {
                (Msg::FlowMod(change), Refuses::Table(table)) if change.table == table && tables::adds(&change) => {
                    // Left out of the bundle: "missing prerequisite in the match".
                    self.complain(xid, error_type::BAD_MATCH, 9);
                }
                (Msg::FlowMod(change), _) => self.bundled(xid, id, Change::Flow(change)),
                (Msg::GroupMod(change), _) => self.bundled(xid, id, Change::Group(change)),
                _ => self.complain(xid, error_type::BAD_REQUEST, 1),
            },
            Msg::MeterMod(MeterMod { command, meter }) => match (command, self.meters.contains_key(&meter.id)) {
                (MeterCommand::Add, true) => self.complain(xid, error_type::METER_MOD_FAILED, 1),
                (MeterCommand::Modify, false) => self.complain(xid, error_type::METER_MOD_FAILED, 3),
                (MeterCommand::Delete, _) => _ = self.meters.remove(&meter.id),
                (MeterCommand::Add | MeterCommand::Modify, _) => _ = self.meters.insert(meter.id, meter),
            },
            // Greetings change nothing here.
            _ => {}
        }
    }

    fn bundled(&mut self, xid: u32, id: u32, change: Change) {
        match self.bundles.get_mut(&id) {
            Some(bundle) => bundle.changes.push((xid, change)),
            None => self.complain(xid, error_type::EXPERIMENTER, experimenter_error::BUNDLE_BAD_ID),
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Flow(change) => self.counts.changes += self.tables.apply(change) as u64,
            Change::Group(GroupMod { command: GroupCommand::Delete, id, .. }) => {
                self.groups.remove(&id);
                self.tables.forget(id);
            }
            Change::Group(GroupMod { kind, id, buckets, .. }) => {
                self.groups.insert(id, GroupDesc { kind, id, buckets });
            }
        }
    }

    fn question(&mut self, xid: u32, request: MultipartRequest) {
        let bodies = match request {
            MultipartRequest::PortDesc => {
                // The handshake's last step; counted as no answer.
                let body = MultipartBody::PortDesc(self.ports.clone());
                return self.send(xid, &Msg::MultipartReply(MultipartReply { more: false, body }));
            }
            MultipartRequest::GroupDesc => vec![MultipartBody::GroupDesc(self.groups.values().cloned().collect())],
            MultipartRequest::Flow(request) => {
                self.counts.reads += 1;
                let flows = self.tables.stats(&request);
                let mut bodies: Vec<_> =
                    flows.chunks(FLOWS_PER_REPLY).map(|part| MultipartBody::Flow(part.to_vec())).collect();
                if bodies.is_empty() {
                    bodies.push(MultipartBody::Flow(Vec::new()));
                }
                bodies
            }
            _ => return self.complain(xid, error_type::BAD_REQUEST, 2),
        };
        let last = bodies.len() - 1;
        for (at, body) in bodies.into_iter().enumerate() {
            self.answer(xid, &Msg::MultipartReply(MultipartReply { more: at < last, body }));
        }
    }

    fn bundle(&mut self, xid: u32, BundleControl { id, step, flags }: BundleControl) {
        let reply = |step| Msg::BundleControl(BundleControl { id, step, flags });
        match step {
            BundleStep::OpenRequest => {
                self.bundles.insert(id, Bundle::default());
                self.answer(xid, &reply(BundleStep::OpenReply));
            }
            BundleStep::CommitRequest => match self.bundles.remove(&id) {
                Some(bundle) => self.commit(xid, bundle, &reply(BundleStep::CommitReply)),
                None => self.complain(xid, error_type::EXPERIMENTER, experimenter_error::BUNDLE_BAD_ID),
            },
            BundleStep::DiscardRequest => {
                self.bundles.remove(&id);
                self.answer(xid, &reply(BundleStep::DiscardReply));
            }
            _ => self.answer(xid, &reply(BundleStep::CloseReply)),
        }
    }

    fn commit(&mut self, xid: u32, bundle: Bundle, done: &Msg) {
        let refused = match self.manners.refuses {
            Refuses::Commits => true,
            Refuses::FirstCommits(many) => self.commits_refused < many,
            _ => false,
        };
        let full = self.tables.len_after(bundle.flows().map(|(_, change)| change)) > self.manners.capacity;
        let dangling = bundle.dangling(&self.groups);
        if refused || full || dangling.is_some() {
            self.commits_refused += 1;
            self.counts.refusals += 1;
            // Open vSwitch names the message that failed, and then says that the bundle did.
            let last = bundle.flows().rev().find(|(_, change)| tables::adds(change));
            if let Some((at, _)) = last.filter(|_| full) {
                self.complain(at, error_type::FLOW_MOD_FAILED, 1);
            }
            if let Some(at) = dangling {
                self.complain(at, error_type::BAD_ACTION, 9);
            }
            return self.complain(xid, error_type::EXPERIMENTER, experimenter_error::BUNDLE_MESSAGE_FAILED);
        }
        self.counts.commits += 1;
        if !self.manners.lies {
            for (_, change) in bundle.changes {
                self.change(change);
            }
        }
        self.answer(xid, done);
    }
}

/// The length of the message that `bytes` begin with, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])).max(8);
    (length <= bytes.len()).then_some(length)
}
