//! `decode(encode(x)) == x` for every kind of message.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::action::{Action, Controller, Ct, CtZone, Subfield};
use super::async_config::{AsyncConfig, Role, RoleKind};
use super::bundle::{BundleControl, BundleStep};
use super::field::OxmField;
use super::flow::{FlowCommand, FlowMod, FlowRemoved, RemovedReason};
use super::group::{Bucket, GroupCommand, GroupDesc, GroupMod, GroupType};
use super::hello::{ErrorMsg, Hello};
use super::instruction::Instruction;
use super::message::Msg;
use super::meter::{Band, Meter, MeterCommand, MeterMod};
use super::multipart::{MultipartBody, MultipartReply, MultipartRequest};
use super::oxm::{Match, Oxm, RawOxm};
use super::packet::{PacketIn, PacketIn2, PacketOut};
use super::port::{Port, PortReason, PortStatus};
use super::stats::{Aggregate, FlowStats, FlowStatsRequest, PortStats, TableStats};
use super::switch::{Desc, Features, SwitchConfig};
use super::tlv::{TlvCommand, TlvMap, TlvTable, TlvTableMod};
use crate::text::{flow, parse_flow};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn field() -> impl Strategy<Value = OxmField> {
    select(OxmField::ALL)
}

fn room(field: OxmField) -> u128 {
    u128::MAX >> (128 - 8 * u32::from(field.spec().bytes))
}

fn exact() -> impl Strategy<Value = (OxmField, u128)> {
    (field(), any::<u128>()).prop_map(|(field, value)| (field, value & room(field)))
}

fn oxm() -> impl Strategy<Value = Oxm> {
    (exact(), option::of(any::<u128>())).prop_map(|((field, value), mask)| match mask {
        Some(mask) if field.spec().maskable => Oxm::masked(field, value, mask & field.all_ones()),
        _ => Oxm::exact(field, value),
    })
}

fn raw() -> impl Strategy<Value = RawOxm> {
    (0x9000_u16..0xffff, 0_u8..128, any::<bool>(), vec(any::<u8>(), 0..20))
        .prop_map(|(class, number, masked, bytes)| RawOxm { class, number, masked, bytes })
}

fn matching() -> impl Strategy<Value = Match> {
    (vec(oxm(), 0..8), vec(raw(), 0..2)).prop_map(|(fields, unknown)| Match { fields, unknown })
}

fn subfield(most: u16) -> impl Strategy<Value = Subfield> {
    (field(), any::<u16>(), any::<u16>()).prop_map(move |(field, offset, bits)| {
        let offset = offset % field.spec().bits;
        Subfield::new(field, offset, 1 + bits % (field.spec().bits - offset).min(most))
    })
}

/// A register's bits: actions with four bytes for a field's name.
fn register() -> impl Strategy<Value = Subfield> {
    (0_u8..16, 0_u16..32, 0_u16..32).prop_map(|(number, offset, bits)| {
        Subfield::new(OxmField::reg(number).unwrap(), offset, 1 + bits % (32 - offset))
    })
}

