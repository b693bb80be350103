#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod generate;
mod round_trip;
