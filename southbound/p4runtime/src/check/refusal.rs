//! Why an update does not fit a program.

use thiserror::Error;
use tonic::Code;

/// What is wrong with an update, a read or a packet. Names are those of P4Info.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Neither insert, modify nor delete.
    #[error("the update says neither insert, modify nor delete")]
    NoType,
    /// Nothing, or something that is not known.
    #[error("there is no entity, or none that is known")]
    NoEntity,
    /// A direct counter without the entry that it belongs to.
    #[error("a direct counter without its table entry")]
    NoTableEntry,
    /// A number that the program does not have.
    #[error("there is no {kind} {id:#010x}")]
    Unknown {
        /// Of what kind.
        kind: &'static str,
        /// The number.
        id: u32,
    },
    /// A field or parameter that is not of this place.
    #[error("{place} has no part {id}")]
    UnknownPart {
        /// Which table, action or header.
        place: String,
        /// The number of the field or parameter.
        id: u32,
    },
    /// A field or parameter twice.
    #[error("{place}: {name:?} is there twice")]
    PartTwice {
        /// Which table, action or header.
        place: String,
        /// The field or parameter.
        name: String,
    },
    /// An exact field, or a parameter, that is not there.
    #[error("{place}: {name:?} is missing")]
    MissingPart {
        /// Which table, action or header.
        place: String,
        /// The field or parameter.
        name: String,
    },
    /// No value at all, or one with zeros in front.
    #[error("{place}: {name:?} is not in the fewest bytes")]
    NotCanonical {
        /// Which table, action or header.
        place: String,
        /// The field or parameter.
        name: String,
    },
    /// A value that is too large.
    #[error("{place}: {name:?} has {bits} bits of {width}")]
    TooWide {
        /// Which table, action or header.
        place: String,
        /// The field or parameter.
        name: String,
        /// What the value needs.
        bits: usize,
        /// What there is.
        width: u32,
    },
    /// A field that matches in another way than the program says.
    #[error("{table}: {field:?} does not match this way")]
    MatchKind {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
    /// A field that matches anything but is there (P4Runtime §9.1.1).
    #[error("{table}: {field:?} matches anything and must be left out")]
    DontCare {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
    /// Bits of a value that its mask or prefix does not have.
    #[error("{table}: {field:?} has bits outside of its mask")]
    OutsideMask {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
    /// A prefix longer than the field, or below zero.
    #[error("{table}: {field:?} has a prefix of {length} bits of {width}")]
    Prefix {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// Bits of the prefix.
        length: i32,
        /// Bits of the field.
        width: u32,
    },
    /// A range that ends before it begins.
    #[error("{table}: the range of {field:?} ends before it begins")]
    Range {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
    /// A priority where there may be none, or none where there must be one; it is above zero.
    #[error("{table}: priority {priority} {}", if *.needed { "where one above 0 is needed" } else { "where none may be" })]
    Priority {
        /// The table.
        table: String,
        /// The priority.
        priority: i32,
        /// Whether its entries need one.
        needed: bool,
    },
    /// An entry in a table without a key.
    #[error("{table} has no key, so it has no entries but the default one")]
    Keyless {
        /// The table.
        table: String,
    },
    /// A default entry with a match or a priority.
    #[error("{table}: a default entry has neither match nor priority")]
    DefaultKey {
        /// The table.
        table: String,
    },
    /// A default entry inserted or deleted: it is always there.
    #[error("{table}: the default entry can only be modified")]
    DefaultModify {
        /// The table.
        table: String,
    },
    /// A default entry that stands in the program.
    #[error("{table}: the default entry is constant")]
    ConstantDefault {
        /// The table.
        table: String,
    },
    /// A table whose entries stand in the program.
    #[error("{table} is constant")]
    ConstantTable {
        /// The table.
        table: String,
    },
    /// `is_const` in a write.
    #[error("{table}: nobody but the program can make an entry constant")]
    ConstantEntry {
        /// The table.
        table: String,
    },
    /// An entry, or a member, without an action.
    #[error("{place}: no action")]
    NoAction {
        /// Of which table or profile.
        place: String,
    },
    /// An action that the table does not have.
    #[error("{table} has no action {action:?}")]
    Foreign {
        /// The table.
        table: String,
        /// The action.
        action: String,
    },
    /// An action for entries only as the default, or the other way round.
    #[error("{table}: action {action:?} is not for this kind of entry")]
    Scope {
        /// The table.
        table: String,
        /// The action.
        action: String,
    },
    /// An action where a member or group must be named, or the other way round.
    #[error("{table}: an action of this kind does not fit the table")]
    ActionKind {
        /// The table.
        table: String,
    },
    /// A field that says something that the table does not have.
    #[error("{table} has no {what}")]
    NotThere {
        /// The table.
        table: String,
        /// What it lacks.
        what: &'static str,
    },
    /// Something that only the device says.
    #[error("{what} is the device's to say")]
    ReadOnly {
        /// Which field.
        what: &'static str,
    },
    /// A number below zero.
    #[error("a {what} below zero")]
    Negative {
        /// Which.
        what: &'static str,
    },
    /// The number 0 where one is chosen by the controller.
    #[error("0 is no number of a {what}")]
    Zero {
        /// Of what.
        what: &'static str,
    },
    /// Something that can only be modified.
    #[error("a {what} can only be modified")]
    ModifyOnly {
        /// What.
        what: &'static str,
    },
    /// A counter or a meter behind the end.
    #[error("{array} has {size} of them, none with index {index}")]
    Index {
        /// The array.
        array: String,
        /// How many it has.
        size: u64,
        /// Which was asked for.
        index: i64,
    },
    /// A group of a profile without groups.
    #[error("{profile} has no groups")]
    NoSelector {
        /// The profile.
        profile: String,
    },
    /// A weight that none may have.
    #[error("{place}: weight {weight} of a member")]
    Weight {
        /// Of which table or profile.
        place: String,
        /// The weight.
        weight: i32,
    },
    /// A member twice.
    #[error("{profile}: member {member} is there twice")]
    MemberTwice {
        /// The profile.
        profile: String,
        /// The member.
        member: u32,
    },
    /// A group that is or may become too large.
    #[error("{place}: a group of size {size}, {most} are possible")]
    GroupSize {
        /// Of which table or profile.
        place: String,
        /// Its size.
        size: i64,
        /// Most.
        most: u32,
    },
    /// A copy without a port.
    #[error("a copy goes to no port, or to one that is not in the fewest bytes")]
    Port,
    /// Two copies that are the same.
    #[error("two copies to the same port with the same instance")]
    CopyTwice,
}

impl Refusal {
    /// With what a device refuses it.
    ///
    /// P4Runtime §8.4 has a code of its own for values that do not fit, but §9.1.1 and §9.1.2 say INVALID_ARGUMENT for
    /// those of matches and parameters, and so do devices.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::ConstantDefault { .. } | Self::ConstantTable { .. } | Self::Scope { .. } => Code::PermissionDenied,
            Self::Index { index, .. } if *index >= 0 => Code::OutOfRange,
            _ => Code::InvalidArgument,
        }
    }
}
