//! The underlay: a namespace with a learning bridge that every hypervisor hangs on, and a host on it that belongs to
//! nobody: whoever reaches the underlay can do what that one can.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use bulkhead_netlink::{LinkChange, MacAddress, Namespace, Veth};
use bulkhead_topology::IpNet;

use crate::frames::Wire;
use crate::hypervisor::{Datapath, Hypervisor};
use crate::scenario::{Host, Scenario};
use crate::state::Record;
use crate::workload::INTERFACE;

/// Names of namespaces that are a lab's own: no host of a scenario may have them.
pub const RESERVED: [&str; 2] = [UNDERLAY, ROGUE];

const UNDERLAY: &str = "underlay";
const ROGUE: &str = "rogue";

/// The learning bridge in the underlay's namespace.
const SWITCH: &str = "br0";

/// A hypervisor's underlay interface, and the bridge that it and the tunnels' end are on (ovs-vswitchd(8): userspace
/// tunnels find their way by the kernel's routes, which lead to the bridge's own port).
pub const UPLINK: &str = "u0";
/// See [`UPLINK`].
pub const PHYSICAL: &str = "br-phy";

/// The MTU of an ordinary Ethernet.
pub const MTU: u16 = 1500;

/// Underlay addresses are in one network of this many leading bits.
const LENGTHS: (u8, u8) = (24, 64);

/// The last part of the rogue's address: no VTEP has it.
const ROGUE_HOST: u8 = 254;

/// VTEPs' MACs: this and the hypervisor's number. Fixed, so that a neighbour can be known before it speaks.
const VTEP_MAC: MacAddress = [0x02, 0xbe, 0, 0, 0, 0];

/// The rogue's MAC.
const ROGUE_MAC: MacAddress = [0x02, 0xbe, 0, 0, 0, 0xff];

/// Most hypervisors: their numbers end their MACs.
const HOSTS_MOST: usize = 250;

fn length(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { LENGTHS.0 } else { LENGTHS.1 }
}

/// The rogue's address beside this one.
fn beside(vtep: IpAddr) -> IpAddr {
    match vtep {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [a, b, c, ROGUE_HOST].into()
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            [a, b, c, d, 0, 0, 0, u16::from(ROGUE_HOST)].into()
        }
    }
}

/// Whether these hosts can share an underlay.
pub(crate) fn check(hosts: &[Host]) -> Result<()> {
    let first = hosts.first().context("no hypervisors")?.vtep;
    ensure!(hosts.len() <= HOSTS_MOST, "a lab has at most {HOSTS_MOST} hypervisors");
    let net = IpNet::new(first, length(first))?;
    for (number, host) in hosts.iter().enumerate() {
        let vtep = host.vtep;
        ensure!(net.contains(vtep), "{}: {vtep} is not in the underlay's network {net}", host.name);
        ensure!(vtep != beside(first), "{}: {vtep} is kept for the attacker", host.name);
        let twice = hosts.iter().take(number).find(|other| other.vtep == vtep);
        ensure!(twice.is_none(), "{}: another hypervisor has {vtep}", host.name);
    }
    Ok(())
}

/// The MAC of the VTEP of a scenario's hypervisor.
pub(crate) fn vtep_mac(scenario: &Scenario, name: &str) -> Option<MacAddress> {
    let number = scenario.hypervisors.iter().position(|host| host.name == name)?;
    let [head @ .., _] = VTEP_MAC;
    let [a, b, c, d, e] = head;
    Some([a, b, c, d, e, u8::try_from(number + 1).ok()?])
}

/// The underlay of a lab that is up. The handle may be cloned; the lab owns what is behind it.
#[derive(Debug, Clone)]
pub struct Underlay {
    namespace: Namespace,
    rogue: Namespace,
    ip: IpAddr,
}

impl Underlay {
    /// The handle for a lab's underlay.
    pub(crate) fn named(tag: &str, scenario: &Scenario) -> Result<Underlay> {
        let ip = beside(scenario.hypervisors.first().context("no hypervisors")?.vtep);
        let named = |name| Namespace::named(&format!("{tag}-{name}"));
        Ok(Underlay { namespace: named(UNDERLAY), rogue: named(ROGUE), ip })
    }

