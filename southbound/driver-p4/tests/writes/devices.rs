//! Devices that are written to past the checks of the client: the stand-in, and BMv2 where that is on the PATH.

use super::{
    common::{PATIENCE, bmv2},
    model::{place, plain},
};
use bulkhead_driver_p4::{BMV2, P4INFO};
use bulkhead_p4_target::{Forward, Idle, Software, Target, device::Place};
use bulkhead_p4runtime::{
    Client, ElectionId, Info, Pipeline, Standing, Stream,
    info::parse_text,
    proto::{
        google::rpc,
        p4::v1::{
            self as p4, ActionProfileGroup, ActionProfileMember, CounterData, Entity, TableEntry, Update, WriteRequest,
            entity::Entity as Kind, p4_runtime_client::P4RuntimeClient,
            set_forwarding_pipeline_config_request::Action as Set,
        },
    },
};
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};

/// The number of every device.
pub const NUMBER: u64 = 1;

/// What its primary stands with.
pub const ELECTION: ElectionId = ElectionId(5);

/// A read that is refused where it has nothing to tell.
const NO_MEMBERS: &str = "read: members, where entries have sets";

/// A member that is told of more than once.
const COPIES: &str = "read: a member with a weight above 1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The stand-in, for any program.
    StandIn,
    /// The stand-in with its forwarding side, which takes only what entries of the pipeline are lowered to.
    Forwarding,
    Bmv2,
}

/// What a device is kept running by.
enum Running {
    Target(#[allow(dead_code, reason = "it ends with this")] Target),
    Bmv2(#[allow(dead_code, reason = "it ends with this")] bmv2::Switch),
}

pub struct Device {
    pub sort: Sort,
    pub address: String,
    pub client: Client,
    raw: P4RuntimeClient<Channel>,
    _stream: Stream,
    _running: Running,
}

pub fn pipeline() -> Pipeline {
    Pipeline::new(parse_text(P4INFO).unwrap(), BMV2.to_vec()).unwrap()
}

impl Device {
    /// All that there are, each with the program and nothing else.
    pub async fn all(sorts: &[Sort]) -> Vec<Self> {
        let mut all = Vec::new();
        for sort in sorts {
            let (address, running) = match sort {
                Sort::StandIn => target(Box::new(Idle)).await,
                Sort::Forwarding => target(Box::new(Software::default())).await,
                Sort::Bmv2 => match bmv2::Switch::start(0) {
                    Some(switch) => (switch.address.clone(), Running::Bmv2(switch)),
                    None => continue,
                },
            };
            let (client, stream) = primary(&address).await;
            client.set_pipeline(&pipeline(), Set::VerifyAndCommit).await.unwrap();
            let raw = P4RuntimeClient::connect(format!("http://{address}")).await.unwrap();
            all.push(Self { sort: *sort, address, client, raw, _stream: stream, _running: running });
        }
        all
    }

    /// Writes a batch, and says of each update with what it was refused, if it was.
    pub async fn send(&mut self, updates: Vec<Update>) -> Vec<Option<Code>> {
        let many = updates.len();
        let Err(status) = self.call(request(updates)).await else { return vec![None; many] };
        let details = rpc::Status::decode(status.details()).unwrap().details;
        if details.is_empty() && many == 1 {
            return vec![Some(status.code())];
        }
        assert_eq!(details.len(), many, "{status:?}");
        let code = |detail: prost_types::Any| {
            let code = Code::from_i32(p4::Error::decode(detail.value.as_slice()).unwrap().canonical_code);
            (code != Code::Ok).then_some(code)
        };
        details.into_iter().map(code).collect()
    }

    pub async fn call(&mut self, request: WriteRequest) -> Result<(), Status> {
        timeout(PATIENCE, self.raw.write(request)).await.unwrap().map(drop)
    }

    /// All that it has, each in one form; and what of it is read in another way than the specification says, by name.
    pub async fn read(&self, info: &Info) -> (BTreeMap<Place, Entity>, BTreeSet<&'static str>) {
        let counted = TableEntry { counter_data: Some(CounterData::default()), ..TableEntry::default() };
        let (mut all, mut otherwise) = (BTreeMap::new(), BTreeSet::new());
        for pattern in [
            Kind::TableEntry(counted),
            Kind::ActionProfileMember(ActionProfileMember::default()),
            Kind::ActionProfileGroup(ActionProfileGroup::default()),
        ] {
            let members = !matches!(pattern, Kind::TableEntry(_));
            let read = match self.client.read(vec![Entity { entity: Some(pattern) }]).await {
                Err(error) if members && self.sort == Sort::Bmv2 && error.code() == Some(Code::InvalidArgument) => {
                    otherwise.insert(NO_MEMBERS);
                    continue;
                }
                read => read.unwrap(),
            };
            for entity in read.iter().map(plain) {
                let Some(place) = place(&entity) else { continue };
                if let Some(twice) = all.insert(place, entity.clone()) {
                    assert!(self.sort == Sort::Bmv2 && members && twice == entity, "{twice:?}");
                    otherwise.insert(COPIES);
                }
            }
        }
        // Each table alone has the same ones.
        let mut apart = BTreeSet::new();
        for table in info.tables() {
            let pattern = Kind::TableEntry(TableEntry { table_id: table.id, ..TableEntry::default() });
            let read = self.client.read(vec![Entity { entity: Some(pattern) }]).await.unwrap();
            apart.extend(read.iter().filter_map(place));
        }
        let entries = all.keys().filter(|place| matches!(place, Place::Entry(..)));
        assert_eq!(entries.cloned().collect::<BTreeSet<_>>(), apart);
        (all, otherwise)
    }

    /// Whether it has a group of this number.
    pub async fn has_group(&self, pattern: &ActionProfileGroup) -> bool {
        let wanted = Entity { entity: Some(Kind::ActionProfileGroup(pattern.clone())) };
        // BMv2 says of a group that is not there that it is not. Number 0 stands for all of them.
        let read = self.client.read(vec![wanted.clone()]).await.unwrap_or_default();
        read.iter().any(|found| place(found) == place(&wanted))
    }
}

pub fn request(updates: Vec<Update>) -> WriteRequest {
    WriteRequest { device_id: NUMBER, election_id: Some(ELECTION.into()), updates, ..WriteRequest::default() }
}

async fn target(forward: Box<dyn Forward>) -> (String, Running) {
    let (_, told) = mpsc::channel(1);
    let target = Target::start(([127, 0, 0, 1], 0).into(), NUMBER, forward, told).await.unwrap();
    (target.address().to_string(), Running::Target(target))
}

async fn primary(address: &str) -> (Client, Stream) {
    let connected = async {
        loop {
            match Client::connect(address, NUMBER, ELECTION).await {
                Ok(connected) => return connected,
                // It has not begun to listen yet.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let (client, stream) = timeout(PATIENCE, connected).await.unwrap();
    assert_eq!(stream.standing(), Standing::Primary);
    (client, stream)
}
