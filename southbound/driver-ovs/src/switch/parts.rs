//! Reading entries back in parts.

use crate::layout::{COOKIE_MASK, COOKIE_OWNER};
use bulkhead_openflow::{FlowStatsRequest, Msg, MultipartRequest, Session, SessionError};

/// In how many parts entries are read. Open vSwitch forwards nothing while it puts an answer together: some 200 ms for
/// 100,000 entries, a part of it for a part of them. Entries are given to the parts in turn, whatever they are.
pub const PARTS: u64 = 16;

/// Lowest bit of an entry's part in its cookie.
pub(super) const PART_SHIFT: u64 = 44;
/// How far reading has come: the question under way, and the part that it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub xid: u32,
    pub part: u64,
}

impl Parts {
    pub fn ask(session: &mut Session, part: u64) -> Result<Self, SessionError> {
        let request =
            FlowStatsRequest::by_cookie(COOKIE_OWNER | part << PART_SHIFT, COOKIE_MASK | (PARTS - 1) << PART_SHIFT);
        let xid = session.send(&Msg::MultipartRequest(MultipartRequest::Flow(request)))?;
        Ok(Self { xid, part })
    }

    /// Whether an entry is of ours and of this part. Switches are asked for these alone, and are not trusted to have
    /// listened.
    pub const fn has(self, cookie: u64) -> bool {
        cookie & COOKIE_MASK == COOKIE_OWNER && cookie >> PART_SHIFT & (PARTS - 1) == self.part
    }

    /// The question after this one, if there is another.
    pub fn next(self, session: &mut Session) -> Result<Option<Self>, SessionError> {
        if self.part + 1 < PARTS { Self::ask(session, self.part + 1).map(Some) } else { Ok(None) }
    }
}
