//! The audit log's table.

use super::tables::{AUDIT, META, View};
use crate::{AUDIT_PAGE, Audit, Event, Head, Retention};
use redb::{Database, ReadableTable, Table, WriteTransaction};
use std::io;

/// Records that one commit forgets, beside as many as it writes: it is to be as quick as any other.
const MAX_FORGOTTEN: u64 = 1_000;

/// The audit log, where it can be written.
pub(super) struct Log<'t> {
    audit: Table<'t, u64, &'static str>,
    head: Head,
    /// The newest record before this commit.
    before: u64,
    /// Bytes of its records.
    pub(super) bytes: u64,
}

impl<'t> Log<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, bytes: u64) -> Result<Self, redb::Error> {
        let audit = transaction.open_table(AUDIT)?;
        let head = audit.last()?.map(|(number, line)| Head::at(number.value(), line.value())).unwrap_or_default();
        Ok(Self { before: head.number, head, audit, bytes })
    }

    pub(super) fn write(
        &mut self,
        record: impl FnOnce(&mut Head) -> Result<String, serde_json::Error>,
    ) -> Result<(), redb::Error> {
        let line = record(&mut self.head).map_err(io::Error::from)?;
        self.audit.insert(self.head.number, line.as_str())?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Forgets the oldest records beyond the retention.
    pub(super) fn forget(&mut self, retention: Retention) -> Result<(), redb::Error> {
        for _ in 0..MAX_FORGOTTEN + (self.head.number - self.before) {
            let oldest = self.audit.first()?.map(|(number, line)| (number.value(), line.value().len() as u64));
            match oldest {
                Some((number, length)) if self.bytes > retention.audit && number < self.head.number => {
                    self.audit.remove(number)?;
                    self.bytes = self.bytes.saturating_sub(length);
                }
                _ => break,
            }
        }
        Ok(())
    }
}

/// Writes audit records in one commit.
pub(super) fn note(database: &Database, events: &[Event], retention: Retention) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let bytes = meta.get("audit-bytes")?.map_or(0, |bytes| bytes.value());
        let mut log = Log::open(&transaction, bytes)?;
        for event in events {
            log.write(|head| head.event(event, None))?;
        }
        log.forget(retention)?;
        meta.insert("audit-bytes", log.bytes)?;
    }
    Ok(transaction.commit()?)
}

impl View {
    /// Audit records after one.
    pub(super) fn audit(&self, after: u64, limit: usize) -> Result<Audit, redb::Error> {
        let audit = self.transaction.open_table(AUDIT)?;
        let head = audit.last()?.map(|(number, line)| Head::at(number.value(), line.value()));
        let oldest = audit.first()?.map_or(0, |(number, _)| number.value());
        let (mut records, mut room) = (Vec::new(), AUDIT_PAGE);
        for row in audit.range(after.saturating_add(1)..)?.take(limit) {
            let (_, line) = row?;
            if room == 0 {
                break;
            }
            room = room.saturating_sub(line.value().len());
            records.push(line.value().to_owned());
        }
        Ok(Audit { head: head.unwrap_or_default(), oldest, records })
    }
}
