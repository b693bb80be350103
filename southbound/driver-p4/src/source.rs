//! The part of the P4 program that the layout says: actions and tables, and the P4Info that they come to.
//!
//! Numbers are given here, so that they are the same whatever compiles the program, and stay the same when a stage gets
//! another action: a table's is its stage's, an action's its place in its stage's list.

use crate::{
    layout::{self, Slot, action, identifier, key, shapes, size, stages, table},
    shape::{Family, Part, parts},
    underlay::SIZES,
};
use bulkhead_pipeline::{Field, Stage};
use std::fmt::Write;

// What numbers begin with (P4Runtime §6.3, `P4Ids.Prefix`).
const TABLE: u32 = 0x0200_0000;
const ACTION: u32 = 0x0100_0000;
const DIRECT_COUNTER: u32 = 0x1300_0000;

/// A table's number.
pub fn table_id(stage: Stage) -> u32 {
    TABLE | (stage as u32 + 1)
}

/// The number of a table's counter.
pub fn counter_id(stage: Stage) -> u32 {
    DIRECT_COUNTER | (stage as u32 + 1)
}

/// The number of the action of a stage with this place in its list; 0 is that of a miss, which all tables share.
pub fn action_id(stage: Stage, place: usize) -> u32 {
    ACTION | (stage as u32 + 1) << 8 | (place as u32 + 1)
}

/// The number of the action of a miss.
pub const MISS_ID: u32 = ACTION | 0xff_ff00;

/// The actions and tables of `bulkhead.p4`, to be included in its ingress control.
pub fn tables() -> String {
    let mut out = String::from(
        "// The stages' actions and tables, written from the layout of driver-p4: change that, not this\n\
         // (UPDATE_GOLDEN=1 cargo nextest run -p bulkhead-driver-p4).\n",
    );
    let _ = write!(out, "\n@id({MISS_ID:#x})\naction miss() {{\n    meta.next = DROP;\n}}\n");
    for stage in stages() {
        stage_source(&mut out, stage);
    }
    out
}

fn stage_source(out: &mut String, stage: Stage) {
    let name = identifier(stage);
    let _ = write!(out, "\n// {}\n", stage.spec().about);
    for (place, shape) in shapes(stage).iter().enumerate() {
        let all = parts(shape).unwrap_or_default();
        let params = all.iter().filter_map(|part| part.param()).chain([NEXT]);
        let params: Vec<String> = params.map(|Slot { name, width }| format!("bit<{width}> {name}")).collect();
        let _ = writeln!(out, "@id({:#x})\naction {name}__{shape}({}) {{", action_id(stage, place), params.join(", "));
        for statement in all.iter().map(|part| statement(stage, *part)) {
            let _ = writeln!(out, "    {}", statement.replace('\n', "\n    "));
        }
        let _ = writeln!(out, "    meta.next = next;\n}}");
    }
    let _ =
        writeln!(out, "@id({:#x})\ndirect_counter(CounterType.packets_and_bytes) {name}_counter;", counter_id(stage));
    let _ = writeln!(out, "@id({:#x})\ntable {name} {{\n    key = {{", table_id(stage));
    for Slot { name, .. } in key(stage) {
        let _ = writeln!(out, "        {}: ternary @name(\"{name}\");", expression(name));
    }
    let _ = writeln!(out, "    }}\n    actions = {{");
    for shape in shapes(stage) {
        let _ = writeln!(out, "        {name}__{shape};");
    }
    let _ = writeln!(out, "        @defaultonly miss;\n    }}");
    let _ = writeln!(out, "    const default_action = miss();\n    counters = {name}_counter;");
    let _ = writeln!(out, "    size = SIZE_{};\n}}", name.to_uppercase());
}

/// Where a packet goes next: the last parameter of every action.
pub(crate) const NEXT: Slot = Slot { name: "next", width: 8 };

/// Where a part of a key is in the program.
fn expression(slot: &str) -> String {
    match slot {
        "eth_src" => "hdr.ethernet.src".into(),
        "eth_dst" => "hdr.ethernet.dst".into(),
        other => format!("meta.{other}"),
    }
}

