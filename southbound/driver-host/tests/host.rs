//! Hosts with a real ovsdb-server and ovs-vswitchd, in namespaces of their own: brought into shape, spoilt by hand,
//! mended; and what is plugged in and out.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../../../tls/tests/pki/mod.rs"]
mod pki;

use bulkhead_dataplane::host::{FromHost, HostConfig, HostReport, Plugged, ToHosts, TunnelKind};
use bulkhead_driver_host::run;
use bulkhead_lab::{Hypervisor, Lab};
use bulkhead_topology::{DatapathId, Name};
use pki::Pki;
use std::{process::Command, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// Longer than Open vSwitch's longest pause between attempts to reach its database (8 s), on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

struct Rig {
    hypervisor: Hypervisor,
    commands: mpsc::Sender<ToHosts>,
    reports: mpsc::Receiver<FromHost>,
    attachment: u64,
    pki: Pki,
    /// Removed last.
    lab: Lab,
}

fn hv1() -> Name {
    "hv1".parse().unwrap()
}

impl Rig {
    /// A host whose switch has no bridge; `None` where there can be no lab.
    fn start(lab: &str) -> Option<Self> {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: a host with a real switch: {why}");
            return None;
        }
        let mut lab = Lab::new(lab).unwrap();
        let hypervisor = lab.hypervisor("hv1", 0xb1).unwrap();
        hypervisor.vsctl(&["del-br", "br-int"]).unwrap();
        let (commands, to_hosts) = mpsc::channel(16);
        let (from_hosts, reports) = mpsc::channel(64);
        let pki = Pki::new();
        tokio::spawn(run(Some(pki.tls("controller")), to_hosts, from_hosts));
        Some(Self { hypervisor, commands, reports, attachment: 0, pki, lab })
    }

    fn config(&self) -> HostConfig {
        HostConfig {
            datapath: DatapathId(0xb1),
            controller: format!("tcp:{}:6653", self.hypervisor.controller_address()),
            datapath_type: Some("netdev".into()),
            local_ip: Some("192.0.2.1".parse().unwrap()),
            tunnels: TunnelKind::ALL.into(),
        }
    }

    async fn keep(&mut self, endpoint: String, config: HostConfig) {
        self.attachment += 1;
        let attachment = self.attachment;
        self.commands.send(ToHosts::Keep { switch: hv1(), endpoint, config, attachment }).await.unwrap();
    }

    /// A host that was brought into shape.
    async fn shaped(lab: &str) -> Option<Self> {
        let mut rig = Self::start(lab)?;
        rig.keep(rig.hypervisor.ovsdb(), rig.config()).await;
        assert_eq!(rig.report().await, HostReport::Connected);
        assert_eq!(rig.mended().await, ["bridge br-int was missing"]);
        Some(rig)
    }

    async fn report(&mut self) -> HostReport {
        loop {
            let from = timeout(PATIENCE, self.reports.recv()).await.expect("no report in time").unwrap();
            assert_eq!(from.switch, hv1());
            // What an older attachment said at its end.
            if from.attachment == self.attachment {
                return from.report;
            }
        }
    }

    /// The first report that is wanted; the others are passed over.
    async fn until<T>(&mut self, wanted: impl Fn(&HostReport) -> Option<T>) -> T {
        loop {
            let report = self.report().await;
            if let Some(found) = wanted(&report) {
                return found;
            }
            assert!(!matches!(report, HostReport::Unable(_)), "{report:?}");
        }
    }

    /// What was mended, the next time that the host is in shape.
    async fn mended(&mut self) -> Vec<String> {
        self.until(|report| match report {
            HostReport::Shaped { repaired } => Some(repaired.clone()),
            _ => None,
        })
        .await
    }

    /// The interfaces, once they are as wanted.
    async fn interfaces(&mut self, wanted: impl Fn(&[Plugged]) -> bool) -> Vec<Plugged> {
        self.until(|report| match report {
            HostReport::Interfaces(found) if wanted(found) => Some(found.clone()),
            _ => None,
        })
        .await
    }

    fn vsctl(&self, arguments: &[&str]) -> String {
        self.hypervisor.vsctl(arguments).unwrap().trim().to_owned()
    }
}

