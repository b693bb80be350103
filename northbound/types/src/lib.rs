//! The public API's data, version 1: resources as operators write them, and what the API answers.

pub mod answer;

pub use answer::*;