/// What an action's part is in P4.
fn statement(stage: Stage, part: Part) -> String {
    match part {
        Part::Set(Field::TunDst4) => "meta.tun_dst = MAPPED | (bit<128>) tun_dst4;".into(),
        Part::Set(Field::TunDst6) => "meta.tun_dst = tun_dst6;".into(),
        // Of what is matched again afterwards, there is a copy.
        Part::Set(field @ (Field::IcmpType | Field::NdOption)) => {
            let copy = layout::slot(field);
            format!(
                "{} = {};\nmeta.{} = (bit<{}>) {};",
                header(field),
                field.as_str(),
                copy.name,
                copy.width,
                field.as_str()
            )
        }
        // One of the two headers is not there, and takes nothing.
        Part::Set(Field::IpTtl) => "hdr.ipv4.ttl = ip_ttl;\nhdr.ipv6.hop_limit = ip_ttl;".into(),
        Part::Set(field) if is_header(field) => format!("{} = {};", header(field), field.as_str()),
        Part::Set(field) => format!("meta.{} = {};", layout::slot(field).name, field.as_str()),
        Part::Copy(from, Field::TunGbp) => format!("meta.tun_identity = meta.{} & 0xffff;", from.as_str()),
        Part::Copy(from, to) => format!("{} = {};", place(to), place(from)),
        Part::ServiceFromDst => "meta.service = meta.protocol ++ meta.l4_dst;".into(),
        Part::ServiceFromSrc => "meta.service = meta.protocol ++ meta.l4_src;".into(),
        Part::ServiceFromIcmp => "meta.service = meta.protocol ++ meta.l4_src[7:0] ++ meta.l4_dst[7:0];".into(),
        Part::ServiceFromProto => "meta.service = meta.protocol ++ 16w0;".into(),
        Part::Choose => "meta.chosen = port;".into(),
        Part::Send => "meta.leave = meta.chosen;".into(),
        Part::SendTo => "meta.leave = port;".into(),
        Part::SendBack => "meta.leave = meta.in_port;\nmeta.back = 1;".into(),
        Part::Push(field) => {
            format!("meta.vlan = 1w1 ++ meta.{};", field.as_str())
        }
        Part::PopVlan => "meta.vlan = 0;".into(),
        Part::DecTtl => "meta.dec_ttl = 1;".into(),
        Part::CheckSize => "meta.check_size = 1;\nmeta.most = most;".into(),
        Part::Track => "meta.track = 1;".into(),
        Part::SwapEnds => [("bit<32>", "id"), ("bit<32>", "class"), ("bit<1>", "local")]
            .map(|(kind, of)| {
                format!("{kind} {of} = meta.src_{of};\nmeta.src_{of} = meta.dst_{of};\nmeta.dst_{of} = {of};")
            })
            .join("\n"),
        Part::Reject => "meta.told = TOLD_REJECT;".into(),
        Part::Expired(family) => told("TOLD_EXPIRED", family),
        Part::NoRoute(family) => told("TOLD_NO_ROUTE", family),
        // A packet meets at most one rule of each sort that decides.
        Part::Log => {
            let name = identifier(stage);
            format!("meta.log_{} = log;", name.rsplit_once('_').map_or(&*name, |(sort, _)| sort))
        }
        Part::TooBig => "meta.told = TOLD_TOO_BIG;\nmeta.mtu = mtu;".into(),
    }
}

fn told(what: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("meta.told = {what};\nmeta.teller = MAPPED | (bit<128>) from;"),
        Family::V6 => format!("meta.told = {what};\nmeta.teller = from;"),
    }
}

fn place(field: Field) -> String {
    if is_header(field) { header(field).into() } else { format!("meta.{}", layout::slot(field).name) }
}

fn is_header(field: Field) -> bool {
    !field.is_metadata() && !field.is_tunnel() && field != Field::Conn
}

