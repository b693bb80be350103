//! A scenario that is up: several hypervisors on one underlay, and their workloads.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bulkhead_netlink::LinkChange;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, Files};
use crate::hypervisor::{Daemon, Hypervisor};
use crate::lab::{End, Lab};
use crate::leaf::{Device, Leaf, Plug, UNDERLAY_PORT};
use crate::scenario::{Guest, Host, Kind, Scenario};
use crate::state::{self, ControlNetwork};
use crate::underlay::{UPLINK, Underlay};
use crate::workload::{INTERFACE, Spec, Way, Workload};

/// What a lab's directory holds for who comes later, and what `bulkhead apply -f` takes.
const FILE: &str = "fabric.json";
const RESOURCES: &str = "resources.yaml";

/// Handles for everything in a fabric that is up, whoever owns it.
#[derive(Debug, Clone)]
pub struct Site {
    tag: String,
    dir: PathBuf,
    scenario: Scenario,
    underlay: Underlay,
    hypervisors: Vec<Hypervisor>,
    leaves: Vec<Leaf>,
    workloads: Vec<Workload>,
    server: Option<String>,
}

/// What handles are made of again.
#[derive(Serialize, Deserialize)]
struct Kept {
    scenario: Scenario,
    control: Vec<ControlNetwork>,
    ports: Vec<u32>,
    server: Option<String>,
}

impl Site {
    /// The fabrics that were left up, by tag.
    ///
    /// # Errors
    /// When the labs' directory cannot be used.
    pub fn kept() -> Result<Vec<Site>> {
        let labs = state::kept()?.into_iter();
        // A lab of another kind has no such file.
        labs.filter_map(|tag| Site::read(&tag).transpose()).collect()
    }

    fn read(tag: &str) -> Result<Option<Site>> {
        let dir = state::directory(tag)?;
        let Ok(bytes) = std::fs::read(dir.join(FILE)) else { return Ok(None) };
        let kept: Kept = serde_json::from_slice(&bytes).with_context(|| format!("{tag}: {FILE} makes no sense"))?;
        let Kept { scenario, control, ports, server } = kept;
        let (mut hypervisors, mut leaves) = (Vec::new(), Vec::new());
        for (host, control) in scenario.hypervisors.iter().zip(control) {
            match host.kind {
                Kind::Ovs => hypervisors.push(Hypervisor::of(tag, &dir, &host.name, control)),
                Kind::P4 => leaves.push(Leaf::of(tag, &dir, &host.name, control)),
            }
        }
        let guests = scenario.guests().zip(ports);
        let workloads =
            guests.map(|((guest, mac), port)| Workload::of(tag, &guest.name, mac, &guest.ips, port)).collect();
        let underlay = Underlay::named(tag, &scenario)?;
        Ok(Some(Site { tag: tag.to_owned(), dir, scenario, underlay, hypervisors, leaves, workloads, server }))
    }

    fn save(&self) -> Result<()> {
        let kept = Kept {
            scenario: self.scenario.clone(),
            control: self.scenario.hypervisors.iter().filter_map(|host| self.control_network(host)).collect(),
            ports: self.workloads.iter().map(Workload::port).collect(),
            server: self.server.clone(),
        };
        let documents = self.scenario.documents(|host| self.address(host).unwrap_or_default());
        let text: Vec<_> = documents.iter().map(serde_json::to_string_pretty).collect::<Result<_, _>>()?;
        std::fs::write(self.resources(), format!("---\n{}\n", text.join("\n---\n")))?;
        std::fs::write(self.dir.join(FILE), serde_json::to_vec_pretty(&kept)?).context("cannot write what is up")
    }

    fn control_network(&self, host: &Host) -> Option<ControlNetwork> {
        match host.kind {
            Kind::Ovs => self.hypervisor(&host.name).ok().map(Hypervisor::control_network),
            Kind::P4 => self.leaf(&host.name).ok().map(Leaf::control_network),
        }
    }

    /// Where a controller finds a switch: its database, or its P4Runtime server.
    ///
    /// # Errors
    /// When it is not there.
    pub fn address(&self, host: &Host) -> Result<String> {
        match host.kind {
            Kind::Ovs => self.ovsdb(&host.name),
            Kind::P4 => Ok(self.leaf(&host.name)?.address()),
        }
    }

