//! A store that forgets when it is dropped.

use crate::{Document, Loaded, Revision, Store, StoreError, check};

/// Keeps everything in memory: for tests and for trying things out.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    loaded: Loaded,
    /// Fails the next append, once, if set.
    fail: Option<String>,
}

impl MemoryStore {
    /// A store that already has something.
    pub fn with(loaded: Loaded) -> Self {
        Self { loaded, fail: None }
    }

    /// Makes the next append fail for this reason.
    pub fn fail_next(&mut self, reason: &str) {
        self.fail = Some(reason.to_owned());
    }
}

impl Store for MemoryStore {
    fn append(&mut self, revision: &Revision) -> Result<(), StoreError> {
        check(revision, self.loaded.revision)?;
        if let Some(what) = self.fail.take() {
            return Err(StoreError::Failed { path: "memory".into(), what });
        }
        self.loaded.revision = revision.number;
        for (key, text) in &revision.changes {
            match text {
                Some(text) => {
                    let document = Document { text: text.clone(), revision: revision.number };
                    self.loaded.documents.insert(key.clone(), document)
                }
                None => self.loaded.documents.remove(key),
            };
        }
        for (name, number) in &revision.numbers {
            match number {
                Some(number) => self.loaded.numbers.insert(name.clone(), *number),
                None => self.loaded.numbers.remove(name),
            };
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(self.loaded.clone())
    }
}
