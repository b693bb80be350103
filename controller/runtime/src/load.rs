//! From what is stored to what the loop owns: read first, then compiled.

use crate::{
    core::Core,
    drivers::Drivers,
    fabric::Views,
    metrics::Totals,
    shared::{Accepted, Shared},
};
use bulkhead_compile::Numbers;
use bulkhead_policy::{Change, Resource};
use bulkhead_store::{Found, Row, Store, StoreError};
use std::{
    iter, mem,
    num::NonZero,
    ops::Range,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, PoisonError, RwLockReadGuard,
        mpsc::{Receiver, TrySendError, sync_channel},
    },
    thread,
};
use tracing::{error, info, warn};

/// Turns a stored document back into its resource; the error is for people.
pub type Decode = fn(&str) -> Result<Resource, String>;

/// Documents that are decoded at a time: some milliseconds of work, so that all cores end together.
const CHUNK: usize = 1_000;
/// Chunks that may wait for somebody to decode them: a bound on the texts in memory. Whoever reads decodes what is beyond.
const WAITING: usize = 8;
/// Most threads that decode beside the one that reads: with more, reading is what takes the time.
const MAX_HELPERS: usize = 3;

/// Why the controller cannot start. It has touched no switch.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored document is not understood.
    #[error("the stored document {key} cannot be read: {why}; it was written by another version of bulkheadd")]
    Document {
        /// Its key in the store.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is stored cannot be compiled.
    #[error("the stored state cannot be compiled: {0}")]
    TooLarge(String),
}

/// Documents in the order of their keys, one text altogether: each piece that one thread makes and another one drops has
/// them wait for each other.
#[derive(Default)]
struct Texts {
    all: String,
    /// Where a key ends, where its document does, and the revision that wrote it.
    ends: Vec<(usize, usize, u64)>,
}

impl Texts {
    fn push(&mut self, key: &str, revision: u64, text: &str) {
        self.all.push_str(key);
        let end_of_key = self.all.len();
        self.all.push_str(text);
        self.ends.push((end_of_key, self.all.len(), revision));
    }

    /// Each document's key, revision and text.
    fn each(&self) -> impl Iterator<Item = (&str, u64, &str)> {
        let starts = iter::once(0).chain(self.ends.iter().map(|(_, end, _)| *end));
        let part = |range: Range<usize>| self.all.get(range).unwrap_or_default();
        let each = move |(start, (key, end, revision)): (usize, &(usize, usize, u64))| {
            (part(start..*key), *revision, part(*key..*end))
        };
        starts.zip(&self.ends).map(each)
    }
}

/// What they say, and the revision of each.
type Decoded = Result<Vec<(Resource, u64)>, LoadError>;

/// The resources of a chunk.
fn decoded(texts: &Texts, decode: Decode) -> Decoded {
    let mut resources = Vec::with_capacity(texts.ends.len());
    for (key, revision, text) in texts.each() {
        match decode(text) {
            Ok(resource) => resources.push((resource, revision)),
            // It is found again once the host, or the switch, answers.
            Err(why) if key.starts_with("Host/") || key.starts_with("Adjacency/") => {
                warn!(key, why, "what was found there cannot be read; left out");
            }
            Err(why) => return Err(LoadError::Document { key: key.into(), why }),
        }
    }
    Ok(resources)
}

/// Decodes chunks until there will be no more.
fn work(chunks: &Mutex<Receiver<(usize, Texts)>>, decode: Decode) -> Vec<(usize, Decoded)> {
    let mut done = Vec::new();
    loop {
        let next = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, texts)) = next else { return done };
        done.push((number, decoded(&texts, decode)));
    }
}

/// What a store's rows come to: the state, and durable numbers. `rows` hands on the rows of one moment, history last,
/// until it is told to end. Documents are decoded on all cores while later ones are still being read; of those that
/// cannot be, the first one is told of.
pub(crate) fn read(
    rows: impl FnOnce(&mut dyn FnMut(Row) -> bool) -> Result<(), StoreError>,
    decode: Decode,
) -> Result<(Accepted, Numbers), LoadError> {
    let mut accepted = Accepted::default();
    let mut numbers = Vec::new();
    let (queue, waiting) = sync_channel(WAITING);
    let waiting = Mutex::new(waiting);
    let helpers = thread::available_parallelism().map_or(0, NonZero::get).saturating_sub(1).min(MAX_HELPERS);
    let mut chunks = thread::scope(|scope| {
        let helper = |_| thread::Builder::new().spawn_scoped(scope, || work(&waiting, decode)).ok();
        // Without them it takes longer, and that is all.
        let helpers: Vec<_> = (0..helpers).filter_map(helper).collect();
        let mut done = Vec::new();
        let (mut texts, mut chunk) = (Texts::default(), 0);
        let mut hand_on = |texts: &mut Texts| {
            chunk += 1;
            match queue.try_send((chunk, mem::take(texts))) {
                Ok(()) => {}
                Err(TrySendError::Full((chunk, texts)) | TrySendError::Disconnected((chunk, texts))) => {
                    done.push((chunk, decoded(&texts, decode)));
                }
            }
        };
        rows(&mut |row| {
            match row {
                Row::Store { revision, .. } => accepted.revision = revision,
                Row::Document { key, revision, text } => {
                    texts.push(&key, revision, &text);
                    if texts.ends.len() == CHUNK {
                        hand_on(&mut texts);
                    }
                }
                Row::Number { name, number } => numbers.push((name, number)),
                Row::Note { .. } | Row::Past { .. } => return false,
            }
            true
        })?;
        hand_on(&mut texts);
        drop(queue);
        done.extend(work(&waiting, decode));
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        Ok::<_, LoadError>(done)
    })?;
    chunks.sort_by_key(|(number, _)| *number);
    let (mut changes, mut versions) = (Vec::new(), Vec::new());
    for (_, decoded) in chunks {
        for (resource, revision) in decoded? {
            let change = Change::set(resource);
            versions.push((change.key.clone(), revision));
            changes.push(change);
        }
    }
    accepted.versions = versions.into_iter().collect();
    accepted.state.apply(&changes);
    Ok((accepted, numbers.into_iter().collect()))
}

