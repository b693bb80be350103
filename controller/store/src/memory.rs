//! A store that forgets when it is dropped.

use crate::{
    AUDIT_PAGE, Audit, Between, Document, Event, Head, History, Loaded, Noted, Reader, Revision, Row, Store,
    StoreError,
    audit::Touches,
    check,
    history::{self, Newest, Past},
    next_term,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Keeps everything in memory, and all of its history: for tests and for trying things out.
#[derive(Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// Fails the next append, once, if set.
    fail: Option<String>,
    term: u64,
}

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    newest: Newest,
}

#[derive(Debug, Default, Clone)]
struct Kept {
    loaded: Loaded,
    oldest: u64,
    notes: BTreeMap<u64, Noted>,
    past: BTreeMap<(u64, String), Option<Document>>,
    audit: Vec<String>,
    head: Head,
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStore {
    /// A store that already has something, whose history begins there.
    pub fn with(loaded: Loaded) -> Self {
        let store = Self::default();
        let revision = loaded.revision;
        *store.shared.kept() = Kept { loaded, oldest: revision, ..Kept::default() };
        store.shared.newest.set(revision);
        store
    }

    /// A document of the newest revision.
    #[cfg(feature = "store-sled")]
    pub(crate) fn document(&self, key: &str) -> Option<Document> {
        self.shared.kept().loaded.documents.get(key).cloned()
    }

    /// Makes the next append fail for this reason.
    pub fn fail_next(&mut self, reason: &str) {
        self.fail = Some(reason.to_owned());
    }
}

impl Kept {
    fn append(&mut self, revision: &Revision) {
        let noted = Noted::of(revision, |key| self.loaded.documents.contains_key(key));
        self.notes.insert(revision.number, noted);
        self.loaded.revision = revision.number;
        let mut touches = Touches::default();
        for (key, text) in revision.changes.iter() {
            let before = match text {
                Some(text) => {
                    let document = Document { text: text.clone(), revision: revision.number };
                    self.loaded.documents.insert(key.clone(), document)
                }
                None => self.loaded.documents.remove(key),
            };
            touches.add(key, before.as_ref().map(|before| before.text.as_ref()), text.as_deref());
            self.past.insert((revision.number, key.clone()), before);
        }
        for (name, number) in &revision.numbers {
            match number {
                Some(number) => self.loaded.numbers.insert(name.clone(), *number),
                None => self.loaded.numbers.remove(name),
            };
        }
        // Texts cannot fail to be written as JSON.
        self.audit.extend(self.head.revision(revision, touches).ok());
    }

    fn past(&self, after: u64) -> impl Iterator<Item = Result<Past, Infallible>> {
        let rows = self.past.range((after + 1, String::new())..);
        rows.map(|((number, key), document)| Ok((*number, key.clone(), document.clone())))
    }

    fn current(&self, key: &str) -> Result<Option<Document>, Infallible> {
        Ok(self.loaded.documents.get(key).cloned())
    }
}

impl Store for MemoryStore {
    fn append(&mut self, expected: u64, revisions: &[Revision]) -> Result<(), StoreError> {
        let mut kept = self.shared.kept();
        check(expected, revisions, kept.loaded.revision)?;
        if let Some(what) = self.fail.take() {
            return Err(StoreError::Failed { path: "memory".into(), what });
        }
        revisions.iter().for_each(|revision| kept.append(revision));
        self.shared.newest.set(kept.loaded.revision);
        Ok(())
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(self.shared.kept().loaded.clone())
    }

    fn begin(&mut self, now: u64) -> Result<u64, StoreError> {
        self.term = next_term(self.term, now);
        Ok(self.term)
    }

