//! From other people's policies to Bulkhead's resources and back, and what could not be said on the way.
//!
//! Meaning comes first: what is imported never lets more pass than what it was made from, and what is exported never
//! more than the resources do. An allowing rule of which a part cannot be said loses that part, with a warning that
//! names file, object and field; where leaving something out would let more pass (a denial, a policy that isolates),
//! there is an error, and then nothing at all is to be used.

pub mod aws;
pub mod export;
mod finding;
pub mod kubernetes;
mod value;

pub use finding::MAX_FINDINGS;

use bulkhead_policy::Resource;
use bulkhead_types::Diagnostic;

/// A file that is converted.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// What findings call it.
    pub name: &'a str,
    /// What is in it: YAML or JSON, at most [`bulkhead_types::MAX_FOREIGN_INPUT`] bytes.
    pub content: &'a [u8],
}

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// The resources, by kind and name. Empty if one of the findings is an error.
    pub resources: Vec<Resource>,
    /// What could not be said, and what to know about the rest.
    pub diagnostics: Vec<Diagnostic>,
}
