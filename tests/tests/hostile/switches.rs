//! Hostile switches: each session ends by itself, and no other one notices.

use crate::{
    Fabric, PATIENCE,
    peer::{FEATURES_REPLY, HELLO, MULTIPART_REPLY, PORT_STATUS, Peer, encoded, features, hello, message, port},
};
use bulkhead_openflow::{
    Msg,
    wire::port::{PortReason, PortStatus},
};
use bulkhead_tests::fake::{
    Switch,
    run::{Echoes, Habits, look, session},
};
use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Datapath id of a switch that is declared and behaves badly.
const BAD: u64 = 0xbad;

/// A fabric in which [`BAD`] is a switch like others.
fn fabric() -> Fabric {
    let fabric = Fabric::new(1);
    let declared = "kind: Switch\nmetadata: {name: bad}\nspec: {driver: openflow, datapathId: \"0xbad\"}\n";
    fabric.apply(declared.as_bytes());
    fabric
}

/// Sends each of `attacks` from a peer in the state that `begin` brings it into; each ends its session.
fn ended(fabric: &Fabric, begin: impl Fn() -> Peer + Sync, attacks: &[(&str, Vec<u8>)]) {
    fabric.meanwhile(|| {
        for (what, bytes) in attacks {
            let mut peer = begin();
            peer.send(bytes);
            let began = Instant::now();
            assert!(peer.is_closed_within(PATIENCE), "{what}: still there");
            // At once, that is: not by the end of the time that a handshake may take.
            assert!(began.elapsed() < Duration::from_secs(4), "{what}: {:?}", began.elapsed());
        }
    });
}

/// A multipart reply's type, flags and padding, then the body.
fn multipart(kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    message(MULTIPART_REPLY, xid, &[&[0, kind, 0, 0, 0, 0, 0, 0], body].concat())
}

/// Bytes that are no messages, or none that a switch may send.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let declared = |length: u16| [&[4, HELLO][..], &length.to_be_bytes(), &[0, 0, 0, 1], &[0; 64]].concat();
    vec![
        ("zeros", vec![0; 4096]),
        ("all ones", vec![0xff; 4096]),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 600]].concat()),
        ("noise", (0..65_536_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("A1: a hello with an element of no length", message(HELLO, 1, &[0, 1, 0, 0, 0, 0, 0, 16])),
        ("A1: a hello with an element of length 3", message(HELLO, 1, &[0, 1, 0, 3, 0, 0, 0, 16])),
        ("A1: a hello with an element beyond its end", message(HELLO, 1, &[0, 1, 0, 64, 0, 0, 0, 16])),
        ("A4: a length of 0", declared(0)),
        ("A4: a length of 7", declared(7)),
        ("another version", [&[1, HELLO, 0, 8, 0, 0, 0, 1][..]].concat()),
        ("a message of controllers", message(14, 1, &[0; 48])),
        ("a question of controllers", message(18, 1, &[0, 1, 0, 0, 0, 0, 0, 0])),
    ]
}

#[test]
fn a1_a4_nonsense_before_the_handshake_ends_the_session() {
    let fabric = fabric();
    ended(&fabric, || Peer::new(&fabric), &nonsense());
}

#[test]
fn a1_a4_nonsense_in_the_handshake_ends_the_session() {
    let fabric = fabric();
    let mut attacks = nonsense();
    attacks.push(("a second hello", hello()));
    ended(&fabric, || Peer::greeted(&fabric).0, &attacks);
}

