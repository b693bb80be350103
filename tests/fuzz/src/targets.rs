//! The targets: what has to hold for any bytes.

use bulkhead_compile::Compiler;
use bulkhead_convert as convert;
use bulkhead_openflow::{
    Config, Match, Msg, Session,
    text::{flow, parse_flow},
    wire::{Reader, action, header::Header},
};
use bulkhead_ovsdb as ovsdb;
use bulkhead_p4runtime as p4runtime;
use bulkhead_pipeline::{
    check,
    wire::{self as tunnel, Received, Vtep, receive},
};
use bulkhead_policy::{Resource, State};
use bulkhead_runtime::{Core, Drivers, parse_line};
use bulkhead_store::{Document, Loaded, MemoryStore};
use bulkhead_tls::Certificate;
use bulkhead_topology::{
    Mac, Port,
    lldp::{Discovery, End, Heard},
};
use bulkhead_types::{Format, Parsed, Severity, canonical, load, parse_selector, parse_service, read};
use prost::Message as _;
use std::{sync::LazyLock, time::Duration};

/// One decoder or parser.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and its folder's in the corpus.
    pub name: &'static str,
    /// Feeds it any bytes; panics if what has to hold does not.
    pub run: fn(&[u8]),
    /// How its inputs are best changed.
    pub shape: Shape,
}

/// What inputs look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Bytes.
    Bytes,
    /// OpenFlow messages, one after another: their lengths are made right again most of the time, because a
    /// wrong one is refused before anything else is read.
    Messages,
    /// Text, with words that mean something in it.
    Text(&'static [&'static str]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "openflow_message", run: openflow_message, shape: Shape::Messages },
    Target { name: "openflow_session", run: openflow_session, shape: Shape::Messages },
    Target { name: "oxm", run: oxm, shape: Shape::Bytes },
    Target { name: "nicira_actions", run: nicira_actions, shape: Shape::Bytes },
    Target { name: "flow_text", run: flow_text, shape: Shape::Text(FLOW_WORDS) },
    Target { name: "resource_yaml", run: resource_yaml, shape: Shape::Text(RESOURCE_WORDS) },
    Target { name: "resource_json", run: resource_json, shape: Shape::Text(RESOURCE_WORDS) },
    Target { name: "kubernetes", run: kubernetes, shape: Shape::Text(KUBERNETES_WORDS) },
    Target { name: "security_groups", run: security_groups, shape: Shape::Text(AWS_WORDS) },
    Target { name: "selector", run: selector, shape: Shape::Text(SELECTOR_WORDS) },
    Target { name: "record_line", run: record_line, shape: Shape::Text(RECORD_WORDS) },
    Target { name: "store_records", run: store_records, shape: Shape::Text(RESOURCE_WORDS) },
    Target { name: "lldp", run: lldp, shape: Shape::Bytes },
    Target { name: "ovsdb_session", run: ovsdb_session, shape: Shape::Text(OVSDB_WORDS) },
    Target { name: "certificate", run: certificate, shape: Shape::Bytes },
    Target { name: "p4info_text", run: p4info_text, shape: Shape::Text(P4INFO_WORDS) },
    Target { name: "p4runtime_update", run: p4runtime_update, shape: Shape::Bytes },
    Target { name: "tunnel_packet", run: tunnel_packet, shape: Shape::Bytes },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

