//! Who of several controllers may write (P4Runtime §5), as one of them sees it: without a stream, fed with what the
//! device tells.
//!
//! Each says with which election id it stands; who has the highest that the device ever saw is the primary. A device
//! refuses an id that another live controller has by ending the stream, so that never comes here.

use crate::proto::{
    google::rpc::Status,
    p4::v1::{MasterArbitrationUpdate, Uint128},
};
use std::fmt;
use thiserror::Error;
use tonic::Code;

/// With what a controller stands; the highest wins, and a device remembers the highest until it starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElectionId(pub u128);

impl fmt::Display for ElectionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl From<Uint128> for ElectionId {
    fn from(wire: Uint128) -> Self {
        Self(u128::from(wire.high) << 64 | u128::from(wire.low))
    }
}

impl From<ElectionId> for Uint128 {
    #[allow(clippy::cast_possible_truncation, reason = "the halves")]
    fn from(id: ElectionId) -> Self {
        Self { high: (id.0 >> 64) as u64, low: id.0 as u64 }
    }
}

/// What a controller is to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The device has not answered yet.
    Unknown,
    /// It may write.
    Primary,
    /// Another one may, with this id.
    Backup {
        /// The primary's id.
        primary: ElectionId,
    },
    /// Nobody may: the primary left. Who wants to take over stands again, with an id not below this one.
    Vacant {
        /// The highest id that the device has seen; `None` if there never was a primary.
        highest: Option<ElectionId>,
    },
}

/// What a device may not say.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArbitrationError {
    /// About another device than was asked for.
    #[error("told about device {told}, asked for {asked}")]
    Device {
        /// Which the controller asked for.
        asked: u64,
        /// About which it was told.
        told: u64,
    },
    /// No status, or one that has no meaning here.
    #[error("arbitration with status {}", .0.map_or("none".to_owned(), |code| code.to_string()))]
    Status(Option<i32>),
    /// Who is primary has another id.
    #[error("said to be primary with election id {}, but stands with {own}", .told.map_or("none".to_owned(), |id| id.to_string()))]
    Contradiction {
        /// What the controller stands with.
        own: ElectionId,
        /// What it is said to be primary with.
        told: Option<ElectionId>,
    },
}

/// A controller's side of the arbitration for one device, without role: all of the pipeline is its own.
#[derive(Debug, Clone)]
pub struct Arbitration {
    device: u64,
    own: ElectionId,
    standing: Standing,
}

impl Arbitration {
    /// Stands for a device with an id. What [`Self::claim`] says is to be sent.
    #[must_use]
    pub fn new(device: u64, own: ElectionId) -> Self {
        Self { device, own, standing: Standing::Unknown }
    }

    /// What tells the device with which id this controller stands.
    #[must_use]
    pub fn claim(&self) -> MasterArbitrationUpdate {
        MasterArbitrationUpdate { device_id: self.device, election_id: Some(self.own.into()), ..Default::default() }
    }

    /// Stands with another id from now on, as to take over from a primary that left; returns what is to be sent. Until
    /// the device answers, the controller is what it was.
    pub fn stand_again(&mut self, own: ElectionId) -> MasterArbitrationUpdate {
        self.own = own;
        self.claim()
    }

    /// With which id this controller stands.
    #[must_use]
    pub fn own(&self) -> ElectionId {
        self.own
    }

    /// What this controller is now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The device told something; returns what that changed.
    ///
    /// # Errors
    /// It makes no sense. The stream is best ended.
    pub fn received(&mut self, update: &MasterArbitrationUpdate) -> Result<Option<Standing>, ArbitrationError> {
        if update.device_id != self.device {
            return Err(ArbitrationError::Device { asked: self.device, told: update.device_id });
        }
        let told = update.election_id.map(ElectionId::from);
        let code = update.status.as_ref().map(|status| status.code);
        let now = match (code.map(Code::from_i32), told) {
            (Some(Code::Ok), Some(id)) if id == self.own => Standing::Primary,
            // The answer to an earlier, lower id of ours was on its way when we stood again.
            (Some(Code::Ok), Some(id)) if id < self.own => return Ok(None),
            (Some(Code::Ok), _) => return Err(self.contradiction(told)),
            (Some(Code::AlreadyExists), Some(primary)) => Standing::Backup { primary },
            (Some(Code::NotFound), highest) => Standing::Vacant { highest },
            _ => return Err(ArbitrationError::Status(code)),
        };
        let changed = now != self.standing;
        self.standing = now;
        Ok(changed.then_some(now))
    }

