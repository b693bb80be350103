//! Every decoder and parser that reads what others wrote, and inputs that are made to hurt it.
//!
//! A target is a function of bytes that panics if something that has to hold does not. The same functions are run
//! over the kept inputs and a bounded number of mutations in `make test`, for millions of mutations by the
//! `bulkhead-fuzz` program (`make fuzz`), and guided by coverage under libFuzzer (`libfuzzer/`).

mod corpus;
mod mutate;
mod targets;

pub use corpus::{corpus, keep, regressions};
pub use mutate::{MOST, Mutator};
pub use targets::{TARGETS, Target, target};
