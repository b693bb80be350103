//! When the files are read again.

use crate::{
    files::FileError,
    life::{Life, Peers, Stage, Told, now},
    session::Tls,
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

/// How often the files are looked at. A change is taken over when they have stayed as they are from one look to the next:
/// who replaces a certificate and its key does so one after the other.
const LOOK: Duration = Duration::from_secs(1);

/// Every how many looks it is asked whether something is to be made anew: once an hour.
const DUE: u32 = 3_600;

/// What changes when a file does: its number, length and time; none of one that is not there.
type Stamp = Option<(u64, u64, Option<SystemTime>)>;
/// Of several files.
pub(crate) type Stamps = Vec<Stamp>;

/// Says when files that change have come to rest.
#[derive(Debug, Default)]
struct Rest {
    /// As they were when they were read.
    read: Stamps,
    /// As they were when they were looked at.
    seen: Stamps,
}

impl Rest {
    /// Whether they are to be read again.
    fn look(&mut self, now: Stamps) -> bool {
        let rests = self.seen == now;
        let due = rests && self.read != now;
        self.seen.clone_from(&now);
        if due {
            self.read = now;
        }
        due
    }
}

/// What is read from files, and read again when they change.
pub(crate) trait Source: Clone + Send + 'static {
    /// Who is on the other side.
    const PEERS: Peers;

    /// The files, as they were before they were read at the start.
    fn first_stamps(&self) -> Stamps;
    /// The files as they are.
    fn stamps(&self) -> Stamps;
    /// Whether it is to be made anew though no file has changed.
    fn is_due(&self, now: u64) -> bool;
    /// Reads them again.
    fn reload(&self) -> Result<(), FileError>;
    /// What is in use.
    fn lives(&self) -> Vec<Life>;
}

impl Source for Tls {
    const PEERS: Peers = Peers::Switches;

    fn first_stamps(&self) -> Stamps {
        self.first_stamps()
    }
    fn stamps(&self) -> Stamps {
        stamps(&self.files().paths())
    }
    fn is_due(&self, _: u64) -> bool {
        false
    }
    fn reload(&self) -> Result<(), FileError> {
        self.reload()
    }
    fn lives(&self) -> Vec<Life> {
        self.lives()
    }
}

impl Tls {
    /// Takes over files that change, for as long as it is polled. A broken one leaves in use what there was before, and
    /// is told of once. Certificates that are about to expire, or have, are told of every day.
    pub async fn watch(self) {
        watch(self).await;
    }
}

pub(crate) async fn watch<S: Source>(source: S) {
    let mut rest = Rest { read: source.first_stamps(), seen: source.first_stamps() };
    let (mut told, peers) = (Told::default(), S::PEERS);
    let mut looks = 0_u32;
    loop {
        for (stage, what) in told.due(&source.lives(), now()) {
            match stage {
                Stage::Expired => error!("{peers}: {what}"),
                Stage::Good | Stage::Ending => warn!("{peers}: {what}"),
            }
        }
        sleep(LOOK).await;
        looks = looks.wrapping_add(1);
        let asks = looks.is_multiple_of(DUE);
        let this = source.clone();
        // Reading files may take its time.
        let looked = spawn_blocking(move || {
            if rest.look(this.stamps()) {
                match this.reload() {
                    Ok(()) => info!("{peers}: the files have changed; new sessions are with the new ones"),
                    Err(error) => warn!(%error, "{peers}: the files have changed; the old ones stay in use"),
                }
            } else if asks && this.is_due(now()) {
                match this.reload() {
                    Ok(()) => info!("{peers}: a new certificate was made, as the old one was to expire"),
                    Err(error) => warn!(%error, "{peers}: no new certificate; the old one stays in use"),
                }
            }
            rest
        });
        match looked.await {
            Ok(looked) => rest = looked,
            Err(error) => {
                warn!(%error, "{peers}: changed files are no longer taken over");
                return;
            }
        }
    }
}

/// As files are now.
pub(crate) fn stamps(paths: &[&Path]) -> Stamps {
    let stamp = |path: &&Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_when_they_have_come_to_rest_and_once() {
        let stamp = |number| Some((number, 0, None));
        let old = vec![stamp(1), stamp(2), stamp(3)];
        let mut rest = Rest { read: old.clone(), seen: old.clone() };
        assert!(!rest.look(old.clone()));
        let half = vec![stamp(1), stamp(4), stamp(3)];
        let new = vec![stamp(1), stamp(4), stamp(5)];
        assert!(!rest.look(half) && !rest.look(new.clone()));
        assert!(rest.look(new.clone()) && !rest.look(new.clone()));
        assert!(!rest.look(old.clone()) && rest.look(old.clone()));
        let gone = vec![None, stamp(2), stamp(3)];
        assert!(!rest.look(gone.clone()) && rest.look(gone.clone()));
    }
}
