//! What changed, read once for all who watch.
//!
//! Nobody's changes wait in a queue of his own: whoever watches remembers the revision that he is at, and takes the next
//! batch from there when he has room for it. However far he is behind, that is one batch, with what the resources are by
//! then.

use crate::{Backend, Difference, problem::Failure, work::Desk};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

/// Most changes of a batch that is no large one: some MB.
const SMALL: usize = 1_024;
/// Batches that are kept for those who come later. Most watchers are at the same few revisions.
const KEPT: usize = 16;

/// What changed between two revisions.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The second one.
    pub(crate) to: u64,
    /// By key.
    pub(crate) differences: Vec<Difference>,
    /// What a large batch takes, until the last who wants it has it.
    _place: Option<OwnedSemaphorePermit>,
}

/// A batch that somebody has read, or is reading.
type Cell = Arc<OnceCell<Arc<Batch>>>;

/// The batches that were read last, by the revision that they begin at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed(Arc<Mutex<BTreeMap<u64, Cell>>>);

impl Feed {
    fn cells(&self) -> MutexGuard<'_, BTreeMap<u64, Cell>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What changed from revision `at` on, which is not the newest: up to the newest, or to an earlier one if others
    /// have asked before.
    pub(crate) async fn after<B: Backend>(&self, backend: &B, desk: &Desk, at: u64) -> Result<Arc<Batch>, Failure> {
        let cell = {
            let mut cells = self.cells();
            let cell = cells.entry(at).or_default().clone();
            while cells.len() > KEPT {
                cells.pop_first();
            }
            cell
        };
        let batch = cell.get_or_try_init(|| async {
            let read = backend.clone();
            let job = move |_: &_| {
                let to = read.read(|view| view.revision);
                Ok((to, read.changes(at, to).map_err(Failure::past)?))
            };
            let (to, differences) = desk.changes.run(job).await?;
            let place = match differences.len() > SMALL {
                false => None,
                true => {
                    // Others that are large are not kept any longer than somebody takes them: they have the places.
                    let large = |other: &Cell| other.get().is_some_and(|batch| batch._place.is_some());
                    self.cells().retain(|_, other| !large(other));
                    Some(desk.batches.take().await?)
                }
            };
            Ok(Arc::new(Batch { to, differences, _place: place }))
        });
        batch.await.cloned()
    }
}
