//! Connections of the driver's own task, on real TCP: half-dead ones, impostors, slow peers and silent ones.

use crate::rig::{PATIENCE, Rig, name};
use bulkhead_dataplane::Report;
use bulkhead_tests::fake::{
    Manners, Switch,
    run::{Echoes, Habits, Shared, look, run},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// A switch of this number, behaved like this.
fn switch(rig: &Rig, number: u64, manners: Manners) -> JoinHandle<()> {
    let mut switch = Switch::new(number, &["p0".to_owned()]);
    switch.manners = manners;
    let switch: Shared = Arc::new(Mutex::new(switch));
    tokio::spawn(run(switch, rig.address, Habits::default(), Arc::new(Echoes::default())))
}

/// Shakes hands as a switch, and then says nothing ever again.
async fn greet(address: SocketAddr, datapath: u64) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut switch = Switch::new(datapath, &["p0".to_owned()]);
    switch.connect();
    let mut buffer = [0; 4096];
    // Hello and features may be asked for together; ports always come last, in an answer of type 19.
    loop {
        let output = switch.take_output();
        stream.write_all(&output).await.unwrap();
        if output.get(1) == Some(&19) {
            break;
        }
        let length = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(length, 0, "closed in the handshake");
        switch.received(&buffer[..length]).unwrap();
    }
    stream
}

/// Waits until the other side closes.
async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let end = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    timeout(PATIENCE, end).await.expect("the connection stays open");
}

#[tokio::test]
async fn a10_a_switch_that_is_there_stays_and_an_impostor_is_refused() {
    let mut rig = Rig::start(1, None).await;
    let _first = switch(&rig, 1, Manners::default());
    rig.connected(1).await;
    for _ in 0..3 {
        let mut impostor = greet(rig.address, 1).await;
        closed(&mut impostor).await;
        let from = rig.report().await;
        let Report::Impostor { address, .. } = from.report else { panic!("{:?}", from.report) };
        assert_eq!((from.switch, address), (name(1), impostor.local_addr().unwrap()));
    }
    // The first one never noticed.
    rig.apply(1, 1).await;
    let from = rig.report().await;
    assert!(matches!(from.report, Report::Applied { step: 1 }), "{:?}", from.report);
}

#[tokio::test]
async fn r25_a_switch_that_comes_back_replaces_its_half_dead_session_within_seconds() {
    let mut rig = Rig::start(1, None).await;
    // It holds the connection and says nothing: its network failed, and nobody told us.
    let half_dead = greet(rig.address, 1).await;
    rig.connected(1).await;
    let began = Instant::now();
    let _again = switch(&rig, 1, Manners::default());
    let from = rig.report().await;
    assert!(matches!(from.report, Report::Disconnected(_)), "{:?}", from.report);
    rig.connected(1).await;
    // Silence alone is missed after ten seconds.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(half_dead);
}

#[tokio::test]
async fn r25_slow_silent_and_half_open_peers_make_no_other_switch_wait() {
    let mut rig = Rig::start(2, None).await;
    let _slow = switch(&rig, 1, Manners { delay: Duration::from_secs(1), ..Manners::default() });
    rig.connected(1).await;
    let _quick = switch(&rig, 2, Manners::default());
    rig.connected(2).await;
    // Peers that only hold the socket, or stop in the middle of a message.
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(&[4, 0, 0, 16, 0]).await.unwrap();
        }
        idle.push(stream);
    }
    // The slow one has a step to do, of which each answer takes it a second.
    rig.apply(1, 1).await;
    for step in 1..=50 {
        rig.apply(2, step).await;
        let from = rig.report().await;
        assert_eq!(from.switch, name(2), "the slow switch was quicker: {:?}", from.report);
        assert!(matches!(from.report, Report::Applied { step: done } if done == step), "{:?}", from.report);
    }
    let from = rig.report().await;
    assert!(from.switch == name(1) && matches!(from.report, Report::Applied { step: 1 }), "{:?}", from.report);
}

#[tokio::test]
async fn r22_a_switch_that_takes_no_commands_is_let_go_and_others_go_on() {
    let mut rig = Rig::start(2, None).await;
    let mute = greet(rig.address, 1).await;
    rig.connected(1).await;
    let _quick = switch(&rig, 2, Manners::default());
    rig.connected(2).await;
    // More than may wait for a connection.
    for step in 1..=100 {
        rig.apply(1, step).await;
    }
    let from = rig.report().await;
    assert!(from.switch == name(1) && matches!(from.report, Report::Disconnected(_)), "{:?}", from.report);
    rig.apply(2, 1).await;
    let from = rig.report().await;
    assert!(from.switch == name(2) && matches!(from.report, Report::Applied { step: 1 }), "{:?}", from.report);
    drop(mute);
}

#[tokio::test]
async fn commands_of_an_older_session_do_not_reach_a_newer_one() {
    let mut rig = Rig::start(1, None).await;
    let first = switch(&rig, 1, Manners::default());
    let older = rig.connected(1).await;
    rig.apply(1, 1).await;
    assert!(matches!(rig.report().await.report, Report::Applied { step: 1 }));
    // It restarts; what was thought of for the switch as it was must not be done to the switch as it is.
    first.abort();
    assert!(matches!(rig.report().await.report, Report::Disconnected(_)));
    let _again = switch(&rig, 1, Manners::default());
    let newer = rig.connected(1).await;
    assert_ne!(older, newer);
    rig.apply_in(older, 1, 2).await;
    rig.apply_in(newer, 1, 3).await;
    let from = rig.report().await;
    assert!(matches!(from.report, Report::Applied { step: 3 }), "{:?}", from.report);
}

#[tokio::test]
async fn a10_a_switch_that_is_busy_with_a_bundle_is_not_taken_for_dead() {
    let mut rig = Rig::start(1, None).await;
    let switch: Shared = Arc::new(Mutex::new(Switch::new(1, &["p0".to_owned()])));
    let _first = tokio::spawn(run(switch.clone(), rig.address, Habits::default(), Arc::default()));
    rig.connected(1).await;
    // Longer than an idle one may be silent for.
    look(&switch).manners.delay = Duration::from_secs(4);
    rig.apply(1, 1).await;
    // The bundle is on its way when somebody else comes.
    sleep(Duration::from_millis(200)).await;
    let mut impostor = greet(rig.address, 1).await;
    // What the busy one says last ends the doubt.
    for _ in 0..2 {
        let from = rig.report().await;
        assert!(matches!(from.report, Report::Applied { step: 1 } | Report::Impostor { .. }), "{:?}", from.report);
    }
    closed(&mut impostor).await;
}
