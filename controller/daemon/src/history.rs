//! Earlier revisions and backups: the store's rows, told in resources and lines.

use crate::start::decode;
use bulkhead_api::{Difference, History, Noted, PastError, RestoreError};
use bulkhead_policy::{Key, Kind, Resource};
use bulkhead_runtime::{Handle, RestoreRefusal, Restoring};
use bulkhead_store::{Document, Event, Loaded, Reader, Row, StoreError};
use bulkhead_types::{
    AuditAnswer, AuditHead, BackupSum, ChangeKind, RestoreAnswer, read_backup,
    v1::{KINDS, kind_name},
};
use std::{
    fs::{File, OpenOptions, remove_file},
    io::{self, BufRead, BufReader, Seek},
    path::Path,
};

/// Bytes of a backup that are handed on at once.
const PART: usize = 64 << 10;
/// Where a backup lies that is being restored, in the data directory; it has lost its name before anything is in it.
const SPOOL: &str = "bulkhead.restore";

fn told(error: StoreError) -> PastError {
    match error {
        StoreError::NotKept { .. } => PastError::NotKept(error.to_string()),
        other => PastError::Failed(other.to_string()),
    }
}

/// The resource that a key of the store is of, if users write such.
fn key(text: &str) -> Option<Key> {
    let (kind, name) = text.split_once('/')?;
    let kind = KINDS.into_iter().find(|known| kind_name(*known) == kind)?;
    Some(Key { kind, name: name.parse().ok()? })
}

/// Some revisions. Those that only say what was found, on hosts or between switches, are told without resources.
pub(crate) fn history(store: &dyn Reader, before: u64, limit: usize) -> Result<History, PastError> {
    let found = store.history(before, limit).map_err(told)?;
    let noted = |noted: bulkhead_store::Noted| {
        let of = |keys: Vec<String>, kind: ChangeKind| {
            keys.into_iter().filter_map(move |text| Some((key(&text)?, kind))).collect::<Vec<_>>()
        };
        let mut changes = of(noted.created, ChangeKind::Created);
        changes.extend(of(noted.updated, ChangeKind::Updated));
        changes.extend(of(noted.deleted, ChangeKind::Deleted));
        Noted { revision: noted.number, author: noted.author, time: noted.time, changes }
    };
    Ok(History {
        newest: found.newest,
        oldest: found.oldest,
        revisions: found.revisions.into_iter().map(noted).collect(),
    })
}

/// What users wrote differently at two revisions.
pub(crate) fn between(store: &dyn Reader, from: u64, to: u64) -> Result<Vec<Difference>, PastError> {
    let mut differences = changes(store, from, to)?;
    for difference in &mut differences {
        // Who was learned is found, too: somebody else may be at his port by now.
        let learned = |resource: &Resource| matches!(resource, Resource::Workload(workload) if workload.is_learned());
        difference.from.take_if(|resource| learned(resource));
        difference.to.take_if(|resource| learned(resource));
    }
    differences.retain(|difference| difference.from != difference.to);
    Ok(differences)
}

/// What is listed and differs between two revisions.
pub(crate) fn changes(store: &dyn Reader, from: u64, to: u64) -> Result<Vec<Difference>, PastError> {
    let between = store.between(from, Some(to)).map_err(told)?;
    let mut differences = Vec::new();
    for difference in between.differences {
        // What was found on hosts and between switches is as it is, whatever is asked for.
        let Some(key) = key(&difference.key) else { continue };
        let version = |document: &Option<Document>| document.as_ref().map_or(0, |document| document.revision);
        let versions = (version(&difference.from), version(&difference.to));
        let read = |document: Option<Document>| {
            let Some(document) = document else { return Ok(None) };
            let resource = decode(&document.text).map_err(|why| {
                let revision = document.revision;
                PastError::NotKept(format!("{key} as of revision {revision} cannot be read any more: {why}"))
            })?;
            Ok(Some(resource))
        };
        let (from, to) = (read(difference.from)?, read(difference.to)?);
        // The same may have been written down in other words by another version.
        if from != to {
            differences.push(Difference { key, from, to, versions });
        }
    }
    differences.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(differences)
}

/// Writes a backup of one moment.
pub(crate) fn backup(store: &dyn Reader, out: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), PastError> {
    let mut sum = BackupSum::default();
    let (mut part, mut failed, mut taken) = (Vec::with_capacity(PART), None, true);
    store
        .snapshot(&mut |row| {
            if let Row::Store { revision, .. } = &row {
                part.extend_from_slice(sum.head(*revision).as_bytes());
            }
            let mut line = match serde_json::to_vec(&row) {
                Ok(line) => line,
                Err(error) => {
                    failed = Some(error.to_string());
                    return false;
                }
            };
            line.push(b'\n');
            sum.row(&line);
            part.extend_from_slice(&line);
            if part.len() >= PART {
                taken = out(std::mem::replace(&mut part, Vec::with_capacity(PART)));
            }
            taken
        })
        .map_err(told)?;
    if let Some(why) = failed {
        return Err(PastError::Failed(why));
    }
    if taken {
        part.extend_from_slice(sum.tail().as_bytes());
        out(part);
    }
    Ok(())
}

/// Audit records after one.
pub(crate) fn audit(store: &dyn Reader, after: u64, limit: usize) -> Result<AuditAnswer, PastError> {
    let found = store.audit(after, limit).map_err(told)?;
    let head = AuditHead { number: found.head.number, digest: found.head.digest };
    Ok(AuditAnswer { head, oldest: found.oldest, records: found.records })
}

