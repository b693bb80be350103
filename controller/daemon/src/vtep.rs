//! `bulkheadd vtep`: this host as a kernel VTEP of a controller elsewhere.
//!
//! One thread asks the controller what to forward, one hears what changes in the kernel, and one makes the host what it
//! is to be and tells the controller. Without a controller the host stays as it is, and is kept so.

use anyhow::Context;
use bulkhead_client::{Client, DEFAULT_SERVER, Security};
use bulkhead_driver_kernel::{Domain, Keeper, Kept, Wanted};
use bulkhead_netlink::Monitor;
use bulkhead_types::{VtepForwarding, VtepReport};
use clap::Parser;
use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};
use tracing::{info, warn};

/// How long the controller may let a question wait: after that it is asked again, and so knows that this is alive.
const WAIT: Duration = Duration::from_secs(20);
/// After how long a controller that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the host is looked at, whatever the kernel tells: parameters change without a word.
const LOOK: Duration = Duration::from_secs(5);
/// News come in crowds; so long after the first they are looked at together.
const SETTLE: Duration = Duration::from_millis(100);

/// Keep this host as a VXLAN VTEP without Open vSwitch.
///
/// It enforces no policy itself: the switches at the other end of its tunnels judge what its workloads send and get.
#[derive(Debug, Parser)]
pub struct VtepArgs {
    /// Where the controller's API is
    #[arg(long, env = "BULKHEAD_SERVER", value_name = "URL", default_value = DEFAULT_SERVER)]
    pub controller: String,
    /// A file with the token to show, whose grant is vtep@NAME
    #[arg(long, env = "BULKHEAD_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the authority that has signed the controller's certificate, if the system does not believe it
    #[arg(long, env = "BULKHEAD_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file with a certificate to show instead of a token
    #[arg(long, env = "BULKHEAD_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate
    #[arg(long, env = "BULKHEAD_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The name of this host's Switch, which has `driver: kernel`
    #[arg(long, env = "BULKHEAD_SWITCH", value_name = "NAME")]
    pub switch: String,
    /// Remove what was set up on this host, and end
    #[arg(long)]
    pub leave: bool,
    /// What to log: a level, or levels by module
    #[arg(long, env = "BULKHEAD_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

enum News {
    /// The controller says what to forward.
    Wanted(Arc<VtepForwarding>),
    /// Something changed in the kernel.
    Changed,
    /// The controller answers again: it may have forgotten how this host is.
    Back,
}

/// Keeps the host, until it is ended: what was set up stays.
///
/// # Errors
/// When it cannot begin, or cannot leave.
pub fn run(args: &VtepArgs) -> anyhow::Result<()> {
    let mut keeper = Keeper::of(&args.switch)?;
    if args.leave {
        for what in keeper.leave().context("this host cannot be left as it was")? {
            info!("{what}");
        }
        return Ok(());
    }
    let pem = |file: &Option<PathBuf>| {
        let read = |file: &PathBuf| {
            fs::read_to_string(file).with_context(|| format!("cannot read the PEM file {}", file.display()))
        };
        file.as_ref().map(read).transpose()
    };
    let security = Security { ca: pem(&args.ca)?, certificate: pem(&args.cert)?, key: pem(&args.key)? };
    let client = Client::secure(&args.controller, &security)?;
    let client = match &args.token_file {
        None => client,
        Some(file) => client.with_token(
            &fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?,
        ),
    };
    let (send, news) = channel();
    let mut monitor = Monitor::here()?;
    let changed = send.clone();
    thread::Builder::new().name("kernel".into()).spawn(move || {
        // 0: for ever.
        while let Ok(true) = monitor.changed(Duration::ZERO) {
            if changed.send(News::Changed).is_err() {
                return;
            }
        }
        warn!("the kernel tells no news any more; this host is looked at every {} s", LOOK.as_secs());
    })?;
    let (asking, switch) = (client.clone(), args.switch.clone());
    thread::Builder::new().name("controller".into()).spawn(move || ask(&asking, &switch, &send))?;
    info!(switch = args.switch, controller = args.controller, "keeping this host as a VTEP");
    keep(&mut keeper, &client, &args.switch, &news);
    Ok(())
}

/// Asks the controller for as long as somebody listens.
fn ask(client: &Client, switch: &str, send: &Sender<News>) {
    let (mut held, mut lost) = (0, true);
    loop {
        let news = match client.vtep(switch, held, if lost { Duration::ZERO } else { WAIT }) {
            Ok(answer) => {
                if std::mem::take(&mut lost) {
                    info!("the controller answers");
                }
                match answer.forwarding {
                    Some(forwarding) => {
                        held = forwarding.revision;
                        News::Wanted(forwarding)
                    }
                    None => News::Back,
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut lost, true) || held == 0 {
                    warn!(%error, "the controller does not say what to forward; what is there stays");
                }
                thread::sleep(AGAIN);
                continue;
            }
        };
        if send.send(news).is_err() {
            return;
        }
    }
}

fn keep(keeper: &mut Keeper, client: &Client, switch: &str, news: &Receiver<News>) {
    let mut wanted: Option<(Wanted, Vec<String>)> = None;
    let mut report = VtepReport::default();
    loop {
        let mut first = Some(news.recv_timeout(LOOK));
        let mut tell = false;
        if matches!(first, Some(Ok(News::Changed))) {
            thread::sleep(SETTLE);
        }
        while let Some(one) = first.take() {
            match one {
                Ok(News::Wanted(forwarding)) => {
                    report.held = forwarding.revision;
                    wanted = Some(understood(&forwarding));
                    tell = true;
                }
                Ok(News::Back) => tell = true,
                Ok(News::Changed) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            first = news.try_recv().ok().map(Ok);
        }
        let Some((wanted, strange)) = &wanted else { continue };
        let before = report.clone();
        match keeper.keep(wanted) {
            Ok(Kept { changed, repaired, troubles, in_shape }) => {
                changed.iter().for_each(|what| info!("{what}"));
                repaired.iter().for_each(|what| warn!("somebody else changed this host: {what}"));
                if !repaired.is_empty() {
                    report.repairs += 1;
                    report.repaired = few(repaired);
                }
                report.troubles = few(strange.iter().cloned().chain(troubles).collect());
                report.shaped = in_shape;
            }
            Err(error) => {
                report.shaped = false;
                report.troubles = vec![error.to_string()];
            }
        }
        for trouble in report.troubles.iter().filter(|trouble| !before.troubles.contains(trouble)) {
            warn!("{trouble}");
        }
        // The thread that asks says so if the controller is away, and has it told again.
        if tell || report != before {
            let _ = client.vtep_report(switch, &report);
        }
    }
}

/// No more than are told of.
fn few(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(VtepReport::MOST);
    if more > 0 {
        lines.truncate(VtepReport::MOST - 1);
        lines.push(format!("and {} more", more + 1));
    }
    lines
}

/// What the controller says, in the driver's terms, and what of it makes no sense here.
fn understood(forwarding: &VtepForwarding) -> (Wanted, Vec<String>) {
    let mut strange = Vec::new();
    let mut networks = std::collections::BTreeMap::new();
    for network in &forwarding.networks {
        let mut domain = Domain { way_out: network.way_out, ..Domain::default() };
        for port in &network.ports {
            if port.name.parse::<u32>().is_ok() {
                strange.push(format!("port {} is a number: name the host's interface", port.name));
                continue;
            }
            let macs: BTreeSet<_> = port.macs.iter().filter_map(|mac| octets(mac, &mut strange)).collect();
            domain.ports.insert(port.name.clone(), macs);
        }
        for far in &network.far {
            let Some(mac) = octets(&far.mac, &mut strange) else { continue };
            domain.far.insert(mac, far.vtep);
            domain.neighbours.extend(far.ips.iter().map(|ip| (*ip, mac)));
        }
        networks.insert(network.vni, domain);
    }
    (Wanted { vtep: forwarding.vtep, networks }, strange)
}

fn octets(mac: &str, strange: &mut Vec<String>) -> Option<[u8; 6]> {
    match mac.parse::<bulkhead_topology::Mac>() {
        Ok(mac) => Some(mac.0),
        Err(_) => {
            strange.push(format!("the controller says `{mac}` where an Ethernet address belongs"));
            None
        }
    }
}