    fn restore(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<Row, String>>,
        event: &Event,
    ) -> Result<u64, StoreError> {
        let mut kept = self.shared.kept();
        if kept.loaded.revision > 0 {
            return Err(StoreError::NotEmpty { revision: kept.loaded.revision });
        }
        let mut filled = Kept::default();
        for row in rows {
            match row.map_err(StoreError::Damaged)? {
                Row::Store { revision, oldest } => (filled.loaded.revision, filled.oldest) = (revision, oldest),
                Row::Document { key, revision, text } => {
                    _ = filled.loaded.documents.insert(key, Document { text, revision });
                }
                Row::Number { name, number } => _ = filled.loaded.numbers.insert(name, number),
                Row::Note { number, note } => _ = filled.notes.insert(number, Noted { number, ..note }),
                Row::Past { number, key, revision, text } => {
                    _ = filled.past.insert((number, key), text.map(|text| Document { text, revision }));
                }
            }
        }
        (filled.audit, filled.head) = (std::mem::take(&mut kept.audit), std::mem::take(&mut kept.head));
        let record = filled.head.event(event, Some(filled.loaded.revision));
        filled.audit.extend(record.ok());
        *kept = filled;
        self.shared.newest.set(kept.loaded.revision);
        Ok(kept.loaded.revision)
    }

    fn note(&mut self, events: &[Event]) -> Result<(), StoreError> {
        let mut kept = self.shared.kept();
        for event in events {
            let record = kept.head.event(event, None);
            kept.audit.extend(record.ok());
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.shared.clone()
    }
}

impl Reader for Shared {
    fn history(&self, before: u64, limit: usize) -> Result<History, StoreError> {
        let kept = self.kept();
        let revisions = kept.notes.range(..before).rev().take(limit).map(|(_, noted)| noted.clone()).collect();
        Ok(History { newest: kept.loaded.revision, oldest: kept.oldest, revisions })
    }

    fn between(&self, from: u64, to: Option<u64>) -> Result<Between, StoreError> {
        let kept = self.kept();
        let to = to.unwrap_or(kept.loaded.revision);
        history::kept(from, kept.oldest, kept.loaded.revision)?;
        history::kept(to, kept.oldest, kept.loaded.revision)?;
        let (low, high) = (from.min(to), from.max(to));
        let Ok(between) = history::between((low, high), kept.past(low), |key| kept.current(key));
        Ok(between.facing(from))
    }

    fn watch(&self, after: u64, limit: usize, wait: Duration) -> Result<Vec<Revision>, StoreError> {
        self.newest.wait(after, wait);
        let kept = self.kept();
        history::kept(after, kept.oldest, kept.loaded.revision)?;
        let Ok(past) = kept.past(after).collect();
        let Ok(written) = history::written(past, |key| kept.current(key));
        let notes = kept.notes.range(after + 1..).take(limit);
        Ok(notes.map(|(number, noted)| noted.revision(written.get(number))).collect())
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Audit, StoreError> {
        let kept = self.kept();
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        let mut room = AUDIT_PAGE;
        let fits = |record: &&String| {
            let fits = room > 0;
            room = room.saturating_sub(record.len());
            fits
        };
        let records = kept.audit.iter().skip(after).take(limit).take_while(fits).cloned().collect();
        Ok(Audit { head: kept.head.clone(), oldest: u64::from(!kept.audit.is_empty()), records })
    }

    fn snapshot(&self, each: &mut dyn FnMut(Row) -> bool) -> Result<(), StoreError> {
        let kept = self.kept().clone();
        let Loaded { revision, documents, numbers } = kept.loaded;
        let first = Row::Store { revision, oldest: kept.oldest };
        let documents =
            documents.into_iter().map(|(key, Document { text, revision })| Row::Document { key, revision, text });
        let numbers = numbers.into_iter().map(|(name, number)| Row::Number { name, number });
        let notes = kept.notes.into_iter().map(|(number, note)| Row::Note { number, note });
        let past = kept.past.into_iter().map(|((number, key), document)| Row::past(number, key, document));
        let mut rows = std::iter::once(first).chain(documents).chain(numbers).chain(notes).chain(past);
        rows.all(each);
        Ok(())
    }
}
