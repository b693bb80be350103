//! The REST API, generic over what it needs from the controller.

pub mod backend;

pub use backend::{Applied, ApplyError, Backend, Edit};
