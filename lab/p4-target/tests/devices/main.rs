//! What a controller can rely on, at every device: at the stand-in always, and at BMv2 where it is installed.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod calls;
mod liars;
mod program;
mod streams;
mod support;
