//! The outer form of a backup: lines of JSON, a head before and a sum after them.
//!
//! ```text
//! {"bulkhead":"backup","format":1,"revision":17}
//! ...one row a line...
//! {"end":{"rows":1234,"sum":"0f1e..."}}
//! ```
//!
//! What the rows say is between the controller that wrote them and the one that reads them.

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::{
    hash::Hasher,
    io::{self, BufRead, Read},
};

/// The newest format that is written and understood.
pub const BACKUP_FORMAT: u32 = 1;
/// Longest line: a row holds one document and little else, and escaping doubles it at most in what anybody writes.
const MAX_LINE: u64 = 16 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupHead {
    /// `backup`.
    pub bulkhead: String,
    /// See [`BACKUP_FORMAT`].
    pub format: u32,
    /// The newest revision in it.
    pub revision: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    end: End,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    rows: u64,
    sum: String,
}

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as a backup does.
    #[error("it is no backup of Bulkhead's")]
    Foreign,
    /// It was written by a newer program.
    #[error("it has format {0}, known are formats up to {BACKUP_FORMAT}; a newer version can read it")]
    Newer(u32),
    /// Its end is missing.
    #[error("its end is missing after {0} rows: it was not written or copied to its end")]
    Cut(u64),
    /// Its sum is not that of its lines.
    #[error("its sum does not fit: something in it was changed since it was written")]
    Sum,
    /// There is something after its end.
    #[error("there is something after its end")]
    Trailing,
}

/// The sum over a backup's lines: it tells of damage, not of malice.
#[derive(Debug, Default)]
pub struct BackupSum {
    hasher: SipHasher13,
    rows: u64,
}

impl BackupSum {
    /// The first line of a backup, with its end of line.
    pub fn head(&mut self, revision: u64) -> String {
        let head = BackupHead { bulkhead: "backup".into(), format: BACKUP_FORMAT, revision };
        // Plain structs with text keys cannot fail to serialize.
        let line = serde_json::to_string(&head).unwrap_or_default() + "\n";
        self.hasher.write(line.as_bytes());
        line
    }

    /// Counts a row in, with its end of line.
    pub fn row(&mut self, line: &[u8]) {
        self.hasher.write(line);
        self.rows += 1;
    }

    fn end(&self) -> End {
        End { rows: self.rows, sum: format!("{:032x}", self.hasher.finish128().as_u128()) }
    }

    /// The last line, with its end of line.
    pub fn tail(&self) -> String {
        serde_json::to_string(&Tail { end: self.end() }).unwrap_or_default() + "\n"
    }
}

/// Reads a backup to its end and hands on each row's line. Rows are handed on before it is known that all is whole:
/// read it once without looking at them, to know.
pub fn read_backup(
    mut from: impl BufRead,
    mut row: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<BackupHead, BackupError> {
    let mut sum = BackupSum::default();
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| {
        line.clear();
        (&mut from).take(MAX_LINE).read_until(b'\n', line)
    };
    next(&mut line)?;
    let head: BackupHead = serde_json::from_slice(&line).map_err(|_| BackupError::Foreign)?;
    match head.format {
        _ if head.bulkhead != "backup" => return Err(BackupError::Foreign),
        newer if newer > BACKUP_FORMAT => return Err(BackupError::Newer(newer)),
        _ => sum.hasher.write(&line),
    }
    loop {
        next(&mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(BackupError::Cut(sum.rows));
        }
        if line.starts_with(b"{\"end\":")
            && let Ok(Tail { end }) = serde_json::from_slice(&line)
        {
            let own = sum.end();
            if (end.rows, &end.sum) != (own.rows, &own.sum) {
                return Err(BackupError::Sum);
            }
            return if next(&mut line)? == 0 { Ok(head) } else { Err(BackupError::Trailing) };
        }
        sum.row(&line);
        row(&line)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn backup() -> Vec<u8> {
        let mut sum = BackupSum::default();
        let mut text = sum.head(17);
        for row in ["{\"a\":1}\n", "{\"b\":2}\n", "{\"c\":3}\n"] {
            sum.row(row.as_bytes());
            text += row;
        }
        (text + &sum.tail()).into_bytes()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut rows = Vec::new();
        let head = read_backup(&backup()[..], |row| {
            rows.push(row.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!((head.revision, rows.len(), &rows[1][..]), (17, 3, &b"{\"b\":2}\n"[..]));
    }

    #[test]
    fn any_damage_is_found() {
        let whole = backup();
        for length in 0..whole.len() {
            assert!(read_backup(&whole[..length], |_| Ok(())).is_err(), "cut to {length}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bad = whole.clone();
                bad[at] ^= 1 << bit;
                assert!(read_backup(&bad[..], |_| Ok(())).is_err(), "bit {bit} of byte {at}");
            }
        }
        let twice = [whole.clone(), whole.clone()].concat();
        assert!(matches!(read_backup(&twice[..], |_| Ok(())), Err(BackupError::Trailing)));
        let newer = String::from_utf8(whole).unwrap().replace("\"format\":1", "\"format\":2");
        assert!(matches!(read_backup(newer.as_bytes(), |_| Ok(())), Err(BackupError::Newer(2))));
    }
}
