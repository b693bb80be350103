//! One device: a connection after another, and what is asked of it in between.
//!
//! ```text
//!   away --connect--> standing --primary--> its program, then ours -- Connected --> commands
//!    ^                                                                                 |
//!    +--- Disconnected, and a pause that grows ----------------------------------------+
//! ```

use crate::{
    BMV2, P4INFO, controller,
    errands::Errands,
    layout,
    lift::{LiftError, lift},
    places::Places,
    sizes,
    underlay::{Row, is_beside, rows, updates},
};
use bulkhead_dataplane::{
    Capabilities, Command, Counter, FromSwitch, LOGS_PER_SECOND, Peer, Report, reject::REJECTS_PER_SECOND,
};
use bulkhead_p4runtime::{
    Client, ElectionId, Error, Event, Info, Pipeline, Pushed, Standing, Stream,
    client::{UpdateError, batches},
    info::parse_text,
    proto::p4::v1::{
        CounterData, Entity, MeterEntry, PacketIn, TableEntry, Update, entity::Entity as Kind, update::Type,
        write_request::Atomicity,
    },
};
use bulkhead_pipeline::{Cause, Program, overlay::Tunnel};
use bulkhead_topology::{Name, Port, underlay::Underlay};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{info, warn};

mod step;

/// Pauses between attempts to reach a device: the first one, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];
/// What our program is called in its P4Info.
const PROGRAM: &str = "bulkhead";

/// The program that devices get.
///
/// # Errors
/// What is compiled into Bulkhead contradicts itself; a test rules that out.
pub(crate) fn program() -> Result<Pipeline, Error> {
    Pipeline::new(parse_text(P4INFO)?, BMV2.to_vec())
}

/// A device that is to be driven, until this is dropped.
pub(crate) struct Device {
    pub switch: Name,
    pub attachment: u64,
    /// HOST:PORT.
    pub address: String,
    /// Its number there.
    pub number: u64,
    pub underlay: Option<Arc<Underlay>>,
    /// What we stand for primary with.
    pub election: ElectionId,
    pub commands: mpsc::Receiver<(u64, Command)>,
    pub reports: mpsc::Sender<FromSwitch>,
}

/// Why a session is over.
enum End {
    /// The controller is gone.
    Controller,
    /// The device is, or may as well be; why, for people.
    Device(String),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Device(error.to_string())
    }
}

