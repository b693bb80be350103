//! One file, one transaction per group of revisions.

mod backend;
mod log;
mod reader;
mod tables;

use crate::{
    Event, Found, Loaded, Reader, Retention, Revision, Row, Store, StoreError, Writes, check, history::Newest,
};
use backend::Watched;
use reader::Shared;
use redb::{
    Database, DatabaseError, StorageBackend, StorageError,
    backends::{FileBackend, InMemoryBackend},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tables::{Prepare, prepare};

/// The newest format of the file that this program writes and understands. Raised by any change after
/// which an older program would misread the file.
const FORMAT: u64 = 3;

/// The first bytes of every file of the database (redb's docs/design.md, "Magic number").
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// The database's page cache, in bytes: documents are read once, at the start.
const CACHE: usize = 16 << 20;

/// Name of the file in the data directory.
const FILE: &str = "bulkhead.redb";
/// Name of a file that is being made: it gets the other one once it is whole, so an empty file is a damaged one.
const NEW_FILE: &str = "bulkhead.redb.new";

/// Least time between two attempts to write again after a failed one: each looks at the whole file.
const RETRY: Duration = Duration::from_secs(1);

/// How the file below the database is opened.
type Below = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>;

/// Whether anything can be written.
#[derive(Debug)]
enum Health {
    Well,
    /// A write failed before anything was committed; may be tried again from then on.
    Failed {
        why: String,
        retry: Instant,
    },
    /// A sync failed, or what is on the disk is not what was thought.
    Broken(String),
    /// It could not be from the beginning.
    ReadOnly(String),
}

/// Keeps revisions in a redb file. Every append is one transaction in one phase, synced to the disk once.
pub struct RedbStore {
    shared: Arc<Shared>,
    below: Below,
    sync_failed: Arc<AtomicBool>,
    retention: Retention,
    last: u64,
    /// When the oldest revision that is noted was made.
    first: Option<tables::Made>,
    /// Written and not committed. It keeps others from writing, see [`Self::ready`].
    prepared: Option<tables::Prepared>,
    health: Health,
    found: Found,
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStore").field("last", &self.last).field("health", &self.health).finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens the store in `directory`, and makes both where there are none. A directory that cannot be written is read
    /// into memory: such a store takes no revisions.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_keeping(directory, Retention::default())
    }

    /// The same, keeping so much history.
    pub fn open_keeping(directory: &Path, retention: Retention) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let below: Below = {
            let path = path.clone();
            Box::new(move || {
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
                begins_well(&file)?;
                FileBackend::new(file).map(|file| Box::new(file) as Box<dyn StorageBackend>).map_err(io::Error::other)
            })
        };
        let failed = |error: io::Error| StoreError::Failed { path: path.clone(), what: error.to_string() };
        let made = make(directory, &path);
        let opened = made.and_then(|()| below());
        match opened {
            Ok(file) => Self::open_on(path, file, below, retention),
            Err(error) if path.exists() && cannot_be_written(&error) => {
                let copy = InMemoryBackend::new();
                let bytes = fs::read(&path).map_err(failed)?;
                copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, &bytes)).map_err(failed)?;
                let mut store = Self::open_on(path, Box::new(copy), below, retention)?;
                store.health = Health::ReadOnly(error.to_string());
                store.found.read_only = Some(error.to_string());
                Ok(store)
            }
            Err(error) if is_damage(&error) => Err(StoreError::Corrupt { path, what: error.to_string() }),
            Err(error) => Err(failed(error)),
        }
    }

    /// A store on something else than a file of the system, which `below` opens; for trying out how it fails.
    pub fn on(
        below: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + 'static,
        retention: Retention,
    ) -> Result<Self, StoreError> {
        let path = PathBuf::from(FILE);
        let file = below().map_err(|error| StoreError::Failed { path: path.clone(), what: error.to_string() })?;
        Self::open_on(path, file, Box::new(below), retention)
    }

    fn open_on(
        path: PathBuf,
        file: Box<dyn StorageBackend>,
        below: Below,
        retention: Retention,
    ) -> Result<Self, StoreError> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let Opened { database, last, found } = open(&path, Watched::new(file, sync_failed.clone()))?;
        let shared = Shared { path, database: RwLock::new(Some(Arc::new(database))), newest: Newest::default() };
        shared.newest.set(last);
        let shared = Arc::new(shared);
        Ok(Self {
            shared,
            below,
            sync_failed,
            retention,
            last,
            first: None,
            prepared: None,
            health: Health::Well,
            found,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Whether anything can be written now; tries again what may be tried again. What was prepared is forgotten.
    fn ready(&mut self) -> Result<Arc<Database>, StoreError> {
        self.prepared = None;
        match &self.health {
            Health::Well => {}
            Health::Broken(why) => return Err(StoreError::Broken(why.clone())),
            Health::ReadOnly(why) => {
                return Err(StoreError::ReadOnly { path: self.shared.path.clone(), what: why.clone() });
            }
            Health::Failed { why, retry } if Instant::now() < *retry => return Err(self.shared.failed(why)),
            Health::Failed { .. } => self.reopen()?,
        }
        self.shared.database()
    }

    /// After a failed write the database trusts itself no more; what is in the file is what was committed last.
    fn reopen(&mut self) -> Result<(), StoreError> {
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = database.take() {
            // A backup may be under way; it ends, or fails.
            match Arc::try_unwrap(old) {
                Ok(old) => drop(old),
                Err(busy) => {
                    *database = Some(busy);
                    return Err(self.shared.failed("an earlier write failed; it is tried again once nobody reads"));
                }
            }
        }
        let opened = (self.below)()
            .map_err(|error| self.shared.failed(error))
            .and_then(|file| open(&self.shared.path, Watched::new(file, self.sync_failed.clone())));
        match opened {
            Ok(opened) if opened.last == self.last => {
                *database = Some(Arc::new(opened.database));
                self.health = Health::Well;
                Ok(())
            }
            Ok(opened) => {
                let why = format!("revision {} was expected on the disk, {} is there", self.last, opened.last);
                *database = Some(Arc::new(opened.database));
                self.health = Health::Broken(why.clone());
                Err(StoreError::Broken(why))
            }
            Err(error) => {
                let why = match &error {
                    StoreError::Failed { what, .. } => what.clone(),
                    other => other.to_string(),
                };
                self.health = Health::Failed { why, retry: Instant::now() + RETRY };
                Err(error)
            }
        }
    }

    /// What a failed write means for those after it.
    fn fail(&mut self, error: &redb::Error) -> StoreError {
        let why = error.to_string();
        // It may be of a revision that is none.
        self.first = None;
        // A failed sync may have lost pages that a later one would report as written.
        self.health = match self.sync_failed.load(Ordering::SeqCst) {
            true => Health::Broken(why),
            false => Health::Failed { why, retry: Instant::now() + RETRY },
        };
        self.shared.failed(error)
    }
}

/// Whether an error says that the place is good and only writing is not.
fn cannot_be_written(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

/// A file that is there is a store: the database would make a new one of an empty file.
fn begins_well(mut file: &File) -> io::Result<()> {
    let mut start = [0; MAGIC.len()];
    let read = file.read_exact(&mut start);
    match read.is_ok() && start == MAGIC {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it does not begin as a store does")),
    }
}

/// Makes an empty store where there is none. It appears whole or not at all.
fn make(directory: &Path, path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    let new = directory.join(NEW_FILE);
    // Of an attempt that was interrupted; it never had anything.
    fs::remove_file(&new).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let database = Database::builder().set_cache_size(CACHE).create(&new).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(error)) => error,
        error => io::Error::other(error),
    })?;
    prepare(&database).map_err(|error| match error {
        Prepare::Failed(redb::Error::Io(error)) => error,
        Prepare::Failed(error) => io::Error::other(error),
        Prepare::Newer(format) => io::Error::other(format!("a new file has format {format}")),
    })?;
    drop(database);
    // Another program that does the same at this moment may have been quicker; its file stays.
    fs::hard_link(&new, path)
        .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
    fs::remove_file(&new)?;
    // The file's entry in its directory must survive a crash too.
    File::open(directory)?.sync_all()
}