fn simple_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<u32>(), any::<u16>()).prop_map(|(port, max_len)| Action::Output { port, max_len }),
        any::<u32>().prop_map(Action::Group),
        exact().prop_map(|(field, value)| Action::SetField { field, value }),
        oxm().prop_map(Action::SetMasked),
        any::<u16>().prop_map(Action::PushVlan),
        Just(Action::PopVlan),
        Just(Action::DecNwTtl),
        (any::<u16>(), any::<u8>()).prop_map(|(in_port, table)| Action::Resubmit { in_port, table }),
        (subfield(128), field(), any::<u16>()).prop_map(|(src, dst, dst_offset)| Action::Move { src, dst, dst_offset }),
        (register(), any::<u64>()).prop_map(|(dst, value)| Action::Load { dst, value }),
        (register(), any::<u16>()).prop_map(|(src, max_len)| Action::OutputReg { src, max_len }),
        Just(Action::CtClear),
        (register(), any::<u16>())
            .prop_map(|(dst, limit)| Action::CheckPktLarger { limit, dst: Subfield { bits: 1, ..dst } }),
        (any::<u32>(), 0_u8..255, any::<u8>()).prop_map(|(id, clause, clauses)| Action::Conjunction {
            id,
            clause,
            clauses
        }),
        (any::<(u16, u16, u8, bool)>(), vec(any::<u8>(), 0..20), option::of(any::<u32>())).prop_map(
            |((max_len, id, reason, pause), userdata, meter)| {
                Action::Controller(Controller { max_len, id, reason, userdata, pause, meter })
            }
        ),
        vec(any::<u8>(), 6).prop_map(Action::Note),
        (100_u16..1000, vec(any::<u8>(), 12)).prop_map(|(kind, data)| Action::Unknown { kind, data }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let zone = prop_oneof![any::<u16>().prop_map(CtZone::Number), register().prop_map(CtZone::Field)];
    let ct = (0_u16..4, zone, option::of(0_u8..255), any::<u16>(), vec(simple_action(), 0..3))
        .prop_map(|(flags, zone, table, alg, actions)| Action::Ct(Ct { flags, zone, table, alg, actions }));
    let copy = vec(simple_action(), 0..3).prop_map(Action::Clone);
    prop_oneof![4 => simple_action(), 1 => ct, 1 => copy]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    vec(action(), 0..4)
}

fn instruction() -> impl Strategy<Value = Instruction> {
    prop_oneof![
        any::<u8>().prop_map(Instruction::GotoTable),
        any::<(u64, u64)>().prop_map(|(value, mask)| Instruction::WriteMetadata { value, mask }),
        actions().prop_map(Instruction::WriteActions),
        actions().prop_map(Instruction::ApplyActions),
        Just(Instruction::ClearActions),
        any::<u32>().prop_map(Instruction::Meter),
        (100_u16..1000, vec(any::<u8>(), 4)).prop_map(|(kind, data)| Instruction::Unknown { kind, data }),
    ]
}

fn flow_mod() -> impl Strategy<Value = FlowMod> {
    (
        any::<(u8, u16, u64, u64, u16, u16, u32, u32, u32, u16)>(),
        select(FlowCommand::ALL),
        matching(),
        vec(instruction(), 0..4),
    )
        .prop_map(|(n, command, matching, instructions)| FlowMod {
            command,
            table: n.0,
            priority: n.1,
            cookie: n.2,
            cookie_mask: n.3,
            idle_timeout: n.4,
            hard_timeout: n.5,
            buffer_id: n.6,
            out_port: n.7,
            out_group: n.8,
            flags: n.9,
            matching,
            instructions,
        })
}

fn port() -> impl Strategy<Value = Port> {
    (any::<(u32, [u8; 6], u32, u32, [u32; 4], u32, u32)>(), "[a-z0-9-]{0,15}").prop_map(|(n, name)| Port {
        number: n.0,
        mac: n.1,
        name,
        config: n.2,
        state: n.3,
        features: n.4,
        speed_kbps: n.5,
        max_speed_kbps: n.6,
    })
}

fn buckets() -> impl Strategy<Value = Vec<Bucket>> {
    let bucket = (any::<(u16, u32, u32)>(), actions())
        .prop_map(|((weight, watch_port, watch_group), actions)| Bucket { weight, watch_port, watch_group, actions });
    vec(bucket, 0..3)
}

fn meter() -> impl Strategy<Value = Meter> {
    let band = any::<(u16, u32, u32, [u8; 4])>().prop_map(|(kind, rate, burst, data)| Band { kind, rate, burst, data });
    (any::<(u16, u32)>(), vec(band, 0..3)).prop_map(|((flags, id), bands)| Meter { flags, id, bands })
}

fn flow_stats_request() -> impl Strategy<Value = FlowStatsRequest> {
    (any::<(u8, u32, u32, u64, u64)>(), matching()).prop_map(|(n, matching)| FlowStatsRequest {
        table: n.0,
        out_port: n.1,
        out_group: n.2,
        cookie: n.3,
        cookie_mask: n.4,
        matching,
    })
}

