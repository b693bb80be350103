//! OpenFlow 1.3 with the extensions that Open vSwitch has: a codec and a session machine.
//!
//! Bytes go in, values come out, and the other way round; nothing here opens a socket, reads a clock, or knows
//! what the flows are for. [`wire`] has the messages, [`machine`] the session, [`text`] flows in ovs-ofctl's
//! syntax.

pub mod error;
pub mod machine;
pub mod text;
pub mod wire;

pub use error::{DecodeError, Fault, TextError};
pub use machine::{Config, Event, Session, SessionError};

pub use wire::action::{Action, Controller, Ct, CtZone, Subfield};
pub use wire::bundle::{BundleControl, BundleStep};
pub use wire::field::OxmField;
pub use wire::flow::{FlowCommand, FlowMod, FlowRemoved};
pub use wire::instruction::Instruction;
pub use wire::message::Msg;
pub use wire::multipart::{MultipartBody, MultipartReply, MultipartRequest};
pub use wire::oxm::{Match, Oxm, RawOxm};
pub use wire::stats::{FlowStats, FlowStatsRequest};
