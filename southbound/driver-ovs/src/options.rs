//! The Geneve option that carries the sender's identity. A switch has to be told which of its fields stands for it
//! (`NXT_TLV_TABLE_*`, nicira-ext.h) before an entry may name the field, and forgets it when it restarts.
//!
//! ```text
//!   ask --> Asked --- the table has ours ------------------> Mapped
//!             |  \--- neither field nor option are in use -> Adding --- no complaint: as Mapped
//!             |  \--- one of them is in use --------+          | complaint
//!             +------ the switch knows no options --+-------> Without(why)
//! ```

use bulkhead_openflow::{
    Msg, Session, SessionError,
    wire::{
        hello::ErrorMsg,
        tlv::{TlvCommand, TlvMap, TlvTable, TlvTableMod},
    },
};
use bulkhead_pipeline::{Action, Entry, Field, overlay};
use tracing::warn;

/// Our option, and `tun_metadata0`, the field of [`Field::TunIdentity`].
const OURS: TlvMap =
    TlvMap { class: overlay::OPTION_CLASS, kind: overlay::OPTION_TYPE, length: overlay::OPTION_LENGTH, index: 0 };

/// What is known of a switch's options. Numbers are transaction ids.
#[derive(Debug)]
pub(crate) enum Options {
    Asked(u32),
    Adding(u32),
    Mapped,
    Without(String),
}

impl Options {
    /// Asks a switch for its options.
    pub fn ask(session: &mut Session) -> Result<Self, SessionError> {
        Ok(Self::Asked(session.send(&Msg::TlvTableRequest)?))
    }

    /// Whether the switch has yet to say what it has. Once our option is on its way to it, entries may follow.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Asked(_))
    }

    /// What the switch has.
    pub fn table(&mut self, session: &mut Session, xid: u32, table: &TlvTable) -> Result<(), SessionError> {
        if !matches!(self, Self::Asked(asked) if *asked == xid) {
            return Ok(());
        }
        let option = |map: &TlvMap| (map.class, map.kind) == (OURS.class, OURS.kind);
        let taken = table.maps.iter().find(|map| map.index == OURS.index || option(map));
        *self = match taken {
            Some(map) if *map == OURS => Self::Mapped,
            Some(TlvMap { class, kind, length, index }) => Self::without(format!(
                "tun_metadata{index} stands for the option of class {class:#06x}, type {kind:#x}, {length} bytes"
            )),
            None => {
                let add = TlvTableMod { command: TlvCommand::Add, maps: vec![OURS] };
                Self::Adding(session.send(&Msg::TlvTableMod(add))?)
            }
        };
        Ok(())
    }

    /// Takes in an error; whether it was about this.
    pub fn error(&mut self, xid: u32, error: &ErrorMsg) -> bool {
        let ours = matches!(self, Self::Asked(asked) | Self::Adding(asked) if *asked == xid);
        if ours {
            *self = Self::without(error.describe());
        }
        ours
    }

    fn without(reason: String) -> Self {
        warn!(%reason, "the switch can have no identities in Geneve");
        Self::Without(reason)
    }

    /// Why the switch cannot have an entry, if it is for this.
    pub fn complaint(&self, entry: &Entry) -> Option<String> {
        match self {
            Self::Without(reason) if names_identity(entry) => {
                Some(format!("there can be no identity in Geneve on this switch: {reason}"))
            }
            _ => None,
        }
    }
}

fn names_identity(entry: &Entry) -> bool {
    let acts = |action: &Action| match action {
        Action::Set(field, _) => *field == Field::TunIdentity,
        Action::Copy { from, to } => [*from, *to].contains(&Field::TunIdentity),
        _ => false,
    };
    entry.key.matches.get(Field::TunIdentity).is_some() || entry.actions.iter().any(acts)
}
