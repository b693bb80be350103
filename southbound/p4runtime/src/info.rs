//! What a program lets a controller do, by number and by name: P4Info, read and found consistent once.
//!
//! [`Info`] is the only way in which the rest of the crate looks at P4Info. What it does not know, as direct
//! meters and registers, may stand in a P4Info and is passed over; what would make a check or a lookup wrong is an [`InfoError`].

use crate::{
    bytes,
    proto::p4::{
        config::v1::{self as config, P4Info, action_profile, action_ref, match_field, p4_ids::Prefix},
        v1 as p4,
    },
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

mod error;
mod read;
#[cfg(test)]
mod tests;

pub use error::InfoError;

/// Widest value that is taken, in bits. The widest header field in use has 128; a program with more than this is a
/// mistake or an attack.
pub const MAX_WIDTH: u32 = 2048;

/// Largest P4Info that is taken, in bytes, as text or binary. Ours has below 200 KiB; large programs of vendors have a few
/// MiB.
pub const MAX_INFO: usize = 16 << 20;

/// A program's objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    tables: BTreeMap<u32, Table>,
    actions: BTreeMap<u32, Action>,
    profiles: BTreeMap<u32, Profile>,
    counters: BTreeMap<u32, Counter>,
    direct_counters: BTreeMap<u32, DirectCounter>,
    meters: BTreeMap<u32, Meter>,
    digests: BTreeMap<u32, Digest>,
    packet_in: Vec<Value>,
    packet_out: Vec<Value>,
    names: BTreeMap<(Prefix, String), u32>,
}

/// A table (P4Runtime §6.4.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its number, as in entries.
    pub id: u32,
    /// Its full name, as "ingress.classify".
    pub name: String,
    /// Its key, in the order of the program.
    pub fields: Vec<Field>,
    /// The actions that it may call, by number.
    pub actions: BTreeMap<u32, Scope>,
    /// Most entries; `None` if the program does not say.
    pub size: Option<u64>,
    /// The action profile that its entries name instead of actions.
    pub profile: Option<u32>,
    /// Its direct counter.
    pub counter: Option<u32>,
    /// Its entries stand in the program.
    pub constant: bool,
    /// The action of a miss cannot be changed: it is this one.
    pub constant_default: Option<u32>,
    /// What a miss does until somebody changes it; `None` if P4Info does not say.
    pub default: Option<p4::Action>,
    /// Entries may time out.
    pub idle_timeout: bool,
}

impl Table {
    /// Whether its entries need a priority: one of its fields may match more than one value other than by prefix.
    #[must_use]
    pub fn needs_priority(&self) -> bool {
        self.fields.iter().any(|field| matches!(field.kind, Kind::Ternary | Kind::Range | Kind::Optional))
    }

    /// A field by number.
    #[must_use]
    pub fn field(&self, id: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.value.id == id)
    }

    /// A field by name.
    #[must_use]
    pub fn field_named(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.value.name == name)
    }
}

/// A part of a table's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Number, name and width.
    pub value: Value,
    /// How it matches.
    pub kind: Kind,
}

/// Something that takes a value: a field, a parameter, a packet's metadata, a digest's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its number, unique where it stands; of a digest's member its place, from 1.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// In bits, 1 to [`MAX_WIDTH`].
    pub width: u32,
}

/// How a field matches (P4Runtime §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One value.
    Exact,
    /// A prefix.
    Lpm,
    /// Value and mask.
    Ternary,
    /// From one value to another.
    Range,
    /// One value or any.
    Optional,
}

/// For what a table may call an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In entries and on a miss.
    Both,
    /// In entries only.
    Entries,
    /// On a miss only.
    Default,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Its number, as in entries.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its parameters, in the order of the program.
    pub params: Vec<Value>,
}

impl Action {
    /// A parameter by name.
    #[must_use]
    pub fn param_named(&self, name: &str) -> Option<&Value> {
        self.params.iter().find(|param| param.name == name)
    }
}

/// An action profile, or with groups an action selector (P4Runtime §6.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its number.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// The tables whose entries name it.
    pub tables: BTreeSet<u32>,
    /// It has groups.
    pub selector: bool,
    /// Most members, or weights; `None` if the program does not say.
    pub size: Option<u64>,
    /// Most in a group; `None` if the program does not say.
    pub max_group: Option<u32>,
    /// What a group's size is.
    pub group_size: GroupSize,
}

/// What counts towards the size of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSize {
    /// The weights of its members.
    Weights,
    /// Its members, each of which has at most this weight; `None`: any.
    Members(Option<u32>),
}

/// An array of counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Its number.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// How many.
    pub size: u64,
}

/// A counter for each entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectCounter {
    /// Its number.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// The table.
    pub table: u32,
}

