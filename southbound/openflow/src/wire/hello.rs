//! Hello and errors: the messages of a session's beginning and end (OF 1.3.5 §7.5.1, §7.4.4).

use super::header::experimenter::{NICIRA, ONF};
use super::{Put, Reader};
use crate::error::DecodeError;

/// `OFPHET_VERSIONBITMAP`.
const VERSION_BITMAP: u16 = 1;

/// The versions that a side can speak.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// Bit n of word m: wire version 32m+n; `None`: the header's version and those below.
    pub versions: Option<Vec<u32>>,
}

impl Hello {
    /// One version only.
    pub fn only(version: u8) -> Self {
        Self { versions: Some(vec![1_u32.checked_shl(u32::from(version)).unwrap_or(0)]) }
    }

    /// Whether the sender, whose header says `header_version`, can speak `version`.
    pub fn speaks(&self, version: u8, header_version: u8) -> bool {
        match &self.versions {
            None => header_version >= version,
            Some(words) => words.get(usize::from(version / 32)).is_some_and(|word| word >> (version % 32) & 1 == 1),
        }
    }

    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(words) = &self.versions {
            let start = out.len();
            out.put_u16(VERSION_BITMAP);
            out.put_u16(0);
            for word in words {
                out.put_u32(*word);
            }
            let length = out.len() - start;
            out.patch_u16(start + 2, length);
            out.put_pad8(start);
        }
    }

    /// Reads what follows the message's header; elements of other types are passed over.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let mut hello = Self::default();
        while !r.is_empty() {
            let mut head = r.peek().at("hello element");
            let kind = head.u16()?;
            let length = usize::from(head.u16()?);
            let mut body = r.element("hello element", length, 4)?;
            body.skip(4)?;
            r.pad8(length)?;
            if kind == VERSION_BITMAP {
                let mut words = Vec::new();
                while body.len() >= 4 {
                    words.push(body.u32()?);
                }
                hello.versions = Some(words);
            }
        }
        Ok(hello)
    }
}

/// Error types (OF 1.3.5 §7.4.4) that this crate or its users look at.
#[allow(missing_docs)]
pub mod error_type {
    pub const HELLO_FAILED: u16 = 0;
    pub const BAD_REQUEST: u16 = 1;
    pub const BAD_ACTION: u16 = 2;
    pub const BAD_INSTRUCTION: u16 = 3;
    pub const BAD_MATCH: u16 = 4;
    pub const FLOW_MOD_FAILED: u16 = 5;
    pub const GROUP_MOD_FAILED: u16 = 6;
    pub const ROLE_REQUEST_FAILED: u16 = 11;
    pub const METER_MOD_FAILED: u16 = 12;
    pub const EXPERIMENTER: u16 = 0xffff;
}

/// The other side's complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMsg {
    /// [`error_type`].
    pub kind: u16,
    /// What it means depends on the type.
    pub code: u16,
    /// Who defined type and code, where the type is `EXPERIMENTER`.
    pub experimenter: Option<u32>,
    /// At least the first 64 bytes of the message it is about, or a text.
    pub data: Vec<u8>,
}

/// Codes of experimenters' errors (ofp-errors.h): the ONF's for bundles, Nicira's for tunnel options.
#[allow(missing_docs)]
pub mod experimenter_error {
    pub const BUNDLE_BAD_ID: u16 = 2302;
    pub const BUNDLE_EXISTS: u16 = 2303;
    pub const BUNDLE_CLOSED: u16 = 2304;
    pub const BUNDLE_TOO_MANY_MESSAGES: u16 = 2312;
    pub const BUNDLE_MESSAGE_FAILED: u16 = 2313;
    pub const BUNDLE_TIMEOUT: u16 = 2314;
    pub const TLV_ALREADY_MAPPED: u16 = 20;
    pub const TLV_DUPLICATE: u16 = 21;
    pub const TLV_UNMAPPED_FIELD: u16 = 37;
    pub const TLV_IN_USE: u16 = 38;
}

