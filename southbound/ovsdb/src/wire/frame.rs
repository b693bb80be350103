//! Where one message ends and the next begins: nothing but the JSON itself says so.

use super::{MAX_DEPTH, MAX_MESSAGE};
use crate::error::{WireError, cut};
use serde_json::Value;

/// Bytes of memory that a stream keeps when it needs fewer: the first answer of a large switch is never seen again.
const KEEP: usize = 64 << 10;

/// Cuts a stream of bytes into JSON objects. Each byte is looked at once, however small the pieces that come.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Where the unfinished message begins.
    begin: usize,
    /// Up to where it was looked at.
    scanned: usize,
    /// Brackets and braces open there.
    depth: usize,
    /// What a byte there is part of.
    place: Place,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    Text,
    /// Behind a backslash in a text.
    Escape,
}

impl Framer {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, if its end has come.
    ///
    /// # Errors
    /// When what came is no message. Nothing that follows can be told apart then.
    pub fn take(&mut self) -> Result<Option<Value>, WireError> {
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            self.scanned += 1;
            if !self.step(byte)? {
                if self.scanned - self.begin > MAX_MESSAGE {
                    return Err(WireError::TooLong(MAX_MESSAGE));
                }
                continue;
            }
            let text = self.buffer.get(self.begin..self.scanned).unwrap_or_default();
            let value = serde_json::from_slice(text).map_err(|error| WireError::Json(cut(&error.to_string())));
            self.begin = self.scanned;
            return value.map(Some);
        }
        // Only when all that came was taken, so that many messages in one piece are not moved many times.
        self.buffer.drain(..self.begin.min(self.buffer.len()));
        self.scanned -= self.begin;
        self.begin = 0;
        if self.buffer.len() < KEEP {
            self.buffer.shrink_to(KEEP);
        }
        Ok(None)
    }

    /// Looks at one byte; whether it ends a message.
    fn step(&mut self, byte: u8) -> Result<bool, WireError> {
        match (self.place, byte) {
            (Place::Escape, _) => self.place = Place::Text,
            (Place::Text, b'\\') => self.place = Place::Escape,
            (Place::Text, b'"') => self.place = Place::Outside,
            (Place::Text, _) => {}
            (Place::Outside, b' ' | b'\t' | b'\r' | b'\n') if self.depth == 0 => self.begin = self.scanned,
            (Place::Outside, b'{') => self.open()?,
            (Place::Outside, other) if self.depth == 0 => return Err(WireError::NoMessage(other)),
            (Place::Outside, b'[') => self.open()?,
            (Place::Outside, b'}' | b']') => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            (Place::Outside, b'"') => self.place = Place::Text,
            (Place::Outside, _) => {}
        }
        Ok(false)
    }

    fn open(&mut self) -> Result<(), WireError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(WireError::TooDeep(MAX_DEPTH)) } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(framer: &mut Framer) -> Result<Vec<Value>, WireError> {
        let mut found = Vec::new();
        while let Some(value) = framer.take()? {
            found.push(value);
        }
        Ok(found)
    }

    #[test]
    fn messages_come_out_whole_however_they_come_in() {
        let text = br#" {"a":"}\"{\\"} {"b":[{},"]"]}
            {}"#;
        let wanted = vec![json!({"a": "}\"{\\"}), json!({"b": [{}, "]"]}), json!({})];
        for size in 1..text.len() {
            let mut framer = Framer::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                framer.push(piece);
                found.extend(all(&mut framer).unwrap());
            }
            assert_eq!(found, wanted, "in pieces of {size}");
            assert!(framer.buffer.is_empty());
        }
    }

    #[test]
    fn what_begins_no_message_is_refused() {
        for (text, error) in [
            ("x", WireError::NoMessage(b'x')),
            ("[]", WireError::NoMessage(b'[')),
            ("{}}", WireError::NoMessage(b'}')),
            ("\0", WireError::NoMessage(0)),
        ] {
            let mut framer = Framer::default();
            framer.push(text.as_bytes());
            assert_eq!(all(&mut framer), Err(error), "{text}");
        }
        let mut framer = Framer::default();
        framer.push(b"{]");
        assert!(matches!(all(&mut framer), Err(WireError::Json(_))));
    }

    #[test]
    fn r24_depth_and_length_have_an_end() {
        let mut framer = Framer::default();
        framer.push(format!("{{\"a\":{}", "[".repeat(MAX_DEPTH)).as_bytes());
        assert_eq!(framer.take(), Err(WireError::TooDeep(MAX_DEPTH)));
        let mut framer = Framer::default();
        framer.push(b"{\"a\":\"");
        let piece = [b'x'; 1 << 16];
        let mut pushed = 0;
        let error = loop {
            framer.push(&piece);
            pushed += piece.len();
            if let Err(error) = framer.take() {
                break error;
            }
        };
        assert_eq!(error, WireError::TooLong(MAX_MESSAGE));
        assert!(pushed <= MAX_MESSAGE + piece.len());
    }
}
