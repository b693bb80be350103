//! What goes with packets to the controller and from it, by the names of P4Info: packets that were dropped and whose
//! senders are to be told, and what they are told; and packets about which lines are written.
//!
//! Pure, and for both ends: a device that forwards in software writes what the driver reads. Whatever a device says is
//! checked: nothing is answered that it contradicts itself in, and an answer goes to nobody but that device.

use crate::{
    layout,
    lower::Missing,
    underlay::{address, ip},
};
use bulkhead_dataplane::reject::{self, Why};
use bulkhead_p4runtime::{
    bytes,
    info::{Info, Value},
    proto::p4::v1::{
        CloneSessionEntry, Index, MeterConfig, MeterEntry, PacketMetadata, PacketReplicationEngineEntry, Replica,
        packet_replication_engine_entry as pre, replica,
    },
};
use bulkhead_pipeline::{
    Cause, identity,
    overlay::{REPLY_MAC, Tunnel},
    vlan,
    wire::Header,
};
use bulkhead_topology::Port;
use std::net::IpAddr;

/// The port that leads to the controller.
pub const PORT: u32 = bulkhead_topology::underlay::CONTROLLER_PORT;
/// What limits packets on their way to the controller.
pub const METER: &str = "ingress.to_controller";
/// Of these meters, the one of packets whose senders are told.
pub const TOLD: u64 = 0;
/// And that of packets about which lines are written.
pub const LOG: u64 = 1;
/// The session that copies packets which go on their way.
pub const COPIES: u32 = 1;

/// What says which rules a line is about.
const LINES: [&str; 4] = ["log_staged_egress", "log_egress", "log_staged_ingress", "log_ingress"];

// What the sender of a packet is told.
const REJECT: u128 = 1;
const EXPIRED: u128 = 2;
const NO_ROUTE: u128 = 3;
const TOO_BIG: u128 = 4;

/// By where a packet comes or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A wire's port.
    Port(u32),
    /// A tunnel: the far end, and what the header in front says.
    Tunnel(Header),
}

/// A packet that goes no further, and whose sender is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Why,
    /// Where it came in.
    pub came: Way,
    /// The tag that was taken off it; 0 is none.
    pub vlan: u16,
    /// Identity of who sent it.
    pub asker: u32,
    /// Identity of who it was for; 0 if nobody looked.
    pub asked: u32,
}

/// What a device tells with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Where the packet came in.
    pub came: Way,
    /// What its sender is to be told, if anything.
    pub refused: Option<Refused>,
    /// The rules that a line is written about, in the order of stages, and whether they dropped it.
    pub lines: Vec<(Cause, bool)>,
}

impl Told {
    /// What a device says with a packet; `None` if that is not what the program, as `info` has it, would.
    pub fn of(said: &[PacketMetadata], info: &Info) -> Option<Self> {
        let said = Said { said, fields: info.packet_in() };
        let came = Way::of(said.number("in_port")?, said.header("tun_src")?)?;
        let refused = match said.number("told")? {
            0 => None,
            _ => Some(Refused::read(&said, came)?),
        };
        let mut lines = Vec::new();
        for name in LINES {
            match said.number(name)? {
                0 => {}
                bits => lines.push(layout::logged(bits)?),
            }
        }
        Some(Self { came, refused, lines })
    }

    /// What a device says; `log` is what entries said that a line is to be about, by the sort of their stages.
    ///
    /// # Errors
    /// The program, as `info` has it, says something else.
    pub fn metadata(
        came: Way,
        refused: Option<&Refused>,
        log: impl Fn(&str) -> u128,
        info: &Info,
    ) -> Result<Vec<PacketMetadata>, Missing> {
        let nothing = ["told", "vlan", "teller", "mtu", "asker", "asked"].map(|name| (name, 0));
        let values = refused.map_or(nothing, Refused::values);
        let lines = LINES.into_iter().map(|name| (name, log(name.trim_start_matches("log_"))));
        write(info.packet_in(), values.into_iter().chain(came.values("in_port", "tun_src")).chain(lines))
    }
}

impl Refused {
    fn read(said: &Said<'_>, came: Way) -> Option<Self> {
        let teller = ip(said.number("teller")?);
        let mtu = said.number("mtu")?.try_into().ok()?;
        let why = match said.number("told")? {
            REJECT => Why::Refused,
            EXPIRED => Why::Expired(teller),
            NO_ROUTE => Why::NoRoute(teller),
            TOO_BIG => Why::TooBig(mtu),
            _ => return None,
        };
        let identity = |name| said.number(name).and_then(|value| u32::try_from(value).ok());
        let vlan = u16::try_from(said.number("vlan")?).ok().filter(|id| u128::from(*id) <= vlan::ID)?;
        Some(Self { why, came, vlan, asker: identity("asker")?, asked: identity("asked")? })
    }

