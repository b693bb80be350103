//! The public API's data, version 1: resources as operators write them, and what the API answers.
//!
//! [`read`] turns YAML or JSON into checked resources of the policy model and findings with line and
//! column; [`canonical`] and [`object`] turn resources back into their one written form.

mod access;
pub mod answer;
mod audit;
mod backup;
mod canonical;
mod convert;
mod duration;
pub mod fabric;
mod history;
mod json;
mod limits;
mod load;
pub mod node;
mod openapi;
mod parse;
mod parts;
pub mod protocol;
mod schema;
mod selector;
mod service;
mod shared;
mod suggest;
mod tree;
pub mod v1;
mod vtep;
mod watch;
mod yaml;

pub use access::{ADMIN_FILE, TokenAnswer, TokenLine, TokenList, TokenQuestion};
pub use answer::*;
pub use audit::{AuditAnswer, AuditHead, AuditObject, AuditRecord, Broken, Chain};
pub use backup::{BACKUP_FORMAT, BackupError, BackupHead, BackupSum, read_backup};
pub use bulkhead_policy::{Kind, Resource, model};
pub use bulkhead_topology::{Hands, Selector};
pub use canonical::{canonical, object};
pub use convert::convert;
pub use duration::parse_duration;
pub use fabric::*;
pub use history::*;
pub use limits::{MAX_DEPTH, MAX_DIAGNOSTICS, MAX_DOCUMENTS, MAX_FOREIGN_INPUT, MAX_INPUT, MAX_NODES, ReadError};
pub use load::load;
pub use openapi::{Schemas, kind_schemas};
pub use parse::{
    Document, Format, Parsed, Stored, key_of, read, read_removals, read_removals_to_send, read_to_send, read_to_store,
    validate,
};
pub use schema::{Explained, FieldDoc, explain};
pub use selector::parse_selector;
pub use service::{ServiceText, parse_service};
pub use suggest::nearest;
pub use vtep::{VtepAnswer, VtepFar, VtepForwarding, VtepNetwork, VtepPort, VtepReport};
pub use watch::{TOO_OLD, WATCH_CHANGE, WATCH_END, WatchEvent};
