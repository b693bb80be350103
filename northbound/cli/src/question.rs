//! reach, matrix, trace, status.

use crate::{
    Outcome,
    args::{Output, Question},
    print::{Out, Tone, clean},
    yes_no,
};
use anyhow::{anyhow, bail};
use bulkhead_client::Client;
use bulkhead_types::{
    DoubledPort, FlowQuestion, MatrixRow, PendingSwitch, SessionStatus, SideAnswer, SwitchStatus, TlsStatus, Verdict,
    nearest, parse_service,
};
use std::collections::{BTreeMap, BTreeSet};

fn ask(question: &Question) -> anyhow::Result<FlowQuestion> {
    let service = parse_service(&question.service).map_err(|e| anyhow!("{e}"))?;
    Ok(service.ask(FlowQuestion {
        from: question.from.clone(),
        to: question.to.clone(),
        family: question.family,
        network: question.network.clone(),
        ..FlowQuestion::default()
    }))
}

fn outcome(verdict: Verdict) -> Outcome {
    if verdict == Verdict::Allow { Outcome::Yes } else { Outcome::No }
}

fn word(out: &Out, verdict: Verdict) -> String {
    out.tint(if verdict == Verdict::Allow { Tone::Good } else { Tone::Bad }, verdict.as_str())
}

fn side(out: &Out, direction: &str, of: &str, side: &SideAnswer) -> Vec<String> {
    let text = |text: &Option<String>| text.as_deref().map_or_else(|| "-".into(), clean);
    let policy = match (&side.policy, &side.zone) {
        (None, Some(zone)) => format!("zone {}", clean(zone)),
        (policy, _) => text(policy),
    };
    let rule = match (&side.rule, &side.policy) {
        (None, None) => "not managed".into(),
        (rule, _) => text(rule),
    };
    vec![direction.into(), of.into(), word(out, side.verdict), policy, rule, text(&side.tier)]
}

/// The columns of [`side`].
const HEAD: [&str; 6] = ["SIDE", "OF", "VERDICT", "POLICY", "RULE", "TIER"];

/// `bulkhead reach`
pub fn reach(client: &Client, output: Output, out: &mut Out, question: &Question) -> anyhow::Result<Outcome> {
    let answer = client.reach(&ask(question)?)?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
    } else {
        let service = service(&answer.protocol, answer.port, answer.icmp_type, answer.icmp_code);
        let verdict = word(out, answer.verdict);
        out.line(format!("{verdict}: {} to {} {service}", answer.from, answer.to));
        out.line("");
        let rows =
            [side(out, "egress", &answer.from, &answer.egress), side(out, "ingress", &answer.to, &answer.ingress)];
        out.table(&HEAD, &rows);
        if let Some(staged) = &answer.staged {
            let verdict = word(out, staged.verdict);
            out.line("");
            out.line(format!("{verdict} if staged policies were active:"));
            let rows =
                [side(out, "egress", &answer.from, &staged.egress), side(out, "ingress", &answer.to, &staged.ingress)];
            out.table(&HEAD, &rows);
        }
        if !answer.note.is_empty() {
            out.line("");
            out.line(clean(&answer.note));
        }
    }
    Ok(outcome(answer.verdict))
}

/// Most workloads across that a matrix is drawn for; more are listed as pairs.
const MAX_COLUMNS: usize = 20;

/// `bulkhead matrix`
pub fn matrix(
    client: &Client,
    output: Output,
    out: &mut Out,
    selector: Option<&str>,
    port: Option<&str>,
) -> anyhow::Result<Outcome> {
    let rows = client.matrix(selector, port)?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &rows)?;
        return Ok(Outcome::Yes);
    }
    if rows.is_empty() {
        out.line("no pairs found");
        return Ok(Outcome::Yes);
    }
    let names: BTreeSet<&str> = rows.iter().flat_map(|r| [r.from.as_str(), r.to.as_str()]).collect();
    if output == Output::Wide || names.len() > MAX_COLUMNS {
        let cells: Vec<_> =
            rows.iter().map(|r| vec![r.from.clone(), r.to.clone(), row_service(r), word(out, r.verdict)]).collect();
        out.table(&["FROM", "TO", "SERVICE", "VERDICT"], &cells);
        return Ok(Outcome::Yes);
    }
    drawn(out, &rows, &names);
    Ok(Outcome::Yes)
}

