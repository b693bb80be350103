//! What has to change in a host's database: the difference between how it is and how it is to be.
//!
//! The integration bridge is ours as a whole: its fail mode, its controllers, its tunnel ports. Of maps and sets that
//! others write to, only what is named here is touched, by mutations. Other bridges, and ports that are not our tunnels,
//! are read and never written.

use bulkhead_dataplane::host::{HostConfig, TunnelKind};
use bulkhead_ovsdb::{Atom, Condition, Function, Mutation, Operation, Replica, Row, Uuid, Value};
use bulkhead_topology::Name;
use std::collections::BTreeSet;
use thiserror::Error;

/// The key in `external_ids` that marks rows of ours; its value is the switch's name.
pub const OWNER: &str = "bulkhead-owner";

/// The integration bridge: the one that Bulkhead keeps on a host, by the name that all who plug workloads in expect
/// (Neutron, libvirt, Kubernetes CNIs).
pub const BRIDGE: &str = "br-int";

/// The protocol that the controller speaks.
const PROTOCOL: &str = "OpenFlow13";

/// What a bridge without any named protocols gets: ours, and the one in which people's tools show all there is.
const PROTOCOLS: [&str; 2] = [PROTOCOL, "OpenFlow15"];

/// How long a switch waits at most between attempts to reach its controller, in ms: Open vSwitch's least. Given to new
/// controllers only; what somebody sets later stays.
const MAX_BACKOFF: i64 = 1000;

/// Options of a tunnel port that decide whose packets it takes and what they mean. Those that are not wanted are taken
/// out; all others (`tos`, `df_default`, `dst_port`...) are the operator's.
const TUNNEL_OPTIONS: [&str; 7] = ["key", "in_key", "out_key", "remote_ip", "local_ip", "exts", "packet_type"];

/// A change that makes a database what it is to be, and in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// One transaction's operations; nothing if all is well.
    pub operations: Vec<Operation>,
    /// What is wrong and mended by it, for people.
    pub repaired: Vec<String>,
}

/// Why a database cannot be made what it is to be without touching what is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Foreign {
    /// The bridge is another switch's, perhaps another controller's.
    #[error(
        "bridge {bridge} belongs to switch {owner}: two controllers would undo each other's work; if it is no longer \
         there, `ovs-vsctl remove bridge {bridge} external_ids {OWNER}` hands it over"
    )]
    Owner {
        /// The bridge.
        bridge: String,
        /// Who it is marked as.
        owner: String,
    },
    /// A name that is needed is taken.
    #[error("{what} {name} is needed, and is on {place} already")]
    Taken {
        /// "port" or "interface".
        what: &'static str,
        /// Its name.
        name: String,
        /// Where it is.
        place: String,
    },
}

/// What has to change so that the host is as `config` says, marked as `owner`'s. Carrying it out leaves nothing to change.
///
/// # Errors
/// When something that is not ours is in the way.
pub fn plan(replica: &Replica, config: &HostConfig, owner: &Name) -> Result<Plan, Foreign> {
    let found = replica.rows("Bridge").find(|(_, row)| row.text("name") == Some(BRIDGE));
    let none = Row::default();
    let mut planner =
        Planner { replica, config, owner, row: found.map_or(&none, |(_, row)| row), plan: Plan::default() };
    if found.is_none() {
        planner.create()?;
    }
    planner.own(found.is_some())?;
    planner.settings();
    planner.controllers(found.map(|(uuid, _)| uuid));
    for kind in TunnelKind::ALL {
        planner.tunnel(kind)?;
    }
    let mut plan = planner.plan;
    if found.is_none() {
        // What a bridge that was not there did not have goes without saying.
        plan.repaired = vec![format!("bridge {BRIDGE} was missing")];
    }
    Ok(plan)
}

/// What takes our marks off, so that another switch's name may be put there.
pub fn unmark(owner: &Name) -> Vec<Operation> {
    let mark = Value::map([(OWNER, owner.as_str())]);
    let unmark = |table| Operation::Mutate {
        table,
        conditions: vec![Condition { column: "external_ids", function: Function::Includes, value: mark.clone() }],
        mutations: vec![Mutation::delete("external_ids", mark.clone())],
    };
    ["Bridge", "Port", "Controller"].map(unmark).into()
}

struct Planner<'a> {
    replica: &'a Replica,
    config: &'a HostConfig,
    owner: &'a Name,
    /// The bridge; without columns if it is not there.
    row: &'a Row,
    plan: Plan,
}

fn named(name: &str) -> Value {
    Atom::Named(name.into()).into()
}