/// A file without a name.
pub(crate) fn spool(directory: &Path) -> io::Result<File> {
    let path = directory.join(SPOOL);
    // Of an attempt that was interrupted at once.
    remove_file(&path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    remove_file(&path)?;
    Ok(file)
}

/// Restores the backup in `file`: first all of it is looked at, then all of it is taken in.
pub(crate) async fn restore(handle: &Handle, file: File, event: Event) -> Result<RestoreAnswer, RestoreError> {
    let looked = tokio::task::spawn_blocking(move || look(file)).await;
    let (loaded, rows) = looked.map_err(|error| RestoreError::Failed(error.to_string()))??;
    let restored = handle.restore(Restoring { loaded, rows: Box::new(rows), event }).await;
    let refused = |refusal| match refusal {
        RestoreRefusal::NotEmpty(why) => RestoreError::NotEmpty(why),
        RestoreRefusal::Damaged(why) => RestoreError::Damaged(why),
        RestoreRefusal::Failed(why) => RestoreError::Failed(why),
    };
    let revision = restored.map_err(|gone| RestoreError::Failed(gone.to_string()))?.map_err(refused)?;
    let resources = handle.read(|accepted| {
        accepted.versions.keys().filter(|key| !matches!(key.kind, Kind::Host | Kind::Adjacency)).count()
    });
    Ok(RestoreAnswer { revision, resources })
}

/// Looks at a whole backup, and gives what it holds, and its rows once more.
fn look(mut file: File) -> Result<(Loaded, Rows), RestoreError> {
    let damaged = |why: String| RestoreError::Damaged(format!("the backup is refused: {why}"));
    let failed = |error: io::Error| RestoreError::Failed(error.to_string());
    let mut loaded = Loaded::default();
    let mut wrong = None;
    let head = read_backup(BufReader::new(&file), |line| {
        if wrong.is_none() {
            wrong = take(line, &mut loaded).err();
        }
        Ok(())
    });
    // A row that makes no sense is told only where the sum says that it was written so.
    let head = head.map_err(|error| damaged(error.to_string()))?;
    if let Some(why) = wrong {
        return Err(damaged(why));
    }
    if head.revision != loaded.revision {
        return Err(damaged("its head and its rows are of different revisions".into()));
    }
    file.rewind().map_err(failed)?;
    let mut rows = Rows { lines: BufReader::new(file), line: Vec::new() };
    rows.next_line().map_err(failed)?;
    Ok((loaded, rows))
}

fn take(line: &[u8], loaded: &mut Loaded) -> Result<(), String> {
    match serde_json::from_slice(line).map_err(|error| format!("a row is not understood: {error}"))? {
        Row::Store { revision, .. } => loaded.revision = revision,
        Row::Document { key, revision, text } => {
            let found = decode(&text).map(|resource: Resource| resource.key().to_string());
            match found {
                Ok(found) if found == key => {}
                Ok(found) => return Err(format!("{key} holds {found}")),
                Err(why) => return Err(format!("{key} is not understood: {why}")),
            }
            loaded.documents.insert(key, Document { text, revision });
        }
        Row::Number { name, number } => _ = loaded.numbers.insert(name, number),
        Row::Note { .. } | Row::Past { .. } => {}
    }
    Ok(())
}

/// The rows of a backup that was looked at.
struct Rows {
    lines: BufReader<File>,
    line: Vec<u8>,
}

impl Rows {
    fn next_line(&mut self) -> io::Result<usize> {
        self.line.clear();
        self.lines.read_until(b'\n', &mut self.line)
    }
}

impl Iterator for Rows {
    type Item = Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_line() {
            Ok(0) => None,
            Err(error) => Some(Err(error.to_string())),
            // The last line is no row.
            Ok(_) if self.line.starts_with(b"{\"end\":") => None,
            Ok(_) => Some(serde_json::from_slice(&self.line).map_err(|error| error.to_string())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bulkhead_store::{MemoryStore, Revision, Store};

    fn workload(learned: bool, mac: u8) -> Option<std::sync::Arc<str>> {
        let labels = if learned { r#""bulkhead/learned": "true""# } else { r#""app": "x""# };
        let text = format!(
            r#"{{"apiVersion": "bulkhead/v1", "kind": "Workload", "metadata": {{"name": "w", "labels": {{{labels}}}}},
                "spec": {{"network": "net", "interfaces": [{{"mac": "02:00:00:00:00:0{mac}", "ips": ["10.0.0.1"]}}]}}}}"#
        );
        Some(text.into())
    }

    #[test]
    fn who_was_learned_does_not_come_back() {
        let mut store = MemoryStore::default();
        let texts = [workload(true, 1), workload(true, 2), workload(false, 2), None, workload(true, 3)];
        for (number, text) in (1..).zip(texts) {
            let changes = [("Workload/w".into(), text)].into();
            store.append(number - 1, &[Revision { number, changes, ..Revision::default() }]).unwrap();
        }
        let sides = |from, to| {
            let found = between(&*store.reader(), from, to).unwrap();
            found.into_iter().map(|found| (found.from.is_some(), found.to.is_some())).collect::<Vec<_>>()
        };
        // Learned, learned elsewhere, gone, and learned again: nobody's doing.
        for (from, to) in [(1, 2), (4, 5), (5, 4), (5, 1)] {
            assert_eq!(sides(from, to), [], "{from} to {to}");
        }
        // What was declared is.
        assert_eq!(
            (sides(5, 3), sides(3, 1), sides(3, 4)),
            (vec![(false, true)], vec![(true, false)], vec![(true, false)])
        );
    }
}