/// `tcp/443`, `icmp/8/0`, `47`: as questions are written.
fn service(protocol: &str, port: Option<u16>, icmp_type: Option<u8>, icmp_code: Option<u8>) -> String {
    let parts = [port, icmp_type.map(u16::from), icmp_code.map(u16::from)];
    parts.into_iter().flatten().fold(protocol.into(), |text, part| format!("{text}/{part}"))
}

/// What a row of a matrix is about.
pub fn row_service(row: &MatrixRow) -> String {
    service(&row.protocol, row.port, row.icmp_type, row.icmp_code)
}

/// A square: who is on the left, whom they reach above; in each cell the services that pass.
fn drawn(out: &mut Out, rows: &[MatrixRow], names: &BTreeSet<&str>) {
    let services: BTreeSet<String> = rows.iter().map(row_service).collect();
    let mut allowed: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut asked: BTreeSet<(&str, &str)> = BTreeSet::new();
    for row in rows {
        asked.insert((&row.from, &row.to));
        if row.verdict == Verdict::Allow {
            let cell = allowed.entry((&row.from, &row.to)).or_default();
            if !cell.contains(&row_service(row)) {
                cell.push(row_service(row));
            }
        }
    }
    let mut head = vec!["FROM \\ TO"];
    head.extend(names);
    let line = |from: &str| {
        let cell = |to: &&str| match allowed.get(&(from, *to)) {
            Some(passes) => {
                let text = if services.len() == 1 { "yes".into() } else { passes.join(",") };
                out.tint(Tone::Good, &text)
            }
            None if asked.contains(&(from, *to)) => ".".into(),
            None => String::new(),
        };
        std::iter::once(from.to_string()).chain(names.iter().map(cell)).collect::<Vec<_>>()
    };
    let cells: Vec<_> = names.iter().map(|from| line(from)).collect();
    out.table(&head, &cells);
    out.line("");
    let services = services.into_iter().collect::<Vec<_>>().join(", ");
    out.line(format!("asked: {services}; `.` is no"));
}

/// `bulkhead trace`
pub fn trace(client: &Client, output: Output, out: &mut Out, question: &Question) -> anyhow::Result<Outcome> {
    let answer = client.trace(&ask(question)?)?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
        return Ok(outcome(answer.verdict));
    }
    let verdict = word(out, answer.verdict);
    out.line(format!("{verdict}: {}", clean(&answer.outcome)));
    for hop in &answer.hops {
        out.line("");
        out.line(format!("at {}", clean(&hop.switch)));
        let rows: Vec<_> = hop
            .steps
            .iter()
            .map(|s| {
                vec![
                    s.stage.clone(),
                    clean(&s.rule),
                    if s.entry.is_empty() { "no match".into() } else { clean(&s.entry) },
                ]
            })
            .collect();
        out.table(&["STAGE", "RULE", "ENTRY"], &rows);
        for line in hop.device.lines() {
            out.line(format!("  {}", clean(line)));
        }
    }
    Ok(outcome(answer.verdict))
}

/// `bulkhead status`
pub fn status(client: &Client, output: Output, out: &mut Out, switch: Option<&str>) -> anyhow::Result<Outcome> {
    let mut status = client.status()?;
    if let Some(name) = switch {
        if !status.switches.iter().any(|s| s.name == name) {
            let near = nearest(name, status.switches.iter().map(|s| s.name.as_str()));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            if let Some(found) = status.pending.iter().find(|p| p.name == name) {
                bail!("switch `{name}` is not declared yet; {} names it", clean(&found.first));
            }
            bail!("there is no switch `{name}`{near}");
        }
        status.switches.retain(|s| s.name == name);
        status.pending.clear();
        status.learning = None;
        status.apart.clear();
        status.links.not_up.retain(|link| link.a.switch == name || link.b.switch == name);
        status.links.foreign_lldp.retain(|found| found.switch == name);
    }
    let drift = status.switches.iter().any(|s| s.drift > 0);
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &status)?;
    } else {
        let ready = if status.ready {
            String::new()
        } else {
            format!(" ({})", out.tint(Tone::Warn, "compiling: switches are told nothing yet, changes wait"))
        };
        out.line(format!("revision {}{ready}", status.revision));
        if !status.compile_error.is_empty() {
            let word = out.tint(Tone::Bad, "not compiled");
            out.line(format!("{word}: {}", clean(&status.compile_error)));
        }
        if !status.store_error.is_empty() {
            let word = out.tint(Tone::Bad, "changes are refused");
            out.line(format!("{word}: {}", clean(&status.store_error)));
        }
        for (whose, tls) in [("TLS with switches", &status.southbound_tls), ("TLS of the API", &status.api_tls)] {
            tls.iter().for_each(|tls| certificates(out, whose, tls));
        }
        out.line("");
        if status.switches.is_empty() {
            out.line("no switches");
        }
        status_table(out, &status.switches, output == Output::Wide);
        crate::hosts::tunnels(out, &status.switches);
        crate::hosts::tables(out, &status.switches);
        if switch.is_none() {
            crate::fabric::status(out, &status.links);
            crate::fabric::apart(out, &status.apart);
            if let Some(learning) = &status.learning {
                crate::fabric::learning(out, learning);
            }
        }
        if !status.pending.is_empty() {
            out.line("");
            let row = |p: &PendingSwitch| vec![clean(&p.name), p.ports.to_string(), clean(&p.first)];
            let rows: Vec<_> = status.pending.iter().map(row).collect();
            out.table(&["NOT-DECLARED", "PORTS-WAITING", "FIRST-NAMED-BY"], &rows);
        }
    }
    Ok(if drift { Outcome::No } else { Outcome::Yes })
}