    /// The lab's name on this machine.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was made from, and where its workloads are now.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The file with the scenario's resources, for `bulkhead apply -f`.
    #[must_use]
    pub fn resources(&self) -> PathBuf {
        self.dir.join(RESOURCES)
    }

    /// The URL of the controller that was started with it, if one was.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// What the hypervisors hang on.
    #[must_use]
    pub fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    /// Its hypervisors with an Open vSwitch, in the scenario's order.
    #[must_use]
    pub fn hypervisors(&self) -> &[Hypervisor] {
        &self.hypervisors
    }

    /// Its workloads, in the scenario's order.
    #[must_use]
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// Its workloads with what the scenario says of them.
    pub fn guests(&self) -> impl Iterator<Item = (&Guest, &Workload)> {
        self.scenario.workloads.iter().zip(&self.workloads)
    }

    /// The hypervisor of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn hypervisor(&self, name: &str) -> Result<&Hypervisor> {
        self.hypervisors.iter().find(|one| one.name() == name).with_context(|| format!("there is no hypervisor {name}"))
    }

    /// The leaf of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn leaf(&self, name: &str) -> Result<&Leaf> {
        self.leaves.iter().find(|one| one.name() == name).with_context(|| format!("there is no leaf {name}"))
    }

    /// Where a controller finds a hypervisor's database: by TLS, if the scenario wants it.
    ///
    /// # Errors
    /// When there is no such hypervisor.
    pub fn ovsdb(&self, hypervisor: &str) -> Result<String> {
        let hypervisor = self.hypervisor(hypervisor)?;
        Ok(if self.scenario.tls { hypervisor.secure_ovsdb() } else { hypervisor.ovsdb() })
    }

    /// What a controller speaks TLS with, if the scenario wants it.
    #[must_use]
    pub fn southbound(&self) -> Option<Files> {
        self.scenario.tls.then(|| Files::of(&self.dir, None))
    }

    /// The workload of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn workload(&self, name: &str) -> Result<&Workload> {
        self.workloads.iter().find(|one| one.name() == name).with_context(|| format!("there is no workload {name}"))
    }

    /// The MAC of a hypervisor's VTEP.
    ///
    /// # Errors
    /// When there is no such hypervisor.
    pub fn vtep_mac(&self, hypervisor: &str) -> Result<[u8; 6]> {
        crate::underlay::vtep_mac(&self.scenario, hypervisor).with_context(|| format!("there is no {hypervisor}"))
    }

    /// Where a controller in the host's namespace listens so that every hypervisor reaches it.
    ///
    /// # Errors
    /// Never, with at least one hypervisor.
    pub fn controller_address(&self) -> Result<std::net::Ipv4Addr> {
        let leaf = || self.leaves.first().map(Leaf::controller_address);
        self.hypervisors.first().map(Hypervisor::controller_address).or_else(leaf).context("no switches")
    }
}

/// A fabric that this process owns: it goes when this is dropped, unless it is kept.
#[derive(Debug)]
pub struct Fabric {
    lab: Lab,
    site: Site,
}

impl Deref for Fabric {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Fabric {
    /// Puts a scenario up.
    ///
    /// # Errors
    /// When the scenario is wrong, or this machine cannot hold it; nothing is left then.
    pub fn up(scenario: &Scenario) -> Result<Fabric> {
        Fabric::up_telling(scenario, &mut |_| {})
    }