const FLOW_WORDS: &[&str] = &[
    "actions=",
    "ct(commit,zone=",
    "exec(",
    "set_field:",
    "->",
    "load:",
    "move:",
    "NXM_NX_REG0[]",
    "[0..31]",
    "resubmit(,",
    "conjunction(",
    "1/2",
    "goto_table:",
    "tcp",
    "ipv6",
    "nw_src=",
    "/255.255.0.0",
    "tp_dst=",
    "0x",
    "learn(",
    "controller",
    "write_metadata:",
    "clear_actions",
    "ct_state=+trk-new",
    "in_port=",
    "priority=65535",
];
const P4INFO_WORDS: &[&str] = &[
    "tables {",
    "actions {",
    "action_refs {",
    "match_fields {",
    "params {",
    "preamble {",
    "digests {",
    "type_info {",
    "}",
    "id: ",
    "0x02000001",
    "-1",
    "name: \"a\"",
    "bitwidth: ",
    "match_type: LPM",
    "scope: DEFAULT_ONLY",
    "size: ",
    "\\377",
    "#",
    "[",
];
const RESOURCE_WORDS: &[&str] = &[
    "kind: ",
    "Network",
    "Workload",
    "Zone",
    "Policy",
    "Switch",
    "AddressSet",
    "Link",
    "metadata",
    "spec",
    "name",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "---\n",
    "&a",
    "*a",
    "!!str ",
    "<<: ",
    "null",
    "true",
    "1e400",
    "-0",
    "10.0.0.0/8",
    "fd00::/64",
    "::",
    "\"",
    "'",
    "|\n",
    ">\n",
    "matchLabels",
    "matchExpressions",
    "operator",
    "In",
    "NotIn",
    "Exists",
    "except",
    "endPort",
    "65536",
    "\u{feff}",
    "\t",
    "#",
    "\\u0000",
    "external",
    "cidr",
    "ports",
];
const KUBERNETES_WORDS: &[&str] = &[
    "kind: ",
    "List",
    "items: ",
    "NetworkPolicy",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "ClusterNetworkPolicy",
    "Pod",
    "Namespace",
    "apiVersion: ",
    "networking.k8s.io/v1",
    "policy.networking.k8s.io/v1alpha1",
    "policy.networking.k8s.io/v1alpha2",
    "podSelector",
    "namespaceSelector",
    "namespaces",
    "ipBlock",
    "except",
    "policyTypes",
    "Ingress",
    "endPort",
    "portRange",
    "destinationNamedPort",
    "hostNetwork: true",
    "containerPort",
    "podIPs",
    "null",
    "{}",
    "[]",
    "- ",
    "\n---\n",
    "\n  ",
    "&a ",
    "*a",
    "kubernetes.io/metadata.name",
    "namespace/",
    "65536",
    "-1",
    "10.0.0.0/33",
    "::/0",
];
const AWS_WORDS: &[&str] = &[
    "\"SecurityGroups\":[",
    "\"GroupId\":\"sg-1\"",
    "\"IpPermissions\":[{",
    "\"IpPermissionsEgress\":[]",
    "\"IpProtocol\":\"-1\"",
    "\"FromPort\":",
    "\"ToPort\":",
    "\"IpRanges\":[{\"CidrIp\":\"0.0.0.0/0\"}]",
    "\"PrefixListIds\":[{\"PrefixListId\":\"pl-1\"}]",
    "\"UserIdGroupPairs\":[{\"GroupId\":\"sg-2\"}]",
    "\"values\":{",
    "\"root_module\":{",
    "\"child_modules\":[{",
    "\"resources\":[{",
    "\"type\":\"aws_security_group\"",
    "\"type\":\"aws_security_group_rule\"",
    "\"self\":true",
    "\"mode\":\"data\"",
    "null",
    "65536",
    "-2",
    "{",
    "}",
    "[",
    "]",
    ",",
];
const SELECTOR_WORDS: &[&str] = &[" in (", " notin (", ")", ",", "!", "!=", "==", "=", "a/b", "tcp/", "icmp/", "65535"];
const RECORD_WORDS: &[&str] = &[
    "\"event\":",
    "\"apply\"",
    "\"outcome\"",
    "\"switch\"",
    "\"start\"",
    "\"tick\"",
    "\"query\"",
    "\"at\":",
    "{",
    "}",
    "[",
    "]",
    "null",
    "18446744073709551616",
    "-1",
    "\"key\":",
    "\"kind\":",
    "\"report\":",
    "\"refusal\":\"\"",
];

