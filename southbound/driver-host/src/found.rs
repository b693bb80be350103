//! What a host's database tells of workloads and of the underlay.

use crate::plan::BRIDGE;
use bulkhead_dataplane::host::{HostConfig, HostReport, Plugged, TunnelKind};
use bulkhead_ovsdb::{Replica, Row};

/// What is monitored (ovs-vswitchd.conf.db(5)). Columns that count packets are left out: they change all the time.
pub const TABLES: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["bridges", "next_cfg", "cur_cfg", "ssl"]),
    (
        "Bridge",
        &["name", "ports", "controller", "datapath_type", "fail_mode", "protocols", "other_config", "external_ids"],
    ),
    ("Port", &["name", "interfaces", "external_ids"]),
    ("Interface", &["name", "type", "options", "external_ids", "ofport", "mtu", "error"]),
    ("Controller", &["target", "type", "external_ids"]),
];

/// Bytes of a port's name that OpenFlow tells (`OFP_MAX_PORT_NAME_LEN`, OF 1.3.5 §7.2.1, less the terminating zero).
const TOLD_BYTES: usize = 15;

/// What is wrong with an interface's name among all of the bridge's: entries go by what OpenFlow tells of it.
fn misnamed(name: &str, all: &[&str]) -> Option<String> {
    if name.len() > TOLD_BYTES {
        return Some(format!("its name is longer than the {TOLD_BYTES} bytes that OpenFlow tells"));
    }
    let cut = |other: &&&str| other.len() > TOLD_BYTES && other.as_bytes().get(..TOLD_BYTES) == Some(name.as_bytes());
    let other = all.iter().find(cut)?;
    Some(format!("its name is all that OpenFlow tells of {other}, too"))
}

fn interfaces<'a>(replica: &'a Replica, bridge: &'a Row) -> impl Iterator<Item = &'a Row> {
    let ports = bridge.references("ports").filter_map(|port| replica.row("Port", port));
    ports.flat_map(|port| port.references("interfaces")).filter_map(|uuid| replica.row("Interface", uuid))
}

fn bridge(replica: &Replica) -> Option<&Row> {
    replica.rows("Bridge").map(|(_, row)| row).find(|row| row.text("name") == Some(BRIDGE))
}

fn number(row: &Row, column: &str) -> Option<u32> {
    row.integer(column).and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)
}

fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.text(column).filter(|text| !text.is_empty())
}

/// The interfaces of the bridge that name a workload, by port.
pub fn plugged(replica: &Replica) -> Vec<Plugged> {
    let Some(bridge) = bridge(replica) else { return Vec::new() };
    let mut names: Vec<&str> = interfaces(replica, bridge).filter_map(|row| row.text("name")).collect();
    names.sort_unstable();
    let mut all: Vec<Plugged> = interfaces(replica, bridge)
        .filter_map(|row| {
            let port = row.text("name")?;
            let owner = row.pair("external_ids", "iface-id").filter(|id| !id.is_empty())?;
            // Whatever is written there, a tunnel is nobody's interface.
            if TunnelKind::ALL.iter().any(|kind| kind.port_name() == port) {
                return None;
            }
            let mac = row.pair("external_ids", "attached-mac");
            let parsed = mac.map(str::parse);
            let bad = match (mac, &parsed) {
                (Some(mac), Some(Err(_))) => {
                    let told: String = mac.chars().take(32).collect();
                    Some(format!("external_ids:attached-mac `{told}` is no MAC address"))
                }
                (None, _) => Some("external_ids:attached-mac is missing".into()),
                _ => None,
            };
            Some(Plugged {
                port: port.to_owned(),
                ofport: number(row, "ofport"),
                owner: owner.to_owned(),
                mac: parsed.and_then(Result::ok),
                mtu: number(row, "mtu"),
                error: text(row, "error").map(str::to_owned).or_else(|| misnamed(port, &names)).or(bad),
            })
        })
        .collect();
    all.sort_by(|a, b| a.port.cmp(&b.port));
    all
}

/// What carries the tunnels. The database does not say which interface has the tunnels' address; but in the userspace
/// datapath their packets leave through another bridge of it, and if there is only one, it is that.
pub fn underlay(replica: &Replica, config: &HostConfig) -> HostReport {
    let ours = bridge(replica);
    let mut errors = Vec::new();
    for row in ours.into_iter().flat_map(|bridge| interfaces(replica, bridge)) {
        let name = row.text("name").unwrap_or_default();
        if !config.tunnels.iter().any(|kind| kind.port_name() == name) {
            continue;
        }
        match (text(row, "error"), row.integer("ofport")) {
            (Some(error), _) => errors.push(format!("{name}: {error}")),
            (None, Some(-1)) => errors.push(format!("{name}: the switch cannot open it")),
            _ => {}
        }
    }
    errors.sort();
    let certified = replica.rows("Open_vSwitch").any(|(_, row)| row.references("ssl").next().is_some());
    if config.controller.starts_with("ssl:") && !certified {
        errors
            .push("the host has no certificate to show the controller: `ovs-vsctl set-ssl KEY CERTIFICATE CA`".into());
    }
    let userspace = |row: &&Row| row.text("datapath_type") == Some("netdev");
    let mut others =
        replica.rows("Bridge").map(|(_, row)| row).filter(|row| row.text("name") != Some(BRIDGE)).filter(userspace);
    let carrier = match (ours.filter(userspace), others.next(), others.next()) {
        (Some(_), Some(carrier), None) if !config.tunnels.is_empty() => Some(carrier),
        _ => None,
    };
    let mtu = carrier.and_then(|bridge| interfaces(replica, bridge).filter_map(|row| number(row, "mtu")).min());
    HostReport::Underlay { mtu, errors }
}
