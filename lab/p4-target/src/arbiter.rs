//! Which controller is primary (P4Runtime §5.3): it has the highest election id that was ever seen.
//!
//! There is only the default role, which may do everything.

use bulkhead_p4runtime::{
    ElectionId, notice,
    proto::p4::v1::{MasterArbitrationUpdate, Uint128},
};
use std::collections::BTreeMap;
use tonic::{Code, Status};

/// Most controllers at a time. More than a few are a mistake.
pub const MAX_CONTROLLERS: usize = 16;

/// A stream, by a number of our own.
pub type SessionId = u64;

/// Who is told what.
pub type Notices = Vec<(SessionId, MasterArbitrationUpdate)>;

/// Knows all controllers.
#[derive(Debug)]
pub struct Arbiter {
    device: u64,
    live: BTreeMap<SessionId, Option<ElectionId>>,
    highest: Option<ElectionId>,
}

impl Arbiter {
    /// No controllers yet.
    #[must_use]
    pub fn new(device: u64) -> Self {
        Self { device, live: BTreeMap::new(), highest: None }
    }

    /// A controller says with what it stands; returns who is to be told what.
    ///
    /// # Errors
    /// With this the stream ends.
    pub fn received(&mut self, session: SessionId, update: &MasterArbitrationUpdate) -> Result<Notices, Status> {
        let known = self.live.contains_key(&session);
        if update.device_id != self.device {
            let why = format!("there is no device {}", update.device_id);
            return Err(if known { Status::failed_precondition(why) } else { Status::not_found(why) });
        }
        if update.role.as_ref().is_some_and(|role| !role.name.is_empty() || role.config.is_some()) {
            return Err(match known {
                true => Status::failed_precondition("a stream keeps its role"),
                false => Status::invalid_argument("there is only the default role"),
            });
        }
        let id = update.election_id.map(ElectionId::from);
        if id.is_some() && self.live.iter().any(|(other, theirs)| *other != session && *theirs == id) {
            return Err(Status::invalid_argument("another controller has this election id"));
        }
        if !known && self.live.len() >= MAX_CONTROLLERS {
            return Err(Status::resource_exhausted(format!("there are {MAX_CONTROLLERS} controllers already")));
        }
        let before = self.primary();
        self.live.insert(session, id);
        if id.is_some() && id >= self.highest {
            self.highest = id;
            return Ok(self.notices(|_| true));
        }
        // Only who stepped down concerns the others.
        let stepped_down = before == Some(session);
        Ok(self.notices(|other| stepped_down || other == session))
    }

    /// A controller's stream is over.
    pub fn left(&mut self, session: SessionId) -> Notices {
        let was_primary = self.primary() == Some(session);
        self.live.remove(&session);
        if was_primary { self.notices(|_| true) } else { Vec::new() }
    }

    /// Who is primary.
    #[must_use]
    pub fn primary(&self) -> Option<SessionId> {
        let highest = self.highest?;
        self.live.iter().find(|(_, id)| **id == Some(highest)).map(|(session, _)| *session)
    }

    /// Whether a call with this election id is the primary's.
    #[must_use]
    pub fn may_write(&self, id: Option<Uint128>) -> bool {
        let id = id.map(ElectionId::from);
        id.is_some() && id == self.highest && self.primary().is_some()
    }

    fn notices(&self, to: impl Fn(SessionId) -> bool) -> Notices {
        let primary = self.primary();
        let one = |session: SessionId| {
            let (code, why) = match primary {
                Some(primary) if primary == session => (Code::Ok, "primary"),
                Some(_) => (Code::AlreadyExists, "another controller is primary"),
                None => (Code::NotFound, "there is no primary"),
            };
            (session, notice(self.device, self.highest, code, why))
        };
        self.live.keys().copied().filter(|session| to(*session)).map(one).collect()
    }
}

#[cfg(test)]
mod tests;
