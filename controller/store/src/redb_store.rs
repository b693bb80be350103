//! One file, one transaction per revision.

use crate::{Document, Loaded, MAX_NOTES, Revision, Store, StoreError, check};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

/// The newest format of the file that this program writes and understands. Raised by any change after
/// which an older program would misread the file.
const FORMAT: u64 = 1;

/// The database's page cache, in bytes: documents are read once, at the start.
const CACHE: usize = 16 << 20;

/// Name of the file in the data directory.
const FILE: &str = "bulkhead.redb";

/// `format` and `revision`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Key to revision and text.
const DOCUMENTS: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("documents");
/// Name to number.
const NUMBERS: TableDefinition<'_, &str, u32> = TableDefinition::new("numbers");
/// Revision to who, when, which keys, as JSON.
const NOTES: TableDefinition<'_, u64, &str> = TableDefinition::new("notes");

#[derive(Serialize)]
struct Note<'a> {
    author: &'a str,
    time: u64,
    keys: Vec<&'a str>,
}

/// Keeps revisions in a redb file. Every append is one transaction in two phases, synced to the disk.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    path: PathBuf,
    last: u64,
    /// Why a write failed; nothing is written after that.
    broken: Option<String>,
}

impl RedbStore {
    /// Opens the store in `directory`, and makes both where there are none.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let failed = |what: &dyn Display| StoreError::Failed { path: path.clone(), what: what.to_string() };
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let database = Database::builder().set_cache_size(CACHE).create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            DatabaseError::Storage(redb::StorageError::Corrupted(what)) => {
                StoreError::Corrupt { path: path.clone(), what }
            }
            error => failed(&error),
        })?;
        let last = prepare(&database).map_err(|error| match error {
            Prepare::Newer(found) => StoreError::NewerFormat { path: path.clone(), found, known: FORMAT },
            Prepare::Failed(what) => failed(&what),
        })?;
        // The file's entry in its directory must survive a crash too.
        fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| failed(&error))?;
        Ok(Self { database, path, last, broken: None })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, revision: &Revision) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // Without it a torn write could pass for a whole one where the file's checksums are forged.
        transaction.set_two_phase_commit(true);
        {
            let mut documents = transaction.open_table(DOCUMENTS)?;
            for (key, text) in &revision.changes {
                match text {
                    Some(text) => documents.insert(key.as_str(), (revision.number, text.as_ref()))?,
                    None => documents.remove(key.as_str())?,
                };
            }
            let mut numbers = transaction.open_table(NUMBERS)?;
            for (name, number) in &revision.numbers {
                match number {
                    Some(number) => numbers.insert(name.as_ref(), *number)?,
                    None => numbers.remove(name.as_ref())?,
                };
            }
            let keys = revision.changes.iter().map(|(key, _)| key.as_str()).collect();
            let note = Note { author: &revision.author, time: revision.time, keys };
            let note = serde_json::to_string(&note).map_err(std::io::Error::from)?;
            let mut notes = transaction.open_table(NOTES)?;
            notes.insert(revision.number, note.as_str())?;
            if let Some(old) = revision.number.checked_sub(MAX_NOTES) {
                notes.remove(old)?;
            }
            transaction.open_table(META)?.insert("revision", revision.number)?;
        }
        Ok(transaction.commit()?)
    }

    fn read(&self) -> Result<Loaded, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut loaded = Loaded { revision: self.last, ..Loaded::default() };
        for row in transaction.open_table(DOCUMENTS)?.iter()? {
            let (key, value) = row?;
            let (revision, text) = value.value();
            loaded.documents.insert(key.value().to_owned(), Document { text: text.into(), revision });
        }
        for row in transaction.open_table(NUMBERS)?.iter()? {
            let (name, number) = row?;
            loaded.numbers.insert(name.value().into(), number.value());
        }
        Ok(loaded)
    }
}

enum Prepare {
    Newer(u64),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Prepare {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Makes the tables where there are none, and gives the last revision. Writes nothing into a file of a
/// newer format.
fn prepare(database: &Database) -> Result<u64, Prepare> {
    let transaction = database.begin_write()?;
    let last;
    {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get("format")?.map(|format| format.value());
        match format {
            None => _ = meta.insert("format", FORMAT)?,
            // Dropped without a commit, the transaction leaves no trace.
            Some(found) if found > FORMAT => return Err(Prepare::Newer(found)),
            Some(_) => {}
        }
        last = meta.get("revision")?.map_or(0, |revision| revision.value());
        transaction.open_table(DOCUMENTS)?;
        transaction.open_table(NUMBERS)?;
        transaction.open_table(NOTES)?;
    }
    transaction.commit()?;
    Ok(last)
}

impl Store for RedbStore {
    fn append(&mut self, revision: &Revision) -> Result<(), StoreError> {
        if let Some(why) = &self.broken {
            return Err(StoreError::Broken(why.clone()));
        }
        check(revision, self.last)?;
        if let Err(error) = self.write(revision) {
            // A failed sync may have lost pages that a later one would report as written.
            self.broken = Some(error.to_string());
            return Err(StoreError::Failed { path: self.path.clone(), what: error.to_string() });
        }
        self.last = revision.number;
        Ok(())
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.read().map_err(|error| StoreError::Corrupt { path: self.path.clone(), what: error.to_string() })
    }
}
