//! Why an entry has no form in Open vSwitch, and why a flow is no entry.

use bulkhead_openflow::SessionError;
use bulkhead_pipeline::{Field, Stage};
use bulkhead_topology::Port;
use thiserror::Error;

/// Why a session with a switch is ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndError {
    /// It cannot go on.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Without its entries there is nothing to compare with. The switch connects again, and is asked again.
    #[error("the switch refuses to tell its entries: {0}")]
    Read(String),
    /// It has been told of a newer controller, which alone may write (OF 1.3.5 §6.3.6).
    #[error("a newer controller has this switch ({0}): is another bulkheadd running?")]
    Role(String),
}

/// An entry that cannot be written to the switch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LowerError {
    /// It names a port that the switch does not have.
    #[error("the switch has no port {0}")]
    Port(Port),
    /// Its actions name ports both by name and by number; the cookie can remember only one way.
    #[error("names some out-ports by name and some by number")]
    MixedPorts,
    /// It uses a field without matching the header that has it (OF 1.3.5 §7.2.3.6).
    #[error("uses {} without matching what comes before it: {needs}", field.as_str())]
    Prerequisite {
        /// The field.
        field: Field,
        /// What the match has to say.
        needs: &'static str,
    },
    /// It masks a field that can only be matched exactly.
    #[error("matches {} under a mask", .0.as_str())]
    Mask(Field),
    /// It sets a field that no action can set.
    #[error("sets {}, which cannot be set", .0.as_str())]
    NotSettable(Field),
    /// It sets a field to more than it holds.
    #[error("sets {} to {value:#x}, which does not fit", field.as_str())]
    TooWide {
        /// The field.
        field: Field,
        /// The value.
        value: u128,
    },
    /// It chooses among ports that are not at least two, each once and in order.
    #[error("chooses among {0} ports that are not two or more, each once and in order")]
    Choice(usize),
    /// It chooses among ports that no other entry does, and every number of a group is taken.
    #[error("the switch has no number left for another group of ports")]
    Groups,
    /// It sets bits of a field that no one action can set.
    #[error("sets bits {mask:#x} of {} to {value:#x}", field.as_str())]
    Bits {
        /// The field.
        field: Field,
        /// The value.
        value: u128,
        /// The bits.
        mask: u128,
    },
    /// It copies between fields of different widths.
    #[error("copies {} into {} of another width", from.as_str(), to.as_str())]
    Widths {
        /// Read from.
        from: Field,
        /// Written to.
        to: Field,
    },
    /// It does more to a copy than set fields.
    #[error("does more to a copy than set fields")]
    Copy,
    /// It goes to a stage that is not a later one.
    #[error("goes back to {}", .0.spec().name)]
    Backwards(Stage),
    /// The tracker takes the packet, yet an action or no stage follows.
    #[error("does something after the tracker took the packet")]
    AfterTracker,
    /// A clause whose numbers do not make a conjunction, or that comes with something else.
    #[error("is clause {k} of {n}, or does more than that")]
    Clause {
        /// Which.
        k: u8,
        /// Of how many.
        n: u8,
    },
}

/// A flow with our cookie that is no entry of this pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LiftError {
    /// The cookie is not one that this version writes.
    #[error("cookie {0:#018x} is of another layout or means nothing")]
    Cookie(u64),
    /// The table is no stage.
    #[error("table {0} is no stage")]
    Table(u8),
    /// It matches what no entry matches.
    #[error("matches {0}")]
    Match(String),
    /// It does what no entry does.
    #[error("does {0}")]
    Action(String),
}