fn multipart_request() -> impl Strategy<Value = MultipartRequest> {
    prop_oneof![
        Just(MultipartRequest::Desc),
        flow_stats_request().prop_map(MultipartRequest::Flow),
        flow_stats_request().prop_map(MultipartRequest::Aggregate),
        Just(MultipartRequest::Table),
        any::<u32>().prop_map(MultipartRequest::PortStats),
        Just(MultipartRequest::GroupDesc),
        any::<u32>().prop_map(MultipartRequest::MeterConfig),
        Just(MultipartRequest::PortDesc),
        (100_u16..200, vec(any::<u8>(), 0..20)).prop_map(|(kind, body)| MultipartRequest::Other { kind, body }),
    ]
}

fn multipart_body() -> impl Strategy<Value = MultipartBody> {
    let desc = vec("[a-zA-Z0-9 .]{0,31}", 5).prop_map(|text| {
        let [manufacturer, hardware, software, serial, datapath] = <[String; 5]>::try_from(text).unwrap();
        MultipartBody::Desc(Box::new(Desc { manufacturer, hardware, software, serial, datapath }))
    });
    let flow = (any::<(u8, u32, u32, u16, u16, u16, u16, u64, u64, u64)>(), matching(), vec(instruction(), 0..3))
        .prop_map(|(n, matching, instructions)| FlowStats {
            table: n.0,
            duration_sec: n.1,
            duration_nsec: n.2,
            priority: n.3,
            idle_timeout: n.4,
            hard_timeout: n.5,
            flags: n.6,
            cookie: n.7,
            packets: n.8,
            bytes: n.9,
            matching,
            instructions,
        });
    let table = any::<(u8, u32, u64, u64)>().prop_map(|(table, active, lookups, matched)| TableStats {
        table,
        active,
        lookups,
        matched,
    });
    let port_stats = any::<(u32, [u64; 6], [u64; 6], u32, u32)>().prop_map(|(port, n, errors, sec, nsec)| PortStats {
        port,
        rx_packets: n[0],
        tx_packets: n[1],
        rx_bytes: n[2],
        tx_bytes: n[3],
        rx_dropped: n[4],
        tx_dropped: n[5],
        errors,
        duration_sec: sec,
        duration_nsec: nsec,
    });
    let group = (select(GroupType::ALL), any::<u32>(), buckets()).prop_map(|(kind, id, buckets)| GroupDesc {
        kind,
        id,
        buckets,
    });
    prop_oneof![
        desc,
        vec(flow, 0..3).prop_map(MultipartBody::Flow),
        any::<(u64, u64, u32)>().prop_map(|(packets, bytes, flows)| MultipartBody::Aggregate(Aggregate {
            packets,
            bytes,
            flows
        })),
        vec(table, 0..4).prop_map(MultipartBody::Table),
        vec(port_stats, 0..3).prop_map(MultipartBody::PortStats),
        vec(group, 0..3).prop_map(MultipartBody::GroupDesc),
        vec(meter(), 0..3).prop_map(MultipartBody::MeterConfig),
        vec(port(), 0..3).prop_map(MultipartBody::PortDesc),
        (100_u16..200, vec(any::<u8>(), 0..20)).prop_map(|(kind, body)| MultipartBody::Other { kind, body }),
    ]
}

fn tlv_maps() -> impl Strategy<Value = Vec<TlvMap>> {
    let map =
        any::<(u16, u8, u8, u16)>().prop_map(|(class, kind, length, index)| TlvMap { class, kind, length, index });
    vec(map, 0..4)
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..100)
}

fn packets() -> impl Strategy<Value = Msg> {
    prop_oneof![
        (any::<(u32, u16, u8, u8, u64)>(), matching(), data()).prop_map(|(n, metadata, data)| {
            let (buffer_id, total_len, reason, table, cookie) = n;
            Msg::PacketIn(PacketIn { buffer_id, total_len, reason, table, cookie, metadata, data })
        }),
        (any::<(Option<u32>, Option<u8>, Option<u64>, Option<u8>)>(), matching(), data(), data()).prop_map(
            |((full_len, table, cookie, reason), metadata, packet, userdata)| {
                let unknown = vec![(8, userdata.clone())];
                Msg::PacketIn2(PacketIn2 { packet, full_len, table, cookie, reason, metadata, userdata, unknown })
            }
        ),
        (any::<(u32, u32)>(), actions(), data()).prop_map(|((buffer_id, in_port), actions, data)| {
            Msg::PacketOut(PacketOut { buffer_id, in_port, actions, data })
        }),
        (any::<(u64, u16, u8, u32, u32, u16, u16, u64, u64)>(), select(RemovedReason::ALL), matching()).prop_map(
            |(n, reason, matching)| {
                Msg::FlowRemoved(FlowRemoved {
                    cookie: n.0,
                    priority: n.1,
                    reason,
                    table: n.2,
                    duration_sec: n.3,
                    duration_nsec: n.4,
                    idle_timeout: n.5,
                    hard_timeout: n.6,
                    packets: n.7,
                    bytes: n.8,
                    matching,
                })
            }
        ),
    ]
}

