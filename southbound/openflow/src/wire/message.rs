//! All messages under one roof.

use super::async_config::{AsyncConfig, Role};
use super::bundle::{self, BundleControl};
use super::flow::{FlowMod, FlowRemoved};
use super::group::GroupMod;
use super::header::{self, Header, VERSION, experimenter, kind};
use super::hello::{ErrorMsg, Hello};
use super::meter::MeterMod;
use super::multipart::{MultipartReply, MultipartRequest};
use super::packet::{PacketIn, PacketIn2, PacketOut};
use super::port::PortStatus;
use super::switch::{Features, SwitchConfig};
use super::tlv::{TlvTable, TlvTableMod};
use super::{Put, Reader};
use crate::error::{DecodeError, Fault};

/// Nicira's message types (nicira-ext.h, ofp-msgs.h).
mod nicira {
    pub const SET_PACKET_IN_FORMAT: u32 = 16;
    pub const SET_CONTROLLER_ID: u32 = 20;
    pub const TLV_TABLE_MOD: u32 = 24;
    pub const TLV_TABLE_REQUEST: u32 = 25;
    pub const TLV_TABLE_REPLY: u32 = 26;
    pub const PACKET_IN2: u32 = 30;
}

/// A message without its transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Msg {
    /// The versions that the sender speaks.
    Hello(Hello),
    /// A complaint.
    Error(ErrorMsg),
    /// Are you there?
    EchoRequest(Vec<u8>),
    /// I am; with the same bytes.
    EchoReply(Vec<u8>),
    /// Who are you?
    FeaturesRequest,
    /// The switch.
    FeaturesReply(Features),
    /// Asks for the configuration.
    GetConfigRequest,
    /// The configuration.
    GetConfigReply(SwitchConfig),
    /// Changes the configuration.
    SetConfig(SwitchConfig),
    /// A packet for the controller.
    PacketIn(PacketIn),
    /// An entry went.
    FlowRemoved(FlowRemoved),
    /// A port changed.
    PortStatus(PortStatus),
    /// A packet from the controller.
    PacketOut(PacketOut),
    /// Changes entries.
    FlowMod(FlowMod),
    /// Changes a group.
    GroupMod(GroupMod),
    /// Changes a meter.
    MeterMod(MeterMod),
    /// A question.
    MultipartRequest(MultipartRequest),
    /// Its answer.
    MultipartReply(MultipartReply),
    /// Answer when all before this is done.
    BarrierRequest,
    /// All before the request is done.
    BarrierReply,
    /// Asks for a role.
    RoleRequest(Role),
    /// The role that is given.
    RoleReply(Role),
    /// Asks which news are sent.
    GetAsyncRequest,
    /// Which news are sent.
    GetAsyncReply(AsyncConfig),
    /// Changes which news are sent.
    SetAsync(AsyncConfig),
    /// A bundle's beginning or end (ONF).
    BundleControl(BundleControl),
    /// Adds a message to a bundle (ONF); both have the same transaction id, which an error then carries.
    BundleAdd {
        /// The bundle.
        id: u32,
        /// [`bundle::flags`].
        flags: u16,
        /// The message.
        message: Box<Msg>,
    },
    /// Changes the table of tunnel options (Nicira).
    TlvTableMod(TlvTableMod),
    /// Asks for the table of tunnel options (Nicira).
    TlvTableRequest,
    /// The table of tunnel options (Nicira).
    TlvTableReply(TlvTable),
    /// Which `controller(id=...)` actions are for this connection (Nicira).
    SetControllerId(u16),
    /// Which kind of packet-in is wanted (Nicira): 0 OpenFlow's, 2 [`PacketIn2`].
    SetPacketInFormat(u32),
    /// A packet for the controller (Nicira).
    PacketIn2(PacketIn2),
    /// An experimenter's message that is not known here.
    Experimenter {
        /// Whose.
        experimenter: u32,
        /// Its type.
        kind: u32,
        /// What follows.
        data: Vec<u8>,
    },
    /// A message type that is not known here.
    Other {
        /// Its type.
        kind: u8,
        /// What follows the header.
        data: Vec<u8>,
    },
}

