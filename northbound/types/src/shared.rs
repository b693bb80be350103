//! Texts that many documents say alike, kept once: labels, and names of networks and switches.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

/// Longest text that is kept, in bytes: no label's key and no name is longer. A longer one is refused for its length, and
/// must not stay.
const MAX_TEXT: usize = 317;
/// How many texts there are in a share when those that nobody has any more are first looked for.
const FIRST_LOOK: usize = 1 << 10;
/// The texts are kept in so many shares, by their bytes: who looks for one neither searches among all nor waits for all.
const SHARES: usize = 64;

static TEXTS: [RwLock<Texts>; SHARES] =
    [const { RwLock::new(Texts { kept: BTreeSet::new(), next_look: FIRST_LOOK }) }; SHARES];

struct Texts {
    kept: BTreeSet<Arc<str>>,
    /// How many there are when those that nobody has are looked for again.
    next_look: usize,
}

/// The text, the same allocation for whoever asks for it.
pub(crate) fn shared(text: &str) -> Arc<str> {
    if text.len() > MAX_TEXT {
        return text.into();
    }
    // The upper bits of the sum (as in FNV-1a) are those that every byte has moved.
    let sum = text.bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    match TEXTS.get((sum >> 16) as usize % TEXTS.len()) {
        Some(share) => {
            // Who finds his waits for nobody who does too.
            let kept = share.read().unwrap_or_else(PoisonError::into_inner).kept.get(text).cloned();
            kept.unwrap_or_else(|| share.write().unwrap_or_else(PoisonError::into_inner).get(text))
        }
        None => text.into(),
    }
}

impl Texts {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.kept.get(text) {
            return kept.clone();
        }
        if self.kept.len() >= self.next_look {
            self.kept.retain(|text| Arc::strong_count(text) > 1);
            self.next_look = FIRST_LOOK.max(2 * self.kept.len());
        }
        let text: Arc<str> = text.into();
        self.kept.insert(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        assert!(Arc::ptr_eq(&shared("app"), &shared("app")));
        let long = "a".repeat(MAX_TEXT + 1);
        assert!(!Arc::ptr_eq(&shared(&long), &shared(&long)));
    }

    #[test]
    fn what_nobody_has_does_not_stay() {
        let mut texts = Texts { kept: BTreeSet::new(), next_look: FIRST_LOOK };
        let held: Vec<_> = (0..10).map(|number| texts.get(&format!("held-{number}"))).collect();
        for number in 0..10 * FIRST_LOOK {
            texts.get(&number.to_string());
            assert!(texts.kept.len() <= FIRST_LOOK);
        }
        for text in &held {
            assert!(Arc::ptr_eq(text, &texts.get(text)));
        }
    }
}
