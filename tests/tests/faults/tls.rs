//! Switches that connect by TLS, and others who would.

#[path = "../../../tls/tests/pki/mod.rs"]
mod pki;

use crate::rig::{PATIENCE, name};
use bulkhead_daemon::Daemon;
use bulkhead_dataplane::{Command, Report};
use bulkhead_pipeline::Delta;
use bulkhead_tests::fake::Switch;
use bulkhead_tls::{Files, HANDSHAKE_LIMIT, Tls};
use bulkhead_topology::Name;
use bulkhead_types::TlsStatus;
use pki::{Pki, Time};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Connections of unknown peers that the driver keeps.
const PLACES: usize = 256;

/// A driver that wants TLS, and the authority that it believes.
struct Rig {
    driver: crate::rig::Rig,
    pki: Pki,
}

/// Speaks as a switch over a connection, until it ends; whether it was told to do anything.
async fn speak(datapath: u64, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
    let mut switch = Switch::new(datapath, &["p0".to_owned()]);
    switch.connect();
    let mut buffer = [0; 4096];
    loop {
        let output = switch.take_output();
        if stream.write_all(&output).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => switch.received(&buffer[..length]).unwrap(),
            _ => break,
        }
    }
    switch.counts.changes + switch.counts.reads > 0
}

impl Rig {
    /// With these many switches attached, numbered from 1.
    async fn start(switches: u64) -> Self {
        let pki = Pki::new();
        Self { driver: crate::rig::Rig::start(switches, Some(pki.tls("controller"))).await, pki }
    }

    /// Somebody with this certificate who says to be this datapath.
    fn switch(&self, tls: Tls, datapath: u64) -> JoinHandle<bool> {
        let address = self.driver.address;
        tokio::spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            match tls.connect(stream).await {
                Ok((stream, _)) => speak(datapath, stream).await,
                Err(_) => false,
            }
        })
    }

    /// Waits until a switch is connected; whose certificate it has shown.
    async fn connected(&mut self, number: u64) -> String {
        self.driver.connected(number).await;
        let Report::Peer(peer) = self.driver.told().await.report else { panic!("no peer") };
        peer.certificate.unwrap()
    }

    /// Who was refused as which switch, and why.
    async fn impostor(&mut self) -> (Name, String) {
        let from = self.driver.report().await;
        let Report::Impostor { why, .. } = from.report else { panic!("{:?}", from.report) };
        (from.switch, why)
    }

    /// A step at a switch, which takes it.
    async fn apply(&mut self, number: u64, step: u64) {
        self.driver.apply(number, step).await;
        let from = self.driver.report().await;
        assert!(matches!(from.report, Report::Applied { step: done } if done == step), "{:?}", from.report);
    }
}

async fn ended(task: JoinHandle<bool>) -> bool {
    timeout(PATIENCE, task).await.expect("it is let stay").unwrap()
}

#[tokio::test]
async fn a10_a_certificate_speaks_for_its_own_switch_alone() {
    let mut rig = Rig::start(2).await;
    let (s1, s2) = (rig.pki.tls("s1"), rig.pki.tls("s2"));
    let by_id = rig.pki.tls("dpid-0000000000000002");
    // Swapped, while the right ones are not there: neither gets in.
    for (tls, datapath, whose) in [(&s2, 1, "s2"), (&s1, 2, "s1"), (&by_id, 1, "dpid-0000000000000002")] {
        let told = rig.switch(tls.clone(), datapath);
        let (switch, why) = rig.impostor().await;
        assert!(switch == name(datapath) && why.contains(whose) && why.contains(switch.as_str()), "{switch}: {why}");
        assert!(!ended(told).await, "it was told something");
    }
    let first = rig.switch(s1, 1);
    assert_eq!(rig.connected(1).await, "s1");
    // While the right one is: it is not even asked whether it is there.
    for step in 1..=5 {
        let told = rig.switch(s2.clone(), 1);
        let (switch, _) = rig.impostor().await;
        assert_eq!(switch, name(1));
        assert!(!ended(told).await, "it was told something");
        rig.apply(1, step).await;
    }
    assert!(!first.is_finished());
    let _second = rig.switch(by_id, 2);
    assert_eq!(rig.connected(2).await, "dpid-0000000000000002");
}

