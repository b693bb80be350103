//! What the operator's resources mean.
//!
//! [`model`] holds the resources in resolved form (defaults applied, addresses parsed), [`State`] all
//! of them with the indexes that keep changes cheap and the checks that refuse a bad one, and
//! [`verdict`] the reference semantics that every dataplane is held against.

#[cfg(any(test, feature = "testing"))]
pub mod arbitrary;
pub mod diagnostic;
pub mod matching;
pub mod model;
pub mod overlay;
mod remarks;
mod state;
mod verdict;
pub mod vtep;

pub use diagnostic::{Diagnostic, MAX_WARNINGS, Severity, limit_warnings};
pub use matching::{RuleOrder, carries_out, effective_mode, enforces, subject_selects, zone_selects};
pub use remarks::{Census, NamedPorts, Profiles, remarks};
pub use state::{Change, Key, Kind, Resource, State};
pub use verdict::{Decision, Endpoint, Flow, Service, SideVerdict, Verdict, verdict, verdict_of_copy, verdict_staged};