    /// The bridge, and the rogue on it.
    pub(crate) fn build(record: &Record, scenario: &Scenario) -> Result<Underlay> {
        let underlay = Underlay::named(record.tag(), scenario)?;
        // Wires: the kernel is not to speak on them.
        record.namespace(UNDERLAY)?.sysctl(&QUIET)?;
        let mut links = underlay.namespace.netlink()?;
        links.add_bridge(SWITCH)?;
        links.set(SWITCH, &[LinkChange::Mtu(scenario.underlay_mtu.into()), LinkChange::Up])?;
        let rogue = record.namespace(ROGUE)?;
        let keys = ["accept_dad", "accept_ra", "router_solicitations"].map(|key| format!("ipv6/conf/default/{key}"));
        rogue.sysctl(&keys.each_ref().map(|key| (key.as_str(), "0")))?;
        underlay.plug(ROGUE, (INTERFACE, &rogue), Some(ROGUE_MAC), scenario.underlay_mtu)?;
        // Whatever MACs it uses, the bridge still knows where the others are: what it forges goes on arriving.
        links.set(ROGUE, &[LinkChange::NoLearning])?;
        let mut inside = rogue.netlink()?;
        inside.checksums_off(INTERFACE)?;
        inside.set(INTERFACE, &[LinkChange::Up])?;
        inside.add_address(INTERFACE, underlay.ip, length(underlay.ip))?;
        Ok(underlay)
    }

    /// A cable from the bridge to somebody.
    fn plug(&self, port: &str, (name, to): (&str, &Namespace), mac: Option<MacAddress>, mtu: u16) -> Result<()> {
        let mut links = self.namespace.netlink()?;
        links.add_veth(&Veth { name: port, peer: name, peer_in: to, mac, mtu: Some(mtu.into()) })?;
        Ok(links.set(port, &[LinkChange::Bridge(SWITCH.into()), LinkChange::Up])?)
    }

    /// The cable from the bridge to a switch, plugged in at both ends.
    pub(crate) fn connect(&self, scenario: &Scenario, host: &Host, inside: &Namespace) -> Result<()> {
        self.plug(&host.name, (UPLINK, inside), None, scenario.underlay_mtu)?;
        Ok(inside.netlink()?.set(UPLINK, &[LinkChange::Up])?)
    }

    /// Plugs in an interface that is there already: that of a switch which makes its own.
    pub(crate) fn adopt(&self, scenario: &Scenario, host: &Host) -> Result<()> {
        let changes =
            [LinkChange::Mtu(scenario.underlay_mtu.into()), LinkChange::Bridge(SWITCH.into()), LinkChange::Up];
        Ok(self.namespace.netlink()?.set(&host.name, &changes)?)
    }

    /// Where the bridge is.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Gives a hypervisor its place in the underlay: cable, physical bridge, VTEP address.
    pub(crate) fn attach(&self, scenario: &Scenario, host: &Host, hypervisor: &Hypervisor) -> Result<()> {
        let inside = hypervisor.namespace();
        self.connect(scenario, host, inside)?;
        inside.sysctl(&[
            // The kernel would answer for the VTEP's address on the bare interface too, with the wrong MAC.
            (&format!("ipv4/conf/{UPLINK}/arp_ignore"), "1"),
            // The switch reads a copy of every packet; the kernel's own is not to be answered.
            (&format!("ipv4/conf/{UPLINK}/rp_filter"), "1"),
        ])?;
        let mac = crate::hypervisor::mac_text(vtep_mac(scenario, &host.name).context("no such hypervisor")?);
        let bridge_mac = format!("other-config:hwaddr=\"{mac}\"");
        let mut arguments = vec!["add-br", PHYSICAL, "--", "set", "bridge", PHYSICAL, "datapath_type=netdev"];
        arguments.extend(["fail_mode=standalone", &bridge_mac, "--", "add-port", PHYSICAL, UPLINK]);
        if scenario.datapath == Datapath::Afxdp {
            arguments.extend(["--", "set", "interface", UPLINK]);
            arguments.extend(Datapath::AFXDP);
        }
        hypervisor.vsctl(&arguments)?;
        self.prepare(scenario, host, hypervisor)
    }