impl Device {
    /// Drives it until the controller is gone.
    pub async fn run(mut self, pipeline: Pipeline) {
        let mut number = 0;
        let [first, longest] = PAUSES;
        let mut pause = first;
        let mut last = String::new();
        loop {
            number += 1;
            let mut was_connected = false;
            let why = match self.session(&pipeline, number, &mut was_connected).await {
                Ok(()) | Err(End::Controller) => return,
                Err(End::Device(why)) => why,
            };
            pause = if was_connected { first } else { pause };
            if was_connected || why != last {
                warn!(switch = %self.switch, "{why}");
            }
            if self.report(Report::Disconnected(why.clone())).await.is_err() {
                return;
            }
            last = why;
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn report(&self, report: Report) -> Result<(), End> {
        let from = FromSwitch { switch: self.switch.clone(), attachment: self.attachment, report };
        self.reports.send(from).await.map_err(|_| End::Controller)
    }

    /// Reports what somebody's packet said, if the controller has room for it: nothing waits for such a report. Gives back what
    /// there was no room for.
    fn offer(&self, report: Report) -> Option<Report> {
        let from = FromSwitch { switch: self.switch.clone(), attachment: self.attachment, report };
        self.reports.try_send(from).err().map(|error| error.into_inner().report)
    }

    /// From connecting to the end.
    async fn session(&mut self, pipeline: &Pipeline, number: u64, connected: &mut bool) -> Result<(), End> {
        let (client, mut stream) = Client::connect(&self.address, self.number, self.election).await?;
        let mut client = client;
        self.becomes_primary(&mut client, &mut stream).await?;
        foreign(&client).await?;
        let pushed = client.ensure_pipeline(pipeline).await?;
        if pushed != Pushed::Unchanged {
            info!(switch = %self.switch, "got its program: {pushed:?}");
        }
        *connected = true;
        let sizes = pipeline.info().tables().filter_map(|table| table.size).sum::<u64>();
        let capabilities = Capabilities {
            conntrack: false,
            conjunction: false,
            max_entries: u32::try_from(sizes).unwrap_or(u32::MAX),
            max_by_stage: Arc::new(sizes::by_stage(pipeline.info())),
            any_port: false,
        };
        // P4Runtime tells of no ports: all that there may be are there.
        let tunnels = Tunnel::ALL.into_iter().filter(|_| self.underlay.is_some()).map(Tunnel::port);
        let ports: BTreeSet<Port> = (1..=layout::MAX_PORT).map(Port::Number).chain(tunnels).collect();
        // What waits was meant for an older session.
        while self.commands.try_recv().is_ok() {}
        self.report(Report::Connected { session: number, capabilities, ports }).await?;
        if let Ok(address) = self.address.parse() {
            self.report(Report::Peer(Peer { address, certificate: None })).await?;
        }
        let underlay = self.underlay.as_deref().map(rows).unwrap_or_default();
        let info = pipeline.info().clone();
        let (errands, began) = (Errands::new(), Instant::now());
        let (places, have, aliens) = (Places::new(&info), Program::new(), Vec::new());
        let mut session = Session { client, info, places, underlay, have, aliens, errands, began };
        loop {
            tokio::select! {
                command = self.commands.recv() => {
                    let Some((meant, command)) = command else { return Ok(()) };
                    if meant == number && let Some(report) = session.command(command).await? {
                        self.report(report).await?;
                    }
                }
                event = stream.next() => match event? {
                    Event::Standing(Standing::Primary) | Event::Idle(_) => {}
                    Event::Packet(packet) => {
                        for report in session.packet(&stream, &packet)? {
                            session.not_reported(self.offer(report));
                        }
                    }
                    Event::Standing(other) => return Err(End::Device(standing(other))),
                    Event::Digest(list) => stream.acknowledge(&list)?,
                    Event::Wrong { why, .. } => warn!(switch = %self.switch, "the device says: {why}"),
                },
            }
        }
    }

    /// Waits until the device takes us for its primary. Where there is none we stand again, and where there is another one
    /// we wait for it to leave.
    async fn becomes_primary(&self, client: &mut Client, stream: &mut Stream) -> Result<(), End> {
        loop {
            match stream.standing() {
                Standing::Primary => return Ok(()),
                Standing::Vacant { highest } => {
                    let above = highest.map_or(0, |highest| highest.0.saturating_add(1));
                    client.stand_again(stream, ElectionId(above.max(self.election.0)))?;
                }
                Standing::Backup { .. } => self.report(Report::Disconnected(standing(stream.standing()))).await?,
                Standing::Unknown => {}
            }
            while !matches!(stream.next().await?, Event::Standing(_)) {}
        }
    }
}

/// What we are to a device that does not take us for its primary, for people.
fn standing(standing: Standing) -> String {
    match standing {
        Standing::Backup { primary } => {
            format!("another controller is the device's primary, with election id {primary}; waiting for it to leave")
        }
        Standing::Vacant { .. } => "the device has no primary any more".into(),
        Standing::Primary | Standing::Unknown => "the device does not say who is primary".into(),
    }
}

/// A device with somebody else's program is left alone.
async fn foreign(client: &Client) -> Result<(), End> {
    let Some(info) = client.p4info().await? else { return Ok(()) };
    let name = info.pkg_info.as_ref().map_or("", |package| package.name.as_str());
    if name == PROGRAM || info.tables.is_empty() {
        return Ok(());
    }
    let name = if name.is_empty() { "without a name" } else { name };
    Err(End::Device(format!(
        "the device has another program ({name}, {} tables): take it off, and it gets Bulkhead's",
        info.tables.len()
    )))
}

/// What is known of a connected device.
struct Session {
    client: Client,
    info: Info,
    /// Where entries have their place in its program.
    places: Places,
    /// What it is to have beside the program.
    underlay: Vec<Row>,
    /// What it has, as far as it was read or acknowledged.
    have: Program,
    /// Entries that are ours and mean nothing.
    aliens: Vec<TableEntry>,
    /// What was done about packets.
    errands: Errands,
    began: Instant,
}

impl Session {
    async fn command(&mut self, command: Command) -> Result<Option<Report>, End> {
        Ok(match command {
            Command::Read => Some(self.read().await?),
            Command::Apply { step, delta, ahead } => Some(match self.apply(&delta, ahead.iter()).await? {
                Ok(()) => Report::Applied { step },
                Err(reason) => Report::Refused { step, reason },
            }),
            Command::Count => Some(match self.count().await {
                Ok(counters) => Report::Counters(counters),
                Err(error) => Report::NotCounted(error.to_string()),
            }),
            // Nobody hears probes of tunnels here, and no links are looked for.
            Command::Probe(_) | Command::Discover(_) => None,
        })
    }

    /// Does what is to be done about a packet, and says what is to be reported. If there is no room for an answer it is lost,
    /// as any packet may be.
    fn packet(&mut self, stream: &Stream, packet: &PacketIn) -> Result<Vec<Report>, Error> {
        let (out, reports) = self.errands.packet(packet, &self.info, self.began.elapsed());
        match out.map(|out| stream.send_packet(&self.info, out)) {
            Some(Err(error)) if !matches!(error, Error::Busy { .. }) => Err(error),
            _ => Ok(reports),
        }
    }

    fn not_reported(&mut self, report: Option<Report>) {
        if let Some(Report::Logged(logged)) = report {
            self.errands.not_logged(&logged);
        }
    }

    /// Sets how many packets a second the device may send us, and that it sends us copies: what of that it has not yet.
    async fn limit(&self) -> Result<(), End> {
        let refused = |why: String| End::Device(format!("packets to the controller: {why}"));
        let entity = |kind| Entity { entity: Some(kind) };
        for (meter, most) in [(controller::TOLD, REJECTS_PER_SECOND), (controller::LOG, LOGS_PER_SECOND)] {
            let wanted = controller::rate(meter, most, &self.info);
            let wanted = wanted.map_err(|missing| refused(missing.to_string()))?;
            let pattern = entity(Kind::MeterEntry(MeterEntry { config: None, ..wanted }));
            let wanted = entity(Kind::MeterEntry(wanted));
            if !self.client.read(vec![pattern]).await?.contains(&wanted) {
                self.set(Type::Modify, wanted).await?.map_err(refused)?;
            }
        }
        let copies = entity(Kind::PacketReplicationEngineEntry(controller::copies()));
        // Not all devices let sessions be read.
        if self.client.read(vec![copies.clone()]).await.is_ok_and(|read| read.contains(&copies)) {
            return Ok(());
        }
        match self.set(Type::Modify, copies.clone()).await? {
            Ok(()) => Ok(()),
            Err(_) => self.set(Type::Insert, copies).await?.map_err(refused),
        }
    }

    async fn set(&self, change: Type, entity: Entity) -> Result<Result<(), String>, Error> {
        let update = Update { r#type: change.into(), entity: Some(entity) };
        Ok(self.write(vec![update]).await?.into_iter().collect())
    }

    /// The entries of all tables that are not their default ones.
    async fn entries(&self, counters: bool) -> Result<Vec<TableEntry>, Error> {
        let pattern = TableEntry { counter_data: counters.then(CounterData::default), ..TableEntry::default() };
        let read = self.client.read(vec![Entity { entity: Some(Kind::TableEntry(pattern)) }]).await?;
        let entries = read.into_iter().filter_map(|entity| match entity.entity {
            Some(Kind::TableEntry(entry)) if !entry.is_default_action => Some(entry),
            _ => None,
        });
        Ok(entries.collect())
    }

    /// What the device has. What stands beside the program is put right at once: without it that would be of no use.
    async fn read(&mut self) -> Result<Report, End> {
        self.have = Program::new();
        self.aliens.clear();
        self.limit().await?;
        let is_beside = |entry: &TableEntry| self.info.table(entry.table_id).is_some_and(is_beside);
        let (beside, entries): (Vec<_>, Vec<_>) = self.entries(false).await?.into_iter().partition(is_beside);
        let missing = |missing| End::Device(format!("the underlay: {missing}"));
        for batch in batches(updates(&beside, &self.underlay, &self.info).map_err(missing)?) {
            if let Some(why) = self.write(batch).await?.into_iter().find_map(Result::err) {
                return Err(End::Device(format!("the underlay: {why}")));
            }
        }
        for entry in entries {
            match lift(&entry, &self.info) {
                Ok(lifted) => drop(self.have.insert(lifted)),
                // In a program of ours nobody else has anything to say: what he wrote would stand in our way.
                Err(LiftError::Foreign | LiftError::Table(_) | LiftError::Strange(_)) => self.aliens.push(entry),
            }
        }
        Ok(Report::Actual { program: self.have.clone(), alien: self.aliens.len() })
    }

    async fn write(&self, batch: Vec<Update>) -> Result<Vec<Result<(), String>>, Error> {
        let results = self.client.write(&self.info, batch, Atomicity::ContinueOnError).await?;
        let said = |error: UpdateError| format!("the device refused an entry: {}", error.why);
        Ok(results.into_iter().map(|result| result.map_err(said)).collect())
    }

    async fn count(&self) -> Result<Vec<Counter>, Error> {
        let mut sums: BTreeMap<(Cause, bool), (u64, u64)> = BTreeMap::new();
        for entry in self.entries(true).await? {
            let (Some(data), Ok(lifted)) = (&entry.counter_data, lift(&entry, &self.info)) else { continue };
            let number = |count: i64| u64::try_from(count).unwrap_or(0);
            let sum = sums.entry((lifted.cause, layout::drops(&lifted))).or_default();
            *sum = (sum.0 + number(data.packet_count), sum.1 + number(data.byte_count));
        }
        let counter = |((cause, dropped), (packets, bytes))| Counter { cause, dropped, packets, bytes };
        Ok(sums.into_iter().map(counter).collect())
    }
}
