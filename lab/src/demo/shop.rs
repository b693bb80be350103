//! The shop of `examples/three-tier`, as hosts.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use bulkhead_lab::{Answer, Family, Hypervisor, Lab, Namespace, Probe, Service, Spec, Workload, state};

/// The switch, by name and datapath id.
pub(crate) const SWITCH: (&str, u64) = ("hv1", 0xb1);

/// What every pair is asked for.
pub(crate) const SERVICES: [Service; 5] =
    [Service::Tcp(443), Service::Tcp(8080), Service::Tcp(5432), Service::Udp(53), Service::Icmp];

/// The external host's name in tables, and its port on the switch.
pub(crate) const EXTERNAL: (&str, &str) = ("ext", "uplink0");

/// The external host's last octet of the MAC.
const EXTERNAL_MAC: u8 = 0xee;

/// The workloads: name and number, which ends their MAC and addresses.
const WORKLOADS: [(&str, u8); 7] =
    [("lb", 10), ("web-1", 21), ("web-2", 22), ("app-1", 31), ("app-2", 32), ("db", 41), ("dns", 53)];

/// One end of a probe.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Its name in tables.
    pub(crate) name: &'static str,
    /// Its addresses, IPv4 first.
    pub(crate) ips: [IpAddr; 2],
    /// Whether Bulkhead knows it as a workload.
    pub(crate) managed: bool,
}

impl Host {
    /// Its address of a family.
    pub(crate) fn ip(&self, family: Family) -> IpAddr {
        let [v4, v6] = self.ips;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// How it is named in questions to the controller.
    pub(crate) fn reference(&self, family: Family) -> String {
        if self.managed { self.name.to_owned() } else { format!("ip:{}", self.ip(family)) }
    }
}

/// Every host, workloads first.
pub(crate) fn hosts() -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for (name, number) in WORKLOADS {
        let ips = [format!("10.1.0.{number}").parse()?, format!("fd00:1::{number}").parse()?];
        hosts.push(Host { name, ips, managed: true });
    }
    let ips = ["198.51.100.7".parse()?, "2001:db8::7".parse()?];
    hosts.push(Host { name: EXTERNAL.0, ips, managed: false });
    Ok(hosts)
}

/// Puts the hosts up, in the order of [`hosts`].
pub(crate) fn build(lab: &mut Lab, hypervisor: &Hypervisor) -> Result<Vec<Workload>> {
    let build = |host: Host| {
        let number = WORKLOADS.iter().find(|(name, _)| *name == host.name).map(|(_, number)| *number);
        let spec = match number {
            Some(number) => Spec::new(host.name, format!("02:00:00:00:00:{number:02}").parse()?, &host.ips),
            None => Spec::external(EXTERNAL.1, format!("02:00:00:00:00:{EXTERNAL_MAC:02x}").parse()?, &host.ips),
        };
        lab.add(hypervisor, &spec)
    };
    hosts()?.into_iter().map(build).collect()
}

/// Sends one probe in the lab that was left up.
pub(crate) fn ask(from: &str, to: &str, service: Service, family: Family) -> Result<Answer> {
    let hosts = hosts()?;
    let find = |name: &str| hosts.iter().find(|host| host.name == name).with_context(|| format!("there is no {name}"));
    let (from, to) = (find(from)?, find(to)?);
    let kept = state::kept()?;
    let tag = match kept.as_slice() {
        [] => bail!("no lab is up: `bulkhead-lab demo --keep` or `bulkhead-lab up FILE` first"),
        [.., tag] => tag,
    };
    let port = if from.managed { from.name } else { EXTERNAL.1 };
    let probe = Probe {
        from: Namespace::named(&format!("{tag}-{port}")),
        source: Some(from.ip(family)),
        to: to.ip(family),
        service,
        patience: std::time::Duration::from_secs(2),
    };
    probe.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents of one kind of file, as text without spaces and quotes.
    fn example(file: &str) -> String {
        let path = format!("{}/../examples/three-tier/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap().replace([' ', '"'], "")
    }

    #[test]
    fn the_hosts_are_those_of_the_documents() {
        let text = example("workloads.yaml");
        let documents: Vec<_> = text.split("---").filter(|document| document.contains("kind:Workload")).collect();
        assert_eq!(documents.len(), WORKLOADS.len());
        for ((name, number), host) in WORKLOADS.into_iter().zip(hosts().unwrap()) {
            let found = documents.iter().find(|document| document.contains(&format!("metadata:{{name:{name},")));
            let document = found.unwrap_or_else(|| panic!("{name} is not in the documents"));
            let [v4, v6] = host.ips;
            assert!(document.contains(&format!("mac:02:00:00:00:00:{number:02}\n")), "{document}");
            assert!(document.contains(&format!("ips:[{v4},{v6}]")), "{document}");
            assert!(document.contains(&format!("switch:{},port:{name}}}", SWITCH.0)), "{document}");
        }
    }

    #[test]
    fn the_switch_is_that_of_the_documents() {
        let text = example("switch.yaml");
        assert!(text.contains(&format!("datapathId:{:#x}", SWITCH.1)), "{text}");
        assert!(example("network.yaml").contains(&format!("switch:{},port:{}", SWITCH.0, EXTERNAL.1)));
    }
}