    /// The same, and `tell` hears of each part that is there.
    ///
    /// # Errors
    /// As [`Fabric::up`].
    pub fn up_telling(scenario: &Scenario, tell: &mut dyn FnMut(&str)) -> Result<Fabric> {
        scenario.check()?;
        let begun = Instant::now();
        let mut lab = Lab::new(&scenario.lab)?;
        let underlay = Underlay::build(lab.record(), scenario).context("the underlay does not come up")?;
        tell(&format!("underlay, MTU {}, and the attacker {} on it", scenario.underlay_mtu, underlay.rogue_ip()));
        let authority = if scenario.tls { Some(Authority::new(lab.dir())?) } else { None };
        let mut hypervisors = Vec::new();
        for (host, datapath_id) in scenario.hosts().filter(|(host, _)| host.kind == Kind::Ovs) {
            let hypervisor = lab.hypervisor(&host.name, datapath_id)?;
            if let Some(authority) = &authority {
                hypervisor.secure(&authority.sign(Some(&host.name))?)?;
            }
            let attached = underlay.attach(scenario, host, &hypervisor);
            attached.with_context(|| format!("{} has no place in the underlay", host.name))?;
            tell(&format!("{}: Open vSwitch, VTEP {}", host.name, host.vtep));
            hypervisors.push(hypervisor);
        }
        let mut site = Site {
            tag: lab.tag().to_owned(),
            dir: lab.dir().to_owned(),
            scenario: scenario.clone(),
            underlay,
            hypervisors,
            leaves: Vec::new(),
            workloads: Vec::new(),
            server: None,
        };
        let mut bare_metal = BTreeMap::new();
        for host in scenario.hypervisors.iter().filter(|host| host.kind == Kind::P4) {
            let device = host.device.unwrap_or_else(Device::here);
            let leaf = site.leaf_up(&mut lab, host, device, &mut bare_metal);
            let leaf = leaf.with_context(|| format!("leaf {} does not come up", host.name))?;
            tell(&format!("{}: {}, P4Runtime at {}, VTEP {}", host.name, device.name(), leaf.address(), host.vtep));
            site.leaves.push(leaf);
        }
        for (guest, mac) in scenario.guests() {
            let spec = site.spec(guest, mac)?;
            let workload = match bare_metal.remove(&guest.name) {
                Some(workload) => workload,
                None => lab.add(site.hypervisor(&guest.hypervisor)?, &spec)?,
            };
            tell(&format!("{} on {}: {}, {mac}", guest.name, guest.hypervisor, texts(&guest.ips)));
            site.workloads.push(workload);
        }
        site.save()?;
        tell(&format!("up in {:.1} s", begun.elapsed().as_secs_f32()));
        Ok(Fabric { lab, site })
    }

    /// The lab, for programs that are to end with it.
    pub fn lab(&mut self) -> &mut Lab {
        &mut self.lab
    }

    /// Notes where the controller answers, for who comes later.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn note_server(&mut self, server: &str) -> Result<()> {
        self.site.server = Some(server.to_owned());
        self.site.save()
    }

    /// Ends a hypervisor's daemon and starts it again.
    ///
    /// # Errors
    /// When there is no such hypervisor, or the daemon does not come up.
    pub fn restart(&mut self, hypervisor: &str, daemon: Daemon, how: End) -> Result<()> {
        self.stop(hypervisor, daemon, how)?;
        self.start(hypervisor, daemon)
    }

    /// Ends a hypervisor's daemon.
    ///
    /// # Errors
    /// When there is no such hypervisor, or the daemon was ended before.
    pub fn stop(&mut self, hypervisor: &str, daemon: Daemon, how: End) -> Result<()> {
        let hypervisor = self.site.hypervisor(hypervisor)?;
        self.lab.stop_daemon(hypervisor, daemon, how)
    }

    /// Starts a hypervisor's daemon that was ended, and waits until it does its work.
    ///
    /// # Errors
    /// When there is no such hypervisor, or the daemon does not come up.
    pub fn start(&mut self, hypervisor: &str, daemon: Daemon) -> Result<()> {
        let at = self.site.hypervisor(hypervisor)?;
        self.lab.start_daemon(at, daemon)?;
        if daemon == Daemon::Switch {
            // With a change, it returns when the switch has carried out what is in the database.
            let mark = format!("external_ids:lab-started={}", self.lab.daemon(hypervisor, daemon)?.pid);
            at.vsctl(&["set", "Open_vSwitch", ".", &mark])?;
            let host = self.site.scenario.hypervisors.iter().find(|host| host.name == hypervisor);
            self.site.underlay.prepare(&self.site.scenario, host.context("no such hypervisor")?, at)?;
        }
        Ok(())
    }