/// Where a packet's field is.
const fn header(field: Field) -> &'static str {
    match field {
        Field::EthSrc => "hdr.ethernet.src",
        Field::EthDst => "hdr.ethernet.dst",
        Field::Ipv4Src => "hdr.ipv4.src",
        Field::Ipv4Dst => "hdr.ipv4.dst",
        Field::Ipv6Src => "hdr.ipv6.src",
        Field::Ipv6Dst => "hdr.ipv6.dst",
        Field::IcmpType => "hdr.icmp.kind",
        Field::IcmpCode => "hdr.icmp.code",
        Field::ArpOp => "hdr.arp.op",
        Field::ArpSpa => "hdr.arp.spa",
        Field::ArpTpa => "hdr.arp.tpa",
        Field::ArpSha => "hdr.arp.sha",
        Field::ArpTha => "hdr.arp.tha",
        Field::NdTarget => "hdr.nd.target",
        Field::NdReserved => "hdr.nd.reserved",
        Field::NdSll | Field::NdTll => "hdr.nd_lla.address",
        Field::NdOption => "hdr.nd_lla.kind",
        _ => "",
    }
}

/// The sizes of tables, as whoever compiles the program may set them.
pub fn size_defines() -> String {
    let mut out = String::new();
    for stage in stages() {
        let name = format!("SIZE_{}", identifier(stage).to_uppercase());
        let _ = writeln!(out, "#ifndef {name}\n#define {name} {}\n#endif", size(stage));
    }
    for (name, size) in SIZES {
        let _ = writeln!(out, "#ifndef SIZE_{name}\n#define SIZE_{name} {size}\n#endif");
    }
    out
}

/// The P4Info of the stages' tables, as text.
pub fn info() -> String {
    let mut out = String::from("pkg_info {\n  name: \"bulkhead\"\n  arch: \"v1model\"\n}\n");
    for stage in stages() {
        let name = identifier(stage);
        let _ = writeln!(
            out,
            "tables {{\n  preamble {{\n    id: {}\n    name: \"{}\"\n    alias: \"{name}\"\n  }}",
            table_id(stage),
            table(stage)
        );
        for (at, Slot { name, width }) in key(stage).into_iter().enumerate() {
            let _ = writeln!(
                out,
                "  match_fields {{\n    id: {}\n    name: \"{name}\"\n    bitwidth: {width}\n    match_type: TERNARY\n  }}",
                at + 1
            );
        }
        for place in 0..shapes(stage).len() {
            let _ = writeln!(out, "  action_refs {{\n    id: {}\n  }}", action_id(stage, place));
        }
        let _ = writeln!(
            out,
            "  action_refs {{\n    id: {MISS_ID}\n    annotations: \"@defaultonly\"\n    scope: DEFAULT_ONLY\n  }}"
        );
        let _ = writeln!(
            out,
            "  const_default_action_id: {MISS_ID}\n  direct_resource_ids: {}\n  size: {}\n}}",
            counter_id(stage),
            size(stage)
        );
    }
    for stage in stages() {
        for (place, shape) in shapes(stage).iter().enumerate() {
            let full = action(stage, shape);
            let alias = full.trim_start_matches("ingress.");
            let _ = writeln!(
                out,
                "actions {{\n  preamble {{\n    id: {}\n    name: \"{full}\"\n    alias: \"{alias}\"\n  }}",
                action_id(stage, place)
            );
            let params = parts(shape).unwrap_or_default().into_iter().filter_map(Part::param).chain([NEXT]);
            for (at, Slot { name, width }) in params.enumerate() {
                let _ =
                    writeln!(out, "  params {{\n    id: {}\n    name: \"{name}\"\n    bitwidth: {width}\n  }}", at + 1);
            }
            let _ = writeln!(out, "}}");
        }
    }
    let _ = writeln!(
        out,
        "actions {{\n  preamble {{\n    id: {MISS_ID}\n    name: \"ingress.miss\"\n    alias: \"miss\"\n  }}\n}}"
    );
    for stage in stages() {
        let name = identifier(stage);
        let (id, table) = (counter_id(stage), table_id(stage));
        let _ = writeln!(
            out,
            "direct_counters {{\n  preamble {{\n    id: {id}\n    name: \"ingress.{name}_counter\"\n    alias: \"{name}_counter\"\n  }}\n  spec {{\n    unit: BOTH\n  }}\n  direct_table_id: {table}\n}}"
        );
    }
    out
}