impl Planner<'_> {
    fn say(&mut self, what: impl Into<String>) {
        self.plan.repaired.push(what.into());
    }

    fn act(&mut self, operation: Operation) {
        self.plan.operations.push(operation);
    }

    fn mark(&self) -> (&'static str, Value) {
        ("external_ids", Value::map([(OWNER, self.owner.as_str())]))
    }

    fn is_ours(&self, row: &Row) -> bool {
        row.pair("external_ids", OWNER) == Some(self.owner.as_str())
    }

    /// The bridge, by its name: it may be a row of this very transaction.
    fn bridge(&self) -> Vec<Condition> {
        vec![Condition { column: "name", function: Function::Equal, value: BRIDGE.into() }]
    }

    fn mutate_bridge(&mut self, mutations: Vec<Mutation>) {
        let conditions = self.bridge();
        self.act(Operation::Mutate { table: "Bridge", conditions, mutations });
    }

    fn update_bridge(&mut self, column: &'static str, value: Value) {
        let conditions = self.bridge();
        self.act(Operation::Update { table: "Bridge", conditions, row: vec![(column, value)] });
    }

    /// A bridge with nothing but its local port.
    fn create(&mut self) -> Result<(), Foreign> {
        self.free(BRIDGE, None)?;
        if self.replica.rows("Open_vSwitch").next().is_none() {
            // A database that nobody has used yet (`ovs-vsctl init` does the same).
            self.act(Operation::Insert { table: "Open_vSwitch", row: vec![], name: None });
        }
        let interface = vec![("name", BRIDGE.into()), ("type", "internal".into())];
        self.act(Operation::Insert { table: "Interface", row: interface, name: Some("local_interface".into()) });
        let port = vec![("name", BRIDGE.into()), ("interfaces", named("local_interface"))];
        self.act(Operation::Insert { table: "Port", row: port, name: Some("local_port".into()) });
        let bridge = vec![("name", BRIDGE.into()), ("ports", named("local_port"))];
        self.act(Operation::Insert { table: "Bridge", row: bridge, name: Some("bridge".into()) });
        let mutations = vec![Mutation::insert("bridges", named("bridge"))];
        self.act(Operation::Mutate { table: "Open_vSwitch", conditions: vec![], mutations });
        Ok(())
    }

    /// Nobody but the port `but` has this name, as a port or as an interface of one: both are unique in a database.
    fn free(&self, name: &str, but: Option<Uuid>) -> Result<(), Foreign> {
        let taken = |what, place| Err(Foreign::Taken { what, name: name.to_owned(), place });
        let text = |row: &Row| row.text("name").unwrap_or("?").to_owned();
        let others = || self.replica.rows("Port").filter(|(uuid, _)| Some(*uuid) != but);
        if let Some((uuid, _)) = others().find(|(_, row)| row.text("name") == Some(name)) {
            let bridge = self.replica.rows("Bridge").find(|(_, row)| row.references("ports").any(|port| port == uuid));
            return taken("port", format!("bridge {}", bridge.map_or_else(|| "?".into(), |(_, row)| text(row))));
        }
        for (_, port) in others() {
            let mut interfaces = port.references("interfaces").filter_map(|uuid| self.replica.row("Interface", uuid));
            if interfaces.any(|interface| interface.text("name") == Some(name)) {
                return taken("interface", format!("port {}", text(port)));
            }
        }
        Ok(())
    }

    /// The bridge bears our mark and nobody else's.
    fn own(&mut self, there: bool) -> Result<(), Foreign> {
        match self.row.pair("external_ids", OWNER) {
            Some(owner) if owner == self.owner.as_str() => return Ok(()),
            Some(owner) => {
                return Err(Foreign::Owner { bridge: BRIDGE.into(), owner: owner.to_owned() });
            }
            None => {}
        }
        if there {
            // Of two controllers that take it at the same moment, one fails.
            let ids = self.row.get("external_ids").cloned().unwrap_or_else(Value::empty);
            let conditions = self.bridge();
            self.act(Operation::Wait { table: "Bridge", conditions, row: vec![("external_ids", ids)] });
            self.say(format!("bridge {BRIDGE} was nobody's, and is taken"));
        }
        let (column, mark) = self.mark();
        self.mutate_bridge(vec![Mutation::insert(column, mark)]);
        Ok(())
    }

    /// The datapath of a bridge that is made anew and for which none is asked: that of all others. A host whose underlay
    /// is on the userspace datapath has its tunnels there too, and packets do not get from one datapath to another.
    fn beside(&self) -> Option<&str> {
        let anew = self.row.text("name").is_none();
        let others: BTreeSet<_> =
            self.replica.rows("Bridge").filter_map(|(_, row)| row.text("datapath_type")).collect();
        others.first().copied().filter(|one| anew && others.len() == 1 && !one.is_empty())
    }

    fn settings(&mut self) {
        let row = self.row;
        let wanted = self.config.datapath_type.as_deref().or_else(|| self.beside()).map(str::to_owned);
        if let Some(wanted) = wanted {
            // Open vSwitch writes its default as nothing.
            let is = row.text("datapath_type").filter(|is| !is.is_empty()).unwrap_or("system");
            if is != wanted {
                self.say(format!("datapath_type of {BRIDGE} was {is}"));
                self.update_bridge("datapath_type", wanted.as_str().into());
            }
        }
        if row.text("fail_mode") != Some("secure") {
            self.say(format!("fail_mode of {BRIDGE} was {}", row.text("fail_mode").unwrap_or("not set")));
            self.update_bridge("fail_mode", "secure".into());
        }
        let protocols: BTreeSet<&Atom> = row.atoms("protocols").collect();
        if !protocols.contains(&Atom::from(PROTOCOL)) {
            self.say(format!("protocols of {BRIDGE} did not name {PROTOCOL}"));
            // A bridge that names none speaks all: naming one must not take the others away from people's tools.
            let wanted = if protocols.is_empty() { Value::set(PROTOCOLS) } else { PROTOCOL.into() };
            self.mutate_bridge(vec![Mutation::insert("protocols", wanted)]);
        }
        // In-band control is hidden entries above all others, which let whoever bears the controller's address past them.
        let datapath = format!("{:016x}", self.config.datapath.0);
        for (key, wanted) in [("datapath-id", datapath.as_str()), ("disable-in-band", "true")] {
            let is = row.pair("other_config", key);
            if is != Some(wanted) {
                self.say(format!("other_config:{key} of {BRIDGE} was {}", is.unwrap_or("not set")));
                self.mutate_bridge(Mutation::put("other_config", key, wanted).into());
            }
        }
    }

    /// Exactly our controller: any other one could open what we close. Done in one transaction, because a bridge whose
    /// last controller goes forgets its flows.
    fn controllers(&mut self, bridge: Option<Uuid>) {
        let (replica, target) = (self.replica, self.config.controller.as_str());
        let shared = |uuid: Uuid| {
            let mut others = replica.rows("Bridge").filter(|(other, _)| Some(*other) != bridge);
            others.any(|(_, row)| row.references("controller").any(|other| other == uuid))
        };
        let all: Vec<(Uuid, &Row)> = self
            .row
            .references("controller")
            .filter_map(|uuid| replica.row("Controller", uuid).map(|row| (uuid, row)))
            .collect();
        let alone: Vec<_> = all.iter().copied().filter(|(uuid, _)| !shared(*uuid)).collect();
        let ours = alone
            .iter()
            .find(|(_, row)| row.text("target") == Some(target))
            .or_else(|| alone.iter().find(|(_, row)| self.is_ours(row)))
            .copied();
        if let Some((uuid, row)) = ours {
            let conditions = vec![Condition::row(uuid)];
            if row.text("target") != Some(target) {
                self.say(format!("the controller of {BRIDGE} was {}", row.text("target").unwrap_or("?")));
                let row = vec![("target", target.into())];
                self.act(Operation::Update { table: "Controller", conditions: conditions.clone(), row });
            }
            if row.text("type") == Some("service") {
                self.say(format!("the controller of {BRIDGE} was a mere service"));
                let row = vec![("type", Value::empty())];
                self.act(Operation::Update { table: "Controller", conditions: conditions.clone(), row });
            }
            if !self.is_ours(row) {
                let mutations = Mutation::put("external_ids", OWNER, self.owner.as_str()).into();
                self.act(Operation::Mutate { table: "Controller", conditions, mutations });
            }
        } else {
            self.say(format!("{BRIDGE} did not have its controller"));
            let row = vec![("target", target.into()), ("max_backoff", MAX_BACKOFF.into()), self.mark()];
            self.act(Operation::Insert { table: "Controller", row, name: Some("controller".into()) });
            self.mutate_bridge(vec![Mutation::insert("controller", named("controller"))]);
        }
        let others: Vec<_> = all.into_iter().filter(|(uuid, _)| Some(*uuid) != ours.map(|(uuid, _)| uuid)).collect();
        if !others.is_empty() {
            for (_, row) in &others {
                self.say(format!("{BRIDGE} had another controller, {}", row.text("target").unwrap_or("?")));
            }
            let gone = Value::set(others.into_iter().map(|(uuid, _)| uuid));
            self.mutate_bridge(vec![Mutation::delete("controller", gone)]);
        }
    }

    fn tunnel(&mut self, kind: TunnelKind) -> Result<(), Foreign> {
        let (replica, name) = (self.replica, kind.port_name());
        let mut ports =
            self.row.references("ports").filter_map(|uuid| replica.row("Port", uuid).map(|row| (uuid, row)));
        let port = ports.find(|(_, row)| row.text("name") == Some(name));
        if !self.config.tunnels.contains(&kind) {
            // One that we did not make is like any other port: nothing that comes in by it is let on.
            if let Some((uuid, _)) = port.filter(|(_, row)| self.is_ours(row)) {
                self.say(format!("tunnel port {name} was there and is not wanted"));
                self.mutate_bridge(vec![Mutation::delete("ports", uuid.into())]);
            }
            return Ok(());
        }
        let Some((uuid, row)) = port else {
            self.free(name, None)?;
            self.say(format!("tunnel port {name} was missing"));
            self.add_tunnel(kind);
            return Ok(());
        };
        let mut interfaces =
            row.references("interfaces").filter_map(|id| replica.row("Interface", id).map(|row| (id, row)));
        let fits = |row: &Row| row.text("name") == Some(name) && row.text("type") == Some(word(kind));
        match (interfaces.next(), interfaces.next()) {
            (Some((interface, found)), None) if fits(found) => self.tunnel_options(kind, interface, found),
            _ => {
                self.free(name, Some(uuid))?;
                self.say(format!("port {name} was no {} tunnel", word(kind)));
                self.mutate_bridge(vec![Mutation::delete("ports", uuid.into())]);
                self.add_tunnel(kind);
                return Ok(());
            }
        }
        if !self.is_ours(row) {
            self.say(format!("tunnel port {name} did not bear our mark"));
            let mutations = Mutation::put("external_ids", OWNER, self.owner.as_str()).into();
            self.act(Operation::Mutate { table: "Port", conditions: vec![Condition::row(uuid)], mutations });
        }
        Ok(())
    }

    fn add_tunnel(&mut self, kind: TunnelKind) {
        let (interface, port) = (format!("{}_interface", word(kind)), format!("{}_port", word(kind)));
        let name = kind.port_name();
        let options = Value::map(self.wanted_options());
        let row = vec![("name", name.into()), ("type", word(kind).into()), ("options", options)];
        self.act(Operation::Insert { table: "Interface", row, name: Some(interface.clone()) });
        let row = vec![("name", name.into()), ("interfaces", named(&interface)), self.mark()];
        self.act(Operation::Insert { table: "Port", row, name: Some(port.clone()) });
        self.mutate_bridge(vec![Mutation::insert("ports", named(&port))]);
    }

    /// Where a packet goes, which network it is of, and where one came from, is for flows to say and to see.
    fn wanted_options(&self) -> Vec<(&'static str, String)> {
        let mut wanted = vec![("key", "flow".to_owned()), ("remote_ip", "flow".to_owned())];
        if let Some(ip) = self.config.local_ip {
            wanted.push(("local_ip", ip.to_string()));
            if ip.is_ipv6() {
                // UDP over IPv6 without a checksum is dropped by whoever was not told to take it (RFC 6936).
                wanted.push(("csum", "true".to_owned()));
            }
        }
        wanted
    }

    fn tunnel_options(&mut self, kind: TunnelKind, uuid: Uuid, row: &Row) {
        let wanted = self.wanted_options();
        let (mut gone, mut put) = (BTreeSet::new(), Vec::new());
        for key in TUNNEL_OPTIONS {
            if let Some(is) = row.pair("options", key)
                && !wanted.iter().any(|(wanted, _)| *wanted == key)
            {
                self.say(format!("options:{key} of {} was {is}", kind.port_name()));
                gone.insert(Atom::from(key));
            }
        }
        for (key, value) in wanted {
            let is = row.pair("options", key);
            if is != Some(&value) {
                self.say(format!("options:{key} of {} was {}", kind.port_name(), is.unwrap_or("not set")));
                gone.insert(Atom::from(key));
                put.push((key, value));
            }
        }
        if !gone.is_empty() {
            let mutations =
                vec![Mutation::delete("options", Value::Set(gone)), Mutation::insert("options", Value::map(put))];
            self.act(Operation::Mutate { table: "Interface", conditions: vec![Condition::row(uuid)], mutations });
        }
    }
}

/// The type of a tunnel's interface, in Open vSwitch's words.
const fn word(kind: TunnelKind) -> &'static str {
    match kind {
        TunnelKind::Geneve => "geneve",
        TunnelKind::Vxlan => "vxlan",
    }
}