fn put_experimenter(out: &mut Vec<u8>, experimenter: u32, kind: u32) {
    out.put_u32(experimenter);
    out.put_u32(kind);
}

/// Appends a flow-mod message; as [`Msg::FlowMod`], without moving it.
pub fn encode_flow_mod(flow_mod: &FlowMod, xid: u32, out: &mut Vec<u8>) {
    let start = header::begin(out, kind::FLOW_MOD, xid);
    flow_mod.encode(out);
    header::end(out, start);
}

/// Appends a message that adds to a bundle what `inner` appends with the same `xid`.
pub fn encode_bundle_add(id: u32, flags: u16, xid: u32, out: &mut Vec<u8>, inner: impl FnOnce(u32, &mut Vec<u8>)) {
    let start = header::begin(out, kind::EXPERIMENTER, xid);
    put_experimenter(out, experimenter::ONF, bundle::ADD);
    out.put_u32(id);
    out.put_zeros(2);
    out.put_u16(flags);
    inner(xid, out);
    header::end(out, start);
}

impl Msg {
    /// Its type on the wire.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Error(_) => kind::ERROR,
            Self::EchoRequest(_) => kind::ECHO_REQUEST,
            Self::EchoReply(_) => kind::ECHO_REPLY,
            Self::FeaturesRequest => kind::FEATURES_REQUEST,
            Self::FeaturesReply(_) => kind::FEATURES_REPLY,
            Self::GetConfigRequest => kind::GET_CONFIG_REQUEST,
            Self::GetConfigReply(_) => kind::GET_CONFIG_REPLY,
            Self::SetConfig(_) => kind::SET_CONFIG,
            Self::PacketIn(_) => kind::PACKET_IN,
            Self::FlowRemoved(_) => kind::FLOW_REMOVED,
            Self::PortStatus(_) => kind::PORT_STATUS,
            Self::PacketOut(_) => kind::PACKET_OUT,
            Self::FlowMod(_) => kind::FLOW_MOD,
            Self::GroupMod(_) => kind::GROUP_MOD,
            Self::MeterMod(_) => kind::METER_MOD,
            Self::MultipartRequest(_) => kind::MULTIPART_REQUEST,
            Self::MultipartReply(_) => kind::MULTIPART_REPLY,
            Self::BarrierRequest => kind::BARRIER_REQUEST,
            Self::BarrierReply => kind::BARRIER_REPLY,
            Self::RoleRequest(_) => kind::ROLE_REQUEST,
            Self::RoleReply(_) => kind::ROLE_REPLY,
            Self::GetAsyncRequest => kind::GET_ASYNC_REQUEST,
            Self::GetAsyncReply(_) => kind::GET_ASYNC_REPLY,
            Self::SetAsync(_) => kind::SET_ASYNC,
            Self::BundleControl(_)
            | Self::BundleAdd { .. }
            | Self::TlvTableMod(_)
            | Self::TlvTableRequest
            | Self::TlvTableReply(_)
            | Self::SetControllerId(_)
            | Self::SetPacketInFormat(_)
            | Self::PacketIn2(_)
            | Self::Experimenter { .. } => kind::EXPERIMENTER,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// Appends the whole message.
    pub fn encode(&self, xid: u32, out: &mut Vec<u8>) {
        if let Self::BundleAdd { id, flags, message } = self {
            return encode_bundle_add(*id, *flags, xid, out, |xid, out| message.encode(xid, out));
        }
        let start = header::begin(out, self.kind(), xid);
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Error(error) => error.encode(out),
            Self::EchoRequest(data) | Self::EchoReply(data) => out.extend_from_slice(data),
            Self::FeaturesReply(features) => features.encode(out),
            Self::GetConfigReply(config) | Self::SetConfig(config) => config.encode(out),
            Self::PacketIn(packet_in) => packet_in.encode(out),
            Self::FlowRemoved(removed) => removed.encode(out),
            Self::PortStatus(status) => status.encode(out),
            Self::PacketOut(packet_out) => packet_out.encode(out),
            Self::FlowMod(flow_mod) => flow_mod.encode(out),
            Self::GroupMod(group_mod) => group_mod.encode(out),
            Self::MeterMod(meter_mod) => meter_mod.encode(out),
            Self::MultipartRequest(request) => request.encode(out),
            Self::MultipartReply(reply) => reply.encode(out),
            Self::RoleRequest(role) | Self::RoleReply(role) => role.encode(out),
            Self::GetAsyncReply(config) | Self::SetAsync(config) => config.encode(out),
            Self::FeaturesRequest
            | Self::GetConfigRequest
            | Self::BarrierRequest
            | Self::BarrierReply
            | Self::GetAsyncRequest => {}
            Self::BundleControl(control) => {
                put_experimenter(out, experimenter::ONF, bundle::CONTROL);
                control.encode(out);
            }
            Self::BundleAdd { .. } => {}
            Self::TlvTableMod(change) => {
                put_experimenter(out, experimenter::NICIRA, nicira::TLV_TABLE_MOD);
                change.encode(out);
            }
            Self::TlvTableRequest => put_experimenter(out, experimenter::NICIRA, nicira::TLV_TABLE_REQUEST),
            Self::TlvTableReply(table) => {
                put_experimenter(out, experimenter::NICIRA, nicira::TLV_TABLE_REPLY);
                table.encode(out);
            }
            Self::SetControllerId(id) => {
                put_experimenter(out, experimenter::NICIRA, nicira::SET_CONTROLLER_ID);
                out.put_zeros(6);
                out.put_u16(*id);
            }
            Self::SetPacketInFormat(format) => {
                put_experimenter(out, experimenter::NICIRA, nicira::SET_PACKET_IN_FORMAT);
                out.put_u32(*format);
            }
            Self::PacketIn2(packet_in) => {
                put_experimenter(out, experimenter::NICIRA, nicira::PACKET_IN2);
                packet_in.encode(out);
            }
            Self::Experimenter { experimenter, kind, data } => {
                put_experimenter(out, *experimenter, *kind);
                out.extend_from_slice(data);
            }
            Self::Other { data, .. } => out.extend_from_slice(data),
        }
        header::end(out, start);
    }

    /// Reads one whole message, which `bytes` must hold exactly. Of another version, only hello and error
    /// are understood.
    pub fn decode(bytes: &[u8]) -> Result<(Header, Self), DecodeError> {
        Self::decode_at(bytes, false)
    }

    fn decode_at(bytes: &[u8], in_bundle: bool) -> Result<(Header, Self), DecodeError> {
        let header = Header::decode(bytes)?;
        let length = usize::from(header.length);
        if length != bytes.len() {
            let fault = Fault::Length { declared: length, least: Header::LENGTH, most: bytes.len() };
            return Err(DecodeError::new("message", fault));
        }
        if header.version != VERSION && !matches!(header.kind, kind::HELLO | kind::ERROR) {
            return Err(DecodeError::value("version", u64::from(header.version)));
        }
        let mut r = Reader::new("message", bytes);
        r.skip(Header::LENGTH)?;
        let msg = match header.kind {
            kind::HELLO => Self::Hello(Hello::decode(r.at("hello"))?),
            kind::ERROR => Self::Error(ErrorMsg::decode(r.at("error"))?),
            kind::ECHO_REQUEST => Self::EchoRequest(r.rest().to_vec()),
            kind::ECHO_REPLY => Self::EchoReply(r.rest().to_vec()),
            kind::EXPERIMENTER => decode_experimenter(r.at("experimenter"), header.xid, in_bundle)?,
            kind::FEATURES_REQUEST => empty(r, Self::FeaturesRequest)?,
            kind::FEATURES_REPLY => Self::FeaturesReply(Features::decode(r.at("features-reply"))?),
            kind::GET_CONFIG_REQUEST => empty(r, Self::GetConfigRequest)?,
            kind::GET_CONFIG_REPLY => Self::GetConfigReply(SwitchConfig::decode(r.at("config-reply"))?),
            kind::SET_CONFIG => Self::SetConfig(SwitchConfig::decode(r.at("set-config"))?),
            kind::PACKET_IN => Self::PacketIn(PacketIn::decode(r.at("packet-in"))?),
            kind::FLOW_REMOVED => Self::FlowRemoved(FlowRemoved::decode(r.at("flow-removed"))?),
            kind::PORT_STATUS => Self::PortStatus(PortStatus::decode(r.at("port-status"))?),
            kind::PACKET_OUT => Self::PacketOut(PacketOut::decode(r.at("packet-out"))?),
            kind::FLOW_MOD => Self::FlowMod(FlowMod::decode(r.at("flow-mod"))?),
            kind::GROUP_MOD => Self::GroupMod(GroupMod::decode(r.at("group-mod"))?),
            kind::METER_MOD => Self::MeterMod(MeterMod::decode(r.at("meter-mod"))?),
            kind::MULTIPART_REQUEST => Self::MultipartRequest(MultipartRequest::decode(r.at("multipart request"))?),
            kind::MULTIPART_REPLY => Self::MultipartReply(MultipartReply::decode(r.at("multipart reply"))?),
            kind::BARRIER_REQUEST => empty(r, Self::BarrierRequest)?,
            kind::BARRIER_REPLY => empty(r, Self::BarrierReply)?,
            kind::ROLE_REQUEST => Self::RoleRequest(Role::decode(r.at("role-request"))?),
            kind::ROLE_REPLY => Self::RoleReply(Role::decode(r.at("role-reply"))?),
            kind::GET_ASYNC_REQUEST => empty(r, Self::GetAsyncRequest)?,
            kind::GET_ASYNC_REPLY => Self::GetAsyncReply(AsyncConfig::decode(r.at("async-reply"))?),
            kind::SET_ASYNC => Self::SetAsync(AsyncConfig::decode(r.at("set-async"))?),
            other => Self::Other { kind: other, data: r.rest().to_vec() },
        };
        Ok((header, msg))
    }
}

