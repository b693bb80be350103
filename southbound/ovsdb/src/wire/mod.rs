//! Bytes and what they mean: JSON-RPC messages (RFC 7047 §4), values, operations (§5).

mod frame;
pub mod message;
pub mod operation;
pub mod value;

pub use frame::Framer;
pub use message::Message;

/// Most bytes of one message. The largest is the first answer of a monitor: some 300 bytes for each port and as much for
/// its interface, and a switch has at most 65,279 ports, hardly ever a tenth of them.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Deepest nesting of a message. An update of a map is at 9; a schema at 10.
pub const MAX_DEPTH: usize = 24;
