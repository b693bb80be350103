//! The tables, and the transactions that write them.

use super::FORMAT;
use super::log::Log;
use crate::{
    Document, Event, Loaded, MAX_DOCUMENT, Noted, Retention, Revision, Row, StoreError, Writes, audit::Touches,
    history::Past, next_term,
};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::{io, panic::resume_unwind, sync::Arc, thread};

/// `format`, `revision`, `oldest` (the oldest revision whose state is kept), `past-bytes` (of the texts in [`PAST`]), `term`
/// (the newest one, if any began), `audit-bytes` (of the records in [`AUDIT`]).
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Key to revision and text.
pub(super) const DOCUMENTS: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("documents");
/// Name to number.
pub(super) const NUMBERS: TableDefinition<'_, &str, u32> = TableDefinition::new("numbers");
/// Revision to who, when, which keys, as JSON.
pub(super) const NOTES: TableDefinition<'_, u64, &str> = TableDefinition::new("notes");
/// Revision and key to what the document was before: the revision that had written it, and its text. Since format 2.
pub(super) const PAST: TableDefinition<'_, (u64, &str), (u64, Option<&str>)> = TableDefinition::new("past");

/// Number to audit record. Since format 3.
pub(super) const AUDIT: TableDefinition<'_, u64, &str> = TableDefinition::new("audit");

/// Rows of history that one commit forgets, of either sort, beside twice as many as it writes: it is to be as quick as
/// any other, and no row is to be left behind for good.
const MAX_FORGOTTEN: usize = 1_000;

/// Changes of one revision that are worth another thread, which writes what was there before while each is digested.
const MANY: usize = 2_000;

