//! topology, path, and what `status` says of links.

mod draw;

use crate::{
    Outcome,
    args::Output,
    print::{Out, Tone, clean},
    yes_no,
};
use bulkhead_client::Client;
use bulkhead_types::{
    ForeignLldp, LearningStatus, LinkEnd, LinkStatus, LinksInShort, NetworkApart, NetworkPart, NotLearned,
    PathQuestion, PortStatus,
};

/// `bulkhead topology`
pub fn topology(client: &Client, output: Output, out: &mut Out) -> anyhow::Result<Outcome> {
    let topology = client.topology()?;
    match output {
        Output::Json | Output::Yaml => out.value(output, &topology)?,
        Output::Dot => out.raw(&draw::dot(&topology)),
        Output::Svg => out.raw(&draw::svg(&topology)),
        Output::Table | Output::Wide => {
            if topology.switches.is_empty() {
                out.line("no switches");
            }
            let links = |name: &str| {
                let ends = topology.links.iter().filter(|link| link.a.switch == name || link.b.switch == name);
                let up = ends.clone().filter(|link| link.state == "up").count();
                format!("{up}/{}", ends.count())
            };
            let switches = topology.switches.iter().map(|switch| {
                let edge = if switch.edge { "yes" } else { "no" };
                let name = clean(&switch.name);
                vec![name, clean(&switch.role), yes_no(out, switch.connected), edge.into(), links(&switch.name)]
            });
            let rows: Vec<_> = switches.collect();
            out.table(&["SWITCH", "ROLE", "CONNECTED", "EDGE", "LINKS-UP"], &rows);
            table(out, "A", &topology.links);
            foreign(out, &topology.foreign_lldp);
        }
    }
    Ok(Outcome::Yes)
}

/// `bulkhead ports`
pub fn ports(client: &Client, output: Output, out: &mut Out, switch: &str) -> anyhow::Result<Outcome> {
    let answer = client.ports(switch)?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
    } else if !answer.connected {
        let said = out.tint(Tone::Warn, "not connected");
        out.line(format!("switch {} is {said}: its ports are not known", clean(&answer.switch)));
    } else if answer.ports.is_empty() {
        out.line(format!("switch {} tells no ports", clean(&answer.switch)));
    } else {
        let row = |port: &PortStatus| {
            let or = |text: &str| if text.is_empty() { "-".into() } else { clean(text) };
            let at = match port.at.as_str() {
                "quarantine" => out.tint(Tone::Warn, &port.at),
                at => clean(at),
            };
            let number = port.number.map_or_else(|| "-".into(), |number| number.to_string());
            vec![or(port.name.as_deref().unwrap_or_default()), number, yes_no(out, port.up), at, or(&port.of)]
        };
        let rows: Vec<_> = answer.ports.iter().map(row).collect();
        out.table(&["PORT", "NUMBER", "UP", "AT", "OF"], &rows);
    }
    Ok(Outcome::Yes)
}

/// `bulkhead path`
pub fn path(client: &Client, output: Output, out: &mut Out, from: &str, to: &str) -> anyhow::Result<Outcome> {
    let answer = client.path(&PathQuestion { from: from.into(), to: to.into() })?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
    } else {
        let [from, to] = [&answer.from_switch, &answer.to_switch].map(|name| clean(name));
        let said = match (answer.found, answer.paths) {
            (false, _) => out.tint(Tone::Bad, "no way"),
            (true, 0 | 1) => out.tint(Tone::Good, "one way"),
            (true, many) => out.tint(Tone::Good, &format!("{many} equal ways")),
        };
        out.line(format!("{said}: {from} to {to}, {} links", answer.steps.len()));
        if !answer.why.is_empty() {
            out.line(clean(&answer.why));
        }
        let rows: Vec<_> = answer
            .steps
            .iter()
            .enumerate()
            .flat_map(|(at, hops)| hops.iter().map(move |hop| (at + 1, hop)))
            .map(|(at, hop)| vec![at.to_string(), end(&hop.from), end(&hop.to)])
            .collect();
        out.table(&["LINK", "FROM", "TO"], &rows);
    }
    Ok(if answer.found { Outcome::Yes } else { Outcome::No })
}

