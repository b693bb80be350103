//! The switch-independent pipeline: its stages, the entries that fill them, and what they do.
//!
//! The compiler writes [`Entry`]s into [`Program`]s; drivers lower them to their protocol and lift what
//! they read back; [`walk`] is the reference of what a program does to a packet.

pub mod carry;
mod check;
mod effect;
mod entry;
mod field;
mod masks;
mod matching;
pub mod overlay;
mod packet;
mod program;
mod render;
mod stage;
mod stateless;
mod walk;
pub mod wire;

pub use check::{Violation, check};
pub use effect::{Effect, OPENING};
pub use entry::{Action, Builtin, Cause, Entry, EntryKey, Line, MAX_PORTS, Next, Output, SetBits, Value};
pub use field::{Field, conn, frag, identity, peer, vlan};
pub use masks::Masks;
pub use matching::{Fields, Match};
pub use packet::{Packet, PacketError, ethertype, ip_proto};
pub use program::{Delta, Program};
pub use render::{render_entry, render_pipeline, render_program};
pub use stage::{Stage, StageSpec};
pub use stateless::{Sort, walk_stateless};
pub use walk::{Memory, Outcome, Step, Tracker, Walk, walk};