    fn values(&self) -> [(&'static str, u128); 6] {
        let none = IpAddr::V6(0.into());
        let (told, teller, mtu) = match self.why {
            Why::Refused => (REJECT, none, 0),
            Why::Expired(from) => (EXPIRED, from, 0),
            Why::NoRoute(from) => (NO_ROUTE, from, 0),
            Why::TooBig(mtu) => (TOO_BIG, none, mtu),
        };
        [
            ("told", told),
            ("vlan", self.vlan.into()),
            ("teller", address(teller)),
            ("mtu", mtu.into()),
            ("asker", self.asker.into()),
            ("asked", self.asked.into()),
        ]
    }

    /// What its sender is sent, and by which way; `None` if nothing may be said. By a tunnel it goes back as any packet of
    /// who it was for.
    pub fn answer(&self, frame: &[u8]) -> Option<(Way, Vec<u8>)> {
        let data = reject::answer(frame, self.why)?;
        let Way::Tunnel(came) = self.came else { return Some((self.came, reject::tagged(data, self.vlan))) };
        let mut data = data;
        if self.asker != identity::EXTERNAL {
            // The switch there is told that it is an answer.
            data.splice(..REPLY_MAC.0.len().min(data.len()), REPLY_MAC.0);
        }
        let identity = match came.tunnel {
            Tunnel::Geneve => self.asked,
            // Where an identity came along, one goes along.
            Tunnel::Vxlan if came.identity != 0 => self.asked & 0xffff,
            Tunnel::Vxlan => 0,
        };
        Some((Way::Tunnel(Header { identity, ..came }), data))
    }
}

impl Way {
    /// By the port with this number, or by its tunnel.
    fn of(port: u128, header: (IpAddr, u32, u32)) -> Option<Self> {
        let (far, vni, identity) = header;
        match layout::port_of(port)? {
            Port::Number(number) => Some(Self::Port(number)),
            port => Some(Self::Tunnel(Header { tunnel: Tunnel::of(&port)?, far, vni, identity })),
        }
    }

    fn values(&self, port: &'static str, far: &'static str) -> [(&'static str, u128); 4] {
        let (number, header) = match self {
            Self::Port(number) => ((*number).into(), None),
            Self::Tunnel(header) => (layout::port_number(&header.tunnel.port()).unwrap_or(0), Some(header)),
        };
        let of = |value: fn(&Header) -> u128| header.map_or(0, value);
        [
            (port, number),
            (far, of(|header| address(header.far))),
            ("tun_id", of(|header| header.vni.into())),
            ("tun_identity", of(|header| header.identity.into())),
        ]
    }

    /// What the controller says with a packet that is to leave this way.
    ///
    /// # Errors
    /// The program, as `info` has it, wants something else.
    pub fn metadata(&self, info: &Info) -> Result<Vec<PacketMetadata>, Missing> {
        write(info.packet_out(), self.values("port", "tun_dst").into_iter())
    }

    /// What the controller says; `None` if that is not what the program, as `info` has it, takes.
    pub fn leaving(said: &[PacketMetadata], info: &Info) -> Option<Self> {
        let said = Said { said, fields: info.packet_out() };
        Self::of(said.number("port")?, said.header("tun_dst")?)
    }
}

/// The setting of a meter: so many packets in a second.
///
/// # Errors
/// The program, as `info` has it, has no such meter.
pub fn rate(meter: u64, per_second: u32, info: &Info) -> Result<MeterEntry, Missing> {
    let missing = || Missing::Table(METER.to_owned());
    let found = info.meter_named(METER).filter(|found| meter < found.size).ok_or_else(missing)?;
    let rate = i64::from(per_second);
    let index = Index { index: i64::try_from(meter).map_err(|_| missing())? };
    let config = MeterConfig { cir: rate, cburst: rate, pir: rate, pburst: rate, ..MeterConfig::default() };
    Ok(MeterEntry { meter_id: found.id, index: Some(index), config: Some(config) })
}

/// The session that copies packets for the controller.
pub fn copies() -> PacketReplicationEngineEntry {
    // Devices know ports by number here, and by bytes since P4Runtime 1.4 (§9.5).
    let replica = Replica { port_kind: Some(replica::PortKind::EgressPort(PORT)), instance: 1 };
    let session = CloneSessionEntry { session_id: COPIES, replicas: vec![replica], ..CloneSessionEntry::default() };
    PacketReplicationEngineEntry { r#type: Some(pre::Type::CloneSessionEntry(session)) }
}

/// What is said with a packet.
struct Said<'a> {
    said: &'a [PacketMetadata],
    fields: &'a [Value],
}

impl Said<'_> {
    /// The value of a field, if it is there once and no wider than it may be. Devices may put zeros in front.
    fn number(&self, name: &str) -> Option<u128> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        let mut values = self.said.iter().filter(|one| one.metadata_id == field.id);
        let value = bytes::minimal(&values.next()?.value);
        let fits = bytes::bits(value) <= field.width as usize && values.next().is_none();
        bytes::to_u128(value).filter(|_| fits)
    }

    /// Far end, VNI and identity.
    fn header(&self, far: &str) -> Option<(IpAddr, u32, u32)> {
        let number = |name| self.number(name).and_then(|value| u32::try_from(value).ok());
        Some((ip(self.number(far)?), number("tun_id")?, number("tun_identity")?))
    }
}

fn write(fields: &[Value], values: impl Iterator<Item = (&'static str, u128)>) -> Result<Vec<PacketMetadata>, Missing> {
    let one = |(name, value)| {
        let field = fields.iter().find(|field| field.name == name);
        let field = field.ok_or(Missing::Field { table: "of packets".to_owned(), field: name })?;
        Ok(PacketMetadata { metadata_id: field.id, value: bytes::from_u128(value) })
    };
    let mut said: Vec<PacketMetadata> = values.map(one).collect::<Result<_, Missing>>()?;
    said.sort_unstable_by_key(|one| one.metadata_id);
    Ok(said)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
