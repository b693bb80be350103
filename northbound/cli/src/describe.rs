//! describe: everything about a resource, with what only the controller knows.

use crate::{
    Outcome,
    args::{Output, Target},
    attached::{Place, Seen},
    print::Out,
    show,
    tables::{self, join},
};
use bulkhead_client::Client;
use bulkhead_types::{Kind, Resource, RuleHits, model::*, v1};
use serde_json::{Value, json};

/// `bulkhead describe`
pub fn describe(client: &Client, output: Output, out: &mut Out, args: &Target) -> anyhow::Result<Outcome> {
    let (kind, documents) = show::fetch(client, args)?;
    let mut described = Vec::new();
    for (i, document) in documents.iter().enumerate() {
        let resource = show::resource(document)?;
        let hits = match &resource {
            Resource::Policy(policy) => client.hits(Some(policy.name.as_str()))?,
            _ => Vec::new(),
        };
        let seen = Seen::of(client, [&resource])?;
        if matches!(output, Output::Json | Output::Yaml) {
            let mut document = document.clone();
            match (&mut document, &resource) {
                (Value::Object(fields), Resource::Policy(_)) => fields.insert("hits".into(), json!(hits)),
                (Value::Object(fields), Resource::Workload(workload)) => {
                    fields.insert("attachments".into(), attachments(&seen, workload).into())
                }
                _ => None,
            };
            described.push(document);
            continue;
        }
        if i > 0 {
            out.line("");
        }
        head(out, kind, &resource, &seen);
        match &resource {
            Resource::Policy(policy) => rules(out, policy, &hits),
            Resource::Workload(workload) => interfaces(client, out, workload, &seen)?,
            Resource::Zone(zone) => members(client, out, zone)?,
            Resource::Switch(switch) => status(client, out, switch)?,
            _ => {}
        }
    }
    match described.as_slice() {
        [one] => out.value(output, one)?,
        [] if documents.is_empty() && output == Output::Json => out.value(output, &described)?,
        // A stream of no documents.
        [] if documents.is_empty() && output == Output::Yaml => {}
        [] if documents.is_empty() => out.line(format!("no {} found", v1::kind_plural(kind))),
        [] => {}
        many => out.value(output, &many)?,
    }
    Ok(Outcome::Yes)
}

fn head(out: &mut Out, kind: Kind, resource: &Resource, seen: &Seen) {
    out.line(format!("{:<12} {}", "Kind:", v1::kind_name(kind)));
    for (name, value) in tables::head(kind, true).iter().zip(tables::row(resource, seen, true)) {
        let word = name.get(1..).unwrap_or_default().to_lowercase();
        out.line(format!("{:<12} {value}", format!("{}{word}:", name.get(..1).unwrap_or_default())));
    }
}

fn counted(hits: Option<&RuleHits>) -> [String; 3] {
    let (total, dropped) = hits.map(|h| (h.total, h.dropped)).unwrap_or_default();
    [total.packets, total.bytes, dropped].map(|number| number.to_string())
}

fn rules(out: &mut Out, policy: &Policy, hits: &[RuleHits]) {
    let mut rows = Vec::new();
    for direction in Direction::BOTH {
        for (i, rule) in policy.rules(direction).iter().enumerate() {
            let hit = hits.iter().find(|h| h.direction.as_deref() == Some(direction.as_str()) && h.index == Some(i));
            let [packets, bytes, dropped] = counted(hit);
            let name = if rule.name.is_empty() { "-".into() } else { rule.name.to_string() };
            rows.push(vec![
                format!("{}[{i}]", direction.as_str()),
                name,
                rule.action.as_str().into(),
                match &rule.peers {
                    None => "any".into(),
                    Some(peers) if peers.is_empty() => "none".into(),
                    Some(peers) => peers.iter().map(tables::peer).collect::<Vec<_>>().join(" or "),
                },
                match &rule.ports {
                    None => "any".into(),
                    Some(ports) if ports.is_empty() => "none".into(),
                    Some(ports) => join(ports.iter().map(tables::port)),
                },
                packets,
                bytes,
                dropped,
            ]);
        }
    }
    // Isolation and whatever else counts under the policy's name without being one of its rules.
    for hit in hits.iter().filter(|h| h.index.is_none()) {
        let [packets, bytes, dropped] = counted(Some(hit));
        let direction = hit.direction.clone().unwrap_or_else(|| "-".into());
        rows.push(vec![direction, hit.rule.clone(), "deny".into(), "-".into(), "-".into(), packets, bytes, dropped]);
    }
    out.line("");
    if rows.is_empty() {
        out.line("No rules.");
    }
    if policy.staged {
        out.line("Staged: nothing is enforced; counted is what the rules would decide.");
        // Nothing can be dropped.
        rows.iter_mut().for_each(|row| row.truncate(row.len() - 1));
        out.table(&["RULE", "NAME", "ACTION", "PEERS", "PORTS", "WOULD-BE-PACKETS", "WOULD-BE-BYTES"], &rows);
    } else {
        // Of a denial that is not enforced, less is dropped than counted.
        out.table(&["RULE", "NAME", "ACTION", "PEERS", "PORTS", "PACKETS", "BYTES", "DROPPED"], &rows);
    }
}

