//! Hosts that are kept: what is found on them becomes a resource, is stored, and decides where workloads are.

use crate::common;
use bulkhead_dataplane::host::{FromHost, HostReport, Plugged, ToHosts};
use bulkhead_policy::{
    Change, Resource,
    model::{Driver, Host, Role, Switch},
};
use bulkhead_runtime::{Drivers, Edit, Handle, Keeper, LoadError, Loop, Recorder, Request, Stored, run};
use bulkhead_store::{RedbStore, Store};
use bulkhead_topology::{DatapathId, Mac, Name};
use common::{name, set, unset};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// A controller, and the keeper of its hosts played by the test.
struct Keep {
    handle: Handle,
    told: mpsc::UnboundedReceiver<ToHosts>,
    tell: mpsc::Sender<FromHost>,
    task: tokio::task::JoinHandle<Result<(), LoadError>>,
}

fn encode(resource: &Resource) -> String {
    match resource {
        Resource::Host(host) => {
            let each = host.plugged.iter().map(|p| format!(" {},{},{}", p.port, p.workload, p.mac));
            format!("host {}{}", host.name, each.collect::<String>())
        }
        other => format!("{other:?}"),
    }
}

fn decode(text: &str) -> Result<Resource, String> {
    if let Some(("switch", rest)) = text.split_once(' ')
        && let Some((switch, number)) = rest.split_once(" of ")
    {
        return Ok(Resource::Switch(kept(switch, number.parse().unwrap())));
    }
    let Some(("host", rest)) = text.split_once(' ') else { return common::decode(text) };
    let mut words = rest.split(' ');
    let host = name(words.next().unwrap());
    let plugged = words.map(|word| {
        let Ok([port, workload, mac]) = <[&str; 3]>::try_from(word.split(',').collect::<Vec<_>>()) else {
            return Err(format!("`{word}` is no interface"));
        };
        Ok(bulkhead_policy::model::Plugged {
            port: bulkhead_policy::model::Port::Name(port.into()),
            workload: name(workload),
            mac: mac.parse().unwrap(),
        })
    });
    let plugged = plugged.collect::<Result<_, String>>()?;
    Ok(Resource::Host(Arc::new(Host { name: host, underlay_mtu: None, plugged })))
}

fn kept(switch: &str, number: u64) -> Arc<Switch> {
    Arc::new(Switch {
        name: name(switch),
        driver: Driver::Openflow(DatapathId(number)),
        vtep: Some([192, 0, 2, number as u8].into()),
        role: Role::Hypervisor,
        ovsdb: Some(format!("unix:/run/{switch}.sock")),
    })
}

/// The interface of a workload that `common` made with number `at`.
fn mac(at: u32) -> Mac {
    Mac::from_bits(0x0200_0000_0000 + u64::from(at))
}

fn plugged(port: &str, iface: &str, at: Option<u32>) -> Plugged {
    Plugged { port: port.into(), ofport: Some(1), owner: iface.into(), mac: at.map(mac), mtu: Some(1500), error: None }
}

impl Keep {
    fn start(store: Box<dyn Store>) -> Self {
        let (commands, told) = mpsc::unbounded_channel();
        let keeper = Keeper { commands, controller: "tcp:*:6653".into(), encode };
        let drivers = Drivers { channels: Vec::new(), route: |_| None, keeper: Some(keeper), prober: None };
        let stored = Stored::load(store, decode).unwrap();
        let (tell, from_hosts) = mpsc::channel(16);
        // No switch ever reports.
        let (_, reports) = mpsc::channel(1);
        let (the_loop, handle) = Loop::new(stored, drivers, reports, from_hosts, Recorder::off());
        Self { handle, told, tell, task: tokio::spawn(run(the_loop)) }
    }

    async fn apply(&self, request: Request) {
        self.handle.apply(request).await.unwrap().unwrap();
    }

    async fn switches(&self, switches: &[(&str, u64)]) {
        let edit = |(switch, number): &(&str, u64)| Edit {
            change: Change::set(Resource::Switch(kept(switch, *number))),
            document: Some(format!("switch {switch} of {number}").into()),
            expected: None,
        };
        let edits = switches.iter().map(edit).collect();
        self.apply(Request { edits, author: "test".into(), ..Request::default() }).await;
    }