#[tokio::test]
async fn a_host_is_brought_into_shape_and_kept_so() {
    let Some(mut rig) = Rig::shaped("host-shape").await else { return };
    for tunnel in TunnelKind::ALL {
        assert!(rig.vsctl(&["get", "interface", tunnel.port_name(), "ofport"]).parse::<u32>().is_ok(), "{tunnel:?}");
    }
    assert_eq!(rig.vsctl(&["get", "bridge", "br-int", "datapath_id"]), "\"00000000000000b1\"");
    // In-band control would show as hidden entries.
    let hidden = rig.hypervisor.appctl(&["bridge/dump-flows", "br-int"]).unwrap();
    assert!(!hidden.contains("priority=18000"), "{hidden}");

    // What others have there.
    rig.vsctl(&["add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev", "fail_mode=standalone"]);
    rig.vsctl(&["set-controller", "br-phy", "tcp:192.0.2.99:6653"]);
    rig.vsctl(&["add-port", "br-int", "web-1", "--", "set", "interface", "web-1", "type=internal"]);
    rig.vsctl(&["set", "bridge", "br-int", "external_ids:rack=7", "other_config:hwaddr=02:00:00:00:00:99"]);

    let spoils: [(&[&str], &str); 6] = [
        (&["del-port", "br-int", "bh-geneve"], "tunnel port bh-geneve was missing"),
        (&["set-fail-mode", "br-int", "standalone"], "fail_mode of br-int was standalone"),
        (
            &["set", "bridge", "br-int", "other_config:disable-in-band=false"],
            "other_config:disable-in-band of br-int was false",
        ),
        (
            &["set", "interface", "bh-vxlan", "options:remote_ip=192.0.2.9"],
            "options:remote_ip of bh-vxlan was 192.0.2.9",
        ),
        (
            &[
                "--",
                "--id=@c",
                "create",
                "controller",
                "target=\"ptcp:6654\"",
                "--",
                "add",
                "bridge",
                "br-int",
                "controller",
                "@c",
            ],
            "br-int had another controller, ptcp:6654",
        ),
        (&["set", "bridge", "br-int", "protocols=OpenFlow14"], "protocols of br-int did not name OpenFlow13"),
    ];
    for (spoil, told) in spoils {
        // Its own waiting for the switch ends with the repair.
        rig.vsctl(spoil);
        let repaired = rig.until(|report| match report {
            HostReport::Shaped { repaired } => Some(repaired.clone()),
            // The fifth repair in a row is put off.
            HostReport::Unable(why) if why.starts_with("somebody keeps changing") => Some(vec![]),
            _ => None,
        });
        let mut repaired = repaired.await;
        if repaired.is_empty() {
            repaired = rig.mended().await;
        }
        assert_eq!(repaired, [told]);
    }
    assert_eq!(rig.vsctl(&["get-fail-mode", "br-phy"]), "standalone");
    assert_eq!(rig.vsctl(&["get-controller", "br-phy"]), "tcp:192.0.2.99:6653");
    assert_eq!(rig.vsctl(&["list-ports", "br-int"]), "bh-geneve\nbh-vxlan\nweb-1");
    let get = |column| rig.vsctl(&["get", "bridge", "br-int", column]);
    assert_eq!(
        (get("external_ids:rack"), get("other_config:hwaddr")),
        ("\"7\"".into(), "\"02:00:00:00:00:99\"".into())
    );
    assert_eq!(rig.vsctl(&["get-controller", "br-int"]), rig.config().controller);
}

#[tokio::test]
async fn a_bridge_that_is_deleted_comes_back_and_released_it_stays() {
    let Some(mut rig) = Rig::shaped("host-gone").await else { return };
    rig.vsctl(&["del-br", "br-int"]);
    assert_eq!(rig.mended().await, ["bridge br-int was missing"]);
    let owner = ["--if-exists", "get", "bridge", "br-int", "external_ids:bulkhead-owner"];
    assert_eq!(rig.vsctl(&owner), "hv1");

    rig.commands.send(ToHosts::Release { switch: hv1() }).await.unwrap();
    // Somebody else takes it as soon as the mark is off.
    let hv2: Name = "hv2".parse().unwrap();
    let keep =
        ToHosts::Keep { switch: hv2.clone(), endpoint: rig.hypervisor.ovsdb(), config: rig.config(), attachment: 7 };
    rig.commands.send(keep).await.unwrap();
    loop {
        let from = timeout(PATIENCE, rig.reports.recv()).await.expect("no report in time").unwrap();
        if from.switch == hv2 && matches!(from.report, HostReport::Shaped { .. }) {
            break;
        }
    }
    assert_eq!(rig.vsctl(&owner), "hv2");
}

