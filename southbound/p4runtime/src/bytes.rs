//! Values as byte strings (P4Runtime §8.4): unsigned, big-endian, in the fewest bytes that hold them; zero is one byte.
//!
//! A device must take longer ones, with zeros in front, and a controller must not send them: what is read back would
//! not be what was written.

use std::cmp::Ordering;

/// The value in the fewest bytes. Nothing stays nothing: it is no value.
#[must_use]
pub fn minimal(value: &[u8]) -> &[u8] {
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    value.get(zeros.min(value.len().saturating_sub(1))..).unwrap_or_default()
}

/// Whether the value is there and in the fewest bytes.
#[must_use]
pub fn is_canonical(value: &[u8]) -> bool {
    !value.is_empty() && minimal(value).len() == value.len()
}

/// How many bits the value needs; none for zero.
#[must_use]
pub fn bits(value: &[u8]) -> usize {
    let value = minimal(value);
    let used = |first: &u8| value.len() * 8 - first.leading_zeros() as usize;
    value.first().map_or(0, used)
}

/// The value of a number.
#[must_use]
pub fn from_u128(number: u128) -> Vec<u8> {
    minimal(&number.to_be_bytes()).to_vec()
}

/// The number of a value; `None` if there is no value, or one of more than 128 bits.
#[must_use]
pub fn to_u128(value: &[u8]) -> Option<u128> {
    if value.is_empty() || bits(value) > 128 {
        return None;
    }
    Some(value.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
}

/// The largest value of so many bits.
#[must_use]
pub fn all_ones(width: usize) -> Vec<u8> {
    let mut value = vec![0xff; width.div_ceil(8)];
    if let Some(first) = value.first_mut().filter(|_| !width.is_multiple_of(8)) {
        *first = (1 << (width % 8)) - 1;
    }
    value
}

/// Which of two values is less.
#[must_use]
pub fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let (one, other) = (minimal(one), minimal(other));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Whether the value has no bit set outside the mask.
#[must_use]
pub fn within(value: &[u8], mask: &[u8]) -> bool {
    let mask = mask.iter().rev().chain(std::iter::repeat(&0));
    value.iter().rev().zip(mask).all(|(value, mask)| value & !mask == 0)
}

/// How many zeros stand at the end of a value; `None` for zero, which has no last one bit.
#[must_use]
pub fn trailing_zeros(value: &[u8]) -> Option<usize> {
    let (at, byte) = value.iter().rev().enumerate().find(|(_, byte)| **byte != 0)?;
    Some(at * 8 + byte.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_is_one_byte_and_nothing_is_no_value() {
        assert_eq!(from_u128(0), [0]);
        assert_eq!(minimal(&[0, 0, 0]), [0]);
        assert!(is_canonical(&[0]) && !is_canonical(&[0, 0]) && !is_canonical(&[0, 1]) && !is_canonical(&[]));
        assert_eq!((bits(&[0]), bits(&[]), bits(&[0, 1]), bits(&[0x30, 0x64])), (0, 0, 1, 14));
        assert_eq!((to_u128(&[]), to_u128(&[0])), (None, Some(0)));
    }

    #[test]
    fn of_so_many_bits() {
        assert_eq!(all_ones(9), [1, 0xff]);
        assert_eq!(all_ones(16), [0xff, 0xff]);
        assert_eq!(all_ones(1), [1]);
        assert_eq!(trailing_zeros(&[0, 0]), None);
        assert_eq!(trailing_zeros(&[0x10, 0]), Some(12));
    }

    proptest! {
        #[test]
        fn a_number_comes_back(number: u128) {
            let value = from_u128(number);
            prop_assert!(is_canonical(&value));
            prop_assert_eq!(to_u128(&value), Some(number));
            prop_assert_eq!(bits(&value), 128 - number.leading_zeros() as usize);
            if number > 0 {
                prop_assert_eq!(trailing_zeros(&value), Some(number.trailing_zeros() as usize));
            }
        }

        #[test]
        fn bytes_behave_like_numbers(one: u64, other: u64, zeros in 0_usize..4) {
            let padded = |number: u64| [vec![0; zeros], from_u128(number.into())].concat();
            prop_assert_eq!(compare(&padded(one), &from_u128(other.into())), one.cmp(&other));
            prop_assert_eq!(within(&padded(one), &from_u128(other.into())), one & other == one);
            let canonical = from_u128(one.into());
            prop_assert_eq!(minimal(&padded(one)).to_vec(), canonical);
        }
    }
}
