//! A field's value in text, both ways.

use super::{CT_STATE, FRAGMENTS, PORTS, TCP_FLAGS};
use crate::error::TextError;
use crate::wire::field::{Format, OxmField};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Appends a value alone.
pub(super) fn print(field: OxmField, value: u128, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match field.spec().format {
        Format::Decimal => write!(out, "{value}"),
        Format::Port => match PORTS.iter().find(|(_, number)| u128::from(*number) == value) {
            Some((name, _)) => write!(out, "{name}"),
            None => write!(out, "{value}"),
        },
        Format::Mac => {
            let bytes = value.to_be_bytes();
            for (at, byte) in bytes.iter().skip(10).enumerate() {
                let _ = write!(out, "{}{byte:02x}", if at == 0 { "" } else { ":" });
            }
            Ok(())
        }
        Format::Ipv4 => write!(out, "{}", Ipv4Addr::from(value as u32)),
        Format::Ipv6 => write!(out, "{}", Ipv6Addr::from(value)),
        Format::Hex | Format::CtState | Format::TcpFlags | Format::Fragment => write!(out, "{value:#x}"),
    };
}

/// Appends a value and its mask, with the words that the field has for them.
pub(super) fn print_masked(field: OxmField, value: u128, mask: Option<u128>, out: &mut String) {
    let format = field.spec().format;
    let bits = u32::from(field.spec().bits);
    match (format, mask) {
        (Format::Fragment, _) => {
            if let Some((word, ..)) = FRAGMENTS.iter().find(|(_, v, m)| *v == value && *m == mask) {
                return out.push_str(word);
            }
        }
        (Format::CtState, Some(mask)) if is_flags(CT_STATE, value, mask) => return flags(CT_STATE, value, mask, out),
        (Format::TcpFlags, Some(mask)) if is_flags(TCP_FLAGS, value, mask) => {
            return flags(TCP_FLAGS, value, mask, out);
        }
        (Format::Ipv4 | Format::Ipv6, Some(mask)) => {
            let ones = mask.count_ones();
            if ones > 0 && prefix_mask(bits, ones) == mask {
                print(field, value, out);
                let _ = write!(out, "/{ones}");
                return;
            }
        }
        _ => {}
    }
    match mask {
        None => print(field, value, out),
        Some(mask) if matches!(format, Format::Mac | Format::Ipv4 | Format::Ipv6) => {
            print(field, value, out);
            out.push('/');
            print(field, mask, out);
        }
        Some(mask) => {
            let _ = write!(out, "{value:#x}/{mask:#x}");
        }
    }
}

/// The `ones` highest of `bits` bits.
fn prefix_mask(bits: u32, ones: u32) -> u128 {
    let all = u128::MAX >> (128 - bits);
    let below = all.checked_shr(ones).unwrap_or(0);
    all & !below
}

fn is_flags(names: &[&str], value: u128, mask: u128) -> bool {
    mask != 0 && mask >> names.len() == 0 && value & !mask == 0
}

fn flags(names: &[&str], value: u128, mask: u128, out: &mut String) {
    for (bit, name) in names.iter().enumerate() {
        if mask >> bit & 1 == 1 {
            out.push(if value >> bit & 1 == 1 { '+' } else { '-' });
            out.push_str(name);
        }
    }
}

/// A decimal number, or a hexadecimal one with `0x`.
pub(super) fn number(text: &str) -> Result<u128, TextError> {
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u128::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| TextError::new("not a number", text))
}

/// A number that fits.
pub(super) fn small<T: TryFrom<u128>>(text: &str) -> Result<T, TextError> {
    T::try_from(number(text)?).map_err(|_| TextError::new("number too large", text))
}

/// A port's number or a reserved port's name, in either case.
pub(super) fn port(text: &str) -> Result<u32, TextError> {
    match PORTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, number)) => Ok(*number),
        None => small(text),
    }
}

/// A value alone.
pub(super) fn parse(field: OxmField, text: &str) -> Result<u128, TextError> {
    let value = match field.spec().format {
        Format::Port => port(text).map(u128::from)?,
        Format::Mac if text.contains(':') => mac(text)?,
        Format::Ipv4 if text.contains('.') => {
            let address: Ipv4Addr = text.parse().map_err(|_| TextError::new("not an IPv4 address", text))?;
            u128::from(u32::from(address))
        }
        Format::Ipv6 if text.contains(':') => {
            let address: Ipv6Addr = text.parse().map_err(|_| TextError::new("not an IPv6 address", text))?;
            u128::from(address)
        }
        _ => number(text)?,
    };
    let room = u128::MAX >> (128 - 8 * u32::from(field.spec().bytes));
    if value > room {
        return Err(TextError::new("value too large for the field", text));
    }
    Ok(value)
}

fn mac(text: &str) -> Result<u128, TextError> {
    let wrong = || TextError::new("not a MAC address", text);
    let mut value = 0;
    let mut pairs = 0;
    for pair in text.split(':') {
        let byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        value = value << 8 | u128::from(byte);
        pairs += 1;
        if pairs > 6 {
            return Err(wrong());
        }
    }
    if pairs == 6 { Ok(value) } else { Err(wrong()) }
}

/// A value and perhaps its mask.
pub(super) fn parse_masked(field: OxmField, text: &str) -> Result<(u128, Option<u128>), TextError> {
    let format = field.spec().format;
    match format {
        Format::Fragment => {
            if let Some((_, value, mask)) = FRAGMENTS.iter().find(|(word, ..)| *word == text) {
                return Ok((*value, *mask));
            }
        }
        Format::CtState if text.starts_with(['+', '-']) => return parse_flags(CT_STATE, text),
        Format::TcpFlags if text.starts_with(['+', '-']) => return parse_flags(TCP_FLAGS, text),
        _ => {}
    }
    let Some((value, mask)) = text.split_once('/') else { return Ok((parse(field, text)?, None)) };
    let value = parse(field, value)?;
    let prefix = matches!(format, Format::Ipv4 | Format::Ipv6) && !mask.contains([':', '.']);
    let mask = if prefix {
        let ones: u32 = small(mask)?;
        let bits = u32::from(field.spec().bits);
        if ones > bits {
            return Err(TextError::new("prefix too long", text));
        }
        prefix_mask(bits, ones)
    } else {
        parse(field, mask)?
    };
    Ok((value, Some(mask)))
}

fn parse_flags(names: &[&str], text: &str) -> Result<(u128, Option<u128>), TextError> {
    let (mut value, mut mask) = (0, 0);
    let mut left = text;
    while let Some(sign) = left.chars().next() {
        let rest = left.get(1..).unwrap_or_default();
        let end = rest.find(['+', '-']).unwrap_or(rest.len());
        let (name, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let bit = names.iter().position(|known| *known == name).ok_or_else(|| TextError::new("unknown flag", name))?;
        mask |= 1_u128 << bit;
        if sign == '+' {
            value |= 1_u128 << bit;
        }
        left = tail;
    }
    Ok((value, Some(mask)))
}