#[tokio::test]
async fn flows_outlive_everything_but_the_loss_of_the_bridge() {
    let Some(mut rig) = Rig::shaped("host-flows").await else { return };
    rig.hypervisor.ofctl("add-flow", &["cookie=0x77,priority=7,actions=drop"]).unwrap();
    let flows = rig.hypervisor.flows().unwrap();
    assert_eq!(flows.len(), 1);

    let moved = HostConfig { controller: "tcp:192.0.2.10:6653".into(), ..rig.config() };
    rig.keep(rig.hypervisor.ovsdb(), moved).await;
    assert_eq!(rig.mended().await, [format!("the controller of br-int was {}", rig.config().controller)]);
    assert_eq!(rig.hypervisor.flows().unwrap(), flows, "the controller moved");

    // Somebody's controller in the place of ours.
    rig.vsctl(&["set-controller", "br-int", "tcp:192.0.2.99:6653"]);
    let repaired = rig.mended().await;
    assert_eq!(repaired, ["br-int did not have its controller", "br-int had another controller, tcp:192.0.2.99:6653"]);
    assert_eq!(rig.hypervisor.flows().unwrap(), flows, "another controller came and went");

    rig.vsctl(&["del-port", "br-int", "bh-vxlan"]);
    assert_eq!(rig.mended().await, ["tunnel port bh-vxlan was missing"]);
    assert_eq!(rig.hypervisor.flows().unwrap(), flows, "a tunnel was mended");

    // Another underlay.
    let number = rig.vsctl(&["get", "interface", "bh-geneve", "ofport"]);
    let v6 = HostConfig { local_ip: Some("2001:db8::1".parse().unwrap()), ..rig.config() };
    rig.keep(rig.hypervisor.ovsdb(), v6).await;
    assert_eq!(rig.mended().await.len(), 5, "the controller, and local_ip and csum of two tunnels");
    for column in ["ofport", "error"] {
        let wanted = if column == "ofport" { number.as_str() } else { "[]" };
        assert_eq!(rig.vsctl(&["get", "interface", "bh-geneve", column]), wanted);
    }
    assert_eq!(rig.hypervisor.flows().unwrap(), flows, "tunnels moved to IPv6");

    // The whole keeper anew, under another name.
    rig.commands.send(ToHosts::Release { switch: hv1() }).await.unwrap();
    let unmarked = "--format=csv --data=bare --no-heading --columns=external_ids list bridge br-int";
    let unmarked: Vec<_> = unmarked.split(' ').collect();
    timeout(PATIENCE, async {
        while rig.vsctl(&unmarked).contains("bulkhead-owner") {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the mark stays");
    assert_eq!(rig.hypervisor.flows().unwrap(), flows, "released");
}

#[tokio::test]
async fn a_database_that_restarts_is_missed_and_found_again() {
    let Some(mut rig) = Rig::shaped("host-db").await else { return };
    let dir = rig.hypervisor.dir().to_owned();
    let path = |file: &str| dir.join(file).to_string_lossy().into_owned();
    let end = Command::new("ovs-appctl").args(["-t", &path("ovsdb-server.ctl"), "--timeout=10", "exit"]).status();
    assert!(end.unwrap().success());
    rig.until(|report| matches!(report, HostReport::Disconnected(_)).then_some(())).await;
    let mut server = Command::new("ovsdb-server");
    server.args([path("conf.db"), format!("--remote=punix:{}", path("db.sock"))]);
    server.args([format!("--unixctl={}", path("ovsdb-server.ctl")), "-vconsole:off".into()]);
    rig.lab.program("ovsdb-again", server).unwrap();
    rig.until(|report| (*report == HostReport::Connected).then_some(())).await;
    assert_eq!(rig.mended().await, Vec::<String>::new());
    rig.vsctl(&["del-port", "br-int", "bh-vxlan"]);
    assert_eq!(rig.mended().await, ["tunnel port bh-vxlan was missing"]);
}

#[tokio::test]
async fn what_is_plugged_in_and_out_is_told() {
    let Some(mut rig) = Rig::shaped("host-plug").await else { return };
    let plug = |port: &str, ids: &[&str]| {
        let add = ["add-port", "br-int", port, "--", "set", "interface", port, "type=internal"];
        rig.vsctl(&[&add[..], ids].concat());
    };
    plug("web-1", &["external_ids:iface-id=shop.web-1", "external_ids:attached-mac=\"02:00:00:00:00:01\""]);
    plug("stray", &[]);
    plug("odd", &["external_ids:iface-id=odd-1", "external_ids:attached-mac=nonsense"]);
    let open =
        |found: &[Plugged]| found.len() == 2 && found.iter().all(|one| one.ofport.is_some() && one.mtu.is_some());
    let found = rig.interfaces(open).await;
    let number = rig.vsctl(&["get", "interface", "web-1", "ofport"]).parse().unwrap();
    let web = Plugged {
        port: "web-1".into(),
        ofport: Some(number),
        owner: "shop.web-1".into(),
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        mtu: found[1].mtu,
        error: None,
    };
    assert_eq!(found[1], web);
    assert_eq!((found[0].port.as_str(), found[0].mac), ("odd", None));
    assert!(found[0].error.as_ref().is_some_and(|error| error.contains("`nonsense` is no MAC address")), "{found:?}");

    rig.vsctl(&["del-port", "br-int", "odd"]);
    assert_eq!(rig.interfaces(|found| found.len() == 1).await, [web]);
    rig.vsctl(&["remove", "interface", "web-1", "external_ids", "iface-id"]);
    rig.interfaces(<[Plugged]>::is_empty).await;
    // An interface that is not there.
    rig.vsctl(&["add-port", "br-int", "nowhere", "--", "set", "interface", "nowhere", "external_ids:iface-id=x"]);
    let found = rig.interfaces(|found| found.first().is_some_and(|one| one.error.is_some())).await;
    assert_eq!(found[0].ofport, None);
}

#[tokio::test]
async fn a_host_is_kept_by_tls_if_its_certificate_is_its_own() {
    let Some(mut rig) = Rig::start("htls") else { return };
    let show = |rig: &Rig, name: &str| {
        let files = rig.pki.files(name);
        let files = [files.key, files.certificate, files.ca].map(|file| file.to_str().unwrap().to_owned());
        rig.vsctl(&["set-ssl", &files[0], &files[1], &files[2]]);
    };
    show(&rig, "hv2");
    let address = rig.hypervisor.controller_address();
    rig.vsctl(&["set-manager", "pssl:6640"]);
    let there = rig.hypervisor.control_address();
    let mut config = rig.config();
    config.controller = format!("ssl:{address}:6653");
    rig.keep(format!("ssl:{there}:6640"), config).await;
    let HostReport::Disconnected(why) = rig.report().await else { panic!("another's certificate is taken") };
    assert!(why.contains("hv2") && why.contains("hv1"), "{why}");
    show(&rig, "hv1");
    let connected = |report: &HostReport| matches!(report, HostReport::Connected).then_some(());
    rig.until(connected).await;
    assert_eq!(rig.mended().await, ["bridge br-int was missing"]);
    assert_eq!(rig.vsctl(&["get-controller", "br-int"]), format!("ssl:{address}:6653"));
    rig.vsctl(&["set", "bridge", "br-int", "fail_mode=standalone"]);
    assert_eq!(rig.mended().await, ["fail_mode of br-int was standalone"]);
}

/// A keeper of hosts without any host.
fn bare() -> (mpsc::Sender<ToHosts>, mpsc::Receiver<FromHost>, HostConfig) {
    let (commands, to_hosts) = mpsc::channel(16);
    let (from_hosts, reports) = mpsc::channel(64);
    tokio::spawn(run(None, to_hosts, from_hosts));
    let config = HostConfig {
        datapath: DatapathId(1),
        controller: "tcp:192.0.2.10:6653".into(),
        datapath_type: None,
        local_ip: None,
        tunnels: [].into(),
    };
    (commands, reports, config)
}

#[tokio::test]
async fn an_endpoint_that_is_none_and_one_where_nobody_is() {
    let (commands, mut reports, config) = bare();
    for (attachment, endpoint, why) in
        [(1, "ssl:192.0.2.1:6640", "--southbound-ca"), (2, "unix:/nonexistent/db.sock", "cannot connect to")]
    {
        let keep = ToHosts::Keep { switch: hv1(), endpoint: endpoint.into(), config: config.clone(), attachment };
        commands.send(keep).await.unwrap();
        let from = timeout(PATIENCE, reports.recv()).await.unwrap().unwrap();
        assert_eq!(from.attachment, attachment);
        let (HostReport::Unable(told) | HostReport::Disconnected(told)) = from.report else { panic!("{from:?}") };
        assert!(told.contains(why), "{told}");
    }
}

#[tokio::test]
async fn a_database_that_talks_nonsense_is_told_once_and_asked_ever_more_rarely() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp:{}", listener.local_addr().unwrap());
    let (commands, mut reports, config) = bare();
    commands.send(ToHosts::Keep { switch: hv1(), endpoint, config, attachment: 1 }).await.unwrap();
    let began = Instant::now();
    // Closed by the other end: a reset could overtake what was said.
    let mut streams = Vec::new();
    for _ in 0..5 {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("it does not come again").unwrap();
        stream.write_all(b"{\"id\":1,\"result\":[]}").await.unwrap();
        streams.push(stream);
    }
    // 0.1 s, 0.2 s, 0.4 s and 0.8 s between five attempts.
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
    let HostReport::Disconnected(why) = reports.recv().await.unwrap().report else { panic!("it is not told") };
    assert!(why.contains("a schema's tables expected"), "{why}");
    assert!(reports.try_recv().is_err(), "it is told again");
}
