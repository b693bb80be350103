//! The accepted state, as others read it.

use bulkhead_policy::{Key, State};
use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::watch;

/// The newest accepted state.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Every resource.
    pub state: State,
    /// The revision that last wrote each resource.
    pub versions: BTreeMap<Key, u64>,
    /// The revision.
    pub revision: u64,
}

/// The accepted state, shared with readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accepted: RwLock<Accepted>,
    /// The revision that was accepted last.
    newest: watch::Sender<u64>,
}

/// The accepted state, being changed; those who wait for a revision hear of it when this is dropped.
pub(crate) struct Writing<'a> {
    accepted: RwLockWriteGuard<'a, Accepted>,
    newest: &'a watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(accepted: Accepted) -> Self {
        let newest = watch::Sender::new(accepted.revision);
        Self(Arc::new(Inner { accepted: RwLock::new(accepted), newest }))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Accepted> {
        // A reader that panicked has changed nothing.
        self.0.accepted.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> Writing<'_> {
        let accepted = self.0.accepted.write().unwrap_or_else(PoisonError::into_inner);
        Writing { accepted, newest: &self.0.newest }
    }

    /// The newest revision, as it changes.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }
}

impl Deref for Writing<'_> {
    type Target = Accepted;
    fn deref(&self) -> &Accepted {
        &self.accepted
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Accepted {
        &mut self.accepted
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let revision = self.accepted.revision;
        self.newest.send_if_modified(|newest| std::mem::replace(newest, revision) != revision);
    }
}
