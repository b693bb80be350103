//! Putting the parts together, and taking them apart again.

use crate::{
    admin,
    audit::Auditor,
    authority::Authority,
    backend::Controller,
    config::{Api, Config},
    tokens::{Local, Tokens},
};
use anyhow::{Context, anyhow};
use bulkhead_api::Door;
use bulkhead_dataplane::Address;
use bulkhead_driver_sim::Fabric;
use bulkhead_policy::{Resource, model::Driver};
use bulkhead_runtime::{Drivers, Handle, Keeper, LoadError, Loop, Prober, Recorder, Stored, channel, spawn};
use bulkhead_store::{RedbStore, Store};
use bulkhead_tls::{Own, Server, Tls};
use sd_notify::NotifyState;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek},
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tracing::{info, warn};

/// How many reports may wait for the loop; a driver that has more waits.
const REPORTS: usize = 1024;
/// How long open requests may take to end when the controller stops.
const GRACE: Duration = Duration::from_secs(2);

/// Channels of the drivers.
const OPENFLOW: usize = 0;
const SIM: usize = 1;
const P4: usize = 2;

/// A running controller.
pub struct Daemon {
    /// Where the API answers.
    pub listen: SocketAddr,
    /// Where OpenFlow switches connect.
    pub openflow: SocketAddr,
    handle: Handle,
    auditor: Auditor,
    the_loop: thread::JoinHandle<Result<(), LoadError>>,
    http: JoinHandle<io::Result<()>>,
    end_http: oneshot::Sender<()>,
}

/// Starts a controller. Addresses are taken first, because that is what fails most. Once the state is loaded it can be
/// read, while the loop compiles it; switches come last, once that is done: until then they wait at the door with the
/// program that they have. `sim` has the simulated switches.
pub async fn start(config: &Config, sim: Fabric) -> anyhow::Result<Daemon> {
    let http = bind(config.listen, "--listen").await?;
    let openflow = bind(config.openflow_listen, "--openflow-listen").await?;
    let (listen, openflow_address) = (http.local_addr()?, openflow.local_addr()?);
    let tls = config.southbound_tls.clone().map(Tls::load).transpose().context("TLS with switches cannot begin")?;
    let recorder = config.record.as_deref().map_or_else(|| Ok(Recorder::off()), recorder)?;
    let began = Instant::now();
    let mut store = RedbStore::open_keeping(&config.data_dir, config.retention)?;
    let term = term(&mut store);
    let (door, server, local) = front(config, listen)?;
    let tokens = Tokens::open(&config.data_dir, local)
        .with_context(|| format!("cannot read the tokens in {}", config.data_dir.display()))?;
    let (to_openflow, openflow_commands) = channel();
    let (to_sim, sim_commands) = channel();
    let (to_p4, p4_commands) = channel();
    let (to_hosts, host_commands) = channel();
    let kind = if tls.is_some() { "ssl" } else { "tcp" };
    let controller = match config.openflow_advertise {
        Some(address) => format!("{kind}:{address}"),
        // Who listens at one address is found at that one only.
        None if !openflow_address.ip().is_unspecified() => format!("{kind}:{openflow_address}"),
        None => format!("{kind}:*:{}", openflow_address.port()),
    };
    let keeper = Keeper { commands: to_hosts, controller, encode: bulkhead_types::canonical };
    let prober = Prober { key: key().context("no random numbers for probes")?, encode: bulkhead_types::canonical };
    let drivers =
        Drivers { channels: vec![to_openflow, to_sim, to_p4], route, keeper: Some(keeper), prober: Some(prober) };
    let stored = Stored::load(Box::new(store), decode)?;
    {
        let accepted = stored.accepted();
        let (revision, resources) = (accepted.revision, accepted.versions.len());
        let took = began.elapsed().as_millis();
        info!(revision, resources, data_dir = %config.data_dir.display(), "loaded in {took} ms");
    }
    let (reports, from_switches) = mpsc::channel(REPORTS);
    let (host_reports, from_hosts) = mpsc::channel(REPORTS);
    let (the_loop, handle) = Loop::new(stored, drivers, from_switches, from_hosts, recorder);
    let the_loop = spawn(the_loop).context("cannot start the loop's thread")?;
    tls.iter().cloned().for_each(|tls| _ = tokio::spawn(tls.watch()));
    let speaks = match &door {
        Door::Tls(server) => Some(server.clone()),
        Door::Plain => None,
    };
    speaks.iter().cloned().for_each(|server| _ = tokio::spawn(server.watch()));
    let (end_http, ended) = oneshot::channel::<()>();
    let shutdown = async {
        // Dropped or used: both mean that it is time.
        let _ = ended.await;
    };
    let interrupted = tokens.was_interrupted();
    let backend = Controller::new(handle.clone(), config.data_dir.clone(), tls.clone(), speaks, tokens);
    let auditor = backend.auditor();
    if interrupted {
        auditor.interrupted();
    }
    tokio::spawn(auditor.clone().run());
    let http = tokio::spawn(bulkhead_api::serve(http, door, backend, shutdown));
    let compiled = handle.clone();
    tokio::spawn(async move {
        // The loop answers once it has compiled; if it cannot, it ends, and so does the controller.
        if compiled.look(|_| ()).await.is_err() {
            return;
        }
        info!("compiled after {} ms", began.elapsed().as_millis());
        tokio::spawn(bulkhead_driver_sim::run(sim, sim_commands, reports.clone(), None));
        tokio::spawn(bulkhead_driver_host::run(tls.clone(), host_commands, host_reports));
        tokio::spawn(bulkhead_driver_p4::driver::run(term, p4_commands, reports.clone()));
        tokio::spawn(bulkhead_driver_ovs::driver::run(openflow, tls, term, openflow_commands, reports));
        info!(api = %server, openflow = %openflow_address, switches_by = kind, "bulkheadd is ready");
        tell_systemd(NotifyState::Ready);
    });
    Ok(Daemon { listen, openflow: openflow_address, handle, auditor, the_loop, http, end_http })
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
        tell_systemd(NotifyState::Stopping);
        let crashed = self.the_loop.is_finished();
        // The server has ended already.
        let _ = self.end_http.send(());
        if timeout(GRACE, &mut self.http).await.is_err() {
            self.http.abort();
        }
        self.auditor.write(true).await;
        self.handle.stop().await;
        let joined = tokio::task::spawn_blocking(|| self.the_loop.join()).await?;
        match joined {
            Ok(Ok(())) if !crashed => Ok(()),
            Ok(Err(why)) => Err(why.into()),
            _ => Err(anyhow!("the controller's loop ended on its own; this is a bug, and the log has its trace")),
        }
    }
}