    async fn report(&self, switch: &str, attachment: u64, report: HostReport) {
        self.tell.send(FromHost { switch: name(switch), attachment, report }).await.unwrap();
        // Whatever is asked after it is answered after it.
        while self.tell.capacity() < self.tell.max_capacity() {
            tokio::task::yield_now().await;
        }
        // News on the heels of others are stored together.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.handle.look(|_| ()).await.unwrap();
    }

    /// Where a workload of `common` is plugged in, as `switch:port`.
    fn at(&self, workload: &str) -> Option<String> {
        self.handle.read(|accepted| {
            let workload = accepted.state.workloads.get(&name(workload))?;
            let at = accepted.state.attachment(workload, &workload.interfaces[0])?;
            Some(format!("{}:{}", at.switch, at.port))
        })
    }

    async fn quarantined(&self, switch: &str) -> Vec<String> {
        let switch: Name = name(switch);
        let views = self.handle.look(|core| core.hosts()).await.unwrap();
        views[&switch].quarantined.iter().map(|q| format!("{} {}: {}", q.port, q.owner, q.why)).collect()
    }

    async fn stop(self) {
        self.handle.stop().await;
        self.task.await.unwrap().unwrap();
    }
}

fn store(directory: &Path) -> Box<dyn Store> {
    Box::new(RedbStore::open(directory).unwrap())
}

fn web(number: u32) -> String {
    // Without an attachment of its own: see `unattached`.
    format!("workload web-{number} prod nowhere {number} web")
}

/// The documents, of which workloads say nothing of where they are.
fn unattached(documents: &[&str]) -> Request {
    let mut request = set(documents);
    for edit in &mut request.edits {
        if let Some(Resource::Workload(workload)) = &mut edit.change.value {
            Arc::make_mut(workload).interfaces[0].attachment = None;
        }
    }
    request
}

#[tokio::test(start_paused = true)]
async fn who_is_plugged_in_is_bound_and_who_is_unknown_is_quarantined() {
    let directory = tempfile::tempdir().unwrap();
    let mut keep = Keep::start(store(directory.path()));
    keep.apply(unattached(&["network prod 5001", &web(1)])).await;
    keep.switches(&[("hv1", 1)]).await;
    let Some(ToHosts::Keep { switch, endpoint, config, attachment }) = keep.told.recv().await else { panic!() };
    assert_eq!((switch.as_str(), endpoint.as_str(), attachment), ("hv1", "unix:/run/hv1.sock", 1));
    assert_eq!(config.controller, "tcp:*:6653");
    assert_eq!(config.tunnels.len(), 2);
    keep.report("hv1", 1, HostReport::Connected).await;
    let found = vec![
        plugged("tap1", "web-1", Some(1)),
        plugged("tap2", "web-2", Some(2)),
        plugged("tap3", "web-1", Some(7)),
        plugged("tap4", "Not a name", Some(8)),
        plugged("tap5", "web-5", None),
        plugged("tap6", "web-1", Some(1)),
    ];
    keep.report("hv1", 1, HostReport::Interfaces(found)).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv1:tap1"));
    let told = keep.quarantined("hv1").await;
    let expected = [
        "tap2 web-2: there is no workload web-2",
        "tap3 web-1: workload web-1 has no interface 02:00:00:00:00:07",
        "tap4 Not a name: whose it is said to be is no workload's name",
        "tap5 web-5: nothing tells its MAC address",
        "tap6 web-1: another port of this host says to be the same interface",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
    // The workload comes after its interface: nothing more is needed.
    keep.apply(unattached(&[&web(2)])).await;
    assert_eq!(keep.at("web-2").as_deref(), Some("hv1:tap2"));
    assert_eq!(keep.quarantined("hv1").await.len(), 4);
    // A report of before the host was kept anew means nothing.
    keep.report("hv1", 0, HostReport::Interfaces(Vec::new())).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv1:tap1"));
    keep.report("hv1", 1, HostReport::Interfaces(vec![plugged("tap2", "web-2", Some(2))])).await;
    assert_eq!((keep.at("web-1"), keep.at("web-2").as_deref()), (None, Some("hv1:tap2")));
    keep.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_an_interface_keeps_it_until_it_goes_or_its_host_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let keep = Keep::start(store(directory.path()));
    keep.apply(unattached(&["network prod 5001", &web(1)])).await;
    keep.switches(&[("hv1", 1), ("hv2", 2)]).await;
    for (host, attachment) in [("hv1", 1), ("hv2", 2)] {
        keep.report(host, attachment, HostReport::Connected).await;
    }
    let here = |port: &str| HostReport::Interfaces(vec![plugged(port, "web-1", Some(1))]);
    keep.report("hv2", 2, here("b")).await;
    keep.report("hv1", 1, here("a")).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv2:b"));
    assert_eq!(keep.quarantined("hv1").await, ["a web-1: workload web-1 is at port b of switch hv2"]);
    // A migration ends: the old place lets go.
    keep.report("hv2", 2, HostReport::Interfaces(Vec::new())).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv1:a"));
    // A lost host keeps what it had, until it is lost for good and somebody else has it.
    keep.report("hv1", 1, HostReport::Disconnected("gone".into())).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv1:a"));
    keep.report("hv2", 2, here("c")).await;
    keep.report("hv1", 1, HostReport::Disconnected("gone still".into())).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv1:a"), "a database may restart");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv2:c"));
    // Back again, it does not get it back.
    keep.report("hv1", 1, HostReport::Connected).await;
    keep.report("hv1", 1, here("a")).await;
    assert_eq!(keep.at("web-1").as_deref(), Some("hv2:c"));
    keep.stop().await;
}