const OVSDB_WORDS: &[&str] = &[
    "{\"id\":null,\"method\":\"update2\",\"params\":[\"bulkhead\",{",
    "{\"id\":3,\"error\":null,\"result\":[",
    "\"Bridge\":{",
    "\"Interface\":{",
    "\"initial\":{",
    "\"insert\":{",
    "\"modify\":{",
    "\"delete\":null",
    "[\"set\",[",
    "[\"map\",[[",
    "[\"uuid\",\"550e8400-e29b-41d4-a716-446655440000\"]",
    "\"550e8400-e29b-41d4-a716-446655440000\":{",
    "\"method\":\"echo\"",
    "\"monitor_canceled\"",
    "\"error\":\"timed out\"",
    "9223372036854775808",
    "\\\"",
    "null",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
];

/// What is taken as a message can be written, and is then read as the same.
fn openflow_message(bytes: &[u8]) {
    let Ok((header, msg)) = Msg::decode(bytes) else { return };
    let mut again = Vec::new();
    msg.encode(header.xid, &mut again);
    // What carried no padding at its end may have grown beyond the longest message.
    if again.len() <= Header::MAX_LENGTH && header.version == 4 {
        assert_eq!(Msg::decode(&again).map(|(_, msg)| msg), Ok(msg));
    }
}

/// A session takes any bytes in any pieces, and is over after the first error. The first byte of the input says how
/// large the pieces are.
fn openflow_session(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let mut session = Session::new(Config::default());
    for (at, chunk) in bytes.chunks(usize::from(*size).max(1)).enumerate() {
        let now = Duration::from_millis(at as u64);
        if session.received(chunk, now).is_err() {
            assert_eq!(session.next_deadline(now), None);
            break;
        }
        session.tick(now);
        while session.poll_event().is_some() {}
        session.take_output();
    }
}

/// Fields that are taken can be written, and are then the same bytes' meaning.
fn oxm(bytes: &[u8]) {
    if let Ok(matching) = Match::decode_fields(Reader::new("oxm", bytes)) {
        let mut again = Vec::new();
        matching.encode_fields(&mut again);
        assert_eq!(Match::decode_fields(Reader::new("oxm", &again)), Ok(matching));
    }
    let mut reader = Reader::new("match", bytes);
    if let Ok(matching) = Match::decode(&mut reader) {
        assert!(reader.len() < bytes.len());
        let mut again = Vec::new();
        matching.encode(&mut again);
        assert_eq!(Match::decode(&mut Reader::new("match", &again)), Ok(matching));
    }
}

/// Actions that are taken can be written, and are then read as the same.
fn nicira_actions(bytes: &[u8]) {
    if let Ok(actions) = action::decode_all(Reader::new("actions", bytes), 0) {
        let mut again = Vec::new();
        action::encode_all(&actions, &mut again);
        if again.len() <= Header::MAX_LENGTH {
            assert_eq!(action::decode_all(Reader::new("actions", &again), 0), Ok(actions));
        }
    }
}

/// What is taken as a flow prints as something that is taken as the same flow.
fn flow_text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(parsed) = parse_flow(text)
    {
        let printed = flow(&parsed);
        assert_eq!(parse_flow(&printed), Ok(parsed), "{printed}");
    }
}

/// Nothing but a probe that was sent is believed, and what is not leaves no trace but a count (A12, A13).
fn lldp(bytes: &[u8]) {
    let Ok(switch) = "s1".parse() else { return };
    let mut discovery = Discovery::new(*b"only for fuzzing");
    let ports = [1, 2].map(|port| (Port::Number(port), true)).into();
    discovery.set(&switch, "0000000000000001", &ports, Duration::ZERO);
    discovery.connected(&switch, true, Duration::ZERO);
    let probes = discovery.probes(Duration::ZERO);
    let at = End { switch: switch.clone(), port: Port::Number(2) };
    let heard = discovery.heard(&at, bytes, Duration::ZERO);
    // All but the end that follows the digest.
    let sent = |probe: &Vec<u8>| probe.split_last_chunk::<2>().is_some_and(|(signed, _)| bytes.starts_with(signed));
    if !probes.values().flatten().any(|(_, probe)| sent(probe)) {
        assert_eq!(heard, Heard::Foreign);
        assert_eq!(discovery.neighbours(&switch), Default::default());
    }
}

