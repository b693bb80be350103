//! The tasks: one that hears the controller, and one for each host, so that a slow host makes no other one wait.

use crate::{
    found::TABLES,
    keeper::{Act, Keeper},
    plan::unmark,
};
use bulkhead_dataplane::host::{FromHost, HostConfig, HostReport, ToHosts};
use bulkhead_ovsdb::{Backoff, Config, Connection, Endpoint, Event, SessionError};
use bulkhead_tls::Tls;
use bulkhead_topology::Name;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// The database that every Open vSwitch has.
const DATABASE: &str = "Open_vSwitch";
/// A connection that lasted so long was a good one: the next attempt after it comes soon.
const STABLE: Duration = Duration::from_secs(10);
/// How long taking our marks off may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the task of a host is told that it is over: by a word, to take our marks off; or by nothing, to leave all as it is.
struct Released;

/// What an `ssl:` endpoint needs.
const NO_TLS: &str = "ssl: needs certificates here: start bulkheadd with --southbound-ca, --southbound-cert and \
                      --southbound-key";

/// Keeps hosts until the controller's end of `commands` is gone; they stay as they are then. `tls` is for those
/// whose endpoint is `ssl:`.
pub async fn run(tls: Option<Tls>, mut commands: mpsc::Receiver<ToHosts>, reports: mpsc::Sender<FromHost>) {
    let mut kept: BTreeMap<Name, oneshot::Sender<Released>> = BTreeMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            ToHosts::Keep { switch, endpoint, config, attachment } => {
                let (end, ended) = oneshot::channel();
                // The sender of one that was kept before is dropped, which ends it.
                kept.insert(switch.clone(), end);
                let host = Host { switch, config, attachment, tls: tls.clone(), reports: reports.clone() };
                tokio::spawn(host.keep(endpoint, ended));
            }
            ToHosts::Release { switch } => {
                if let Some(end) = kept.remove(&switch) {
                    // If its task is gone, so is the need.
                    let _ = end.send(Released);
                }
            }
        }
    }
}

