//! Everything that is compiled for a switch without a memory has a place in the program, fits it, and is found again.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_compile::Compiler;
use bulkhead_driver_p4::{
    LiftError, P4INFO, Places, TooMany, fits, layout, lift, lower,
    underlay::{self, rows},
};
use bulkhead_p4runtime::{
    bytes, check,
    client::{MAX_BATCH, MAX_BATCH_BYTES},
    info::{Info, Value},
    proto::p4::v1::{
        Action as P4Action, Entity, FieldMatch, TableAction, TableEntry, Update, action::Param, entity, field_match,
        table_action, update::Type,
    },
};
use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Match, Next, Output, Stage, ethertype, frag, overlay::Tunnel,
};
use bulkhead_policy::{
    Change, Resource, State,
    arbitrary::{everywhere, state},
    model::{Driver, Interface, Network, Switch, Workload},
};
use bulkhead_topology::{
    IpNet, Mac, Port,
    underlay::{Hop, MAX_HOPS, MAX_PORT, Route, Underlay},
};
use proptest::{prelude::*, test_runner::Config};
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::LazyLock,
};

/// The program. To read it takes longer than most of what is done with it.
fn info() -> &'static Info {
    static INFO: LazyLock<Info> = LazyLock::new(|| Info::from_text(P4INFO).unwrap());
    &INFO
}

fn places() -> &'static Places {
    static PLACES: LazyLock<Places> = LazyLock::new(|| Places::new(info()));
    &PLACES
}

/// Which VTEP addresses switches have.
#[derive(Debug, Clone, Copy)]
enum Vteps {
    None,
    TheirOwn,
    /// IPv6's, all of them.
    V6,
}

impl Vteps {
    fn of(self, own: IpAddr) -> Option<IpAddr> {
        match (self, own) {
            (Self::None, _) => None,
            (Self::V6, IpAddr::V4(v4)) => Some(v4.to_ipv6_compatible().into()),
            (Self::TheirOwn | Self::V6, own) => Some(own),
        }
    }
}

/// The state with all its switches behind P4Runtime, and ports that such switches have.
fn forgetful(state: &State, vteps: Vteps) -> State {
    let mut numbers: BTreeMap<Port, u32> = BTreeMap::new();
    let mut number = |port: &Port| {
        let next = numbers.len() as u32 + 1;
        Port::Number(*numbers.entry(port.clone()).or_insert(next))
    };
    let mut changes = Vec::new();
    for (at, switch) in state.switches.values().enumerate() {
        let vtep = switch.vtep.and_then(|own| vteps.of(own));
        let underlay = vtep.map(|vtep| everywhere(vtep).into());
        let device_id = at as u64 + 1;
        let driver = Driver::P4runtime { address: "192.0.2.99:9559".into(), device_id, underlay };
        let driver = if at % 3 == 2 { switch.driver.clone() } else { driver };
        changes.push(Change::set(Resource::Switch(Switch { driver, vtep, ..(**switch).clone() }.into())));
    }
    for workload in state.workloads.values() {
        let interfaces = workload.interfaces.iter().map(|interface| {
            let mut interface: Interface = interface.clone();
            if let Some(at) = &mut interface.attachment {
                at.port = number(&at.port);
            }
            interface
        });
        let interfaces = interfaces.collect();
        changes.push(Change::set(Resource::Workload(Workload { interfaces, ..(**workload).clone() }.into())));
    }
    for network in state.networks.values() {
        let mut network: Network = (**network).clone();
        network.uplinks.iter_mut().for_each(|uplink| uplink.at.port = number(&uplink.at.port));
        changes.push(Change::set(Resource::Network(network.into())));
    }
    // What is seen on hosts has ports of its own names.
    changes.extend(state.hosts.keys().map(|name| Change::remove(bulkhead_policy::Kind::Host.named(name))));
    let mut state = state.clone();
    state.apply(&changes);
    state
}

