//! Random entries that Open vSwitch can hold.

use bulkhead_driver_ovs::PortMap;
use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Match, Next, Output, Stage, ethertype as eth, ip_proto as ip, vlan,
};
use bulkhead_topology::Port;
use proptest::{collection::vec, prelude::*, sample::select};

pub fn ports() -> PortMap {
    let mut ports = PortMap::default();
    for (number, name) in [(1, "web-1"), (2, "db-1"), (300, "uplink0"), (0xffff_fffe, "br-int")] {
        ports.insert(number, name);
    }
    ports
}

/// The headers of a packet, which say which fields an entry may use.
fn headers() -> impl Strategy<Value = Vec<(Field, u128)>> {
    let (v4, v6) = ((Field::EthType, eth::IPV4), (Field::EthType, eth::IPV6));
    let proto = |number| (Field::IpProto, number);
    select(vec![
        vec![],
        vec![(Field::EthType, eth::ARP)],
        vec![v4],
        vec![v6],
        vec![v4, proto(ip::TCP)],
        vec![v4, proto(ip::UDP)],
        vec![v6, proto(ip::SCTP)],
        vec![v6, proto(ip::TCP)],
        vec![v4, proto(ip::ICMP)],
        vec![v6, proto(ip::ICMPV6)],
        vec![v6, proto(47)],
        vec![v6, proto(ip::ICMPV6), (Field::IcmpType, 135)],
        vec![v6, proto(ip::ICMPV6), (Field::IcmpType, 136)],
    ])
}

fn usable(field: Field, headers: &[(Field, u128)]) -> bool {
    let has = |wanted: Field| headers.iter().find(|header| header.0 == wanted).map(|header| header.1);
    let (kind, proto, icmp) = (has(Field::EthType), has(Field::IpProto), has(Field::IcmpType));
    match field {
        Field::EthType | Field::IpProto => false,
        // Later fragments have no ports, types and codes.
        Field::IpFrag => matches!(kind, Some(eth::IPV4 | eth::IPV6)) && proto.is_none(),
        Field::IpTtl => matches!(kind, Some(eth::IPV4 | eth::IPV6)),
        Field::Ipv4Src | Field::Ipv4Dst => kind == Some(eth::IPV4),
        Field::Ipv6Src | Field::Ipv6Dst => kind == Some(eth::IPV6),
        Field::L4Src | Field::L4Dst => matches!(proto, Some(ip::TCP | ip::UDP | ip::SCTP)),
        Field::IcmpType | Field::IcmpCode => matches!(proto, Some(ip::ICMP | ip::ICMPV6)) && icmp.is_none(),
        Field::ArpOp | Field::ArpSpa | Field::ArpTpa | Field::ArpSha | Field::ArpTha => kind == Some(eth::ARP),
        Field::NdTarget => icmp.is_some(),
        Field::NdSll => icmp == Some(135),
        Field::NdTll => icmp == Some(136),
        Field::NdReserved | Field::NdOption => icmp.is_some(),
        _ => true,
    }
}

fn settable(field: Field) -> bool {
    !matches!(field, Field::Conjunction | Field::Conn | Field::Vlan | Field::IpFrag)
}

/// The value, as far as Open vSwitch takes it: no connection state that cannot be, none that is invalid (which it
/// does not commit), no ARP operation above 255.
fn sound(field: Field, any: u128) -> u128 {
    use bulkhead_pipeline::conn::{EST, NEW, REL, RPL, TRK};
    let states = [0, TRK | NEW, TRK | EST, TRK | EST | RPL, TRK | REL, TRK | REL | RPL, TRK | NEW | REL];
    match field {
        Field::Conn => states[any as usize % states.len()],
        Field::ArpOp => any & 0xff,
        _ => any & field.full_mask(),
    }
}

fn maskable(field: Field) -> bool {
    !matches!(
        field,
        Field::Conjunction
            | Field::IpTtl
            | Field::IcmpType
            | Field::IcmpCode
            | Field::ArpOp
            | Field::NdReserved
            | Field::NdOption
    )
}

fn port() -> impl Strategy<Value = Port> {
    select(ports().all().into_iter().collect::<Vec<_>>())
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        select(Builtin::ALL).prop_map(Cause::Builtin),
        any::<u32>().prop_map(Cause::Rule),
        any::<u32>().prop_map(Cause::Isolation),
        any::<u32>().prop_map(Cause::Zone),
        any::<u32>().prop_map(Cause::Default),
        (0..Stage::ALL.len()).prop_map(|at| Cause::Miss(Stage::ALL[at].stage)),
    ]
}

