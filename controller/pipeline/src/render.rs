//! Programs and the pipeline itself as text, for people and goldens.

use crate::{
    entry::{Action, Entry, Next, Output},
    field::Field,
    program::Program,
    stage::Stage,
};
use bulkhead_topology::{Mac, Port};
use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

/// One entry on one line.
pub fn render_entry(entry: &Entry) -> String {
    let mut out = format!("{:<19} {:>5}  ", entry.key.stage.spec().name, entry.key.priority);
    let mut parts: Vec<String> = entry.key.matches.in_port.iter().map(|port| format!("in_port={port}")).collect();
    for (field, value, mask) in entry.key.matches.fields() {
        parts.push(match mask == field.full_mask() {
            true => format!("{}={}", field.as_str(), number(field, value)),
            false => format!("{}={}/{}", field.as_str(), number(field, value), number(field, mask)),
        });
    }
    out.push_str(if parts.is_empty() { "any" } else { "" });
    out.push_str(&parts.join(","));
    out.push_str(" -> ");
    let mut actions: Vec<String> = entry.actions.iter().map(render_action).collect();
    match entry.next {
        Next::Stage(stage) => actions.push(format!("goto {}", stage.spec().name)),
        Next::Drop => actions.push("drop".into()),
        Next::Done => {}
    }
    // Writing to a String cannot fail.
    let _ = write!(out, "{}  # {}", actions.join(", "), entry.cause);
    out
}

fn render_action(action: &Action) -> String {
    match action {
        Action::Set(field, value) => format!("{}:={}", field.as_str(), number(*field, value.get())),
        Action::Copy { from, to } => format!("{}:={}", to.as_str(), from.as_str()),
        Action::SetBits(bits) => format!("{}:={:#x}/{:#x}", bits.field.as_str(), bits.value, bits.mask),
        Action::ServiceFromDst => "service:=dst-port".into(),
        Action::ServiceFromSrc => "service:=src-port".into(),
        Action::ServiceFromIcmp => "service:=icmp".into(),
        Action::ServiceFromProto => "service:=protocol".into(),
        Action::SetOut(port) => format!("out:={port}"),
        Action::Output(Output::InPort) => "output in-port".into(),
        Action::Output(Output::Chosen) => "output out".into(),
        Action::Output(Output::Port(port)) => format!("output {port}"),
        Action::Output(Output::OneOf(ports)) => {
            let ports: Vec<String> = ports.iter().map(Port::to_string).collect();
            format!("output one of {}", ports.join("|"))
        }
        Action::Track => "track".into(),
        Action::Commit => "commit".into(),
        Action::CommitAnew => "commit-anew".into(),
        Action::SwapEnds => "swap-ends".into(),
        Action::Recall => "recall".into(),
        Action::RecallService => "recall-service".into(),
        Action::Clause { conjunction, k, n } => format!("clause {conjunction} {k}/{n}"),
        Action::Reject => "reject".into(),
        Action::Log => "log".into(),
        Action::PushVlan(id) => format!("push-vlan {}", id.as_str()),
        Action::PopVlan => "pop-vlan".into(),
        Action::DecTtl => "dec-ttl".into(),
        Action::CheckSize(limit) => format!("too_big:=longer than {limit}"),
        Action::Expired { from } => format!("expired from {from}"),
        Action::NoRoute { from } => format!("no-route from {from}"),
        Action::TooBig { mtu } => format!("too-big mtu {mtu}"),
        Action::Probe => "probe".into(),
        Action::Discover => "discover".into(),
        Action::Fork { actions, to } => {
            let done: Vec<String> = actions.iter().map(render_action).collect();
            format!("copy({}, goto {})", done.join(", "), to.spec().name)
        }
    }
}

fn number(field: Field, value: u128) -> String {
    match field {
        Field::EthSrc | Field::EthDst | Field::ArpSha | Field::ArpTha | Field::NdSll | Field::NdTll => {
            Mac::from_bits(value as u64).to_string()
        }
        Field::Ipv4Src | Field::Ipv4Dst | Field::ArpSpa | Field::ArpTpa | Field::TunSrc4 | Field::TunDst4 => {
            Ipv4Addr::from(value as u32).to_string()
        }
        Field::Ipv6Src | Field::Ipv6Dst | Field::NdTarget | Field::TunSrc6 | Field::TunDst6 => {
            Ipv6Addr::from(value).to_string()
        }
        Field::EthType | Field::Conn | Field::NdReserved => format!("{value:#x}"),
        Field::Service => format!("{}:{}", value >> 16, value & 0xffff),
        _ => value.to_string(),
    }
}

/// A whole program: entries by stage, highest priority first.
pub fn render_program(program: &Program) -> String {
    let mut out = String::new();
    for spec in Stage::ALL {
        for entry in program.stage(spec.stage) {
            out.push_str(&render_entry(entry));
            out.push('\n');
        }
    }
    out
}

/// The pipeline's declaration as Markdown: docs/pipeline.md.
pub fn render_pipeline() -> String {
    let mut out = String::from(
        "# The pipeline\n\nGenerated from `controller/pipeline/src/stage.rs` (`UPDATE_GOLDEN=1 cargo nextest run -p \
         bulkhead-pipeline`).\nA packet meets the stages in this order and only ever goes forward. A stage's miss is a \
         drop, counted\nunder `builtin/miss-<stage>`.\n\n| # | stage | what it does | may match | may set | goes to |\n\
         |---|---|---|---|---|---|\n",
    );
    let names = |fields: &[Field]| fields.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ");
    for (index, spec) in Stage::ALL.iter().enumerate() {
        let mut matches = names(spec.matches);
        if spec.in_port {
            matches = if matches.is_empty() { "in_port".into() } else { format!("in_port, {matches}") };
        }
        let next = spec.next.iter().map(|s| s.spec().name).collect::<Vec<_>>().join(", ");
        let _ =
            writeln!(out, "| {index} | {} | {} | {matches} | {} | {next} |", spec.name, spec.about, names(spec.sets));
    }
    out.push_str("\n## Built-in rules\n\nEvery one is visible and counted like a policy's rule.\n\n");
    for builtin in crate::entry::Builtin::ALL {
        let _ = writeln!(out, "- `{}`", builtin.as_str());
    }
    out
}