/// Tells systemd, if it has started this (sd_notify(3)).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd could not be told");
    }
}

/// How the API begins connections, where it is reached from this machine, and who is its local admin.
fn front(config: &Config, listen: SocketAddr) -> anyhow::Result<(Door, String, Local)> {
    let Api::Tls { own, client_ca } = &config.api else {
        warn!("--open-loopback: no TLS, and whoever is on this machine is an admin");
        let server = admin::url("http", listen);
        let local = admin::open(&config.data_dir, &server);
        return Ok((Door::Plain, server, local));
    };
    let server = admin::url("https", listen);
    let (own, ca) = match own {
        Some((certificate, key)) => (Own::Files { certificate: certificate.clone(), key: key.clone() }, None),
        None => {
            let authority = Authority::open(&config.data_dir)?;
            let (path, pem) = (authority.path.clone(), authority.pem.clone());
            if !listen.ip().is_loopback() {
                info!("clients elsewhere need {} to believe this API's certificate (--ca)", path.display());
            }
            (Own::Made { make: authority.signs_for(listen), authority: path }, Some(pem))
        }
    };
    let loaded = Server::load(own, client_ca.clone()).context("TLS of the API cannot begin")?;
    let local = admin::closed(&config.data_dir, &server, ca.as_deref())?;
    Ok((Door::Tls(loaded), server, local))
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

/// Goes on with the recording in `path`, if there is one: it tells what led to where this run begins.
fn recorder(path: &Path) -> anyhow::Result<Recorder> {
    let file = recording(path).with_context(|| format!("cannot record to {}", path.display()))?;
    Ok(Recorder::to(Box::new(io::BufWriter::new(file))))
}

fn recording(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if !file.metadata()?.is_file() {
        // A pipe or a terminal has no past.
        return Ok(file);
    }
    // A crash or a full disk may have left half a line: it is no event, and would spoil the next one.
    let whole = whole_lines(&mut file)?;
    if file.metadata()?.len() > whole {
        warn!(file = %path.display(), "the recording ended in the middle of a line, which is cut off");
        file.set_len(whole)?;
    }
    Ok(file)
}

/// Bytes up to the end of the last whole line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = file.seek(io::SeekFrom::End(0))?;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(io::SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The term of this run; none if it cannot be kept: then switches take what any controller says.
fn term(store: &mut dyn Store) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let term = store.begin(now);
    term.inspect_err(|error| warn!(%error, "no term: switches will not tell this controller from an older one")).ok()
}

/// What nobody can guess, from the kernel.
fn key() -> io::Result<[u8; 16]> {
    let mut key = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// Which driver a switch is behind.
fn route(driver: &Driver) -> Option<(usize, Address)> {
    match driver {
        Driver::Openflow(id) => Some((OPENFLOW, Address::Datapath(*id))),
        Driver::Sim => Some((SIM, Address::Sim)),
        Driver::P4runtime { address, device_id, underlay } => {
            let underlay = underlay.clone();
            Some((P4, Address::Device { address: address.clone(), number: *device_id, underlay }))
        }
        Driver::Kernel => None,
    }
}

/// Reads a stored document.
pub(crate) fn decode(document: &str) -> Result<Resource, String> {
    bulkhead_types::load(document).map_err(|findings| {
        let findings: Vec<String> = findings.iter().map(|f| format!("{}: {}", f.path, f.message)).collect();
        findings.join("; ")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::{fs, io::Write};

    #[test]
    fn an_older_recording_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        let write = |text: &str| {
            recording(&path).unwrap().write_all(text.as_bytes()).unwrap();
            fs::read_to_string(&path).unwrap()
        };
        assert_eq!(write("one\n"), "one\n");
        assert_eq!(write("two\nthr"), "one\ntwo\nthr");
        assert_eq!(write("four\n"), "one\ntwo\nfour\n");
        let long = "x".repeat(200_000);
        assert_eq!(write(&long).len(), 13 + long.len());
        assert_eq!(write("five\n"), "one\ntwo\nfour\nfive\n");
        fs::write(&path, &long).unwrap();
        assert_eq!(recording(&path).unwrap().metadata().unwrap().len(), 0);
    }
}