#[tokio::test]
async fn a10_who_waits_for_a_switch_to_be_declared_needs_its_certificate_too() {
    let mut rig = Rig::start(0).await;
    let impostor = rig.switch(rig.pki.tls("s2"), 1);
    // It has been heard when it is told of as one that waits.
    let told = rig.driver.report().await.report;
    assert!(matches!(told, Report::Waits(_)), "{told:?}");
    rig.driver.attach(1).await;
    assert_eq!(rig.impostor().await.0, name(1));
    assert!(!ended(impostor).await);
    let _own = rig.switch(rig.pki.tls("s1"), 1);
    assert_eq!(rig.connected(1).await, "s1");
}

#[tokio::test]
async fn a10_whoever_cannot_prove_who_he_is_is_told_nothing() {
    let mut rig = Rig::start(1).await;
    let _own = rig.switch(rig.pki.tls("s1"), 1);
    rig.connected(1).await;
    let strange = Pki::new();
    let mut stranger = strange.files("s1");
    stranger.ca = rig.pki.path("ca.pem");
    let told = rig.switch(Tls::load(stranger).unwrap(), 1);
    assert!(!ended(told).await);
    // OpenFlow without TLS, and what is neither.
    let hello = [4, 0, 0, 8, 0, 0, 0, 1];
    for bytes in [&hello[..], &[0x16, 3, 1, 0, 5, 9, 9, 9, 9, 9], &[0xff; 512]] {
        let mut stream = TcpStream::connect(rig.driver.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Ended, whichever way.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is let stay");
        // An alert at most (RFC 8446 §6).
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    // The one that is there never noticed.
    rig.apply(1, 1).await;
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_refused_and_a_new_one_taken() {
    let mut rig = Rig::start(1).await;
    assert!(Tls::load(rig.pki.files_of("s1", Time::Past)).is_err());
    let _own = rig.switch(rig.pki.tls("s1"), 1);
    assert_eq!(rig.connected(1).await, "s1");
}

#[tokio::test]
async fn r25_handshakes_that_do_not_end_are_bounded_in_number_and_time() {
    let mut rig = Rig::start(1).await;
    let _own = rig.switch(rig.pki.tls("s1"), 1);
    rig.connected(1).await;
    let began = Instant::now();
    let mut slow = Vec::new();
    for number in 0..PLACES + 44 {
        let mut stream = TcpStream::connect(rig.driver.address).await.unwrap();
        if number % 2 == 0 {
            // A record that does not come to its end.
            let _ = stream.write_all(&[0x16, 3, 1, 1, 0]).await;
        }
        slow.push(stream);
    }
    // Who is there goes on, and who has waited too long makes room.
    for step in 1..=20 {
        rig.apply(1, step).await;
    }
    for stream in &mut slow {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is let stay");
    }
    assert!(began.elapsed() < 3 * HANDSHAKE_LIMIT, "{:?}", began.elapsed());
    rig.driver.attach(2).await;
    let _second = rig.switch(rig.pki.tls("s2"), 2);
    rig.connected(2).await;
}

#[tokio::test]
async fn a_large_program_goes_over_tls_as_a_whole() {
    let mut rig = Rig::start(1).await;
    let _own = rig.switch(rig.pki.tls("s1"), 1);
    rig.connected(1).await;
    let add: Vec<_> = (0..20_000).map(|number| crate::rule(number, 1)).collect();
    let delta = Delta { remove: Vec::new(), add: add.clone() };
    let command = Command::Apply { step: 1, delta, ahead: Arc::default() };
    rig.driver.command(1, command).await;
    assert!(matches!(rig.driver.report().await.report, Report::Applied { step: 1 }));
    rig.driver.command(1, Command::Read).await;
    let Report::Actual { program, alien: 0 } = rig.driver.report().await.report else { panic!("not read") };
    assert_eq!(program.len(), add.len());
}

/// A daemon that wants TLS, on simulated switches of none.
async fn daemon(files: Files, dir: &Path) -> Daemon {
    let config =
        bulkhead_daemon::Config { southbound_tls: Some(files), ..bulkhead_daemon::Config::inside(dir.join("data")) };
    bulkhead_daemon::start(&config, bulkhead_driver_sim::Fabric::default()).await.unwrap()
}

#[test]
fn certificates_that_end_are_told_of_and_new_ones_are_taken_over() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ends = now() + 10 * 24 * 3_600 + 60;
    let files = pki.files_of("controller", Time::Until(ends));
    let tasks = tokio::runtime::Runtime::new().unwrap();
    let daemon = tasks.block_on(daemon(files.clone(), dir.path()));
    let client = bulkhead_client::Client::new(&format!("http://{}", daemon.listen)).unwrap();
    let until = |what: &str, wanted: &dyn Fn(&TlsStatus) -> bool| {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let tls = client.status().unwrap().southbound_tls.unwrap();
            if wanted(&tls) {
                return tls;
            }
            assert!(std::time::Instant::now() < deadline, "{what}: {tls:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let told = until("at once", &|_| true);
    let [authority, own] = told.certificates.as_slice() else { panic!("{told:?}") };
    assert_eq!((authority.role.as_str(), authority.owner.as_str()), ("authority", "the authority"));
    assert!(authority.warning.is_empty() && !authority.expired && told.trouble.is_empty(), "{told:?}");
    assert_eq!((own.role.as_str(), own.expires, own.expired), ("certificate", ends, false));
    assert!(own.warning.contains("controller-cert.pem of controller expires in 10 days"), "{own:?}");
    let metrics = || {
        let url = format!("http://{}/metrics", daemon.listen);
        ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()
    };
    const METRIC: &str = "bulkhead_southbound_certificate_expiry_timestamp_seconds";
    assert!(metrics().contains(&format!("{METRIC}{{role=\"certificate\"}} {ends}\n")), "{}", metrics());

    // Signed anew: taken over, and nothing more is said.
    pki.files("controller");
    until("a new one", &|tls| tls.certificates[1].warning.is_empty());
    assert!(metrics().contains(&format!("{METRIC}{{role=\"certificate\"}} 4733510400\n")), "{}", metrics());
    // One that does not live long.
    pki.files_of("controller", Time::Until(now() + 8));
    let told = until("its end", &|tls| tls.certificates[1].expired);
    assert!(told.certificates[1].warning.contains("seconds ago: switches refuse this controller"), "{told:?}");
    pki.files("controller");
    until("another new one", &|tls| tls.certificates[1].warning.is_empty());
    // What cannot be used is not, and is told of until it is mended.
    std::fs::write(&files.key, "nonsense").unwrap();
    let told = until("a broken one", &|tls| !tls.trouble.is_empty());
    assert!(told.trouble.contains("controller-key.pem"), "{told:?}");
    pki.files("controller");
    until("mended", &|tls| tls.trouble.is_empty());
    tasks.block_on(daemon.stop()).unwrap();
}

#[test]
fn status_says_whose_certificate_a_session_showed_and_who_was_refused() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let tasks = tokio::runtime::Runtime::new().unwrap();
    let daemon = tasks.block_on(daemon(pki.files("controller"), dir.path()));
    let client = bulkhead_client::Client::new(&format!("http://{}", daemon.listen)).unwrap();
    let switch = serde_json::json!(
        {"kind": "Switch", "metadata": {"name": "s1"}, "spec": {"driver": "openflow", "datapathId": "0x1"}}
    );
    client.apply(&[switch], false).unwrap();
    let session = |tls: Tls| {
        let address = daemon.openflow;
        tasks.spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            speak(1, tls.connect(stream).await.unwrap().0).await
        })
    };
    // The switch, once it is as wanted.
    let until = |wanted: &dyn Fn(&bulkhead_types::SwitchStatus) -> bool| {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let switch = client.status().unwrap().switches.remove(0);
            if wanted(&switch) {
                return switch;
            }
            assert!(std::time::Instant::now() < deadline, "{switch:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let refused = session(pki.tls("s2"));
    let seen = until(&|switch| !switch.impostor.is_empty());
    assert!(!seen.connected && seen.session.is_none(), "{seen:?}");
    assert!(seen.impostor.contains("s2") && seen.impostor.contains("s1"), "{seen:?}");
    assert!(!tasks.block_on(refused).unwrap());
    let own = session(pki.tls("s1"));
    let seen = until(&|switch| switch.session.is_some());
    assert_eq!(seen.session.unwrap().certificate.as_deref(), Some("s1"));
    assert!(seen.impostor.is_empty(), "{}", seen.impostor);
    // One who comes while it is there is told of and changes nothing.
    let refused = session(pki.tls("s2"));
    let seen = until(&|switch| !switch.impostor.is_empty());
    assert!(seen.connected && seen.session.is_some(), "{seen:?}");
    assert!(!tasks.block_on(refused).unwrap() && !own.is_finished());
    own.abort();
    until(&|switch| !switch.connected && switch.session.is_none());
    tasks.block_on(daemon.stop()).unwrap();
}