fn entries(state: &State) -> Vec<Entry> {
    let compiler = Compiler::new(state, Default::default()).unwrap().0;
    let forgetful = state.switches.values().filter(|switch| !switch.driver.remembers());
    forgetful.filter_map(|switch| compiler.program(&switch.name)).flat_map(|program| program.iter().cloned()).collect()
}

fn insert(entry: TableEntry) -> Update {
    let mut update =
        Update { entity: Some(Entity { entity: Some(entity::Entity::TableEntry(entry)) }), ..Update::default() };
    update.set_type(Type::Insert);
    update
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: 64, ..Config::default() })]

    #[test]
    fn what_is_compiled_is_lowered_and_lifted(
        state in state(),
        vteps in prop_oneof![Just(Vteps::None), Just(Vteps::TheirOwn), Just(Vteps::V6)],
    ) {
        let info = info();
        for entry in entries(&forgetful(&state, vteps)) {
            let lowered = places().lower(&entry).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let fits = check::update(info, &insert(lowered.clone()));
            prop_assert!(fits.is_ok(), "{entry:?}: {fits:?}");
            prop_assert_eq!(places().check(&entry), Ok(()));
            prop_assert_eq!(lift(&lowered, info), Ok(entry));
        }
    }

    /// Two entries of different keys never become one.
    #[test]
    fn keys_stay_apart(state in state()) {
        let state = forgetful(&state, Vteps::TheirOwn);
        let compiler = Compiler::new(&state, Default::default()).unwrap().0;
        for switch in state.switches.values().filter(|switch| !switch.driver.remembers()) {
            let program = compiler.program(&switch.name).unwrap();
            let keys: BTreeSet<_> = program
                .iter()
                .map(|entry| places().key(entry).unwrap())
                .map(|lowered| (lowered.table_id, bulkhead_p4runtime::entry::Key::of(&lowered)))
                .collect();
            prop_assert_eq!(keys.len(), program.len());
        }
    }
}

/// Random states that are compiled to see what is matched and done, if fewer do not show all of it.
const STATES: usize = 400;

/// Keys have a place for all that is matched, and none for what never is: a bit of a key costs a table's every entry.
#[test]
fn keys_are_as_wide_as_they_have_to_be() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    // A table without a key has no entries.
    let key = |stage| Some(layout::key(stage)).filter(|key| key.len() > 1).unwrap_or_default();
    let keys = layout::stages().flat_map(|stage| key(stage).into_iter().map(move |slot| (stage, slot.name)));
    let mut keys: BTreeSet<(Stage, &str)> = keys.collect();
    let shapes = layout::stages().flat_map(|stage| layout::shapes(stage).iter().map(move |shape| (stage, *shape)));
    let mut shapes: BTreeSet<(Stage, &str)> = shapes.collect();
    for _ in 0..STATES {
        if keys.is_empty() && shapes.is_empty() {
            break;
        }
        let state = proptest::strategy::ValueTree::current(&state().new_tree(&mut runner).unwrap());
        for vteps in [Vteps::None, Vteps::TheirOwn, Vteps::V6] {
            for entry in entries(&forgetful(&state, vteps)) {
                let stage = entry.key.stage;
                if entry.key.matches.in_port.is_some() {
                    keys.remove(&(stage, layout::IN_PORT.name));
                }
                for (field, ..) in entry.key.matches.fields() {
                    keys.remove(&(stage, layout::slot(field).name));
                }
                let shape = bulkhead_driver_p4::shape(&entry);
                let known = layout::shapes(stage).iter().find(|known| shape.as_deref() == Some(**known));
                known.map(|known| shapes.remove(&(stage, *known)));
            }
        }
    }
    let keys = keys.into_iter().map(|(stage, name)| format!("nothing in {} matches {name}", stage.spec().name));
    let shapes = shapes.into_iter().map(|(stage, shape)| format!("nothing in {} does {shape}", stage.spec().name));
    let idle: Vec<String> = keys.chain(shapes).collect();
    assert!(idle.is_empty(), "{idle:#?}");
}

fn drop_in(stage: Stage, matches: Match) -> Entry {
    Entry::new(stage, 5, matches, vec![], Next::Drop, Cause::Rule(7))
}

