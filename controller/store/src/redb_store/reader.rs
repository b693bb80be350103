//! Looks at the database beside its writer.

use super::tables::View;
use crate::{
    Audit, Between, History, Reader, Revision, Row, StoreError,
    history::{self, Newest, Past},
};
use redb::Database;
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// What the writer and the readers of a database share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    /// None while it could not be opened again after a failure, and once the writer is gone.
    pub(super) database: RwLock<Option<Arc<Database>>>,
    pub(super) newest: Newest,
}

impl Shared {
    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.clone().ok_or_else(|| self.failed("it is not open"))
    }

    pub(super) fn failed(&self, what: impl ToString) -> StoreError {
        StoreError::Failed { path: self.path.clone(), what: what.to_string() }
    }

    pub(super) fn look<R>(&self, look: impl FnOnce(&View) -> Result<R, redb::Error>) -> Result<R, StoreError> {
        let database = self.database()?;
        View::of(&database).and_then(|view| look(&view)).map_err(|error| self.failed(error))
    }
}

impl Reader for Shared {
    fn history(&self, before: u64, limit: usize) -> Result<History, StoreError> {
        self.look(|view| {
            let revisions = view.notes(0, before)?.rev().take(limit).collect::<Result<_, _>>()?;
            Ok(History { newest: view.newest, oldest: view.oldest, revisions })
        })
    }

    fn between(&self, from: u64, to: Option<u64>) -> Result<Between, StoreError> {
        let found = self.look(|view| {
            let to = to.unwrap_or(view.newest);
            let kept = history::kept(from, view.oldest, view.newest);
            if let Err(refused) = kept.and_then(|()| history::kept(to, view.oldest, view.newest)) {
                return Ok(Err(refused));
            }
            let (low, high) = (from.min(to), from.max(to));
            let between = history::between((low, high), view.past(low)?, |key| view.document(key))?;
            Ok(Ok(between.facing(from)))
        });
        found?
    }

    fn watch(&self, after: u64, limit: usize, wait: Duration) -> Result<Vec<Revision>, StoreError> {
        self.newest.wait(after, wait);
        let found = self.look(|view| {
            if let Err(refused) = history::kept(after, view.oldest, view.newest) {
                return Ok(Err(refused));
            }
            let past: Vec<Past> = view.past(after)?.collect::<Result<_, _>>()?;
            let written = history::written(past, |key| view.document(key))?;
            let notes = view.notes(after.saturating_add(1), u64::MAX)?.take(limit);
            let revisions = notes.map(|noted| noted.map(|noted| noted.revision(written.get(&noted.number))));
            Ok(Ok(revisions.collect::<Result<_, redb::Error>>()?))
        });
        found?
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Audit, StoreError> {
        self.look(|view| view.audit(after, limit))
    }

    fn snapshot(&self, each: &mut dyn FnMut(Row) -> bool) -> Result<(), StoreError> {
        self.look(|view| view.rows(each))
    }
}