/// What there is to be done about certificates; `whose` is who speaks TLS with them.
fn certificates(out: &mut Out, whose: &str, tls: &TlsStatus) {
    for certificate in tls.certificates.iter().filter(|certificate| !certificate.warning.is_empty()) {
        let (tone, word) = if certificate.expired { (Tone::Bad, "expired") } else { (Tone::Warn, "expires soon") };
        let word = out.tint(tone, word);
        out.line(format!("{word}: {}", clean(&certificate.warning)));
    }
    if !tls.trouble.is_empty() {
        let word = out.tint(Tone::Bad, "not in use");
        out.line(format!("{word}: the files of {whose} have changed, and {}", clean(&tls.trouble)));
    }
}

/// Switches with their revisions.
pub fn status_table(out: &mut Out, switches: &[SwitchStatus], wide: bool) {
    let mut head =
        vec!["SWITCH", "DRIVER", "CONNECTED", "DESIRED", "ACKNOWLEDGED", "ENTRIES", "PENDING", "DRIFT", "LAST-ERROR"];
    if wide {
        head.splice(4..4, ["SENT"]);
        head.splice(9..9, ["MASKS"]);
        head.splice(3..3, ["SESSION"]);
    }
    let row = |s: &SwitchStatus| {
        let drift = if s.drift == 0 { "0".into() } else { out.tint(Tone::Bad, &s.drift.to_string()) };
        let error = match (s.last_error.as_str(), s.doubled_ports.as_slice(), s.missing_ports.as_slice()) {
            ("", [], []) => "-".into(),
            ("", [], ports) => clean(&format!("waits for port {}", ports.join(", "))),
            ("", doubled, _) => {
                let one = |port: &DoubledPort| {
                    format!("port {} is {}, which {} has; {} waits", port.number, port.name, port.has, port.waits)
                };
                clean(&doubled.iter().map(one).collect::<Vec<_>>().join("; "))
            }
            (error, ..) => clean(error),
        };
        let mut row = vec![
            clean(&s.name),
            s.driver.clone(),
            yes_no(out, s.connected),
            s.desired.to_string(),
            s.acknowledged.to_string(),
            s.entries.to_string(),
            s.pending.to_string(),
            drift,
            error,
        ];
        if wide {
            row.splice(4..4, [s.sent.to_string()]);
            row.splice(9..9, [s.masks.map_or_else(|| "-".into(), |m| m.to_string())]);
            row.splice(3..3, [session(s)]);
        }
        row
    };
    let rows: Vec<_> = switches.iter().map(row).collect();
    out.table(&head, &rows);
    for switch in switches.iter().filter(|switch| !switch.impostor.is_empty()) {
        let refused = out.tint(Tone::Bad, "refused");
        out.line(format!("{}: {refused} {}", clean(&switch.name), clean(&switch.impostor)));
    }
}

/// Who a switch's session is with.
fn session(switch: &SwitchStatus) -> String {
    match &switch.session {
        None => "-".into(),
        Some(SessionStatus { address, certificate: None }) => clean(&format!("{address}, unprotected")),
        Some(SessionStatus { address, certificate: Some(name) }) => clean(&format!("{address}, TLS of {name}")),
    }
}