#[test]
fn what_has_no_place_is_refused_by_name() {
    let info = info();
    let ip = |kind: u128| Match::any().with(Field::EthType, kind);
    let refused = |entry: Entry| {
        assert_eq!(places().check(&entry).unwrap_err(), places().lower(&entry).unwrap_err());
        lower(&entry, info).unwrap_err().why.to_string()
    };
    let fields = [
        (drop_in(Stage::EgressPlatform, Match::any().with(Field::DstLocal, 1u8)), "no place for dst_local"),
        (drop_in(Stage::Carry, Match::any()), "no table ingress.carry"),
        (drop_in(Stage::Locate, Match::any().with(Field::Ipv4Dst, 1u8)), "does not say that addr_dst is ipv4_dst"),
        (drop_in(Stage::Locate, ip(ethertype::IPV6).with(Field::Ipv4Dst, 1u8)), "addr_dst is ipv4_dst"),
        // A neighbour's message has its target there.
        (drop_in(Stage::ArpNd, ip(ethertype::IPV6).with(Field::Ipv6Dst, 1u8)), "addr_dst is ipv6_dst"),
        (drop_in(Stage::Antispoof, Match::any().with(Field::TunGbp, 1u8)), "tun_identity is tun_gbp"),
        (drop_in(Stage::Antispoof, Match::any().masked(Field::TunSrc4, 1u8, 0xff)), "tun_src4 is matched in part"),
        (drop_in(Stage::ArpNd, ip(ethertype::ARP).with(Field::ArpOp, 256u16)), "arp_op does not fit into 8 bits"),
        (drop_in(Stage::Classify, Match::any().port(Port::Name("eth7".into()))), "port eth7 is none: ports"),
        (drop_in(Stage::Classify, Match::any().port(Port::Number(511))), "port 511 is none"),
    ];
    for (entry, why) in fields {
        let found = refused(entry);
        assert!(found.contains(why), "{found}");
    }
    for (action, why) in [
        (Action::Commit, "no action for what it does ([Commit])"),
        (Action::set(Field::OutVlan, 7), "(set_out_vlan)"),
        (Action::Output(Output::Port(Port::Number(0))), "port 0 is none"),
        (Action::set(Field::DstLocal, 2), "no action"),
    ] {
        let entry =
            Entry::new(Stage::Deliver, 5, Match::any(), vec![action], Next::Done, Cause::Builtin(Builtin::Deliver));
        let found = refused(entry.clone());
        assert!(found.contains(why), "{found}");
        assert!(lower(&entry, info).unwrap_err().to_string().contains("deliver"));
    }
}

