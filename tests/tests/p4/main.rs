//! What becomes of P4 switches that are not as they should be, through bulkheadd: the devices are stand-ins.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod restart;
mod small;

use bulkhead_client::Client;
use bulkhead_daemon::{Config, Daemon, start};
use bulkhead_p4_target::{Forward, Target};
use bulkhead_types::{Format, answer::SwitchStatus, read};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, sync::mpsc};

/// How long anything may take that has to come, on a busy machine.
const COMING: Duration = Duration::from_secs(60);
/// Pause between two looks at something that is coming.
const PAUSE: Duration = Duration::from_millis(20);
/// Where nobody listens yet.
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// The device that listens at this address from now on.
fn device(runtime: &Runtime, at: SocketAddr, forward: impl Forward + 'static) -> Target {
    let (_, told) = mpsc::channel(1);
    runtime.block_on(Target::start(at, 1, Box::new(forward), told)).unwrap()
}

fn controller(runtime: &Runtime, data: &Path) -> (Daemon, Client) {
    let daemon = runtime.block_on(start(&Config::inside(data.into()), Default::default())).unwrap();
    let client = Client::new(&format!("http://{}", daemon.listen)).unwrap();
    (daemon, client)
}

/// Applies documents, and says at which revision they are.
fn apply(client: &Client, documents: &str) -> u64 {
    let parsed = read(None, documents.as_bytes(), Format::Any);
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    let values: Vec<_> = parsed.documents.iter().map(|document| document.to_value()).collect();
    client.apply(&values, false).unwrap().revision
}

/// Waits for the switches to be so, and says how they are.
fn when(client: &Client, about: &str, wanted: impl Fn(&[SwitchStatus]) -> bool) -> Vec<SwitchStatus> {
    let deadline = Instant::now() + COMING;
    loop {
        let switches = client.status().unwrap().switches;
        if wanted(&switches) {
            return switches;
        }
        assert!(Instant::now() < deadline, "{about}: {switches:#?}");
        sleep(PAUSE);
    }
}

/// An IPv4 packet without anything in it, from 10.0.0.1 to 10.0.0.2, whose Ethernet addresses end alike.
fn frame() -> Vec<u8> {
    let ip = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0x65, 0xeb, 10, 0, 0, 1, 10, 0, 0, 2];
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &ip].concat()
}