/// Where a workload's interfaces are plugged in and who says so, for programs.
fn attachments(seen: &Seen, workload: &Workload) -> Vec<Value> {
    let place = |interface: &Interface| {
        let Place { switch, port, from } = seen.place(workload, interface)?;
        Some(json!({"mac": interface.mac.to_string(), "switch": switch, "port": port, "from": from}))
    };
    workload.interfaces.iter().filter_map(place).collect()
}

fn interfaces(client: &Client, out: &mut Out, workload: &Workload, seen: &Seen) -> anyhow::Result<()> {
    let interface = |i: &Interface| {
        let (at, from) = match seen.place(workload, i) {
            Some(Place { switch, port, from }) => (format!("{switch}:{port}"), from),
            None => ("not attached".into(), "-"),
        };
        vec![i.mac.to_string(), join(&i.ips), at, from.into()]
    };
    out.line("");
    out.table(
        &["INTERFACE", "IPS", "ATTACHED", "SAID-BY"],
        &workload.interfaces.iter().map(interface).collect::<Vec<_>>(),
    );
    let mut zones = Vec::new();
    for document in client.list("zones", None)?.items {
        if let Resource::Zone(zone) = show::resource(&document)?
            && zone.network == workload.network
            && zone.selector.matches(&workload.labels)
        {
            zones.push(format!("{} ({})", zone.name, tables::mode(zone.mode)));
        }
    }
    out.line("");
    out.line(format!("{:<12} {}", "Zones:", join(zones)));
    Ok(())
}

/// The workloads of a zone, as documents.
pub fn zone_members(client: &Client, zone: &Zone) -> anyhow::Result<Vec<Value>> {
    let mut members = Vec::new();
    for document in client.list("workloads", None)?.items {
        if let Resource::Workload(workload) = show::resource(&document)?
            && workload.network == zone.network
            && zone.selector.matches(&workload.labels)
        {
            members.push(document);
        }
    }
    Ok(members)
}

fn members(client: &Client, out: &mut Out, zone: &Zone) -> anyhow::Result<()> {
    let members = zone_members(client, zone)?;
    out.line(format!("{:<12} {}", "Members:", join(members.iter().filter_map(show::name_of))));
    Ok(())
}

fn status(client: &Client, out: &mut Out, switch: &Switch) -> anyhow::Result<()> {
    let status = client.status()?;
    let Some(found) = status.switches.iter().find(|s| s.name == switch.name.as_str()) else { return Ok(()) };
    out.line("");
    crate::question::status_table(out, std::slice::from_ref(found), true);
    crate::hosts::tunnels(out, std::slice::from_ref(found));
    crate::hosts::tables(out, std::slice::from_ref(found));
    // Packets that no policy rule decided about: `describe policy` has the others.
    let builtin = |hit: &RuleHits| {
        let here = hit.switches.get(switch.name.as_str()).filter(|_| hit.policy.is_none())?;
        let counted = [here.packets, here.bytes, here.dropped].map(|number| number.to_string());
        Some([hit.rule.clone()].into_iter().chain(counted).collect())
    };
    out.line("");
    out.table(
        &["BUILT-IN RULE", "PACKETS", "BYTES", "DROPPED"],
        &client.hits(None)?.iter().filter_map(builtin).collect::<Vec<_>>(),
    );
    Ok(())
}