fn changes() -> impl Strategy<Value = Msg> {
    prop_oneof![
        flow_mod().prop_map(Msg::FlowMod),
        (select(GroupCommand::ALL), select(GroupType::ALL), any::<u32>(), buckets())
            .prop_map(|(command, kind, id, buckets)| Msg::GroupMod(GroupMod { command, kind, id, buckets })),
        (select(MeterCommand::ALL), meter()).prop_map(|(command, meter)| Msg::MeterMod(MeterMod { command, meter })),
    ]
}

fn extensions() -> impl Strategy<Value = Msg> {
    prop_oneof![
        (select(BundleStep::ALL), any::<(u32, u16)>())
            .prop_map(|(step, (id, flags))| Msg::BundleControl(BundleControl { id, step, flags })),
        (changes(), any::<(u32, u16)>()).prop_map(|(message, (id, flags))| Msg::BundleAdd {
            id,
            flags,
            message: Box::new(message)
        }),
        (select(TlvCommand::ALL), tlv_maps())
            .prop_map(|(command, maps)| Msg::TlvTableMod(TlvTableMod { command, maps })),
        Just(Msg::TlvTableRequest),
        (any::<(u32, u16)>(), tlv_maps()).prop_map(|((max_space, max_fields), maps)| {
            Msg::TlvTableReply(TlvTable { max_space, max_fields, maps })
        }),
        any::<u16>().prop_map(Msg::SetControllerId),
        any::<u32>().prop_map(Msg::SetPacketInFormat),
        (any::<(u32, u32)>(), data()).prop_map(|((experimenter, kind), data)| Msg::Experimenter {
            experimenter,
            kind,
            data
        }),
        (30_u8..255, data()).prop_map(|(kind, data)| Msg::Other { kind, data }),
    ]
}

fn session() -> impl Strategy<Value = Msg> {
    let config = any::<(u16, u16)>().prop_map(|(flags, miss_send_len)| SwitchConfig { flags, miss_send_len });
    let role = (select(RoleKind::ALL), any::<u64>()).prop_map(|(kind, generation)| Role { kind, generation });
    let wanted = any::<[[u32; 2]; 3]>().prop_map(|[packet_in, port_status, flow_removed]| AsyncConfig {
        packet_in,
        port_status,
        flow_removed,
    });
    let error = (any::<(u16, u16, u32)>(), data()).prop_map(|((kind, code, id), data)| ErrorMsg {
        kind,
        code,
        experimenter: (kind == 0xffff).then_some(id),
        data,
    });
    prop_oneof![
        option::of(vec(any::<u32>(), 0..3)).prop_map(|versions| Msg::Hello(Hello { versions })),
        error.prop_map(Msg::Error),
        data().prop_map(Msg::EchoRequest),
        data().prop_map(Msg::EchoReply),
        select(vec![
            Msg::FeaturesRequest,
            Msg::GetConfigRequest,
            Msg::BarrierRequest,
            Msg::BarrierReply,
            Msg::GetAsyncRequest,
        ]),
        any::<(u64, u32, u8, u8, u32)>().prop_map(|(datapath_id, buffers, tables, auxiliary, capabilities)| {
            Msg::FeaturesReply(Features { datapath_id, buffers, tables, auxiliary, capabilities })
        }),
        config.clone().prop_map(Msg::GetConfigReply),
        config.prop_map(Msg::SetConfig),
        role.clone().prop_map(Msg::RoleRequest),
        role.prop_map(Msg::RoleReply),
        wanted.clone().prop_map(Msg::GetAsyncReply),
        wanted.prop_map(Msg::SetAsync),
        (select(PortReason::ALL), port()).prop_map(|(reason, port)| Msg::PortStatus(PortStatus { reason, port })),
        multipart_request().prop_map(Msg::MultipartRequest),
        (any::<bool>(), multipart_body()).prop_map(|(more, body)| Msg::MultipartReply(MultipartReply { more, body })),
    ]
}

