//! What is asked and answered, whichever way it comes: REST and gRPC are two forms of it.
//!
//! Each noun has its part in the module that has its name. Large answers are written in their form where they were worked
//! out, so that they are not in memory twice and hold up nobody: by the function that the asking side brings along.

use crate::{Backend, feed::Feed, lists::Shared, work::Desk};

/// A controller, and what all requests share.
#[derive(Clone)]
pub(crate) struct Service<B> {
    pub(crate) backend: B,
    pub(crate) desk: Desk,
    pub(crate) shared: Shared,
    pub(crate) feed: Feed,
}

impl<B: Backend> Service<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend, desk: Desk::default(), shared: Shared::default(), feed: Feed::default() }
    }
}
