//! Devices to test against: the stand-in, and BMv2's simple_switch_grpc where that is on the PATH.

use bulkhead_p4_target::{Forward, Target, Told, device::State};
use bulkhead_p4runtime::{
    Client, ElectionId, Error, Info, Pipeline, Stream,
    entry::Key,
    info::parse_text,
    proto::p4::v1::{
        CounterData, Entity, P4Data, P4StructLike, PacketIn, PacketOut, TableEntry, Update, entity::Entity as Kind,
        p4_data, update::Type,
    },
    testing::{self, Random},
};
use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::sync::mpsc;

pub const TINY: &str = include_str!("../../../../southbound/p4runtime/tests/tiny.p4info.txtpb");
const TINY_JSON: &[u8] = include_bytes!("../../../../southbound/p4runtime/tests/tiny.json");

/// The number of every device.
pub const DEVICE: u64 = 1;

/// How long anything may take before a test has failed: machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A device that runs.
pub struct Device {
    pub name: &'static str,
    pub address: String,
    running: Running,
}

enum Running {
    StandIn(Target),
    Bmv2(#[allow(dead_code, reason = "it ends with this")] Process),
}

/// A process that ends with its owner.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Device {
    pub async fn stand_in() -> Self {
        Self::stand_in_at(any_port()).await
    }

    pub async fn stand_in_at(listen: SocketAddr) -> Self {
        let (tell, told) = mpsc::channel(64);
        let target = Target::start(listen, DEVICE, Box::new(Mirror { tell, packets: 0 }), told).await.unwrap();
        let address = target.address().to_string();
        Self { name: "the stand-in", address, running: Running::StandIn(target) }
    }

    /// The stand-in, and the real thing where it is there.
    pub async fn all() -> Vec<Self> {
        let mut all = vec![Self::stand_in().await];
        match Self::bmv2().await {
            Some(device) => all.push(device),
            None => println!("NOT TESTED against BMv2: simple_switch_grpc is not on the PATH"),
        }
        all
    }

    async fn bmv2() -> Option<Self> {
        let folders = env::var_os("PATH")?;
        let program =
            env::split_paths(&folders).map(|folder| folder.join("simple_switch_grpc")).find(|it| it.is_file())?;
        // It takes no port 0, so another one may take this port in between; then the next is tried.
        for _ in 0..10 {
            let address = TcpListener::bind(any_port()).unwrap().local_addr().unwrap().to_string();
            if let Some(device) = Self::bmv2_at(&program, &address).await {
                return Some(device);
            }
        }
        panic!("simple_switch_grpc does not start");
    }

    async fn bmv2_at(program: &PathBuf, address: &str) -> Option<Self> {
        let mut command = Command::new(program);
        command.args(["--no-p4", "--device-id", "1", "--", "--grpc-server-addr", address, "--cpu-port", "510"]);
        let mut process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let listens = async {
            loop {
                if tokio::net::TcpStream::connect(address).await.is_ok() {
                    return true;
                }
                if process.0.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let listens = tokio::time::timeout(PATIENCE, listens).await.unwrap();
        listens.then_some(Self { name: "BMv2", address: address.to_owned(), running: Running::Bmv2(process) })
    }

    pub fn is_stand_in(&self) -> bool {
        matches!(self.running, Running::StandIn(..))
    }

    pub async fn connect(&self, election: u128) -> Result<(Client, Stream), Error> {
        Client::connect(&self.address, DEVICE, ElectionId(election)).await
    }

    /// A primary with the test's program set.
    pub async fn primary(&self, election: u128) -> (Client, Stream) {
        let (client, stream) = self.connect(election).await.unwrap();
        client.ensure_pipeline(&tiny()).await.unwrap();
        (client, stream)
    }

    pub async fn stop(self) {
        if let Running::StandIn(target) = self.running {
            target.stop().await;
        }
    }
}

/// Sends every packet back, tells a digest of it, and counts it at every entry and counter.
#[derive(Debug)]
struct Mirror {
    tell: mpsc::Sender<Told>,
    packets: i64,
}

impl Forward for Mirror {
    fn verify(&self, _: &Info, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn program(&mut self, _: &State, _: &[u8]) {
        self.packets = 0;
    }

    fn changed(&mut self, _: &State, _: &[Update]) {}

    fn packet_out(&mut self, packet: PacketOut) {
        self.packets += 1;
        let bits = |bits: &[u8]| P4Data { data: Some(p4_data::Data::Bitstring(bits.to_vec())) };
        let members = vec![bits(&packet.payload[6..12]), bits(&packet.metadata[0].value)];
        let data = P4Data { data: Some(p4_data::Data::Struct(P4StructLike { members })) };
        let digest = Info::from_text(TINY).unwrap().digests().next().unwrap().id;
        self.tell.try_send(Told::Packet(PacketIn { payload: packet.payload, metadata: packet.metadata })).unwrap();
        self.tell.try_send(Told::Digest { digest, data }).unwrap();
    }

    fn hits(&self, _: u32, _: &Key) -> CounterData {
        CounterData { byte_count: 60 * self.packets, packet_count: self.packets }
    }

    fn count(&self, _: u32, _: u64) -> CounterData {
        self.hits(0, &Key { matches: Vec::new(), priority: 0 })
    }
}

pub fn tiny() -> Pipeline {
    Pipeline::new(parse_text(TINY).unwrap(), TINY_JSON.to_vec()).unwrap()
}

/// A valid insert into a table, without what the device counts or keeps apart.
pub fn insert_into(info: &Info, table: &str, random: &mut Random) -> Update {
    let mut entry = testing::entry(random, info, info.table_named(table).unwrap());
    entry.counter_data = None;
    testing::update(Type::Insert, entry)
}

pub fn any_entry() -> Vec<Entity> {
    vec![Entity { entity: Some(Kind::TableEntry(TableEntry::default())) }]
}

pub fn entry(entity: &Entity) -> &TableEntry {
    match &entity.entity {
        Some(Kind::TableEntry(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

/// Awaits something that must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}