fn resource_yaml(bytes: &[u8]) {
    resources(&read(Some("input"), bytes, Format::Any));
}

fn resource_json(bytes: &[u8]) {
    resources(&read(Some("input"), bytes, Format::Json));
}

/// What is taken has one written form that means the same, and what is also found valid compiles to a program
/// that keeps to its stages, or is refused with a size above its limit.
fn resources(parsed: &Parsed) {
    for document in &parsed.documents {
        let text = canonical(&document.resource).to_string();
        assert_eq!(load(&text).as_ref(), Ok(&document.resource), "{text}");
        document.to_value();
    }
    if parsed.has_errors() || parsed.documents.is_empty() {
        return;
    }
    let (mut state, changes) = (State::default(), parsed.changes());
    let found = parsed.locate(state.check(&changes).into_iter().map(Into::into));
    if found.iter().any(|finding| finding.severity == Severity::Error) {
        return;
    }
    state.apply(&changes);
    match Compiler::new(&state, Default::default()) {
        Ok((compiler, _)) => {
            for program in state.switches.keys().filter_map(|name| compiler.program(name)) {
                assert_eq!(check(program), Vec::new());
            }
        }
        Err(refused) => assert!(refused.size > refused.limit, "{refused}"),
    }
}

/// A selector that is taken prints as one that is taken as the same; a service, likewise, or neither is taken.
fn selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(selector) = parse_selector(text)
        && !selector.requirements().is_empty()
    {
        let printed = selector.to_string();
        assert_eq!(parse_selector(&printed).as_ref(), Ok(&selector), "{printed}");
    }
    let _ = parse_service(text);
}

/// A line of a recording is an event, or is refused.
fn record_line(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_line(text);
    }
}

/// A controller starts from any store's content, or says why not. Blocks are split by lines of `--`: the first line
/// of a block is a document's key, the rest its text; a block of one line `name number` is a durable number.
fn store_records(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut loaded = Loaded { revision: 1, ..Loaded::default() };
    for block in text.split("\n--\n") {
        match (block.split_once('\n'), block.split_once(' ')) {
            (Some((key, text)), _) => {
                loaded.documents.insert(key.into(), Document { text: text.into(), revision: 1 });
            }
            (None, Some((name, number))) => {
                loaded.numbers.extend(number.parse().ok().map(|number| (name.into(), number)));
            }
            (None, None) => {}
        }
    }
    let decode = |text: &str| -> Result<Resource, String> { load(text).map_err(|found| format!("{found:?}")) };
    let drivers = Drivers { channels: Vec::new(), route: |_| None, keeper: None, prober: None };
    let _ = Core::load(Box::new(MemoryStore::with(loaded)), decode, drivers);
}

/// What the target's session monitors.
const OVSDB_TABLES: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["bridges", "next_cfg", "cur_cfg"]),
    ("Bridge", &["name", "ports", "fail_mode", "external_ids"]),
    ("Interface", &["name", "options", "ofport"]),
];

/// A session with a database takes any bytes, and is over after the first error. Values that are taken can be written,
/// and are then read as the same.
fn ovsdb_session(bytes: &[u8]) {
    let now = Duration::ZERO;
    let mut session = ovsdb::Session::new(ovsdb::Config::new("Open_vSwitch", OVSDB_TABLES));
    session.tick(now);
    // Pieces of all sizes, however the input begins.
    let size = 1 + bytes.len() % 251;
    for chunk in bytes.chunks(size) {
        if session.received(chunk, now).is_err() {
            assert_eq!(session.next_deadline(now), None);
            break;
        }
        while let Some(event) = session.poll_event() {
            if event == ovsdb::Event::Ready {
                // What answers to it may follow in the input.
                let _ = session.transact(&[]);
            }
        }
        session.sent(usize::MAX);
    }
    for (table, columns) in OVSDB_TABLES {
        for (_, row) in session.replica().rows(table) {
            for value in columns.iter().filter_map(|column| row.get(column)) {
                assert_eq!(ovsdb::Value::from_json(&value.to_json()).as_ref(), Ok(value));
            }
        }
    }
}

