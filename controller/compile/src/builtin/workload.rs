//! What a workload needs on a switch that its network is present on.

use super::{
    Entries, Here, answer, answers_from_outside, dhcp, dst, ip, learn, nd, remote, solicitations, spread, src, to,
};
use crate::TooLarge;
use bulkhead_pipeline::{Action, Builtin, Entry, Field, Match, Next, Output, Stage, ethertype};
use bulkhead_policy::model::{Interface, Workload};
use bulkhead_topology::Port;
use std::net::{IpAddr, Ipv6Addr};

/// The entries: of its interfaces that are plugged in here, and of those that are elsewhere.
pub(crate) fn workload(here: &Here<'_>, workload: &Workload, identity: u32) -> Result<Vec<Entry>, TooLarge> {
    let mut e = Entries(Vec::new());
    for interface in &workload.interfaces {
        for address in &interface.ips {
            here.no_outsiders_address(&mut e, *address);
        }
        match &interface.attachment {
            Some(at) if at.switch == *here.switch => {
                let learned = workload.is_learned() && here.remembers();
                plugged(&mut e, here, interface, identity, &at.port, learned);
                if learned {
                    learn::addresses(&mut e, here, interface.mac, &at.port);
                }
            }
            elsewhere => {
                let at = elsewhere.as_ref().map(|at| &at.switch);
                remote::interface(&mut e, here, workload, interface, identity, at)?;
            }
        }
    }
    Ok(e.0)
}

fn plugged(e: &mut Entries, here: &Here<'_>, interface: &Interface, identity: u32, port: &Port, learned: bool) {
    let (mac, ips) = (interface.mac, &interface.ips);
    let set = vec![
        Action::set(Field::Network, here.number.into()),
        Action::set(Field::SrcId, identity.into()),
        Action::set(Field::SrcLocal, 1),
    ];
    let door = Match::any().port(port.clone()).with(Field::Vlan, 0u8);
    e.add(Stage::Classify, 100, door, set, to(Stage::Antispoof), Builtin::Classify);
    let own = |m: Match| m.port(port.clone()).with(Field::EthSrc, mac.to_bits());
    let on = || to(Stage::ArpNd);
    let arp = || own(ip(ethertype::ARP)).with(Field::ArpSha, mac.to_bits());
    e.drop(Stage::Antispoof, 100, arp().with(Field::ArpSpa, 0u8), Builtin::Arp);
    // A solicitation is checked whole; from no address it names no link-layer address (RFC 4861 §4.3).
    if learned {
        learn::tell(e, Stage::Antispoof, 101, own(nd(135)));
    } else {
        e.drop(Stage::Antispoof, 101, own(nd(135)), Builtin::Antispoof);
    }
    let probe = own(nd(135)).with(Field::Ipv6Src, Ipv6Addr::UNSPECIFIED.to_bits()).with(Field::NdSll, 0u8);
    for solicit in solicitations(own, mac, ips).chain([probe]) {
        e.add(Stage::Antispoof, 102, solicit, vec![], on(), Builtin::Antispoof);
    }
    for question in dhcp(own, mac) {
        e.add(Stage::Antispoof, 100, question, vec![], on(), Builtin::Dhcp);
    }
    for address in ips {
        e.add(Stage::Antispoof, 100, own(src(*address)), vec![], on(), Builtin::Antispoof);
        let found = vec![
            Action::set(Field::DstId, identity.into()),
            Action::set(Field::DstLocal, 1),
            Action::set(Field::EthDst, mac.to_bits().into()),
            Action::SetOut(port.clone()),
        ];
        e.add(Stage::Locate, 100, here.within(dst(*address)), found, to(Stage::Track), Builtin::Locate);
        if let IpAddr::V4(v4) = address {
            let bits = u128::from(v4.to_bits());
            e.add(Stage::Antispoof, 100, arp().with(Field::ArpSpa, bits), vec![], on(), Builtin::Antispoof);
            // A gratuitous announcement asks nobody: an answer would look like a second owner.
            let own_news = arp().with(Field::ArpSpa, bits).with(Field::ArpTpa, bits);
            e.drop(Stage::Antispoof, 105, own_news, Builtin::Arp);
        }
        answer(e, |m| here.within(m), mac, *address);
    }
    spread::receive(e, here, mac, identity, port);
    if here.way_out().is_some() {
        answers_from_outside(e, here, mac, &[Action::Output(Output::Port(port.clone()))], Next::Done);
    }
}
