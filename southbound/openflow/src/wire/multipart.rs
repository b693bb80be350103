//! Questions whose answers may take several messages (OF 1.3.5 §7.3.5).

use super::group::GroupDesc;
use super::meter::Meter;
use super::port::Port;
use super::stats::{Aggregate, FlowStats, FlowStatsRequest, PortStats, TableStats};
use super::switch::Desc;
use super::{Put, Reader};
use crate::error::DecodeError;

const DESC: u16 = 0;
const FLOW: u16 = 1;
const AGGREGATE: u16 = 2;
const TABLE: u16 = 3;
const PORT_STATS: u16 = 4;
const GROUP_DESC: u16 = 7;
const METER_CONFIG: u16 = 10;
const PORT_DESC: u16 = 13;

/// `OFPMPF_REPLY_MORE`, and the same bit in requests.
const MORE: u16 = 1;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultipartRequest {
    /// What switch this is.
    Desc,
    /// Entries.
    Flow(FlowStatsRequest),
    /// The sum over entries.
    Aggregate(FlowStatsRequest),
    /// Tables' counters.
    Table,
    /// A port's counters, or all with [`super::port::reserved::ANY`].
    PortStats(u32),
    /// Groups.
    GroupDesc,
    /// A meter, or all with [`super::meter::ALL`].
    MeterConfig(u32),
    /// Ports.
    PortDesc,
    /// Something that is not known here.
    Other {
        /// Its type.
        kind: u16,
        /// What follows.
        body: Vec<u8>,
    },
}

impl MultipartRequest {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(match self {
            Self::Desc => DESC,
            Self::Flow(_) => FLOW,
            Self::Aggregate(_) => AGGREGATE,
            Self::Table => TABLE,
            Self::PortStats(_) => PORT_STATS,
            Self::GroupDesc => GROUP_DESC,
            Self::MeterConfig(_) => METER_CONFIG,
            Self::PortDesc => PORT_DESC,
            Self::Other { kind, .. } => *kind,
        });
        out.put_u16(0);
        out.put_zeros(4);
        match self {
            Self::Desc | Self::Table | Self::GroupDesc | Self::PortDesc => {}
            Self::Flow(request) | Self::Aggregate(request) => request.encode(out),
            Self::PortStats(number) | Self::MeterConfig(number) => {
                out.put_u32(*number);
                out.put_zeros(4);
            }
            Self::Other { body, .. } => out.extend_from_slice(body),
        }
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let kind = r.u16()?;
        let flags = r.u16()?;
        if flags != 0 {
            // Only table features have requests in several parts.
            return Err(DecodeError::value("multipart request flags", u64::from(flags)));
        }
        r.skip(4)?;
        let request = match kind {
            DESC => Self::Desc,
            FLOW => Self::Flow(FlowStatsRequest::decode(&mut r)?),
            AGGREGATE => Self::Aggregate(FlowStatsRequest::decode(&mut r)?),
            TABLE => Self::Table,
            PORT_STATS | METER_CONFIG => {
                let number = r.u32()?;
                r.skip(4)?;
                if kind == PORT_STATS { Self::PortStats(number) } else { Self::MeterConfig(number) }
            }
            GROUP_DESC => Self::GroupDesc,
            PORT_DESC => Self::PortDesc,
            _ => Self::Other { kind, body: r.rest().to_vec() },
        };
        r.finish()?;
        Ok(request)
    }
}

/// An answer, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultipartBody {
    /// The switch.
    Desc(Box<Desc>),
    /// Entries.
    Flow(Vec<FlowStats>),
    /// The sum over entries.
    Aggregate(Aggregate),
    /// Tables.
    Table(Vec<TableStats>),
    /// Ports' counters.
    PortStats(Vec<PortStats>),
    /// Groups.
    GroupDesc(Vec<GroupDesc>),
    /// Meters.
    MeterConfig(Vec<Meter>),
    /// Ports.
    PortDesc(Vec<Port>),
    /// Something that is not known here.
    Other {
        /// Its type.
        kind: u16,
        /// What follows.
        body: Vec<u8>,
    },
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartReply {
    /// Whether the answer goes on in another message.
    pub more: bool,
    /// What this one brings.
    pub body: MultipartBody,
}

