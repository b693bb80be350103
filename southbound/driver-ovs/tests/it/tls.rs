//! A real Open vSwitch that connects by TLS, with certificates as ovs-pki(8) makes them.

use crate::rig;
use bulkhead_dataplane::{Peer, Report};
use bulkhead_tls::{Files, Tls};
use rig::{Rig, pki::Time};
use std::{path::Path, process::Command};

/// What the driver says of who connected.
async fn peer(rig: &mut Rig) -> Peer {
    loop {
        match rig.any_report().await {
            Report::Peer(peer) => return peer,
            Report::Connected { .. } | Report::Impostor { .. } | Report::Disconnected(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn refused(rig: &mut Rig) -> String {
    loop {
        if let Report::Impostor { why, .. } = rig.any_report().await {
            return why;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_a_real_switch_with_anothers_certificate_is_refused_until_it_has_its_own() {
    let Some(mut rig) = Rig::secured().await else { return };
    let (other, stale) = {
        let pki = rig.pki.as_ref().unwrap();
        (pki.files("hv2"), pki.files_of("hv1-old", Time::Past))
    };
    rig.attach(1).await;
    rig.connect();
    assert_eq!(peer(&mut rig).await.certificate.as_deref(), Some("hv1"));
    // Nothing is downgraded: the same listener takes nothing unprotected.
    rig.hypervisor.set_controller(rig.address).unwrap();
    assert!(matches!(rig.report().await, Report::Disconnected(_)));
    rig.show(other);
    let target = format!("ssl:{}", rig.address);
    rig.hypervisor.set_controller_target(&target).unwrap();
    // Between the two, nobody was let in.
    let why = refused(&mut rig).await;
    assert!(why.contains("hv2") && why.contains("hv1"), "{why}");
    rig.show(stale);
    let own = rig.pki.as_ref().unwrap().files("hv1");
    rig.show(own);
    assert_eq!(peer(&mut rig).await.certificate.as_deref(), Some("hv1"));
}

/// Runs ovs-pki; `None` where it is not to be had.
fn ovs_pki(dir: &Path, arguments: &[&str]) -> Option<()> {
    let mut command = Command::new("ovs-pki");
    let pki = dir.join("pki");
    command.arg(format!("--dir={}", pki.display())).arg(format!("--log={}", dir.join("log").display()));
    let output = command.args(arguments).current_dir(dir).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ovs_pki_makes_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let made = ovs_pki(dir.path(), &["init"])
        .and_then(|()| ovs_pki(dir.path(), &["req+sign", "ctl", "controller"]))
        .and_then(|()| ovs_pki(dir.path(), &["req+sign", "dpid-00000000000000b1", "switch"]));
    if made.is_none() {
        eprintln!("NOT TESTED: certificates of ovs-pki (package openvswitch-common)");
        return;
    }
    let file = |name: &str| dir.path().join(name);
    let ours =
        Files { ca: file("pki/switchca/cacert.pem"), certificate: file("ctl-cert.pem"), key: file("ctl-privkey.pem") };
    let theirs = Files {
        ca: file("pki/controllerca/cacert.pem"),
        certificate: file("dpid-00000000000000b1-cert.pem"),
        key: file("dpid-00000000000000b1-privkey.pem"),
    };
    let Some(mut rig) = Rig::of(Tls::load(ours).unwrap()).await else { return };
    rig.attach(1).await;
    rig.show(theirs);
    rig.hypervisor.set_controller_target(&format!("ssl:{}", rig.address)).unwrap();
    assert_eq!(peer(&mut rig).await.certificate.as_deref(), Some("dpid-00000000000000b1"));
    rig.apply(vec![], vec![]).await.unwrap();
}