    /// Moves a workload to another hypervisor: its link is taken out of the one switch and plugged into the other. What
    /// it has inside stays, connections too. The controller has to be told, unless it looks for itself.
    ///
    /// # Errors
    /// When one of them is not there, or a switch refuses.
    pub fn carry(&mut self, workload: &str, to: &str) -> Result<()> {
        let site = &mut self.site;
        let number = site.workloads.iter().position(|one| one.name() == workload);
        let number = number.with_context(|| format!("there is no workload {workload}"))?;
        let guest = site.scenario.workloads.get(number).context("there is no such workload")?;
        ensure!(guest.hypervisor != to, "{workload} is on {to} already");
        let (from, to) = (site.hypervisor(&guest.hypervisor)?.clone(), site.hypervisor(to)?.clone());
        let datapath = site.scenario.datapath;
        if let Some(one) = site.workloads.get_mut(number) {
            one.carry(&from, &to, datapath)?;
        }
        if let Some(guest) = site.scenario.workloads.get_mut(number) {
            to.name().clone_into(&mut guest.hypervisor);
        }
        site.save()
    }

    /// Leaves the fabric in place when this process ends; `bulkhead-lab down` removes it.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn keep(&self) -> Result<()> {
        self.lab.keep()
    }

    /// Removes everything now, and says what could not be removed. Dropping does the same silently.
    ///
    /// # Errors
    /// When something is left.
    pub fn down(self) -> Result<()> {
        self.lab.down()
    }
}

impl Site {
    /// A leaf with everybody who is on it, and its place in the underlay.
    fn leaf_up(
        &self,
        lab: &mut Lab,
        host: &Host,
        device: Device,
        workloads: &mut BTreeMap<String, Workload>,
    ) -> Result<Leaf> {
        let leaf = lab.leaf(&host.name)?;
        let mut ports = Vec::new();
        let mut guests = Vec::new();
        for (number, guest, mac) in self.scenario.ports(&host.name) {
            let spec = self.spec(guest, mac)?;
            let room = Workload::room(lab.record(), &spec)?;
            if device == Device::Bmv2 {
                Workload::cable(leaf.namespace(), &room, &spec)?;
            }
            ports.push(Plug { number, near: guest.name.clone(), far: INTERFACE.into(), far_in: room.clone() });
            guests.push((number, spec, room));
        }
        if device == Device::Bmv2 {
            self.underlay.connect(&self.scenario, host, leaf.namespace())?;
        }
        ports.push(Plug {
            number: UNDERLAY_PORT,
            near: UPLINK.into(),
            far: host.name.clone(),
            far_in: self.underlay.namespace().clone(),
        });
        lab.start_leaf(&leaf, device, &ports)?;
        if device == Device::StandIn {
            self.underlay.adopt(&self.scenario, host)?;
        }
        for (number, spec, room) in guests {
            if device == Device::StandIn {
                let changes = [LinkChange::Mac(spec.mac.0), LinkChange::Mtu(spec.mtu.into())];
                room.netlink()?.set(INTERFACE, &changes)?;
            }
            Workload::furnish(&room, &spec)?;
            workloads.insert(spec.name.clone(), Workload::with(room, &spec, number));
        }
        Ok(leaf)
    }

    /// What a guest is, for the lab.
    fn spec(&self, guest: &Guest, mac: bulkhead_topology::Mac) -> Result<Spec> {
        let lengths = guest.ips.iter().map(|ip| Ok((*ip, self.scenario.prefix(guest, *ip)?)));
        let everything = |via: &std::net::IpAddr| match via {
            std::net::IpAddr::V4(_) => Way { via: Some(*via), ..Way::on_link([0; 4], 0) },
            std::net::IpAddr::V6(_) => Way { via: Some(*via), ..Way::on_link([0_u16; 8], 0) },
        };
        Ok(Spec {
            name: guest.name.clone(),
            mac,
            ips: lengths.collect::<Result<_>>()?,
            routes: guest.gateways.iter().map(everything).collect(),
            mtu: guest.mtu,
            datapath: self.scenario.datapath,
            silent: false,
        })
    }
}

fn texts(ips: &[std::net::IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