fn empty(r: Reader<'_>, msg: Msg) -> Result<Msg, DecodeError> {
    r.finish()?;
    Ok(msg)
}

fn decode_experimenter(mut r: Reader<'_>, xid: u32, in_bundle: bool) -> Result<Msg, DecodeError> {
    let (experimenter, kind) = (r.u32()?, r.u32()?);
    Ok(match (experimenter, kind) {
        (experimenter::ONF, bundle::CONTROL) => Msg::BundleControl(BundleControl::decode(r.at("bundle control"))?),
        (experimenter::ONF, bundle::ADD) => {
            if in_bundle {
                // A bundle in a bundle is an error for switches, and endless nesting for readers.
                return Err(DecodeError::new("bundle add", Fault::Depth(1)));
            }
            let mut r = r.at("bundle add");
            let id = r.u32()?;
            r.skip(2)?;
            let flags = r.u16()?;
            let inner = Header::decode(r.peek().rest())?;
            if inner.xid != xid {
                return Err(DecodeError::value("bundled message's xid", u64::from(inner.xid)));
            }
            // Properties may follow; they are passed over.
            let mut element = r.element("bundled message", usize::from(inner.length), Header::LENGTH)?;
            let (_, message) = Msg::decode_at(element.rest(), true)?;
            Msg::BundleAdd { id, flags, message: Box::new(message) }
        }
        (experimenter::NICIRA, nicira::TLV_TABLE_MOD) => Msg::TlvTableMod(TlvTableMod::decode(r.at("tlv table mod"))?),
        (experimenter::NICIRA, nicira::TLV_TABLE_REQUEST) => empty(r, Msg::TlvTableRequest)?,
        (experimenter::NICIRA, nicira::TLV_TABLE_REPLY) => Msg::TlvTableReply(TlvTable::decode(r.at("tlv table"))?),
        (experimenter::NICIRA, nicira::SET_CONTROLLER_ID) => {
            r.skip(6)?;
            Msg::SetControllerId(r.u16()?)
        }
        (experimenter::NICIRA, nicira::SET_PACKET_IN_FORMAT) => Msg::SetPacketInFormat(r.u32()?),
        (experimenter::NICIRA, nicira::PACKET_IN2) => Msg::PacketIn2(PacketIn2::decode(r.at("packet-in2"))?),
        _ => Msg::Experimenter { experimenter, kind, data: r.rest().to_vec() },
    })
}
