//! Probes as frames.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Longest LLDP frame that is looked at, in bytes, with its Ethernet header. Ours have at most 152; what others send may
/// be longer and is told only to be foreign.
pub const FRAME_MAX: usize = 256;

/// What probes are signed with: 16 bytes that nobody else knows, new for each life of the controller.
pub type Key = [u8; 16];

/// The nearest bridge: not carried on by any bridge (IEEE 802.1AB-2016 §7.1).
const NEAREST_BRIDGE: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];
/// Where probes say to come from: locally administered, nobody's.
const SOURCE: [u8; 6] = [0x02, 0x42, 0x48, 0x00, 0x00, 0x01];
const ETHERTYPE: [u8; 2] = [0x88, 0xcc];
/// An organization's number with the bit of local administration: no vendor has it.
const ORGANIZATION: [u8; 3] = [0x42, 0x48, 0x44];
/// Which of ours: a probe with a number and a digest.
const PROBE: u8 = 1;

/// TLV types (IEEE 802.1AB-2016 §8.4).
const END: u8 = 0;
const CHASSIS_ID: u8 = 1;
const PORT_ID: u8 = 2;
const TIME_TO_LIVE: u8 = 3;
const SPECIFIC: u8 = 127;
/// Identifiers that are assigned locally (§8.5.2.2, §8.5.3.2): both subtypes are 7.
const LOCALLY_ASSIGNED: u8 = 7;
/// How long others may keep what a probe says, in seconds: until a few were missed.
const SECONDS: u16 = 4;

/// Longest chassis and port identifiers that are sent, in bytes; longer ones are cut: nothing hangs on them.
const MAX_CHASSIS: usize = 32;
const MAX_PORT: usize = 64;
/// Longest identifier of a chassis or a port (§8.5.2.3).
const MAX_ID: usize = 255;
/// Bytes of an identifier of somebody else that are shown.
const SHOWN: usize = 32;

/// Why a frame is no LLDP frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LldpError {
    /// It is longer than anything that is looked at.
    #[error("longer than {FRAME_MAX} bytes")]
    Long,
    /// It ends within its header or a TLV.
    #[error("ends too early")]
    Short,
    /// Another protocol.
    #[error("not LLDP")]
    Protocol,
    /// It does not begin with one chassis id, port id and time to live, in this order (§8.2), or has one of them again.
    #[error("its TLVs are not in order")]
    Order,
    /// A TLV has a length that its type does not allow.
    #[error("a TLV's length is wrong")]
    Length,
}

/// What an LLDP frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Who sent it: chassis and port, in a printable form; for people.
    pub sender: String,
    /// The number of the probe that it is, if the digest says that we made it.
    pub probe: Option<u64>,
}

/// A probe's frame. `chassis` and `port` are for others that see it.
pub(super) fn encode(key: &Key, chassis: &str, port: &str, number: u64) -> Vec<u8> {
    let mut frame = Vec::with_capacity(152);
    frame.extend(NEAREST_BRIDGE.iter().chain(&SOURCE).chain(&ETHERTYPE));
    for (kind, text, most) in [(CHASSIS_ID, chassis, MAX_CHASSIS), (PORT_ID, port, MAX_PORT)] {
        let text = text.as_bytes();
        // An identifier has at least one byte.
        let text = if text.is_empty() { b"-" } else { text.get(..most).unwrap_or(text) };
        tlv(&mut frame, kind, &[&[LOCALLY_ASSIGNED], text]);
    }
    tlv(&mut frame, TIME_TO_LIVE, &[&SECONDS.to_be_bytes()]);
    let header = (u16::from(SPECIFIC) << 9) | SPECIFIC_LENGTH as u16;
    frame.extend(header.to_be_bytes());
    frame.extend(ORGANIZATION);
    frame.push(PROBE);
    frame.extend(number.to_be_bytes());
    let digest = digest(key, &frame);
    frame.extend(digest);
    tlv(&mut frame, END, &[]);
    frame
}

/// The organization, which of its TLVs, the number, and the digest.
const SPECIFIC_LENGTH: usize = 3 + 1 + 8 + 16;

fn tlv(frame: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // At most 255 + 1 of the 511 that nine bits have.
    frame.extend(((u16::from(kind) << 9) | (length as u16 & 0x1ff)).to_be_bytes());
    parts.iter().for_each(|part| frame.extend(*part));
}

/// SipHash-2-4 with 128 bits: a keyed function of short inputs that was made for this.
fn digest(key: &Key, bytes: &[u8]) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(bytes);
    hasher.finish128().as_bytes()
}

/// Reads a frame; of one that we made, what it says can be believed to have been said by us at some time.
pub(super) fn decode(key: &Key, frame: &[u8]) -> Result<Frame, LldpError> {
    if frame.len() > FRAME_MAX {
        return Err(LldpError::Long);
    }
    let (header, mut rest) = frame.split_at_checked(14).ok_or(LldpError::Short)?;
    if header.get(12..) != Some(&ETHERTYPE) {
        return Err(LldpError::Protocol);
    }
    let mut sender = String::new();
    let mut probe = None;
    for at in 0_usize.. {
        let (head, after) = rest.split_first_chunk::<2>().ok_or(LldpError::Short)?;
        let head = u16::from_be_bytes(*head);
        let (kind, length) = ((head >> 9) as u8, usize::from(head & 0x1ff));
        let (value, after) = after.split_at_checked(length).ok_or(LldpError::Short)?;
        match (at, kind) {
            (0, CHASSIS_ID) | (1, PORT_ID) => {
                let (_, id) = value.split_first().ok_or(LldpError::Length)?;
                if id.is_empty() || id.len() > MAX_ID {
                    return Err(LldpError::Length);
                }
                if at > 0 {
                    sender.push_str(" port ");
                }
                sender.push_str(&printable(id));
            }
            (2, TIME_TO_LIVE) if length >= 2 => {}
            (2, TIME_TO_LIVE) => return Err(LldpError::Length),
            (0..=2, _) | (_, CHASSIS_ID | PORT_ID | TIME_TO_LIVE) => return Err(LldpError::Order),
            (_, END) if length == 0 => break,
            (_, END) => return Err(LldpError::Length),
            (_, SPECIFIC) => {
                // What the digest is about: all that comes before it.
                let signed = frame.len() - after.len();
                probe = number(key, value, frame.get(..signed.saturating_sub(16)).unwrap_or_default());
            }
            _ => {}
        }
        rest = after;
    }
    Ok(Frame { sender, probe })
}

/// The number in a TLV of ours, if its digest is right.
fn number(key: &Key, value: &[u8], signed: &[u8]) -> Option<u64> {
    let value = value.strip_prefix(&ORGANIZATION)?.strip_prefix(&[PROBE])?;
    let (number, found) = value.split_first_chunk::<8>()?;
    let found: &[u8; 16] = found.try_into().ok()?;
    // All bytes are looked at, so that the time this takes does not tell how many were right.
    let differ = digest(key, signed).iter().zip(found).fold(0, |differ, (a, b)| differ | (a ^ b));
    (differ == 0).then(|| u64::from_be_bytes(*number))
}

/// An identifier as people can read it: as text if it is, else in hexadecimal.
fn printable(id: &[u8]) -> String {
    let id = id.get(..SHOWN).unwrap_or(id);
    match id.iter().all(|byte| byte.is_ascii_graphic()) {
        true => id.iter().copied().map(char::from).collect(),
        false => id.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
    }
}