/// What was stored, read and not compiled yet. It can be looked at; no switch is told anything.
pub struct Stored {
    pub(crate) shared: Shared,
    pub(crate) views: Views,
    pub(crate) totals: Arc<Mutex<Totals>>,
    pub(crate) numbers: Numbers,
    pub(crate) store: Box<dyn Store>,
    pub(crate) found: Found,
    pub(crate) decode: Decode,
}

impl Stored {
    /// Reads what is stored, and says how the store was found.
    pub fn load(store: Box<dyn Store>, decode: Decode) -> Result<Self, LoadError> {
        let reader = store.reader();
        let (accepted, mut numbers) = read(|each| reader.snapshot(each), decode)?;
        let found = store.found();
        if found.cut_back {
            let revision = accepted.revision;
            error!(revision, "the newest commit in the store was not whole, and was cut back to this revision");
            // The one that was lost may have given numbers that a switch still holds.
            numbers.skip();
        }
        if let Some(older) = found.upgraded {
            info!(format = older, "the store was of an older format, and is of the newest now");
        }
        let (views, totals) = Default::default();
        Ok(Self { shared: Shared::new(accepted), views, totals, numbers, store, found, decode })
    }

    /// Looks at it.
    pub fn accepted(&self) -> RwLockReadGuard<'_, Accepted> {
        self.shared.read()
    }
}

impl Core {
    /// Loads what is stored, compiles it, and only then attaches the switches: a controller that has not
    /// loaded its state touches none.
    pub fn load(store: Box<dyn Store>, decode: Decode, drivers: Drivers) -> Result<Self, LoadError> {
        Self::compile(Stored::load(store, decode)?, drivers)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bulkhead_policy::{
        Kind,
        model::{AddressSet, CidrSet},
    };

    /// Several chunks for each place in the queue.
    const MANY: u64 = (3 * WAITING * CHUNK) as u64;

    fn named(text: &str) -> Result<Resource, String> {
        let set = CidrSet { cidrs: Vec::new(), except: Vec::new() };
        let name = text.parse().map_err(|_| format!("{text:?} is no name"))?;
        Ok(Resource::AddressSet(Arc::new(AddressSet { name, set })))
    }

    fn document(number: u64, text: &str) -> Row {
        Row::Document { key: format!("AddressSet/{number:08}"), revision: number, text: text.into() }
    }

    /// Hands on rows, the documents of which are wrong where `wrong` says so, and ends as `end` does.
    fn rows(
        wrong: fn(u64) -> bool,
        end: Result<(), StoreError>,
    ) -> impl FnOnce(&mut dyn FnMut(Row) -> bool) -> Result<(), StoreError> {
        move |each| {
            each(Row::Store { revision: 2 * MANY, oldest: 0 });
            for number in 1..=MANY {
                let text = if wrong(number) { String::from("-") } else { format!("s{number}") };
                each(document(number, &text));
            }
            each(Row::Number { name: "n".into(), number: 7 });
            end
        }
    }

    #[test]
    fn everything_is_read_with_the_revision_that_wrote_it() {
        let (accepted, _) = read(rows(|_| false, Ok(())), named).unwrap();
        assert_eq!((accepted.revision, accepted.state.address_sets.len() as u64), (2 * MANY, MANY));
        for number in 1..=MANY {
            let key = Kind::AddressSet.named(&format!("s{number}").parse().unwrap());
            assert_eq!(accepted.versions.get(&key), Some(&number));
        }
    }

    #[test]
    fn of_documents_that_cannot_be_read_the_first_is_told() {
        for _ in 0..10 {
            let found = read(rows(|number| number % 1_500 == 700, Ok(())), named).unwrap_err();
            let LoadError::Document { key, why } = found else { unreachable!("{found}") };
            assert_eq!((key.as_str(), why.as_str()), ("AddressSet/00000700", "\"-\" is no name"));
        }
    }

    #[test]
    fn a_store_that_fails_on_the_way_ends_it() {
        let failed = StoreError::Damaged("gone".into());
        let found = read(rows(|_| false, Err(failed)), named).unwrap_err();
        assert!(matches!(found, LoadError::Store(StoreError::Damaged(_))), "{found}");
    }

    #[test]
    fn history_is_not_read() {
        let (mut asked, mut refused) = (0, false);
        let rows = |each: &mut dyn FnMut(Row) -> bool| {
            asked += 1;
            each(Row::Store { revision: 1, oldest: 0 });
            refused = !each(Row::Past { number: 1, key: String::new(), revision: 0, text: None });
            Ok(())
        };
        read(rows, named).unwrap();
        assert!(asked == 1 && refused);
    }
}
