//! When certificates in use expire, and who is told of it when.

use crate::{
    certificate::Certificate,
    files::{Role, Span},
};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::SystemTime};

/// How long before a certificate expires that is told of: authorities that people run may take weeks to sign another.
const AHEAD: u64 = 30 * DAY;
/// How often it is said again in the log.
const AGAIN: u64 = DAY;
const DAY: u64 = 24 * 60 * 60;

/// Who is on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peers {
    /// Switches, and hosts' databases.
    Switches,
    /// Clients of the API.
    Clients,
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switches => "southbound TLS",
            Self::Clients => "TLS of the API",
        })
    }
}

/// A certificate in use: the controller's own, one that it shows with it, or an authority's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// What it is for: never [`Role::Key`].
    pub role: Role,
    /// Who is shown it, or shows what it has signed.
    pub peers: Peers,
    /// The file that it is from.
    pub path: PathBuf,
    /// Whose it is, for people.
    pub owner: String,
    /// Its last second, since 1970-01-01 UTC.
    pub ends: u64,
}

/// How near a certificate's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// So far away that nobody is told.
    Good,
    /// Less than 30 days.
    Ending,
    /// It is over.
    Expired,
}

impl Life {
    pub(crate) fn new(role: Role, peers: Peers, path: PathBuf, der: &[u8], ends: u64) -> Self {
        Self { role, peers, path, owner: Certificate::read(der).to_string(), ends }
    }

    /// How near its end is, at a time in seconds since 1970-01-01 UTC.
    pub fn stage(&self, now: u64) -> Stage {
        match self.ends.saturating_sub(now) {
            _ if self.ends < now => Stage::Expired,
            left if left < AHEAD => Stage::Ending,
            _ => Stage::Good,
        }
    }

    /// What there is to be told of its end, for people; nothing while that is far away.
    pub fn warning(&self, now: u64) -> Option<String> {
        let (path, owner) = (self.path.display(), &self.owner);
        let then = match (self.role, self.peers) {
            (Role::Ca, Peers::Switches) => "switches refuse what it has signed",
            (Role::Ca, Peers::Clients) => "clients that it has signed for are refused",
            (_, Peers::Switches) => "switches refuse this controller",
            (_, Peers::Clients) => "clients refuse this controller",
        };
        let what = match self.role {
            Role::Ca => format!("the authority {owner} in {path}"),
            Role::Certificate | Role::Key => format!("the certificate {path} of {owner}"),
        };
        match self.stage(now) {
            Stage::Good => None,
            Stage::Ending => {
                let left = Span(self.ends.saturating_sub(now));
                Some(format!("{what} expires in {left}: have a new one signed; from then on {then}"))
            }
            Stage::Expired => {
                let ago = Span(now.saturating_sub(self.ends));
                Some(format!("{what} expired {ago} ago: {then}; have a new one signed"))
            }
        }
    }
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// Who of them was told of, in which stage, and when.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<Life, (Stage, u64)>);

impl Told {
    /// What is to be said now of these: of each at once, when it is over, and every day until it is replaced.
    pub(crate) fn due(&mut self, lives: &[Life], now: u64) -> Vec<(Stage, String)> {
        self.0.retain(|life, _| lives.contains(life));
        let mut due = Vec::new();
        for life in lives {
            let stage = life.stage(now);
            let told = self.0.get(life);
            if told.is_some_and(|(before, at)| *before == stage && now.saturating_sub(*at) < AGAIN) {
                continue;
            }
            if let Some(warning) = life.warning(now) {
                self.0.insert(life.clone(), (stage, now));
                due.push((stage, warning));
            }
        }
        due
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn life(role: Role, ends: u64) -> Life {
        Life { role, peers: Peers::Switches, path: "/etc/bulkhead/x.pem".into(), owner: "ctl".into(), ends }
    }

    #[test]
    fn thirty_days_ahead_is_told_and_what_is_over_is_said_to_be_over() {
        let said = |role, ends| life(role, ends).warning(NOW);
        assert_eq!(said(Role::Certificate, NOW + AHEAD), None);
        let soon = said(Role::Certificate, NOW + AHEAD - 1).unwrap();
        assert_eq!(
            soon,
            "the certificate /etc/bulkhead/x.pem of ctl expires in 29 days: have a new one signed; from then on switches \
             refuse this controller"
        );
        // A certificate's last second is still its own (RFC 5280 §4.1.2.5).
        assert!(said(Role::Ca, NOW).unwrap().contains("the authority ctl in /etc/bulkhead/x.pem expires in 0 seconds"));
        let over = said(Role::Ca, NOW - 3 * DAY).unwrap();
        assert!(over.contains("expired 3 days ago: switches refuse what it has signed"), "{over}");
    }

    #[test]
    fn each_is_told_of_once_a_day_and_when_it_is_over() {
        let (mut told, own, ca) =
            (Told::default(), life(Role::Certificate, NOW + DAY + 10), life(Role::Ca, NOW + DAY * 90));
        let both = [own, ca];
        let stages = |told: &mut Told, lives: &[Life], at| -> Vec<Stage> {
            told.due(lives, at).into_iter().map(|(stage, _)| stage).collect()
        };
        assert_eq!(stages(&mut told, &both, NOW), [Stage::Ending]);
        assert_eq!(stages(&mut told, &both, NOW + DAY - 1), []);
        assert_eq!(stages(&mut told, &both, NOW + DAY), [Stage::Ending]);
        assert_eq!(stages(&mut told, &both, NOW + DAY + 10), []);
        assert_eq!(stages(&mut told, &both, NOW + DAY + 11), [Stage::Expired]);
        assert_eq!(stages(&mut told, &both, NOW + DAY + 12), []);
        // A new one, and then the old one again.
        assert_eq!(stages(&mut told, &both[1..], NOW + DAY + 13), []);
        assert_eq!(stages(&mut told, &both, NOW + DAY + 14), [Stage::Expired]);
    }
}
