//! When the files are read again.

use crate::{
    files::Files,
    life::{Stage, Told, now},
    session::Tls,
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime},
};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

/// How often the files are looked at. A change is taken over when they have stayed as they are from one look to the next:
/// who replaces a certificate and its key does so one after the other.
const LOOK: Duration = Duration::from_secs(1);

/// What changes when a file does: its number, length and time; none of one that is not there.
type Stamp = Option<(u64, u64, Option<SystemTime>)>;
/// Of all three files.
pub(crate) type Stamps = [Stamp; 3];

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
        self.seen = now;
        let due = rests && self.read != now;
        if due {
            self.read = now;
        }
        due
    }
}

impl Tls {
    /// Takes over files that change, for as long as it is polled. A broken one leaves in use what there was before, and
    /// is told of once. Certificates that are about to expire, or have, are told of every day.
    pub async fn watch(self) {
        let mut rest = Rest { read: self.first_stamps(), seen: self.first_stamps() };
        let mut told = Told::default();
        loop {
            for (stage, what) in told.due(&self.lives(), now()) {
                match stage {
                    Stage::Expired => error!("southbound TLS: {what}"),
                    Stage::Good | Stage::Ending => warn!("southbound TLS: {what}"),
                }
            }
            sleep(LOOK).await;
            let this = self.clone();
            // Reading files may take its time.
            let looked = spawn_blocking(move || {
                if rest.look(stamps(this.files())) {
                    match this.reload() {
                        Ok(()) => info!("southbound TLS: the files have changed; new sessions are with the new ones"),
                        Err(error) => warn!(%error, "southbound TLS: the files have changed; the old ones stay in use"),
                    }
                }
                rest
            });
            match looked.await {
                Ok(looked) => rest = looked,
                Err(error) => {
                    warn!(%error, "southbound TLS: changed files are no longer taken over");
                    return;
                }
            }
        }
    }
}

/// As the files are now.
pub(crate) fn stamps(files: &Files) -> Stamps {
    [&files.ca, &files.certificate, &files.key].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_when_they_have_come_to_rest_and_once() {
        let stamp = |number| Some((number, 0, None));
        let old = [stamp(1), stamp(2), stamp(3)];
        let mut rest = Rest { read: old, seen: old };
        assert!(!rest.look(old));
        let half = [stamp(1), stamp(4), stamp(3)];
        let new = [stamp(1), stamp(4), stamp(5)];
        assert!(!rest.look(half) && !rest.look(new));
        assert!(rest.look(new) && !rest.look(new));
        assert!(!rest.look(old) && rest.look(old));
        let gone = [None, stamp(2), stamp(3)];
        assert!(!rest.look(gone) && rest.look(gone));
    }
}
