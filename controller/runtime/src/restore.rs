//! Bringing a backup back.

use crate::{
    core::{Core, compiled},
    load::read,
};
use bulkhead_store::{Event, Loaded, Row, StoreError};
use std::time::Duration;

/// What is to be brought back.
pub struct Restoring {
    /// What it comes to.
    pub loaded: Loaded,
    /// All of it, row by row, history included.
    pub rows: Box<dyn Iterator<Item = Result<Row, String>> + Send>,
    /// Who asked, for the audit log.
    pub event: Event,
}

/// Why it is not. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreRefusal {
    /// There is something already.
    #[error("{0}")]
    NotEmpty(String),
    /// It makes no sense, or does not fit.
    #[error("{0}")]
    Damaged(String),
    /// It cannot be stored.
    #[error("{0}")]
    Failed(String),
}

impl Core {
    /// Writes into the audit log what makes no revision. It is durable when this returns `Ok`.
    pub fn note(&mut self, events: &[Event]) -> Result<(), StoreError> {
        self.store.note(events)
    }

    /// Brings a backup back into a controller that has nothing: check, compile, store, send. It is durable when this
    /// returns `Ok`, with the newest revision; after an `Err` everything is as before.
    pub fn restore(&mut self, restoring: Restoring, now: Duration) -> Result<u64, RestoreRefusal> {
        let revision = self.accepted().revision;
        if revision > 0 {
            return Err(RestoreRefusal::NotEmpty(StoreError::NotEmpty { revision }.to_string()));
        }
        let Restoring { loaded, mut rows, event } = restoring;
        let rows_of = |each: &mut dyn FnMut(Row) -> bool| {
            loaded.rows(each);
            Ok(())
        };
        let compiled = read(rows_of, self.decode).and_then(|(accepted, mut numbers)| {
            // Whoever wrote the backup went on, and gave numbers that switches may still hold.
            numbers.skip();
            let (compiler, numbers) = compiled(&accepted, numbers)?;
            Ok((accepted, compiler, numbers))
        });
        let (accepted, compiler, numbers) = compiled.map_err(|error| RestoreRefusal::Damaged(error.to_string()))?;
        let revision = self.store.restore(&mut rows, &event).map_err(|error| match error {
            StoreError::NotEmpty { .. } => RestoreRefusal::NotEmpty(error.to_string()),
            StoreError::Damaged(_) => RestoreRefusal::Damaged(error.to_string()),
            other => RestoreRefusal::Failed(other.to_string()),
        })?;
        *self.shared.write() = accepted;
        self.compiler = compiler;
        self.unsaved.clear();
        self.remember(numbers);
        self.forget();
        self.begin_links();
        self.attach_all(now);
        self.find_tunnels(now);
        Ok(revision)
    }
}
