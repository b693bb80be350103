//! Changes as they are told to whoever watches.

use crate::answer::ChangeLine;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The type of an event that says what changed; its data is a [`WatchEvent`].
pub const WATCH_CHANGE: &str = "change";

/// The type of the last event of a stream that the server ends; its data is a problem document that says why. A client
/// goes on from the last id that it was given, unless the problem is [`TOO_OLD`].
pub const WATCH_END: &str = "end";

/// The type of the problem that a revision is not kept any more: read everything anew.
pub const TOO_OLD: &str = "urn:bulkhead:problem:too-old";

/// One resource that changed, as far as whoever watches sees it: one that comes into what he selects is created for him,
/// and one that leaves it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WatchEvent {
    /// The revision that it is told of. Several changes of a resource in between are told as one.
    pub revision: u64,
    /// What happened to which.
    #[serde(flatten)]
    pub line: ChangeLine,
    /// The document as of then; as it last was, if it is deleted.
    #[schema(value_type = Object)]
    pub resource: Value,
}
