//! What entries match. Programs have millions of entries, so a match is packed: a few words, most often in the entry's own
//! memory.

use crate::field::Field;
use bulkhead_topology::Port;
use smallvec::SmallVec;
use std::fmt;

/// Words that need no memory of their own: with room for as many, an entry is 128 bytes with its counts.
const INLINE: usize = 5;
/// Where a field's first word has the field, and below that how its value and mask are written.
const FIELD_AT: u32 = 56;
const FORM_AT: u32 = 48;
/// The value is in the first word, whose lowest [`FORM_AT`] bits are enough for every field but IPv6 addresses; all of the
/// field is matched.
const NARROW: u64 = 0;
/// The same with the mask in a second word.
const NARROW_MASKED: u64 = 1;
/// The value is in two more words, high half first.
const WIDE: u64 = 2;
/// The same with the mask in two more.
const WIDE_MASKED: u64 = 3;

/// What an entry matches: in-port and fields, each under a mask. Canonical: fields are sorted and
/// unique, values have no bit outside their mask, and no mask is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Match {
    /// The port the packet came in by; `None` is any.
    pub in_port: Option<Port>,
    /// The fields in order, each in one to five words.
    words: SmallVec<[u64; INLINE]>,
}

impl Match {
    /// Matches every packet.
    pub fn any() -> Self {
        Self::default()
    }

    /// Also requires the in-port.
    pub fn port(mut self, port: Port) -> Self {
        self.in_port = Some(port);
        self
    }

    /// Also requires `field == value`.
    pub fn with(self, field: Field, value: impl Into<u128>) -> Self {
        self.masked(field, value, field.full_mask())
    }

    /// Requires `field & mask == value & mask`, instead of what was asked of the field before; an empty mask asks
    /// nothing of it.
    pub fn masked(mut self, field: Field, value: impl Into<u128>, mask: u128) -> Self {
        let mask = mask & field.full_mask();
        let value = value.into() & mask;
        let mut fields = self.fields();
        let (mut at, mut after) = (0, 0);
        while let Some((other, ..)) = fields.next()
            && other <= field
        {
            after = self.words.len() - fields.0.len();
            if other < field {
                at = after;
            }
        }
        self.words.drain(at..after);
        if mask != 0 {
            let (packed, count) = pack(field, value, mask);
            self.words.insert_from_slice(at, packed.get(..count).unwrap_or_default());
        }
        self
    }

    /// The fields with value and mask, in canonical order.
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.words)
    }

    /// Value and mask of one field, if it is matched.
    pub fn get(&self, field: Field) -> Option<(u128, u128)> {
        self.fields().find(|(other, ..)| *other == field).map(|(_, value, mask)| (value, mask))
    }

    /// Value of one field that is matched exactly.
    pub fn exact(&self, field: Field) -> Option<u128> {
        self.get(field).filter(|(_, mask)| *mask == field.full_mask()).map(|(value, _)| value)
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<_> = self.fields().collect();
        f.debug_struct("Match").field("in_port", &self.in_port).field("fields", &fields).finish()
    }
}

/// A field's words, and how many there are.
fn pack(field: Field, value: u128, mask: u128) -> ([u64; 5], usize) {
    let first = |form: u64| (field as u64) << FIELD_AT | form << FORM_AT;
    let half = |bits: u128| [(bits >> 64) as u64, bits as u64];
    let ([high, low], [mask_high, mask_low]) = (half(value), half(mask));
    match (field.width() <= FORM_AT, mask == field.full_mask()) {
        (true, true) => ([first(NARROW) | low, 0, 0, 0, 0], 1),
        (true, false) => ([first(NARROW_MASKED) | low, mask_low, 0, 0, 0], 2),
        (false, true) => ([first(WIDE), high, low, 0, 0], 3),
        (false, false) => ([first(WIDE_MASKED), high, low, mask_high, mask_low], 5),
    }
}

/// Fields with value and mask, one after another.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u64]);

impl Iterator for Fields<'_> {
    type Item = (Field, u128, u128);

    fn next(&mut self) -> Option<Self::Item> {
        let whole = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let (first, rest) = self.0.split_first()?;
        let field = *Field::ALL.get((first >> FIELD_AT) as usize)?;
        let value = u128::from(first & ((1 << FORM_AT) - 1));
        let (value, mask, rest) = match (first >> FORM_AT & 0xff, rest) {
            (NARROW, rest) => (value, field.full_mask(), rest),
            (NARROW_MASKED, [mask, rest @ ..]) => (value, u128::from(*mask), rest),
            (WIDE, [high, low, rest @ ..]) => (whole(*high, *low), field.full_mask(), rest),
            (WIDE_MASKED, [high, low, mask_high, mask_low, rest @ ..]) => {
                (whole(*high, *low), whole(*mask_high, *mask_low), rest)
            }
            // `pack` writes no others.
            _ => return None,
        };
        self.0 = rest;
        Some((field, value, mask))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::entry::Line;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_match_is_canonical_whatever_it_is_made_of() {
        let once = Match::any().with(Field::Network, 1u8).with(Field::SrcId, 7u8);
        let twice = Match::any().with(Field::SrcId, 9u8).with(Field::Network, 1u8).with(Field::SrcId, 7u8);
        assert_eq!(once, twice);
        assert_eq!(once.masked(Field::SrcId, 7u8, 0), Match::any().with(Field::Network, 1u8));
        assert_eq!(Match::any().masked(Field::SrcId, 7u8, 0), Match::any());
        let masked = Match::any().masked(Field::SrcId, 0xffu8, 0xf0);
        assert!(masked.fields().eq([(Field::SrcId, 0xf0, 0xf0)]));
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Line>() <= 112, "{}", size_of::<Line>());
    }

    proptest! {
        #[test]
        fn a_match_is_the_map_of_what_was_asked_last(
            asked in prop::collection::vec((prop::sample::select(&Field::ALL[..]), any::<u128>(), any::<Option<u128>>()), 0..12)
        ) {
            let mut map = BTreeMap::new();
            let mut made = Match::any();
            for (field, value, mask) in asked {
                let mask = mask.unwrap_or(u128::MAX);
                made = made.masked(field, value, mask);
                let mask = mask & field.full_mask();
                if mask == 0 { map.remove(&field) } else { map.insert(field, (value & mask, mask)) };
            }
            prop_assert!(made.fields().eq(map.iter().map(|(field, (value, mask))| (*field, *value, *mask))));
            for field in Field::ALL {
                prop_assert_eq!(made.get(field), map.get(&field).copied());
            }
            let again = map.iter().rev().fold(Match::any(), |m, (field, (value, mask))| m.masked(*field, *value, *mask));
            prop_assert_eq!(made, again);
        }
    }
}