/// Text does not tell apart what has the same meaning: `max_len` of outputs, unknown things, two adjacent lists.
fn in_text(flow: &mut FlowMod) {
    flow.command = FlowCommand::Add;
    (flow.buffer_id, flow.out_port, flow.out_group) = (u32::MAX, u32::MAX, u32::MAX);
    flow.flags &= 0x1f;
    flow.matching.unknown.clear();
    // In text `icmp_type` is the one of the protocol that is matched; an ICMPv4 field under ICMPv6 breaks its
    // prerequisites (OF 1.3.5 §7.2.3.8), so no switch has such a flow to be printed.
    if flow.matching.get(OxmField::IpProto).is_some_and(|protocol| protocol.value == 58) {
        flow.matching.fields.retain(|oxm| !matches!(oxm.field, OxmField::Icmpv4Type | OxmField::Icmpv4Code));
    }
    let mut seen = false;
    flow.instructions.retain_mut(|instruction| match instruction {
        Instruction::ApplyActions(actions) => {
            actions_in_text(actions);
            !actions.is_empty() && !std::mem::replace(&mut seen, true)
        }
        Instruction::WriteActions(actions) => {
            actions_in_text(actions);
            true
        }
        Instruction::Unknown { .. } => false,
        _ => true,
    });
}

fn actions_in_text(actions: &mut Vec<Action>) {
    actions.retain_mut(|action| match action {
        Action::Output { port, max_len } => {
            if *port != super::port::reserved::CONTROLLER {
                *max_len = 0;
            }
            true
        }
        Action::OutputReg { max_len, .. } => {
            *max_len = u16::MAX;
            true
        }
        Action::Ct(ct) => {
            actions_in_text(&mut ct.actions);
            true
        }
        Action::Clone(actions) => {
            actions_in_text(actions);
            true
        }
        Action::Move { src, dst, dst_offset } => *dst_offset + src.bits <= dst.spec().bits,
        Action::SetMasked(oxm) => oxm.mask.is_some() && oxm.field != OxmField::InPortNxm,
        Action::SetField { field, .. } => *field != OxmField::InPortNxm,
        Action::Resubmit { in_port, .. } => *in_port != 0xfff8,
        Action::Unknown { .. } => false,
        _ => true,
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_survives_the_wire(
        xid in any::<u32>(),
        msg in prop_oneof![packets(), changes(), extensions(), session()],
    ) {
        let mut bytes = vec![0xee; 3];
        msg.encode(xid, &mut bytes);
        let bytes = &bytes[3..];
        prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len());
        let (header, again) = Msg::decode(bytes).unwrap();
        prop_assert_eq!(header.xid, xid);
        prop_assert_eq!(again, msg);
    }

    #[test]
    fn every_flow_survives_text(mut sent in flow_mod()) {
        in_text(&mut sent);
        let line = flow(&sent);
        let parsed = parse_flow(&line).map_err(|error| TestCaseError::fail(format!("{error} in {line}")))?;
        prop_assert_eq!(parsed, sent, "{}", line);
    }
}

#[test]
fn every_field_has_one_code_and_one_name() {
    for (at, field) in OxmField::ALL.iter().enumerate() {
        let spec = field.spec();
        assert!(usize::from(spec.bits).div_ceil(8) <= usize::from(spec.bytes), "{field:?}");
        for other in &OxmField::ALL[at + 1..] {
            assert_ne!(spec.oxm, other.spec().oxm, "{field:?} {other:?}");
            assert_ne!(spec.name, other.spec().name);
            assert_ne!(spec.long, other.spec().long);
        }
    }
    assert_eq!(OxmField::reg(15), Some(OxmField::Reg15));
    assert_eq!(OxmField::reg(16), None);
}