/// What `status` says of links: how many, which are not up, and whose LLDP comes.
pub fn status(out: &mut Out, links: &LinksInShort) {
    let count = |state: &str| links.not_up.iter().filter(|link| link.state == state).count();
    let (down, conflict, unknown) = (count("down"), count("conflict"), count("unknown"));
    if links.up > 0 || !links.not_up.is_empty() {
        out.line("");
        let down = out.tint(if down == 0 { Tone::Good } else { Tone::Bad }, &format!("{down} down"));
        let conflict = match conflict {
            0 => String::new(),
            some => format!(", {}", out.tint(Tone::Bad, &format!("{some} in conflict"))),
        };
        let unknown = if unknown == 0 { String::new() } else { format!(", {unknown} not known") };
        out.line(format!("links: {} up, {down}{conflict}{unknown}", links.up));
        table(out, "NOT-UP", &links.not_up);
    }
    foreign(out, &links.foreign_lldp);
}

/// What `status` says of networks that are in parts.
pub fn apart(out: &mut Out, apart: &[NetworkApart]) {
    for NetworkApart { network, parts } in apart {
        let part = |NetworkPart { by, switches }: &NetworkPart| {
            let first = switches.first().map(|name| clean(name)).unwrap_or_default();
            match switches.len() {
                0 | 1 => first,
                some => format!("{first} and {} more by {}", some - 1, clean(by)),
            }
        };
        let parts: Vec<_> = parts.iter().map(part).collect();
        let head = out.tint(Tone::Bad, &format!("network {} is in {} parts", clean(network), parts.len()));
        out.line("");
        out.line(format!("{head} that do not reach each other, whatever policies allow: {}", parts.join("; ")));
    }
}

/// What `status` says of what was learned.
pub fn learning(out: &mut Out, learning: &LearningStatus) {
    let LearningStatus { network, workloads, switches, refused } = learning;
    out.line("");
    let by = network.as_deref().map_or_else(|| "no network learns now".into(), |name| format!("by {}", clean(name)));
    out.line(format!("learned: {workloads} workloads, {switches} switches ({by})"));
    let row = |found: &NotLearned| vec![clean(&found.why), found.count.to_string(), clean(&found.last)];
    let rows: Vec<_> = refused.iter().map(row).collect();
    if !rows.is_empty() {
        out.line("");
        out.table(&["NOT-LEARNED", "TIMES", "LAST"], &rows);
    }
}

fn table(out: &mut Out, first: &str, links: &[LinkStatus]) {
    let row = |link: &LinkStatus| {
        let tone = match link.state.as_str() {
            "up" => Tone::Good,
            "unknown" => Tone::Warn,
            _ => Tone::Bad,
        };
        vec![
            end(&link.a),
            end(&link.b),
            out.tint(tone, &clean(&link.state)),
            link.name.as_deref().map_or_else(|| "-".into(), clean),
            if link.discovered { "yes".into() } else { "no".into() },
            if link.why.is_empty() { "-".into() } else { clean(&link.why) },
        ]
    };
    let rows: Vec<_> = links.iter().map(row).collect();
    if !rows.is_empty() {
        out.line("");
        out.table(&[first, "B", "STATE", "DECLARED-BY", "DISCOVERED", "WHY"], &rows);
    }
}

fn foreign(out: &mut Out, foreign: &[ForeignLldp]) {
    let row = |found: &ForeignLldp| {
        let sender = if found.sender.is_empty() { "-".into() } else { clean(&found.sender) };
        vec![clean(&found.switch), clean(&found.port), found.frames.to_string(), sender]
    };
    let rows: Vec<_> = foreign.iter().map(row).collect();
    if !rows.is_empty() {
        out.line("");
        out.table(&["FOREIGN-LLDP-AT", "PORT", "FRAMES", "SENDER"], &rows);
    }
}

fn end(end: &LinkEnd) -> String {
    clean(&format!("{}:{}", end.switch, end.port))
}