    /// What a hypervisor's physical bridge needs each time that its switch starts: the VTEP's address, if the port was
    /// made anew, and its guard.
    pub(crate) fn prepare(&self, scenario: &Scenario, host: &Host, hypervisor: &Hypervisor) -> Result<()> {
        hypervisor.replace_flows(PHYSICAL, &guard(scenario, host))?;
        let inside = hypervisor.namespace();
        let mut links = inside.netlink()?;
        if host.vtep.is_ipv6() {
            inside.sysctl(&[(&format!("ipv6/conf/{PHYSICAL}/disable_ipv6"), "0")])?;
        }
        links.set(PHYSICAL, &[LinkChange::Up])?;
        match links.add_address(PHYSICAL, host.vtep, length(host.vtep)) {
            Err(error) if error.already_there() => Ok(()),
            other => Ok(other?),
        }
    }

    /// The host in the underlay that belongs to nobody.
    #[must_use]
    pub fn rogue(&self) -> &Namespace {
        &self.rogue
    }

    /// Its address.
    #[must_use]
    pub fn rogue_ip(&self) -> IpAddr {
        self.ip
    }

    /// Its MAC.
    #[must_use]
    pub fn rogue_mac(&self) -> MacAddress {
        ROGUE_MAC
    }

    /// Its interface: what is injected here reaches the underlay as it is.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn rogue_wire(&self) -> Result<Wire> {
        Wire::open(&self.rogue, INTERFACE)
    }

    /// Where the underlay ends at a hypervisor: what is received here is what that one sent.
    ///
    /// # Errors
    /// When there is no such hypervisor.
    pub fn tap(&self, hypervisor: &str) -> Result<Wire> {
        Wire::open(&self.namespace, hypervisor)
    }

    /// Cuts a hypervisor off from the underlay, or joins it again.
    ///
    /// # Errors
    /// When there is no such hypervisor.
    pub fn cable(&self, hypervisor: &str, cable: Cable) -> Result<()> {
        let change = if cable == Cable::In { LinkChange::Up } else { LinkChange::Down };
        Ok(self.namespace.netlink()?.set(hypervisor, &[change])?)
    }
}

/// Flows of the physical bridge that let nobody speak for a VTEP from another MAC, and nobody outside from its own: the
/// bridge would learn from one frame that its own port is outside, and deliver nothing more to it. Open vSwitch learns from every packet
/// that arrives in a tunnel, or claims to, where its sender is; without this, one forged packet would lead all tunnels to
/// who sent it, and `tnl/neigh/set` does not keep it from that.
fn guard(scenario: &Scenario, host: &Host) -> String {
    let mut flows = vec!["priority=0,actions=NORMAL".to_owned()];
    let own = vtep_mac(scenario, &host.name).map(crate::hypervisor::mac_text);
    flows.extend(own.map(|own| format!("priority=30,in_port={UPLINK},dl_src={own},actions=drop")));
    for other in scenario.hypervisors.iter().filter(|other| other.name != host.name) {
        let Some(mac) = vtep_mac(scenario, &other.name).map(crate::hypervisor::mac_text) else { continue };
        let ip = other.vtep;
        let (own, speaks) = match ip {
            IpAddr::V4(_) => (format!("arp_sha={mac}"), [format!("ip,nw_src={ip}"), format!("arp,arp_spa={ip}")]),
            IpAddr::V6(_) => {
                let claims = format!("icmp6,icmp_type=136,icmp_code=0,nd_target={ip}");
                (format!("nd_tll={mac}"), [format!("ipv6,ipv6_src={ip}"), claims])
            }
        };
        for (says, own) in speaks.into_iter().zip(["".to_owned(), format!(",{own}")]) {
            flows.push(format!("priority=20,in_port={UPLINK},{says},dl_src={mac}{own},actions=NORMAL"));
            flows.push(format!("priority=10,in_port={UPLINK},{says},actions=drop"));
        }
    }
    flows.join("\n") + "\n"
}

/// Whether a cable is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// It is.
    In,
    /// It is not.
    Out,
}

/// Kernel parameters of a namespace whose links are wires.
const QUIET: [(&str, &str); 2] = [("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];
