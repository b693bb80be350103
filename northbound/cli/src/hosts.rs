//! Kept hosts and tunnels, as `status` and `describe` show them.

use crate::print::{Out, Tone, clean};
use bulkhead_types::{HostStatus, SwitchStatus};

/// The tunnels of these switches that carry nothing, and how many there are.
pub fn tunnels(out: &mut Out, switches: &[SwitchStatus]) {
    let all = || switches.iter().flat_map(|switch| switch.tunnels.iter().map(move |tunnel| (switch, tunnel)));
    let count = |state: &str| all().filter(|(_, tunnel)| tunnel.state == state).count();
    let (up, down, unknown, unprobed) = (count("up"), count("down"), count("unknown"), count("set-up"));
    if up + down + unknown + unprobed == 0 {
        return;
    }
    let more = |count, what| if count == 0 { String::new() } else { format!(", {count} {what}") };
    let unprobed = more(unprobed, "set up and not probed");
    let unknown = more(unknown, "not known");
    let tone = if down == 0 { Tone::Good } else { Tone::Bad };
    out.line("");
    let said = out.tint(tone, &format!("{down} down"));
    out.line(format!("tunnels: {up} up, {said}{unprobed}{unknown}"));
    let rows: Vec<_> = all()
        .filter(|(_, tunnel)| tunnel.state == "down")
        .map(|(switch, tunnel)| [&switch.name, &tunnel.to, &tunnel.port, &tunnel.vtep].map(|text| clean(text)).to_vec())
        .collect();
    if !rows.is_empty() {
        out.table(&["DOWN-FROM", "TO", "PORT", "VTEP"], &rows);
    }
}

/// The hosts of these switches, who is quarantined there, and what else is to be told of them.
pub fn tables(out: &mut Out, switches: &[SwitchStatus]) {
    let hosts: Vec<(&str, &HostStatus)> =
        switches.iter().filter_map(|switch| Some((switch.name.as_str(), switch.host.as_ref()?))).collect();
    if hosts.is_empty() {
        return;
    }
    let row = |(name, host): &(&str, &HostStatus)| {
        vec![
            clean(name),
            if host.ovsdb.is_empty() { "-".into() } else { clean(&host.ovsdb) },
            shape(out, host),
            host.plugged.to_string(),
            match host.quarantined.len() {
                0 => "0".into(),
                some => out.tint(Tone::Warn, &some.to_string()),
            },
            host.underlay_mtu.map_or_else(|| "-".into(), |mtu| mtu.to_string()),
            host.repairs.to_string(),
            if host.trouble.is_empty() { "-".into() } else { clean(&host.trouble) },
        ]
    };
    let rows: Vec<_> = hosts.iter().map(row).collect();
    out.line("");
    out.table(&["HOST", "OVSDB", "SHAPE", "PLUGGED", "QUARANTINED", "UNDERLAY-MTU", "REPAIRS", "TROUBLE"], &rows);
    let quarantined = hosts.iter().flat_map(|(name, host)| host.quarantined.iter().map(move |found| (name, found)));
    let rows: Vec<_> = quarantined
        .map(|(name, found)| {
            let mac = if found.mac.is_empty() { "-" } else { &found.mac };
            [name, found.port.as_str(), &found.iface_id, mac, &found.why].map(clean).to_vec()
        })
        .collect();
    if !rows.is_empty() {
        out.line("");
        out.table(&["QUARANTINED-ON", "PORT", "IFACE-ID", "MAC", "WHY"], &rows);
    }
    for (name, host) in hosts {
        let repaired = host.repaired.iter().map(|what| format!("mended: {what}"));
        for line in host.warnings.iter().cloned().chain(repaired) {
            out.line(format!("{}: {}", clean(name), clean(&line)));
        }
    }
}

/// In a word, how the host is.
fn shape(out: &Out, host: &HostStatus) -> String {
    match (host.connected, host.shaped) {
        (true, true) => out.tint(Tone::Good, "ok"),
        (true, false) => out.tint(Tone::Warn, "not yet"),
        (false, _) => out.tint(Tone::Bad, "no answer"),
    }
}