/// Why a file cannot be used.
pub(super) enum Prepare {
    Newer(u64),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Prepare {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Makes the tables where there are none, and an older format into this one. Gives the last revision, and the older
/// format. Writes nothing into a file of a newer format, nor where all is as it should be.
pub(super) fn prepare(database: &Database) -> Result<(u64, Option<u64>), Prepare> {
    let found = match database.begin_read()?.open_table(META) {
        Ok(meta) => {
            let value = |key| Ok::<_, Prepare>(meta.get(key)?.map(|value| value.value()));
            match value("format")? {
                Some(FORMAT) => return Ok((value("revision")?.unwrap_or(0), None)),
                Some(newer) if newer > FORMAT => return Err(Prepare::Newer(newer)),
                older => older,
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let transaction = database.begin_write()?;
    let last;
    {
        let mut meta = transaction.open_table(META)?;
        last = meta.get("revision")?.map_or(0, |revision| revision.value());
        meta.insert("format", FORMAT)?;
        if found.is_none_or(|found| found < 2) {
            // Format 1 kept no earlier states.
            meta.insert("oldest", last)?;
            meta.insert("past-bytes", 0)?;
        }
        // Format 2 kept no audit log: it begins with what is done from now on.
        meta.insert("audit-bytes", 0)?;
        transaction.open_table(DOCUMENTS)?;
        transaction.open_table(NUMBERS)?;
        transaction.open_table(NOTES)?;
        transaction.open_table(PAST)?;
        transaction.open_table(AUDIT)?;
    }
    transaction.commit()?;
    Ok((last, found))
}

/// What can be written in one transaction.
struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    documents: Table<'t, &'static str, (u64, &'static str)>,
    numbers: Table<'t, &'static str, u32>,
    notes: Table<'t, u64, &'static str>,
    past: Table<'t, (u64, &'static str), (u64, Option<&'static str>)>,
    /// Bytes of texts in `past`.
    bytes: u64,
    log: Log<'t>,
}

/// What became of a revision's documents when they were written.
struct Written {
    /// For each, whether it was there before.
    there: Vec<bool>,
    /// Bytes of what was.
    bytes: u64,
    touches: Touches,
}

/// The documents of a revision that may come, in a transaction that is under way.
pub(super) struct Prepared {
    transaction: WriteTransaction,
    changes: Writes,
    written: Written,
}

/// Writes the documents of a revision that may come.
pub(super) fn prepare_writes(database: &Database, number: u64, changes: &Writes) -> Result<Prepared, redb::Error> {
    let transaction = database.begin_write()?;
    let written = Tables::open(&transaction)?.write(number, changes)?;
    Ok(Prepared { transaction, changes: changes.clone(), written })
}

/// Begins a term.
pub(super) fn begin(database: &Database, now: u64) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let term;
    {
        let mut meta = transaction.open_table(META)?;
        term = next_term(meta.get("term")?.map_or(0, |term| term.value()), now);
        meta.insert("term", term)?;
    }
    transaction.commit()?;
    Ok(term)
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let meta = transaction.open_table(META)?;
        let value = |key| Ok::<_, redb::Error>(meta.get(key)?.map_or(0, |bytes| bytes.value()));
        let (bytes, logged) = (value("past-bytes")?, value("audit-bytes")?);
        Ok(Self {
            meta,
            documents: transaction.open_table(DOCUMENTS)?,
            numbers: transaction.open_table(NUMBERS)?,
            notes: transaction.open_table(NOTES)?,
            past: transaction.open_table(PAST)?,
            bytes,
            log: Log::open(transaction, logged)?,
        })
    }

    /// Writes a revision's documents, and what was there before.
    fn write(&mut self, number: u64, changes: &Writes) -> Result<Written, redb::Error> {
        let mut before = Vec::with_capacity(changes.len());
        for (key, now) in changes.iter() {
            let was = match now {
                Some(text) => self.documents.insert(key.as_str(), (number, text.as_ref()))?,
                None => self.documents.remove(key.as_str())?,
            };
            before.push(was.map(|was| (was.value().0, was.value().1.to_owned())));
        }
        let past = &mut self.past;
        let each = || changes.iter().zip(&before);
        let mut remember = || {
            each().try_for_each(|((key, _), was)| {
                let (written, text) = was.as_ref().map_or((0, None), |(written, text)| (*written, Some(text.as_str())));
                past.insert((number, key.as_str()), (written, text)).map(drop)
            })
        };
        let touches = || {
            let mut touches = Touches::default();
            for ((key, now), was) in each() {
                touches.add(key, was.as_ref().map(|(_, text)| text.as_str()), now.as_deref());
            }
            touches
        };
        let (remembered, touches) = match changes.len() < MANY {
            true => (remember(), touches()),
            false => thread::scope(|scope| {
                let remember = scope.spawn(remember);
                let touches = touches();
                (remember.join().unwrap_or_else(|panicked| resume_unwind(panicked)), touches)
            }),
        };
        remembered?;
        let bytes = before.iter().flatten().map(|(_, text)| text.len() as u64).sum();
        Ok(Written { there: before.iter().map(Option::is_some).collect(), bytes, touches })
    }

    /// Writes what else a revision is.
    fn append(&mut self, revision: &Revision, written: Written) -> Result<(), redb::Error> {
        for (name, number) in &revision.numbers {
            match number {
                Some(number) => self.numbers.insert(name.as_ref(), *number)?,
                None => self.numbers.remove(name.as_ref())?,
            };
        }
        let Written { there, bytes, touches } = written;
        self.bytes += bytes;
        let there = revision.changes.iter().zip(there).filter(|(_, there)| *there);
        let mut there: Vec<&str> = there.map(|((key, _), _)| key.as_str()).collect();
        there.sort_unstable();
        let noted = Noted::of(revision, |key| there.binary_search(&key).is_ok());
        self.note(&noted)?;
        self.meta.insert("revision", revision.number)?;
        self.log.write(|head| head.revision(revision, touches))
    }

    fn note(&mut self, noted: &Noted) -> Result<(), redb::Error> {
        let text = serde_json::to_string(noted).map_err(io::Error::from)?;
        self.notes.insert(noted.number, text.as_str())?;
        Ok(())
    }

    /// Forgets some of what is beyond the retention, as of the newest revision, which was made at `time`; `added` rows of
    /// the past came with this commit, so that more than that many can go. `first` is as in [`append`].
    fn forget(
        &mut self,
        (newest, time): (u64, u64),
        added: usize,
        retention: Retention,
        first: &mut Option<Made>,
    ) -> Result<(), redb::Error> {
        let mut oldest = self.meta.get("oldest")?.map_or(0, |oldest| oldest.value());
        let before = oldest;
        let age = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
        let most = MAX_FORGOTTEN + 2 * added;
        // First what is kept is decided by notes, and counted; the rows themselves may go with later commits.
        let mut looked_at = 0;
        while looked_at < most {
            let oldest_note = match (self.notes.first()?, *first) {
                (Some((number, _)), Some(known)) if known.number == number.value() => known,
                (Some((number, note)), _) => Made { number: number.value(), time: parse(note.value())?.time },
                (None, _) => break,
            };
            *first = Some(oldest_note);
            let Made { number, time: made } = oldest_note;
            let beyond = newest.saturating_sub(number) >= retention.revisions
                || time.saturating_sub(made) > age
                || self.bytes > retention.bytes;
            // The newest one is always kept.
            if !beyond || number >= newest {
                break;
            }
            self.notes.remove(number)?;
            looked_at += 1;
            if number > oldest {
                for row in self.past.range((number, "")..(number + 1, ""))? {
                    self.bytes = self.bytes.saturating_sub(row?.1.value().1.map_or(0, |text| text.len() as u64));
                    looked_at += 1;
                }
                oldest = number;
            }
        }
        for _ in 0..most {
            if self.past.first()?.is_none_or(|(key, _)| key.value().0 > oldest) {
                break;
            }
            self.past.pop_first()?;
        }
        if oldest != before {
            self.meta.insert("oldest", oldest)?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<(), redb::Error> {
        self.meta.insert("past-bytes", self.bytes)?;
        self.meta.insert("audit-bytes", self.log.bytes)?;
        Ok(())
    }
}

fn parse(note: &str) -> Result<Noted, redb::Error> {
    serde_json::from_str(note).map_err(|error| redb::Error::Corrupted(format!("a note is unreadable: {error}")))
}

/// When a revision was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    number: u64,
    time: u64,
}

/// Appends revisions in one commit, which goes on where the first one's documents were prepared. `first` is what is known
/// of the oldest note, and is kept true: that note may name a hundred thousand documents, and is not to be read with every
/// change.
pub(super) fn append(
    database: &Database,
    prepared: Option<Prepared>,
    revisions: &[Revision],
    retention: Retention,
    first: &mut Option<Made>,
) -> Result<(), redb::Error> {
    let next = revisions.first().map(|revision| &revision.changes);
    // Another transaction that is under way would have to end before one can begin.
    let prepared = prepared.filter(|prepared| next.is_some_and(|changes| Arc::ptr_eq(changes, &prepared.changes)));
    let (transaction, mut written) = match prepared {
        Some(prepared) => (prepared.transaction, Some(prepared.written)),
        None => (database.begin_write()?, None),
    };
    let mut tables = Tables::open(&transaction)?;
    for revision in revisions {
        let written = written.take().map_or_else(|| tables.write(revision.number, &revision.changes), Ok)?;
        tables.append(revision, written)?;
    }
    if let Some(newest) = revisions.last() {
        let added = revisions.iter().map(|revision| revision.changes.len()).sum();
        tables.forget((newest.number, newest.time), added, retention, first)?;
        tables.log.forget(retention)?;
    }
    tables.close()?;
    Ok(transaction.commit()?)
}

/// Fills an empty database; gives the newest revision.
pub(super) fn restore(
    database: &Database,
    rows: &mut dyn Iterator<Item = Result<Row, String>>,
    event: &Event,
) -> Result<u64, Result<StoreError, redb::Error>> {
    let transaction = database.begin_write().map_err(|error| Err(error.into()))?;
    let newest = fill(&transaction, rows, event)?;
    transaction.commit().map_err(|error| Err(error.into()))?;
    Ok(newest)
}

fn fill(
    transaction: &WriteTransaction,
    rows: &mut dyn Iterator<Item = Result<Row, String>>,
    event: &Event,
) -> Result<u64, Result<StoreError, redb::Error>> {
    let damaged = |what: &str| Ok(StoreError::Damaged(what.to_owned()));
    let mut tables = Tables::open(transaction).map_err(Err)?;
    let Some(Row::Store { revision: newest, oldest }) = rows.next().transpose().map_err(|why| damaged(&why))? else {
        return Err(damaged("it does not begin with the store's revision"));
    };
    if oldest > newest {
        return Err(damaged("its history begins after its end"));
    }
    let mut put = |row: Row| -> Result<Option<&'static str>, redb::Error> {
        let (number, key, text) = match &row {
            Row::Store { .. } => return Ok(Some("it begins twice")),
            Row::Document { key, revision, text } => (*revision, key.as_str(), text.as_ref()),
            Row::Number { name, .. } => (0, name.as_ref(), ""),
            Row::Note { number, .. } => (*number, "", ""),
            Row::Past { number, key, text, .. } => (*number, key.as_str(), text.as_deref().unwrap_or_default()),
        };
        if number > newest {
            return Ok(Some("a row is of a revision that comes after the newest one"));
        }
        if key.len().max(text.len()) > MAX_DOCUMENT {
            return Ok(Some("a document is too long"));
        }
        match row {
            Row::Store { .. } => {}
            Row::Document { key, revision, text } => {
                tables.documents.insert(key.as_str(), (revision, text.as_ref()))?;
            }
            Row::Number { name, number } => _ = tables.numbers.insert(name.as_ref(), number)?,
            Row::Note { number, note } => tables.note(&Noted { number, ..note })?,
            Row::Past { number, key, revision, text } => {
                tables.bytes += text.as_ref().map_or(0, |text| text.len() as u64);
                tables.past.insert((number, key.as_str()), (revision, text.as_deref()))?;
            }
        }
        Ok(None)
    };
    for row in rows {
        let row = row.map_err(|why| damaged(&why))?;
        if let Some(why) = put(row).map_err(Err)? {
            return Err(damaged(why));
        }
    }
    tables.meta.insert("revision", newest).map_err(|error| Err(error.into()))?;
    tables.meta.insert("oldest", oldest).map_err(|error| Err(error.into()))?;
    tables.log.write(|head| head.event(event, Some(newest))).map_err(Err)?;
    tables.close().map_err(Err)?;
    Ok(newest)
}

/// One moment of a database.
pub(super) struct View {
    pub(super) transaction: ReadTransaction,
    /// The newest revision.
    pub(super) newest: u64,
    /// The oldest whose state is kept.
    pub(super) oldest: u64,
}

impl View {
    pub(super) fn of(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let value = |key| Ok::<_, redb::Error>(meta.get(key)?.map_or(0, |value| value.value()));
        let (newest, oldest) = (value("revision")?, value("oldest")?);
        Ok(Self { transaction, newest, oldest })
    }

    pub(super) fn load(&self) -> Result<Loaded, redb::Error> {
        let mut loaded = Loaded { revision: self.newest, ..Loaded::default() };
        // Rows come in order, which is the quickest way to fill a map.
        let documents = self.transaction.open_table(DOCUMENTS)?;
        let documents = documents.iter()?.map(|row| {
            let (key, value) = row?;
            let (revision, text) = value.value();
            Ok((key.value().to_owned(), Document { text: text.into(), revision }))
        });
        loaded.documents = documents.collect::<Result<_, redb::StorageError>>()?;
        let numbers = self.transaction.open_table(NUMBERS)?;
        let numbers = numbers.iter()?.map(|row| {
            let (name, number) = row?;
            Ok((name.value().into(), number.value()))
        });
        loaded.numbers = numbers.collect::<Result<_, redb::StorageError>>()?;
        Ok(loaded)
    }

    pub(super) fn document(&self, key: &str) -> Result<Option<Document>, redb::Error> {
        let found = self.transaction.open_table(DOCUMENTS)?.get(key)?;
        Ok(found.map(|found| {
            let (revision, text) = found.value();
            Document { text: text.into(), revision }
        }))
    }

    /// Notes of revisions from `first` to before `end`.
    pub(super) fn notes(
        &self,
        first: u64,
        end: u64,
    ) -> Result<impl DoubleEndedIterator<Item = Result<Noted, redb::Error>>, redb::Error> {
        let rows = self.transaction.open_table(NOTES)?.range(first..end)?;
        Ok(rows.map(|row| {
            let (number, note) = row?;
            Ok(Noted { number: number.value(), ..parse(note.value())? })
        }))
    }

    /// What documents were before each revision after `after`.
    pub(super) fn past(&self, after: u64) -> Result<impl Iterator<Item = Result<Past, redb::Error>>, redb::Error> {
        let rows = self.transaction.open_table(PAST)?.range((after.saturating_add(1), "")..)?;
        Ok(rows.map(|row| {
            let (key, value) = row?;
            let ((number, key), (revision, text)) = (key.value(), value.value());
            Ok((number, key.to_owned(), text.map(|text| Document { text: text.into(), revision })))
        }))
    }

    /// Every row, until `each` says no.
    pub(super) fn rows(&self, each: &mut dyn FnMut(Row) -> bool) -> Result<(), redb::Error> {
        if !each(Row::Store { revision: self.newest, oldest: self.oldest }) {
            return Ok(());
        }
        for row in self.transaction.open_table(DOCUMENTS)?.iter()? {
            let (key, value) = row?;
            let (revision, text) = value.value();
            if !each(Row::Document { key: key.value().to_owned(), revision, text: text.into() }) {
                return Ok(());
            }
        }
        for row in self.transaction.open_table(NUMBERS)?.iter()? {
            let (name, number) = row?;
            if !each(Row::Number { name: name.value().into(), number: number.value() }) {
                return Ok(());
            }
        }
        for noted in self.notes(0, u64::MAX)? {
            let note = noted?;
            if !each(Row::Note { number: note.number, note }) {
                return Ok(());
            }
        }
        for row in self.past(self.oldest)? {
            let (number, key, document) = row?;
            if !each(Row::past(number, key, document)) {
                return Ok(());
            }
        }
        Ok(())
    }
}