/// Reads elements until the end; each reader takes at least one byte or fails.
fn list<T>(
    mut r: Reader<'_>,
    element: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut elements = Vec::new();
    while !r.is_empty() {
        elements.push(element(&mut r)?);
    }
    Ok(elements)
}

impl MultipartReply {
    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(match &self.body {
            MultipartBody::Desc(_) => DESC,
            MultipartBody::Flow(_) => FLOW,
            MultipartBody::Aggregate(_) => AGGREGATE,
            MultipartBody::Table(_) => TABLE,
            MultipartBody::PortStats(_) => PORT_STATS,
            MultipartBody::GroupDesc(_) => GROUP_DESC,
            MultipartBody::MeterConfig(_) => METER_CONFIG,
            MultipartBody::PortDesc(_) => PORT_DESC,
            MultipartBody::Other { kind, .. } => *kind,
        });
        out.put_u16(if self.more { MORE } else { 0 });
        out.put_zeros(4);
        match &self.body {
            MultipartBody::Desc(desc) => desc.encode(out),
            MultipartBody::Flow(all) => all.iter().for_each(|one| one.encode(out)),
            MultipartBody::Aggregate(sum) => sum.encode(out),
            MultipartBody::Table(all) => all.iter().for_each(|one| one.encode(out)),
            MultipartBody::PortStats(all) => all.iter().for_each(|one| one.encode(out)),
            MultipartBody::GroupDesc(all) => all.iter().for_each(|one| one.encode(out)),
            MultipartBody::MeterConfig(all) => all.iter().for_each(|one| one.encode_config(out)),
            MultipartBody::PortDesc(all) => all.iter().for_each(|one| one.encode(out)),
            MultipartBody::Other { body, .. } => out.extend_from_slice(body),
        }
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, flags) = (r.u16()?, r.u16()?);
        r.skip(4)?;
        let body = match kind {
            DESC => {
                let desc = Desc::decode(&mut r)?;
                r.finish()?;
                MultipartBody::Desc(Box::new(desc))
            }
            FLOW => MultipartBody::Flow(list(r, FlowStats::decode)?),
            AGGREGATE => {
                let sum = Aggregate::decode(&mut r)?;
                r.finish()?;
                MultipartBody::Aggregate(sum)
            }
            TABLE => MultipartBody::Table(list(r, TableStats::decode)?),
            PORT_STATS => MultipartBody::PortStats(list(r, PortStats::decode)?),
            GROUP_DESC => MultipartBody::GroupDesc(list(r, GroupDesc::decode)?),
            METER_CONFIG => MultipartBody::MeterConfig(list(r, Meter::decode_config)?),
            PORT_DESC => MultipartBody::PortDesc(list(r, Port::decode)?),
            _ => MultipartBody::Other { kind, body: r.rest().to_vec() },
        };
        Ok(Self { more: flags & MORE != 0, body })
    }
}

impl MultipartBody {
    /// Adds the next part of the same answer; `Err` gives the part back if it is of another kind or cannot
    /// be in several parts.
    pub fn append(&mut self, next: Self) -> Result<(), Self> {
        match (self, next) {
            (Self::Flow(all), Self::Flow(mut next)) => all.append(&mut next),
            (Self::Table(all), Self::Table(mut next)) => all.append(&mut next),
            (Self::PortStats(all), Self::PortStats(mut next)) => all.append(&mut next),
            (Self::GroupDesc(all), Self::GroupDesc(mut next)) => all.append(&mut next),
            (Self::MeterConfig(all), Self::MeterConfig(mut next)) => all.append(&mut next),
            (Self::PortDesc(all), Self::PortDesc(mut next)) => all.append(&mut next),
            (Self::Other { kind, body }, Self::Other { kind: next_kind, body: mut next }) if *kind == next_kind => {
                body.append(&mut next);
            }
            (_, next) => return Err(next),
        }
        Ok(())
    }
}