    fn contradiction(&self, told: Option<ElectionId>) -> ArbitrationError {
        ArbitrationError::Contradiction { own: self.own, told }
    }
}

/// What a device tells a controller.
#[must_use]
pub fn notice(device: u64, highest: Option<ElectionId>, code: Code, message: &str) -> MasterArbitrationUpdate {
    let status = Status { code: code as i32, message: message.to_owned(), details: Vec::new() };
    MasterArbitrationUpdate {
        device_id: device,
        role: None,
        election_id: highest.map(Uint128::from),
        status: Some(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: ElectionId = ElectionId(7);

    fn told(highest: Option<u128>, code: Code) -> MasterArbitrationUpdate {
        notice(1, highest.map(ElectionId), code, "")
    }

    #[test]
    fn primary_backup_and_again() {
        let mut one = Arbitration::new(1, OWN);
        assert_eq!(one.claim().election_id, Some(Uint128 { high: 0, low: 7 }));
        assert_eq!(one.standing(), Standing::Unknown);
        assert_eq!(one.received(&told(Some(7), Code::Ok)), Ok(Some(Standing::Primary)));
        assert_eq!(one.received(&told(Some(7), Code::Ok)), Ok(None));
        let lost = Standing::Backup { primary: ElectionId(9) };
        assert_eq!(one.received(&told(Some(9), Code::AlreadyExists)), Ok(Some(lost)));
        let vacant = Standing::Vacant { highest: Some(ElectionId(9)) };
        assert_eq!(one.received(&told(Some(9), Code::NotFound)), Ok(Some(vacant)));
        assert_eq!(one.stand_again(ElectionId(10)).election_id, Some(Uint128 { high: 0, low: 10 }));
        assert_eq!(one.standing(), vacant, "nothing changes before the device says so");
        assert_eq!(one.received(&told(Some(10), Code::Ok)), Ok(Some(Standing::Primary)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut one = Arbitration::new(1, OWN);
        let other = notice(2, Some(OWN), Code::Ok, "");
        assert_eq!(one.received(&other), Err(ArbitrationError::Device { asked: 1, told: 2 }));
        let stolen = one.received(&told(Some(8), Code::Ok));
        assert_eq!(stolen, Err(ArbitrationError::Contradiction { own: OWN, told: Some(ElectionId(8)) }));
        assert_eq!(one.received(&told(None, Code::AlreadyExists)), Err(ArbitrationError::Status(Some(6))));
        assert_eq!(one.received(&told(Some(7), Code::Internal)), Err(ArbitrationError::Status(Some(13))));
        let mut silent = told(Some(7), Code::Ok);
        silent.status = None;
        assert_eq!(one.received(&silent), Err(ArbitrationError::Status(None)));
        assert_eq!(one.standing(), Standing::Unknown);
    }

    #[test]
    fn an_answer_to_an_earlier_id_says_nothing_new() {
        let mut one = Arbitration::new(1, OWN);
        one.received(&told(Some(7), Code::Ok)).unwrap();
        one.stand_again(ElectionId(8));
        assert_eq!(one.received(&told(Some(7), Code::Ok)), Ok(None));
        assert_eq!(one.received(&told(Some(8), Code::Ok)), Ok(None));
        assert_eq!(one.standing(), Standing::Primary);
    }

    proptest! {
        #[test]
        fn an_election_id_comes_back(id: u128) {
            prop_assert_eq!(ElectionId::from(Uint128::from(ElectionId(id))), ElectionId(id));
        }

        #[test]
        fn only_our_own_id_makes_us_primary(seen: Vec<(Option<u8>, u8)>) {
            let mut one = Arbitration::new(1, OWN);
            for (id, code) in seen {
                let update = told(id.map(u128::from), Code::from_i32(i32::from(code % 17)));
                let before = one.standing();
                let known = one.received(&update);
                let ours = id == Some(7) && code % 17 == 0;
                prop_assert_eq!(one.standing() == Standing::Primary, ours || (before == Standing::Primary
                    && !matches!(known, Ok(Some(_)))), "{:?}", update);
            }
        }
    }
}