fn action(headers: Vec<(Field, u128)>) -> BoxedStrategy<Action> {
    let fields: Vec<Field> = Field::ALL.into_iter().filter(|f| usable(*f, &headers) && settable(*f)).collect();
    let pairs: Vec<(Field, Field)> = fields
        .iter()
        .flat_map(|from| fields.iter().map(|to| (*from, *to)))
        .filter(|(from, to)| from.copies_to(*to))
        .collect();
    let ip = headers.iter().any(|h| *h == (Field::EthType, eth::IPV4) || *h == (Field::EthType, eth::IPV6));
    let mut plain = vec![Action::SwapEnds, Action::Recall, Action::Reject, Action::Log, Action::Output(Output::InPort)];
    plain.extend([Action::RecallService, Action::Output(Output::Chosen)]);
    plain.extend([Action::PushVlan(Field::InVlan), Action::PushVlan(Field::OutVlan), Action::PopVlan]);
    plain.extend([Action::Probe, Action::Discover]);
    if ip {
        plain.extend([Action::Commit, Action::CommitAnew, Action::ServiceFromProto, Action::DecTtl]);
    }
    if usable(Field::L4Dst, &headers) {
        plain.extend([Action::ServiceFromDst, Action::ServiceFromSrc]);
    }
    if headers.iter().any(|h| *h == (Field::IpProto, ip::ICMP) || *h == (Field::IpProto, ip::ICMPV6)) {
        plain.push(Action::ServiceFromIcmp);
    }
    let copied =
        (select(fields.clone()), any::<u128>()).prop_map(|(field, value)| Action::set(field, sound(field, value)));
    let copied = vec(
        prop_oneof![3 => copied, 1 => select(pairs.clone()).prop_map(|(from, to)| Action::Copy { from, to })],
        0..4,
    );
    prop_oneof![
        copied.prop_map(|actions| Action::Fork { actions: actions.into(), to: Stage::TooBig }),
        (select(fields), any::<u128>()).prop_map(|(field, value)| Action::set(field, sound(field, value))),
        select(pairs).prop_map(|(from, to)| Action::Copy { from, to }),
        some_bits(),
        proptest::collection::btree_set(port(), 2..4).prop_map(|ports| Action::Output(Output::among(ports).unwrap())),
        port().prop_map(Action::SetOut),
        port().prop_map(|port| Action::Output(Output::Port(port))),
        any::<u16>().prop_map(Action::CheckSize),
        any::<u16>().prop_map(|mtu| Action::TooBig { mtu }),
        any::<std::net::IpAddr>().prop_map(|from| Action::Expired { from }),
        any::<std::net::IpAddr>().prop_map(|from| Action::NoRoute { from }),
        select(plain),
    ]
    .boxed()
}

/// Some bits of an Ethernet address.
fn some_bits() -> impl Strategy<Value = Action> {
    let run = (0..48u32).prop_flat_map(|offset| (Just(offset), 1..=(48 - offset).min(47)));
    (select(vec![Field::EthSrc, Field::EthDst]), run, any::<u128>()).prop_map(|(field, (offset, length), any)| {
        let mask = ((1u128 << length) - 1) << offset;
        Action::set_bits(field, any & mask, mask)
    })
}

fn matches(headers: Vec<(Field, u128)>) -> impl Strategy<Value = Match> {
    let fields: Vec<Field> = Field::ALL.into_iter().filter(|field| usable(*field, &headers)).collect();
    let terms = vec((select(fields), any::<u128>(), prop_oneof![Just(u128::MAX), any::<u128>()]), 0..5);
    (proptest::option::of(port()), terms).prop_map(move |(in_port, terms)| {
        let mut matches = in_port.into_iter().fold(Match::any(), Match::port);
        for (field, value) in &headers {
            matches = matches.with(*field, *value);
        }
        terms.into_iter().fold(matches, |matches, (field, value, mask)| match matches.get(field) {
            Some(_) => matches,
            None => matches.masked(field, sound(field, value), if maskable(field) { mask } else { u128::MAX }),
        })
    })
}

/// What an entry does in the end.
#[derive(Debug, Clone)]
enum Last {
    Go,
    Tracker(Action),
    End(Next),
}

fn ordinary() -> impl Strategy<Value = Entry> {
    let stages = 0..Stage::ALL.len() - 1;
    (headers(), stages).prop_flat_map(|(headers, at)| {
        let ip = headers.iter().any(|h| *h == (Field::EthType, eth::IPV4) || *h == (Field::EthType, eth::IPV6));
        let mut ends = vec![Last::Go, Last::End(Next::Drop), Last::End(Next::Done)];
        if ip {
            ends.push(Last::Tracker(Action::Track));
        }
        let parts = (matches(headers.clone()), vec(action(headers), 0..6), select(ends));
        let place = (Just(Stage::ALL[at].stage), at + 1..Stage::ALL.len(), any::<u16>(), cause());
        (place, parts).prop_map(|((stage, next, priority, cause), (matches, mut actions, last))| {
            let later = Next::Stage(Stage::ALL[next].stage);
            let next = match last {
                Last::Go => later,
                Last::End(end) => end,
                Last::Tracker(action) => {
                    actions.push(action);
                    later
                }
            };
            // A tag is taken off where there is one, and put on where there is none.
            let mut tagged = matches.get(Field::Vlan).is_some_and(|(value, _)| value & vlan::PRESENT != 0);
            actions.retain(|action| match action {
                Action::PushVlan(_) => !std::mem::replace(&mut tagged, true),
                Action::PopVlan => std::mem::replace(&mut tagged, false),
                _ => true,
            });
            // The cookie remembers one way of naming out-ports.
            let by_number = actions.iter().flat_map(Action::ports).map(|port| matches!(port, Port::Number(_))).next();
            actions
                .retain(|action| action.ports().iter().all(|port| Some(matches!(port, Port::Number(_))) == by_number));
            Entry::new(stage, priority, matches, actions, next, cause)
        })
    })
}

fn clause() -> impl Strategy<Value = Entry> {
    let one = (any::<u32>(), 2u8..=3)
        .prop_flat_map(|(conjunction, n)| (1..=n).prop_map(move |k| Action::Clause { conjunction, k, n }));
    let parts = (matches(Vec::new()), vec(one, 1..4), any::<u16>(), cause());
    parts.prop_map(|(matches, clauses, priority, cause)| {
        Entry::new(Stage::EgressApplication, priority, matches, clauses, Next::Done, cause)
    })
}

pub fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![8 => ordinary(), 1 => clause()]
}
