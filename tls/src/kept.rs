//! What is in use of files that may change.

use crate::files::FileError;
use std::sync::{Arc, PoisonError, RwLock};

/// What was loaded last that can be used, and why nothing newer is.
pub(crate) struct Kept<T> {
    now: RwLock<Arc<T>>,
    /// Why the files were not taken over when they changed; empty if they were.
    refused: RwLock<String>,
}

// Nothing of either is wrong in between, so a lock whose holder panicked is as good as before.
impl<T> Kept<T> {
    pub fn new(loaded: T) -> Self {
        Self { now: RwLock::new(Arc::new(loaded)), refused: RwLock::default() }
    }

    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn refused(&self) -> String {
        self.refused.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses what was loaded, if it could be.
    pub fn replace(&self, loaded: Result<T, FileError>) -> Result<(), FileError> {
        let why = loaded.as_ref().err().map(ToString::to_string).unwrap_or_default();
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = why;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded?);
        Ok(())
    }
}