/// An array of meters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Its number.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// How many.
    pub size: u64,
}

/// A digest: what the data plane tells in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Its number.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its members where it is a structure of bit strings, else nothing.
    pub members: Vec<Value>,
}

impl Info {
    /// Reads what p4c writes with `--p4runtime-files x.txtpb`.
    ///
    /// # Errors
    /// The text is too long or no P4Info, or see [`Info::new`].
    pub fn from_text(text: &str) -> Result<Self, InfoError> {
        Self::new(&parse_text(text)?)
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// The bytes are too many or no P4Info, or see [`Info::new`].
    pub fn from_binary(binary: &[u8]) -> Result<Self, InfoError> {
        within_limit(binary.len())?;
        Self::new(&P4Info::decode(binary).map_err(|error| InfoError::Binary(error.to_string()))?)
    }

    /// All tables, by number.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// All actions, by number.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.actions.values()
    }

    /// All action profiles, by number.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.values()
    }

    /// All arrays of counters, by number.
    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.counters.values()
    }

    /// All arrays of meters, by number.
    pub fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.meters.values()
    }

    /// All digests, by number.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.digests.values()
    }

    /// A table by number.
    #[must_use]
    pub fn table(&self, id: u32) -> Option<&Table> {
        self.tables.get(&id)
    }

    /// A table by full name.
    #[must_use]
    pub fn table_named(&self, name: &str) -> Option<&Table> {
        self.table(self.id(Prefix::Table, name)?)
    }

    /// An action by number.
    #[must_use]
    pub fn action(&self, id: u32) -> Option<&Action> {
        self.actions.get(&id)
    }

    /// An action by full name.
    #[must_use]
    pub fn action_named(&self, name: &str) -> Option<&Action> {
        self.action(self.id(Prefix::Action, name)?)
    }

    /// An action profile by number.
    #[must_use]
    pub fn profile(&self, id: u32) -> Option<&Profile> {
        self.profiles.get(&id)
    }

    /// An action profile by full name.
    #[must_use]
    pub fn profile_named(&self, name: &str) -> Option<&Profile> {
        self.profile(self.id(Prefix::ActionProfile, name)?)
    }

    /// An array of counters by number.
    #[must_use]
    pub fn counter(&self, id: u32) -> Option<&Counter> {
        self.counters.get(&id)
    }

    /// A direct counter by number.
    #[must_use]
    pub fn direct_counter(&self, id: u32) -> Option<&DirectCounter> {
        self.direct_counters.get(&id)
    }

    /// An array of meters by number.
    #[must_use]
    pub fn meter(&self, id: u32) -> Option<&Meter> {
        self.meters.get(&id)
    }

    /// An array of meters by full name.
    #[must_use]
    pub fn meter_named(&self, name: &str) -> Option<&Meter> {
        self.meter(self.id(Prefix::Meter, name)?)
    }

    /// A digest by number.
    #[must_use]
    pub fn digest(&self, id: u32) -> Option<&Digest> {
        self.digests.get(&id)
    }

    /// A digest by full name.
    #[must_use]
    pub fn digest_named(&self, name: &str) -> Option<&Digest> {
        self.digest(self.id(Prefix::Digest, name)?)
    }

    /// What goes with a packet to the controller.
    #[must_use]
    pub fn packet_in(&self) -> &[Value] {
        &self.packet_in
    }

    /// What goes with a packet from the controller.
    #[must_use]
    pub fn packet_out(&self) -> &[Value] {
        &self.packet_out
    }

    fn id(&self, kind: Prefix, name: &str) -> Option<u32> {
        self.names.get(&(kind, name.to_owned())).copied()
    }
}

/// What P4Info is, for its text form: its names.
static KIND: LazyLock<Result<MessageDescriptor, String>> = LazyLock::new(|| {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    let pool = DescriptorPool::decode(descriptors.as_slice()).map_err(|error| error.to_string())?;
    pool.get_message_by_name("p4.config.v1.P4Info").ok_or_else(|| "no such message".to_owned())
});

/// Reads P4Info as text, without looking whether it is consistent.
///
/// # Errors
/// The text is too long or no P4Info.
pub fn parse_text(text: &str) -> Result<P4Info, InfoError> {
    within_limit(text.len())?;
    let wrong = |error: &dyn std::fmt::Display| InfoError::Text(error.to_string());
    let kind = KIND.clone().map_err(|error| wrong(&error))?;
    let message = DynamicMessage::parse_text_format(kind, text).map_err(|error| wrong(&error))?;
    message.transcode_to().map_err(|error| wrong(&error))
}

fn within_limit(size: usize) -> Result<(), InfoError> {
    if size > MAX_INFO { Err(InfoError::TooLarge(size)) } else { Ok(()) }
}
