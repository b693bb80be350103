//! A session with a real switch: what is written in every way that the text form knows is accepted and read back.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_lab::{Lab, hypervisor::BRIDGE};
use bulkhead_openflow::text::parse_flow;
use bulkhead_openflow::wire::{bundle, hello, tlv};
use bulkhead_openflow::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

struct Live {
    stream: UnixStream,
    session: Session,
    began: Instant,
}

impl Live {
    fn event(&mut self) -> Event {
        let mut buffer = [0; 65536];
        for _ in 0..1000 {
            self.stream.write_all(&self.session.take_output()).unwrap();
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            let n = self.stream.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "the switch closed the connection");
            self.session.received(&buffer[..n], self.began.elapsed()).unwrap();
        }
        panic!("nothing happened");
    }

    fn answer(&mut self, xid: u32) -> Msg {
        match self.event() {
            Event::Message(answered, msg) if answered == xid => msg,
            other => panic!("{other:?}"),
        }
    }

    /// Applies flows in one bundle; gives the error and the flow that it is about, if any.
    fn apply(&mut self, flows: &[FlowMod]) -> Option<(usize, hello::ErrorMsg)> {
        let flags = bundle::flags::ATOMIC | bundle::flags::ORDERED;
        let open = self.session.send_bundle(1, BundleStep::OpenRequest, flags).unwrap();
        assert!(matches!(self.answer(open), Msg::BundleControl(_)));
        let xids: Vec<u32> =
            flows.iter().map(|flow| self.session.add_flow_mod_to_bundle(1, flags, flow).unwrap()).collect();
        let commit = self.session.send_bundle(1, BundleStep::CommitRequest, flags).unwrap();
        let mut refused = None;
        loop {
            match self.event() {
                Event::Error(xid, error) if xid == commit => {
                    assert!(refused.is_some(), "{error:?}");
                    return refused;
                }
                Event::Error(xid, error) => {
                    let at = xids.iter().position(|one| *one == xid).unwrap();
                    refused = Some((at, error));
                }
                Event::Message(xid, _) if xid == commit => return refused,
                other => panic!("{other:?}"),
            }
        }
    }

    fn dump(&mut self) -> Vec<FlowStats> {
        let request = MultipartRequest::Flow(FlowStatsRequest::by_cookie(0, 0));
        let xid = self.session.send(&Msg::MultipartRequest(request)).unwrap();
        match self.answer(xid) {
            Msg::MultipartReply(MultipartReply { body: MultipartBody::Flow(flows), .. }) => flows,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn flows_are_applied_together_and_read_back() {
    if let Some(why) = bulkhead_lab::missing() {
        eprintln!("NOT TESTED: a session with a real switch: {why}");
        return;
    }
    let mut lab = Lab::new("live").unwrap();
    let hypervisor = lab.hypervisor("hv1", 0xb1).unwrap();
    let stream = UnixStream::connect(hypervisor.dir().join(format!("{BRIDGE}.mgmt"))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut live = Live { stream, session: Session::new(Config::default()), began: Instant::now() };
    assert!(matches!(live.event(), Event::Connected { .. }));

    let mut delete = FlowMod::new(FlowCommand::Delete);
    delete.table = wire::flow::ALL_TABLES;
    assert_eq!(live.apply(&[delete]), None);
    // Refused if an earlier run has left it there.
    let maps = vec![tlv::TlvMap { class: 0xffb0, kind: 1, length: 4, index: 0 }];
    live.session.send(&Msg::TlvTableMod(tlv::TlvTableMod { command: tlv::TlvCommand::Add, maps })).unwrap();
    let barrier = live.session.send(&Msg::BarrierRequest).unwrap();
    while live.event() != Event::Message(barrier, Msg::BarrierReply) {}

    // Without meters and groups; and vlan_tci is not OpenFlow 1.3's.
    let flows: Vec<FlowMod> = include_str!("vectors/flows.txt")
        .lines()
        .filter(|line| !["vlan_tci", "meter:", "group:"].iter().any(|odd| line.contains(odd)))
        .map(|line| {
            let mut flow = parse_flow(line).unwrap();
            flow.matching.sort();
            flow
        })
        .collect();
    assert_eq!(live.apply(&flows), None);
    let actual = live.dump();
    assert_eq!(actual.len(), flows.len());
    for flow in &flows {
        // What the switch writes in another form than we do: see tests/vectors.rs.
        if text::flow(flow).contains("tun_metadata0") || text::flow(flow).contains("xxreg1") {
            continue;
        }
        let same = actual.iter().any(|stats| {
            let mut theirs = stats.matching.clone();
            theirs.sort();
            theirs == flow.matching
                && (stats.table, stats.priority, stats.cookie) == (flow.table, flow.priority, flow.cookie)
                && (stats.instructions == flow.instructions || text::flow(flow).contains("/0x3->reg0"))
        });
        assert!(same, "{} is not among the switch's", text::flow(flow));
    }

    // One bad flow spoils the bundle, and is named.
    let bad = [parse_flow("table=1 actions=drop").unwrap(), parse_flow("table=1,ip actions=group:99").unwrap()];
    let (at, error) = live.apply(&bad).unwrap();
    assert_eq!((at, error.describe()), (1, "unknown group in an action (type 2 code 9)".into()));
    assert_eq!(live.dump().len(), flows.len(), "nothing of it was applied");
}