#[test]
fn a2_a3_elements_of_no_length_in_a_live_session_end_it() {
    let fabric = fabric();
    let mut attacks = nonsense();
    let mut flow = vec![0, 72];
    flow.extend([0; 46]);
    flow.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    let no_instruction = [&flow[..], &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let no_action = [&flow[..], &[0, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    attacks.extend([
        ("A2: an instruction of no length", multipart(1, 1, &no_instruction)),
        ("A2: an action of no length", multipart(1, 1, &no_action)),
        ("A3: a flow of no length", multipart(1, 1, &[0; 96])),
        ("A3: group descriptions of no length", multipart(7, 1, &[0; 96])),
        ("A3: meters of no length", multipart(10, 1, &[0; 96])),
        (
            "A3: a packet-in with a property of no length",
            message(4, 1, &[0, 0, 0x23, 0x20, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("A4: a port shorter than a port", multipart(13, 1, &[0; 63])),
        ("A5: a port status for no reason", message(PORT_STATUS, 0, &[[9].as_slice(), &[0; 71]].concat())),
        ("an answer to nothing", multipart(1, 0xdead_beef, &[])),
        ("a second hello", hello()),
    ]);
    ended(&fabric, || Peer::driven(&fabric, BAD).0, &attacks);
    // It was not the declaration that was at fault.
    drop(Peer::driven(&fabric, BAD));
}

#[test]
fn a9_a_features_reply_out_of_form_or_time_ends_the_session_and_leaves_nothing() {
    let fabric = fabric();
    let short = message(FEATURES_REPLY, 2, &[0; 8]);
    let long = message(FEATURES_REPLY, 2, &[0; 64]);
    ended(
        &fabric,
        || Peer::new(&fabric),
        &[("before hello", features(1, BAD)), ("a short one before hello", short.clone())],
    );
    let before =
        |xid| [("of another question", features(xid ^ 1, BAD)), ("short", short.clone()), ("long", long.clone())];
    fabric.meanwhile(|| {
        for at in 0..3 {
            let (mut peer, xid) = Peer::greeted(&fabric);
            let (what, bytes) = &before(xid)[at];
            peer.send(bytes);
            assert!(peer.is_closed_within(PATIENCE), "{what}");
            // Twice at once; the second says that it is another switch.
            let (mut peer, xid) = Peer::greeted(&fabric);
            peer.send(&[features(xid, BAD), features(xid, 1)].concat());
            assert!(peer.is_closed_within(PATIENCE), "twice");
        }
        // Later, in a session that is driven: who it is does not change.
        let (mut peer, _) = Peer::driven(&fabric, BAD);
        peer.send(&features(7, 1));
        assert!(peer.is_closed_within(PATIENCE), "later");
    });
    // More bad sessions than there are places for peers that are not known: none of them is kept.
    fabric.meanwhile(|| {
        for _ in 0..600 {
            let mut peer = Peer::new(&fabric);
            peer.send(&[hello(), short.clone()].concat());
            assert!(peer.is_closed_within(PATIENCE));
        }
    });
    drop(Peer::driven(&fabric, BAD));
}

#[test]
fn a10_a_second_switch_with_a_datapath_id_is_refused_and_the_first_stays() {
    let fabric = fabric();
    let tasks = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    fabric.meanwhile(|| {
        for _ in 0..20 {
            let impostor = Arc::new(Mutex::new(Switch::new(1, &["a".into(), "b".into()])));
            let habits = Habits::default();
            let echoes = Echoes::default();
            let over = session(&impostor, fabric.controller.openflow, &habits, &echoes);
            // Refused by an end, whatever kind of end.
            let _ = tasks.block_on(async { tokio::time::timeout(PATIENCE, over).await.expect("the impostor stays") });
            let counts = look(&impostor).counts;
            assert_eq!((counts.reads, counts.changes), (0, 0), "the impostor was told something");
        }
    });
}

#[test]
fn r25_peers_that_fall_silent_disturb_nobody_and_are_given_up() {
    let fabric = fabric();
    let longest = fabric.meanwhile(|| {
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(Peer::new(&fabric));
            let mut half = Peer::new(&fabric);
            half.send(&hello()[..4]);
            silent.push(half);
            silent.push(Peer::greeted(&fabric).0);
            let (mut half, xid) = Peer::greeted(&fabric);
            half.send(&features(xid, BAD)[..20]);
            silent.push(half);
        }
        // One of ours that answers nothing any more.
        silent.push(Peer::driven(&fabric, BAD).0);
        let began = Instant::now();
        for peer in &mut silent {
            assert!(peer.is_closed_within(PATIENCE), "a silent peer is still there");
        }
        began.elapsed()
    });
    println!("the last silent peer was given up after {longest:?}");
}

#[test]
fn r25_a_switch_that_asks_and_reads_no_answer_is_cut_off_before_it_costs_memory() {
    let fabric = fabric();
    let before = fabric.controller.peak().unwrap();
    fabric.meanwhile(|| {
        let (mut peer, _) = Peer::driven(&fabric, BAD);
        let echo = message(2, 9, &vec![0; 60_000]);
        let began = Instant::now();
        // Until the controller has had enough.
        while std::io::Write::write_all(&mut peer.stream, &echo).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(60), "it is still listened to");
        }
    });
    let grown = fabric.controller.peak().unwrap().saturating_sub(before);
    println!("{} MiB more", grown >> 20);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
}

#[test]
fn r25_a_switch_whose_ports_come_and_go_all_the_time_delays_nobody() {
    let fabric = fabric();
    // A workload there, so that its ports mean something.
    fabric.apply(b"kind: Workload\nmetadata: {name: c, labels: {app: c}}\nspec: {network: net, interfaces: [{mac: \"02:00:00:00:ba:d0\", ips: [10.0.9.9], attachment: {switch: bad, port: b}}]}\n");
    fabric.meanwhile(|| {
        let (mut peer, _) = Peer::driven(&fabric, BAD);
        // The answers are not wanted, but are read: it is no slow reader.
        let mut answers = peer.stream.try_clone().unwrap();
        let reader = thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
        let status = |reason| encoded(0, &Msg::PortStatus(PortStatus { reason, port: port(2, "b") }));
        let burst = [status(PortReason::Delete), status(PortReason::Add)].concat().repeat(500);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            peer.send(&burst);
        }
        let _ = peer.stream.shutdown(std::net::Shutdown::Both);
        let _ = reader.join();
    });
}
