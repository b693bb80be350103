//! Putting the parts together, and taking them apart again.

use crate::{backend::Controller, config::Config};
use anyhow::{Context, anyhow};
use bulkhead_dataplane::Address;
use bulkhead_driver_sim::Fabric;
use bulkhead_policy::{Resource, model::Driver};
use bulkhead_runtime::{Core, Drivers, Handle, Loop, Recorder, channel, spawn};
use bulkhead_store::RedbStore;
use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tracing::info;

/// How many reports may wait for the loop; a driver that has more waits.
const REPORTS: usize = 1024;
/// How long open requests may take to end when the controller stops.
const GRACE: Duration = Duration::from_secs(2);

/// Channels of the drivers.
const OPENFLOW: usize = 0;
const SIM: usize = 1;

/// A running controller.
pub struct Daemon {
    /// Where the API answers.
    pub listen: SocketAddr,
    /// Where OpenFlow switches connect.
    pub openflow: SocketAddr,
    handle: Handle,
    the_loop: thread::JoinHandle<()>,
    http: JoinHandle<io::Result<()>>,
    end_http: oneshot::Sender<()>,
}

/// Starts a controller. Addresses are taken first, because that is what fails most; switches come last,
/// once the state is loaded and compiled. `sim` has the simulated switches.
pub async fn start(config: &Config, sim: Fabric) -> anyhow::Result<Daemon> {
    let http = bind(config.listen, "--listen").await?;
    let openflow = bind(config.openflow_listen, "--openflow-listen").await?;
    let (listen, openflow_address) = (http.local_addr()?, openflow.local_addr()?);
    let recorder = config.record.as_deref().map_or_else(|| Ok(Recorder::off()), recorder)?;
    let began = Instant::now();
    let store = RedbStore::open(&config.data_dir)?;
    let (to_openflow, openflow_commands) = channel();
    let (to_sim, sim_commands) = channel();
    let core = Core::load(Box::new(store), decode, Drivers { channels: vec![to_openflow, to_sim], route })?;
    {
        let accepted = core.accepted();
        let (revision, resources) = (accepted.revision, accepted.versions.len());
        let took = began.elapsed().as_millis();
        info!(revision, resources, data_dir = %config.data_dir.display(), "loaded in {took} ms");
    }
    let (reports, from_switches) = mpsc::channel(REPORTS);
    let (the_loop, handle) = Loop::new(core, from_switches, recorder);
    let the_loop = spawn(the_loop).context("cannot start the loop's thread")?;
    tokio::spawn(bulkhead_driver_sim::run(sim, sim_commands, reports.clone(), None));
    tokio::spawn(bulkhead_driver_ovs::driver::run(openflow, openflow_commands, reports));
    let (end_http, ended) = oneshot::channel::<()>();
    let shutdown = async {
        // Dropped or used: both mean that it is time.
        let _ = ended.await;
    };
    let http = tokio::spawn(bulkhead_api::serve(http, Controller::new(handle.clone()), shutdown));
    info!(api = %format_args!("http://{listen}"), openflow = %openflow_address, "bulkheadd is ready");
    Ok(Daemon { listen, openflow: openflow_address, handle, the_loop, http, end_http })
}

impl Daemon {
    /// Comes back if the controller can no longer do its work.
    pub async fn failed(&self) {
        while !self.the_loop.is_finished() && !self.http.is_finished() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops the controller: requests end, the store closes, switches are left as they are.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let crashed = self.the_loop.is_finished();
        // The server has ended already.
        let _ = self.end_http.send(());
        if timeout(GRACE, &mut self.http).await.is_err() {
            self.http.abort();
        }
        self.handle.stop().await;
        let joined = tokio::task::spawn_blocking(|| self.the_loop.join()).await?;
        match joined {
            Ok(()) if !crashed => Ok(()),
            _ => Err(anyhow!("the controller's loop ended on its own; this is a bug, and the log has its trace")),
        }
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{address} is in use by another program (another bulkheadd?); stop that one, or choose another address \
             with {flag}"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!("{address} may not be listened on without root; choose a port above 1023 with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("this host has no address {}; choose another with {flag}", address.ip())
        }
        _ => anyhow!("cannot listen on {address} ({flag}): {error}"),
    })
}

fn recorder(path: &Path) -> anyhow::Result<Recorder> {
    let file = File::create(path).with_context(|| format!("cannot record to {}", path.display()))?;
    Ok(Recorder::to(Box::new(io::BufWriter::new(file))))
}

/// Which driver a switch is behind.
fn route(driver: &Driver) -> Option<(usize, Address)> {
    match driver {
        Driver::Openflow(id) => Some((OPENFLOW, Address::Datapath(*id))),
        Driver::Sim => Some((SIM, Address::Sim)),
        Driver::P4runtime { .. } => None,
    }
}

/// Reads a stored document.
fn decode(document: &str) -> Result<Resource, String> {
    bulkhead_types::load(document).map_err(|findings| {
        let findings: Vec<String> = findings.iter().map(|f| format!("{}: {}", f.path, f.message)).collect();
        findings.join("; ")
    })
}