struct Opened {
    database: Database,
    last: u64,
    found: Found,
}

/// Opens a database and looks at every checksum in it.
fn open(path: &Path, file: Watched) -> Result<Opened, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt { path: path.to_owned(), what };
    let refuse = |error: DatabaseError| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(error)) if !is_damage(&error) => {
            StoreError::Failed { path: path.to_owned(), what: error.to_string() }
        }
        DatabaseError::Storage(StorageError::Corrupted(what)) => corrupt(what),
        error => corrupt(error.to_string()),
    };
    let opening = AssertUnwindSafe(|| {
        let (cut_back, looked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (told, seen) = (cut_back.clone(), looked.clone());
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_repair_callback(move |session| {
            // It tells of a first step only if the newest commit does not fit its checksums.
            told.fetch_or(session.progress() < FIRST_STEP, Ordering::SeqCst);
            seen.store(true, Ordering::SeqCst);
        });
        let mut database = builder.create_with_backend(file).map_err(refuse)?;
        let before = tables::View::of(&database).map(|view| view.newest).ok();
        // After a crash the database has looked at all of them itself.
        let whole = looked.load(Ordering::SeqCst) || database.check_integrity().map_err(refuse)?;
        let (last, upgraded) = prepare(&database).map_err(|error| match error {
            Prepare::Newer(found) => StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT },
            Prepare::Failed(redb::Error::Io(error)) if !is_damage(&error) => {
                StoreError::Failed { path: path.to_owned(), what: error.to_string() }
            }
            Prepare::Failed(error) => corrupt(error.to_string()),
        })?;
        let cut_back = cut_back.load(Ordering::SeqCst) || (!whole && before != Some(last));
        Ok(Opened { database, last, found: Found { upgraded, cut_back, read_only: None } })
    });
    // The database takes some bytes that are none of its own for a fault of its program.
    catch_unwind(opening).unwrap_or_else(|_| Err(corrupt("it is no database that can be understood".into())))
}