#[test]
fn what_nobody_lowered_is_not_lifted() {
    let info = info();
    let entry = drop_in(
        Stage::Track,
        Match::any().with(Field::EthType, ethertype::IPV4).masked(Field::IpFrag, frag::ANY, frag::ANY),
    );
    let good = lower(&entry, info).unwrap();
    assert_eq!(lift(&good, info), Ok(entry));
    assert_eq!(lift(&TableEntry { metadata: vec![], ..good.clone() }, info), Err(LiftError::Foreign));
    assert_eq!(lift(&TableEntry { table_id: 1, ..good.clone() }, info), Err(LiftError::Table(1)));
    for (priority, action) in
        [(0, good.action.clone()), (70_000, good.action.clone()), (i32::MIN, good.action.clone()), (5, None)]
    {
        assert!(lift(&TableEntry { priority, action, ..good.clone() }, info).is_err());
    }
    let ternary = |id: u32, value: &[u8], mask: &[u8]| FieldMatch {
        field_id: id,
        field_match_type: Some(field_match::FieldMatchType::Ternary(field_match::Ternary {
            value: value.into(),
            mask: mask.into(),
        })),
    };
    for strange in [
        ternary(99, &[1], &[1]),
        ternary(1, &[2], &[1]),
        ternary(1, &[], &[1]),
        FieldMatch { field_id: 1, ..FieldMatch::default() },
    ] {
        assert!(lift(&TableEntry { r#match: vec![strange], ..good.clone() }, info).is_err());
    }
}

#[test]
fn an_entry_logs_its_own_rule_or_none() {
    let info = info();
    let logs = |cause, next| Entry::new(Stage::EgressPlatform, 5, Match::any(), vec![Action::Log], next, cause);
    let entry = logs(Cause::Rule(u32::MAX), Next::Drop);
    let lowered = lower(&entry, info).unwrap();
    assert_eq!(lift(&lowered, info), Ok(entry));
    for other in [logs(Cause::Rule(7), Next::Drop), logs(Cause::Rule(u32::MAX), Next::Stage(Stage::Verdict))] {
        let action = lower(&other, info).unwrap().action;
        let mut forged = lowered.clone();
        // What it says of its rule, and nothing else of what it does.
        let (Some(table_action::Type::Action(forged_action)), Some(table_action::Type::Action(action))) =
            (forged.action.as_mut().and_then(|action| action.r#type.as_mut()), action.and_then(|action| action.r#type))
        else {
            panic!()
        };
        forged_action.params[0] = action.params[0].clone();
        assert_eq!(lift(&forged, info), Err(LiftError::Strange("the rule that it logs")));
    }
    // Who is no rule has nothing to write a line about.
    assert!(lower(&logs(Cause::Builtin(Builtin::Arp), Next::Drop), info).is_err());
}

#[test]
fn tunnels_ends_and_ports_are_told_apart() {
    let info = info();
    let v6 = 0x2001_0db8u128 << 96 | 1;
    for matches in [
        Match::any().with(Field::TunSrc4, 0xc000_0201u32),
        Match::any().with(Field::TunSrc6, v6),
        Match::any().port(Tunnel::Vxlan.port()).with(Field::TunGbp, 9u8),
        Match::any().port(Port::Number(509)),
    ] {
        let entry = drop_in(Stage::Antispoof, matches);
        assert_eq!(lift(&lower(&entry, info).unwrap(), info), Ok(entry));
    }
    let mapped = drop_in(Stage::Antispoof, Match::any().with(Field::TunSrc6, 0xffff_c000_0201u64));
    assert!(lower(&mapped, info).is_err());
}

/// The driver counts entries and not bytes: whatever they are, a batch of them may be sent.
#[test]
fn a_batch_of_the_widest_entries_can_be_sent() {
    let info = info();
    let ones = |value: &Value| bytes::all_ones(value.width as usize);
    let stages = layout::stages().map(|stage| info.table_named(&layout::table(stage)).unwrap());
    let sizes = stages.flat_map(|table| {
        let part = |field: &Value| FieldMatch {
            field_id: field.id,
            field_match_type: Some(field_match::FieldMatchType::Ternary(field_match::Ternary {
                value: ones(field),
                mask: ones(field),
            })),
        };
        let r#match: Vec<FieldMatch> = table.fields.iter().map(|field| part(&field.value)).collect();
        table.actions.keys().map(move |id| {
            let action = info.action(*id).unwrap();
            let params = action.params.iter().map(|param| Param { param_id: param.id, value: ones(param) });
            let action = P4Action { action_id: *id, params: params.collect() };
            let entry = TableEntry {
                table_id: table.id,
                r#match: r#match.clone(),
                action: Some(TableAction { r#type: Some(table_action::Type::Action(action)) }),
                priority: i32::from(u16::MAX) + 1,
                metadata: vec![0xff; 8],
                ..TableEntry::default()
            };
            insert(entry).encoded_len()
        })
    });
    let widest = sizes.max().unwrap();
    assert!(widest > 100 && widest * MAX_BATCH < MAX_BATCH_BYTES, "{widest} bytes");
}

#[test]
fn a_table_that_is_too_small_is_named() {
    let size = u64::from(layout::size(Stage::Locate));
    let needed = |count| BTreeMap::from([(Stage::Classify, 1), (Stage::Locate, count)]);
    assert_eq!(fits(&needed(size), info()), Ok(()));
    let refused = fits(&needed(size + 1), info()).unwrap_err();
    assert_eq!(refused, TooMany { table: "ingress.locate".into(), size, needed: size + 1 });
    assert_eq!(
        refused.to_string(),
        format!("table ingress.locate has room for {size} entries, and {} are needed", size + 1)
    );
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(|[a, b, c, d, e, f]| Mac([a & 0xfe, b, c, d, e, f]))
}

fn an_underlay() -> impl Strategy<Value = Underlay> {
    let hop = (1..=MAX_PORT, mac()).prop_map(|(port, mac)| Hop { port, mac });
    let hops = proptest::collection::btree_set(hop, 1..=MAX_HOPS);
    (any::<IpAddr>(), mac(), proptest::collection::btree_map((any::<IpAddr>(), 0..=128u8), hops, 0..6)).prop_map(
        |(vtep, mac, routes)| {
            // An IPv4 address as IPv6's may be is IPv4's.
            let vtep = vtep.to_canonical();
            let prefix = |ip: IpAddr, length: u8| {
                let most = if ip.is_ipv4() { 32 } else { 128 };
                let mask = |bits: u128, width: u32| {
                    bits & !u128::MAX.checked_shr(128 - width + u32::from(length)).unwrap_or(0)
                };
                let length = length.min(most);
                let ip = match ip {
                    IpAddr::V4(v4) => IpAddr::V4((mask(v4.to_bits().into(), 32) as u32).into()),
                    IpAddr::V6(v6) => IpAddr::V6(mask(v6.to_bits(), 128).into()),
                };
                IpNet::new(ip, length).ok()
            };
            let fits = |((ip, length), via): ((IpAddr, u8), BTreeSet<Hop>)| {
                let to = prefix(ip, length).filter(|to| to.is_ipv4() == vtep.is_ipv4())?;
                Some((to, via.into_iter().collect()))
            };
            let routes: BTreeMap<IpNet, Vec<Hop>> = routes.into_iter().filter_map(fits).collect();
            let routes = routes.into_iter().map(|(to, via)| Route { to, via }).collect();
            Underlay { vtep, mac, mtu: None, routes }
        },
    )
}

proptest! {
    /// What is known of the underlay is written as devices take it, found again, and changed to something else and no more.
    #[test]
    fn underlays_are_lowered_and_lifted(one in an_underlay(), other in an_underlay()) {
        let info = info();
        let lowered = |underlay: &Underlay| -> Vec<TableEntry> {
            rows(underlay).iter().map(|row| underlay::lower(row, info).unwrap()).collect()
        };
        let (before, after) = (lowered(&one), lowered(&other));
        for (row, entry) in rows(&one).iter().zip(&before) {
            let fits = check::update(info, &insert(entry.clone()));
            prop_assert!(fits.is_ok(), "{row:?}: {fits:?}");
            let lifted = underlay::lift(entry, info);
            prop_assert_eq!(lifted.as_ref(), Some(row));
            prop_assert!(lift(entry, info).is_err(), "no stage's");
        }
        prop_assert_eq!(underlay::updates(&before, &rows(&one), info).unwrap(), vec![]);
        let key = |entry: &TableEntry| (entry.table_id, bulkhead_p4runtime::entry::Key::of(entry));
        let mut device: BTreeMap<_, _> = before.iter().map(|entry| (key(entry), entry.clone())).collect();
        for update in underlay::updates(&before, &rows(&other), info).unwrap() {
            let kind = update.r#type();
            let Some(entity::Entity::TableEntry(entry)) = update.entity.unwrap().entity else { panic!() };
            let old = if kind == Type::Delete { device.remove(&key(&entry)) } else { device.insert(key(&entry), entry) };
            prop_assert_eq!(old.is_some(), kind != Type::Insert);
        }
        let wanted: BTreeMap<_, _> = after.iter().map(|entry| (key(entry), entry.clone())).collect();
        prop_assert_eq!(device, wanted);
    }
}