/// What would not be read again must not be stored: the next start would fail. Nor may it keep other hosts waiting.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_over_is_told_and_hinders_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let keep = Keep::start(store(directory.path()));
    keep.apply(unattached(&["network prod 5001", &web(1), &web(2)])).await;
    keep.switches(&[("hv1", 1), ("hv2", 2)]).await;
    let strange = vec![
        plugged("tap\u{e9}0", "web-1", Some(1)),
        plugged("a port", "web-1", Some(1)),
        plugged(&"x".repeat(64), "web-1", Some(1)),
    ];
    keep.report("hv1", 1, HostReport::Interfaces(strange)).await;
    let told = keep.quarantined("hv1").await;
    assert!(told.len() == 3 && told.iter().all(|told| told.contains("its port's name is not")), "{told:?}");
    // The tests' own documents know no commas in a port's name: it is refused when it is read back.
    keep.report("hv1", 1, HostReport::Interfaces(vec![plugged("a,b,c", "web-1", Some(1))])).await;
    keep.report("hv2", 2, HostReport::Interfaces(vec![plugged("tap2", "web-2", Some(2))])).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((keep.at("web-1"), keep.at("web-2").as_deref()), (None, Some("hv2:tap2")));
    let told = keep.quarantined("hv1").await;
    assert!(told[0].contains("not taken over yet"), "{told:?}");
    keep.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_found_outlives_a_restart_and_ends_with_its_switch() {
    let directory = tempfile::tempdir().unwrap();
    let keep = Keep::start(store(directory.path()));
    keep.apply(set(&["network prod 5001"])).await;
    keep.switches(&[("hv1", 1)]).await;
    keep.report("hv1", 1, HostReport::Connected).await;
    keep.report("hv1", 1, HostReport::Interfaces(vec![plugged("tap1", "web-1", Some(1))])).await;
    let before = keep.handle.read(|accepted| (accepted.revision, accepted.state.hosts.clone()));
    assert_eq!(before.1.len(), 1);
    keep.stop().await;

    let mut keep = Keep::start(store(directory.path()));
    let after = keep.handle.read(|accepted| (accepted.revision, accepted.state.hosts.clone()));
    assert_eq!(before, after);
    assert!(matches!(keep.told.recv().await, Some(ToHosts::Keep { .. })));
    // The same found again changes nothing.
    keep.report("hv1", 1, HostReport::Connected).await;
    keep.report("hv1", 1, HostReport::Interfaces(vec![plugged("tap1", "web-1", Some(1))])).await;
    assert_eq!(keep.handle.read(|accepted| accepted.revision), before.0);
    keep.apply(unset(&["switch hv1"])).await;
    keep.handle.look(|_| ()).await.unwrap();
    assert!(matches!(keep.told.recv().await, Some(ToHosts::Release { .. })));
    assert!(keep.handle.read(|accepted| accepted.state.hosts.is_empty()));
    keep.stop().await;
}