/// How far a repair has come that found its newest commit whole, by [`redb::RepairSession::progress`].
const FIRST_STEP: f64 = 0.5;

/// Whether an error of reading says that what is there makes no sense.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl Drop for RedbStore {
    /// The file is free for the next one, whoever still has a reader.
    fn drop(&mut self) {
        self.prepared = None;
        self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Store for RedbStore {
    fn append(&mut self, expected: u64, revisions: &[Revision]) -> Result<(), StoreError> {
        let prepared = self.prepared.take();
        let database = self.ready()?;
        check(expected, revisions, self.last)?;
        if let Err(error) = tables::append(&database, prepared, revisions, self.retention, &mut self.first) {
            return Err(self.fail(&error));
        }
        if let Some(newest) = revisions.last() {
            self.last = newest.number;
            self.shared.newest.set(newest.number);
        }
        Ok(())
    }

    fn prepare(&mut self, changes: Option<&Writes>) {
        // Why it cannot be written, `append` tells.
        let Ok(database) = self.ready() else { return };
        let Some(changes) = changes else { return };
        match tables::prepare_writes(&database, self.last + 1, changes) {
            Ok(prepared) => self.prepared = Some(prepared),
            Err(error) => _ = self.fail(&error),
        }
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.shared.look(tables::View::load)
    }

    fn begin(&mut self, now: u64) -> Result<u64, StoreError> {
        let database = self.ready()?;
        tables::begin(&database, now).map_err(|error| self.fail(&error))
    }

    fn restore(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<Row, String>>,
        event: &Event,
    ) -> Result<u64, StoreError> {
        let database = self.ready()?;
        if self.last > 0 {
            return Err(StoreError::NotEmpty { revision: self.last });
        }
        match tables::restore(&database, rows, event) {
            Ok(newest) => {
                self.last = newest;
                self.shared.newest.set(newest);
                Ok(newest)
            }
            Err(Ok(refused)) => Err(refused),
            Err(Err(error)) => Err(self.fail(&error)),
        }
    }

    fn note(&mut self, events: &[Event]) -> Result<(), StoreError> {
        let database = self.ready()?;
        log::note(&database, events, self.retention).map_err(|error| self.fail(&error))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.shared.clone()
    }

    fn found(&self) -> Found {
        self.found.clone()
    }
}