/// The controller's address, told to a host that is spoken with from the address `local`; by a Unix socket, it is this
/// machine.
fn seen_from_there(controller: &str, local: Option<IpAddr>) -> String {
    let address = match local.unwrap_or(Ipv4Addr::LOCALHOST.into()) {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    controller.replacen('*', &address, 1)
}

struct Host {
    switch: Name,
    config: HostConfig,
    attachment: u64,
    tls: Option<Tls>,
    reports: mpsc::Sender<FromHost>,
}

/// Why a task is over.
struct Over;

impl Host {
    async fn keep(self, endpoint: String, mut ended: oneshot::Receiver<Released>) {
        let endpoint: Endpoint = match endpoint.parse() {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let _ = self.report(HostReport::Unable(error.to_string())).await;
                return;
            }
        };
        if matches!(endpoint, Endpoint::Ssl { .. }) && self.tls.is_none() {
            let _ = self.report(HostReport::Unable(format!("{endpoint}: {NO_TLS}"))).await;
            return;
        }
        let (mut backoff, mut told) = (Backoff::default(), None);
        loop {
            let opened = tokio::select! {
                _ = &mut ended => return,
                opened = Connection::open(&endpoint, Config::new(DATABASE, TABLES), self.tls.as_ref()) => opened,
            };
            let reason = match opened {
                Err(error) => error.to_string(),
                Ok(mut connection) => match self.objection(&connection) {
                    Some(why) => format!("{endpoint}: {why}"),
                    None => {
                        let Ok((error, was_up)) = self.session(&mut connection, &mut ended).await else { return };
                        if was_up {
                            // Whatever was told before the session is no news about its end.
                            told = None;
                        }
                        if connection.now() >= STABLE {
                            backoff = Backoff::default();
                        }
                        format!("{endpoint}: {error}")
                    }
                },
            };
            if told.as_ref() != Some(&reason) {
                warn!(switch = %self.switch, reason, "host's database is not there");
                if self.report(HostReport::Disconnected(reason.clone())).await.is_err() {
                    return;
                }
                told = Some(reason);
            }
            tokio::select! {
                _ = &mut ended => return,
                () = sleep(backoff.pause()) => {}
            }
        }
    }

    /// Why this is not the host, for people, if its certificate says so.
    fn objection(&self, connection: &Connection) -> Option<String> {
        connection.certificate()?.objection(self.switch.as_str(), self.config.datapath.0)
    }

    /// One connection's time; why it ended, and whether it was ever of use.
    async fn session(
        &self,
        connection: &mut Connection,
        ended: &mut oneshot::Receiver<Released>,
    ) -> Result<(SessionError, bool), Over> {
        let mut config = self.config.clone();
        config.controller = seen_from_there(&config.controller, connection.local());
        let mut keeper = Keeper::new(self.switch.clone(), config);
        let mut up = false;
        loop {
            let pause = keeper.wake().map(|at| at.saturating_sub(connection.now()));
            let alarm = async {
                match pause {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                word = &mut *ended => {
                    if word.is_ok() && up {
                        self.release(connection).await;
                    }
                    return Err(Over);
                }
                event = connection.event() => match event {
                    Event::Ready => {
                        up = true;
                        info!(switch = %self.switch, "host's database is there");
                        self.report(HostReport::Connected).await?;
                    }
                    Event::Changed => {}
                    Event::Transacted(_, result) => {
                        let now = connection.now();
                        self.act(connection, keeper.answered(result, now)).await?;
                    }
                    Event::Dead(error) => return Ok((error, up)),
                },
                () = alarm => {}
            }
            if up {
                let now = connection.now();
                let acts = keeper.look(connection.session().replica(), now);
                self.act(connection, acts).await?;
            }
        }
    }

    async fn act(&self, connection: &mut Connection, acts: impl IntoIterator<Item = Act>) -> Result<(), Over> {
        for act in acts {
            match act {
                Act::Report(report) => self.report(report).await?,
                Act::Transact(operations) => {
                    if let Err(error) = connection.session().transact(&operations) {
                        // One at a time is under way, so only an ended session refuses; its end comes as an event.
                        debug!(switch = %self.switch, %error, "change not sent");
                    }
                }
            }
        }
        Ok(())
    }

    async fn report(&self, report: HostReport) -> Result<(), Over> {
        match &report {
            HostReport::Shaped { repaired } if !repaired.is_empty() => {
                info!(switch = %self.switch, repaired = repaired.join("; "), "host mended");
            }
            HostReport::Unable(why) => warn!(switch = %self.switch, why, "host is not in shape"),
            _ => {}
        }
        let from = FromHost { switch: self.switch.clone(), attachment: self.attachment, report };
        self.reports.send(from).await.map_err(|_| Over)
    }

    /// Takes our marks off. What was sent before is carried out first, in the order of its sending.
    async fn release(&self, connection: &mut Connection) {
        let Ok(number) = connection.session().transact(&unmark(&self.switch)) else { return };
        let done = timeout(FAREWELL, async {
            loop {
                match connection.event().await {
                    Event::Transacted(answered, Ok(_)) if answered == number => return true,
                    Event::Transacted(answered, Err(_)) if answered == number => return false,
                    Event::Dead(_) => return false,
                    _ => {}
                }
            }
        });
        if !done.await.unwrap_or(false) {
            warn!(switch = %self.switch, "host still bears our mark");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_where_the_host_sees_it() {
        let told = |local: Option<&str>| seen_from_there("tcp:*:6653", local.and_then(|local| local.parse().ok()));
        assert_eq!(told(Some("192.0.2.1")), "tcp:192.0.2.1:6653");
        assert_eq!(told(Some("2001:db8::1")), "tcp:[2001:db8::1]:6653");
        assert_eq!(told(None), "tcp:127.0.0.1:6653");
        assert_eq!(seen_from_there("tcp:192.0.2.9:1", None), "tcp:192.0.2.9:1");
    }
}