fn describe_experimenter(id: u32, code: u16) -> String {
    use experimenter_error as e;
    let words = match (id, code) {
        (ONF, e::BUNDLE_BAD_ID) => "unknown bundle",
        (ONF, e::BUNDLE_EXISTS) => "bundle exists",
        (ONF, e::BUNDLE_CLOSED) => "bundle is closed",
        (ONF, e::BUNDLE_TOO_MANY_MESSAGES) => "too many messages in the bundle",
        (ONF, e::BUNDLE_MESSAGE_FAILED) => "a message of the bundle failed",
        (ONF, e::BUNDLE_TIMEOUT) => "bundle took too long",
        (NICIRA, e::TLV_ALREADY_MAPPED) => "tunnel field is mapped to another option",
        (NICIRA, e::TLV_DUPLICATE) => "tunnel option is mapped to another field",
        (NICIRA, e::TLV_UNMAPPED_FIELD) => "tunnel field without an option",
        (NICIRA, e::TLV_IN_USE) => "tunnel option is in use",
        _ => return format!("experimenter {id:#x} error {code}"),
    };
    format!("{words} (experimenter {id:#x} error {code})")
}

impl ErrorMsg {
    /// Type and code in words, with numbers for what has none here.
    pub fn describe(&self) -> String {
        if let Some(id) = self.experimenter {
            return describe_experimenter(id, self.code);
        }
        let kind = self.kind;
        let code = self.code;
        let words = match (kind, code) {
            (error_type::HELLO_FAILED, 0) => "no common version",
            (error_type::BAD_REQUEST, 1) => "unknown message type",
            (error_type::BAD_REQUEST, 6) => "wrong length",
            (error_type::BAD_REQUEST, 9) => "bad table",
            (error_type::BAD_REQUEST, 10) => "another controller is the master",
            (error_type::BAD_ACTION, 0) => "unknown action",
            (error_type::BAD_ACTION, 4) => "bad output port",
            (error_type::BAD_ACTION, 5) => "bad action argument",
            (error_type::BAD_ACTION, 9) => "unknown group in an action",
            (error_type::BAD_ACTION, 10) => "action does not fit the match",
            (error_type::BAD_ACTION, 13..=15) => "bad set-field",
            (error_type::BAD_INSTRUCTION, _) => "bad instruction",
            (error_type::BAD_MATCH, 6) => "unknown field",
            (error_type::BAD_MATCH, 7) => "bad value in the match",
            (error_type::BAD_MATCH, 8) => "bad mask in the match",
            (error_type::BAD_MATCH, 9) => "missing prerequisite in the match",
            (error_type::BAD_MATCH, 10) => "field twice in the match",
            (error_type::FLOW_MOD_FAILED, 1) => "table full",
            (error_type::FLOW_MOD_FAILED, 2) => "bad table",
            (error_type::FLOW_MOD_FAILED, 3) => "overlapping entry",
            (error_type::GROUP_MOD_FAILED, 0) => "group exists",
            (error_type::GROUP_MOD_FAILED, 8) => "unknown group",
            (error_type::ROLE_REQUEST_FAILED, 0) => "stale generation id",
            (error_type::METER_MOD_FAILED, 1) => "meter exists",
            (error_type::METER_MOD_FAILED, 3) => "unknown meter",
            _ => return format!("error type {kind} code {code}"),
        };
        format!("{words} (type {kind} code {code})")
    }

    /// Appends what follows the message's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.kind);
        out.put_u16(self.code);
        if self.kind == error_type::EXPERIMENTER {
            out.put_u32(self.experimenter.unwrap_or(0));
        }
        out.extend_from_slice(&self.data);
    }

    /// Reads what follows the message's header.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, code) = (r.u16()?, r.u16()?);
        let experimenter = if kind == error_type::EXPERIMENTER { Some(r.u32()?) } else { None };
        Ok(Self { kind, code, experimenter, data: r.rest().to_vec() })
    }
}