/// What Kubernetes' documents become can be written, and is then read as the same; after an error it is nothing.
fn kubernetes(bytes: &[u8]) {
    let network = "prod".parse().ok();
    imported(&convert::kubernetes::import(&[convert::File { name: "f", content: bytes }], network.as_ref()));
}

/// The same of AWS's.
fn security_groups(bytes: &[u8]) {
    imported(&convert::aws::import(&[convert::File { name: "f", content: bytes }]));
}

fn imported(imported: &convert::Imported) {
    let wrong = imported.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert!(!wrong || imported.resources.is_empty());
    assert!(imported.diagnostics.len() <= convert::MAX_FINDINGS + 2);
    for resource in &imported.resources {
        assert_eq!(load(&canonical(resource)).as_ref(), Ok(resource));
    }
}

/// A name of whatever certificate can be said in a line of a log, and is nobody's that it does not say.
fn certificate(bytes: &[u8]) {
    let certificate = Certificate::read(bytes);
    let said = certificate.to_string();
    assert!(!said.contains(char::is_control), "{said:?}");
    assert!(!certificate.is_for("", 0));
}

/// A program that is read has the same meaning in its other form.
fn p4info_text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(read) = p4runtime::info::parse_text(text) else { return };
    let info = p4runtime::Info::new(&read);
    assert_eq!(info, p4runtime::Info::from_text(text));
}

/// What fits a program is in its one form, and is deleted by its key alone.
fn p4runtime_update(input: &[u8]) {
    use p4runtime::{check, entry::normalise, proto::p4::v1};
    static PROGRAM: LazyLock<Option<p4runtime::Info>> = LazyLock::new(|| {
        let text = include_str!("../../../southbound/p4runtime/tests/tiny.p4info.txtpb");
        p4runtime::Info::from_text(text).ok()
    });
    assert!(PROGRAM.is_some(), "the program is no program");
    let Some(info) = PROGRAM.as_ref() else { return };
    let Ok(update) = v1::Update::decode(input) else { return };
    let Some(entity) = &update.entity else { return };
    // Whether it can be read is another question; there must be an answer.
    let _ = check::read(info, entity);
    let mut again = entity.clone();
    normalise(&mut again);
    // Of a delete only the key is looked at.
    if update.r#type() != v1::update::Type::Delete && check::update(info, &update).is_ok() {
        assert_eq!(again, *entity);
        if matches!(entity.entity, Some(v1::entity::Entity::TableEntry(ref entry)) if !entry.is_default_action) {
            let delete = v1::Update { r#type: v1::update::Type::Delete.into(), ..update.clone() };
            assert!(update.r#type() == v1::update::Type::Modify || check::update(info, &delete).is_ok());
        }
    }
    let once = again.clone();
    normalise(&mut again);
    assert_eq!(again, once);
}

/// What comes by a port of the underlay has a meaning, whatever it is; what is read of a tunnel's packet would be sent and
/// read again as the same; an answer goes to who asked.
fn tunnel_packet(packet: &[u8]) {
    let mac = Mac([2, 0, 0, 1, 0, 1]);
    for ip in [[192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()] {
        let own = Vtep { mac, ip };
        match receive(own, packet) {
            Received::Tunnelled(header, frame) => {
                let from = Vtep { mac, ip: header.far };
                let back = tunnel::Header { far: ip, ..header }.put_on(frame, 1, from, mac);
                let again = back.as_deref().map(|packet| receive(own, packet));
                assert_eq!(again, Some(Received::Tunnelled(header, frame)));
                assert!(header.packet(frame).is_ok());
            }
            Received::Asked(answer) => assert_eq!(answer.get(..12), Some(&[&packet[6..12], &mac.0].concat()[..])),
            Received::Malformed(_) | Received::Other => {}
        }
    }
}
