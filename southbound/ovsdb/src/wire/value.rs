//! Values of the database: atoms, sets and maps of them (RFC 7047 §3.2, §5.1).

use crate::error::Shape;
use serde_json::{Value as Json, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A row's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

impl Uuid {
    /// Reads the only spelling that RFC 7047 has: 8-4-4-4-12 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut bits = 0_u128;
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            bits = bits << 4 | u128::from(char::from(*byte).to_digit(16)?);
        }
        Some(Self(bits))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        for (from, to) in [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)] {
            let dash = if from == 0 { "" } else { "-" };
            write!(f, "{dash}{}", hex.get(from..to).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// One value without inner structure. Real numbers, which no column of Open vSwitch's has, are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// -2^63 to 2^63-1.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// UTF-8.
    Text(String),
    /// Another row.
    Uuid(Uuid),
    /// A row that the same transaction inserts, by the name that it gives it. Never in what a server tells.
    Named(String),
}

impl Atom {
    fn from_json(json: &Json) -> Result<Self, Shape> {
        let error = || Shape::new("an atom", json);
        Ok(match json {
            Json::Bool(is) => Self::Boolean(*is),
            Json::String(text) => Self::Text(text.clone()),
            Json::Number(number) => Self::Integer(number.as_i64().ok_or_else(error)?),
            Json::Array(pair) => match pair.as_slice() {
                [Json::String(tag), Json::String(text)] if tag == "uuid" => {
                    Self::Uuid(Uuid::parse(text).ok_or_else(error)?)
                }
                [Json::String(tag), Json::String(text)] if tag == "named-uuid" => Self::Named(text.clone()),
                _ => return Err(error()),
            },
            Json::Null | Json::Object(_) => return Err(error()),
        })
    }

    fn to_json(&self) -> Json {
        match self {
            Self::Integer(integer) => json!(integer),
            Self::Boolean(is) => json!(is),
            Self::Text(text) => json!(text),
            Self::Uuid(uuid) => json!(["uuid", uuid.to_string()]),
            Self::Named(name) => json!(["named-uuid", name]),
        }
    }

    /// What it takes of memory, roughly, in bytes.
    fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) | Self::Named(text) => text.len(),
                _ => 0,
            }
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Atom {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<bool> for Atom {
    fn from(is: bool) -> Self {
        Self::Boolean(is)
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

/// A column's value. A single atom and a set of one are written alike, and are alike here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Any number of atoms, the empty set being "no value".
    Set(BTreeSet<Atom>),
    /// Keys and their values.
    Map(BTreeMap<Atom, Atom>),
}

impl Value {
    /// No value.
    pub fn empty() -> Self {
        Self::Set(BTreeSet::new())
    }

    /// A set of atoms.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Self::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A map of texts, as `external_ids` is.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// The integer, if it is exactly one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Set(set) if set.len() == 1 => match set.first() {
                Some(Atom::Integer(integer)) => Some(*integer),
                _ => None,
            },
            _ => None,
        }
    }

    /// Reads a value from its JSON.
    ///
    /// # Errors
    /// When it is none, or names an element or a key twice.
    pub fn from_json(json: &Json) -> Result<Self, Shape> {
        let Json::Array(pair) = json else { return Atom::from_json(json).map(Self::from) };
        match pair.as_slice() {
            [Json::String(tag), Json::Array(atoms)] if tag == "set" => {
                let mut set = BTreeSet::new();
                for atom in atoms {
                    if !set.insert(Atom::from_json(atom)?) {
                        return Err(Shape::new("a set that names each element once", json));
                    }
                }
                Ok(Self::Set(set))
            }
            [Json::String(tag), Json::Array(pairs)] if tag == "map" => {
                let mut map = BTreeMap::new();
                for pair in pairs {
                    let Some([key, value]) = pair.as_array().map(Vec::as_slice) else {
                        return Err(Shape::new("a pair of key and value", pair));
                    };
                    if map.insert(Atom::from_json(key)?, Atom::from_json(value)?).is_some() {
                        return Err(Shape::new("a map that names each key once", json));
                    }
                }
                Ok(Self::Map(map))
            }
            _ => Atom::from_json(json).map(Self::from),
        }
    }

    /// The value as JSON.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Set(set) => match (set.first(), set.len()) {
                (Some(atom), 1) => atom.to_json(),
                _ => json!(["set", set.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            },
            Self::Map(map) => {
                let pairs: Vec<_> = map.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }

    /// What it takes of memory, roughly, in bytes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Set(set) => set.iter().map(Atom::weight).sum::<usize>(),
                Self::Map(map) => map.iter().map(|(key, value)| key.weight() + value.weight()).sum(),
            }
    }
}

impl<A: Into<Atom>> From<A> for Value {
    fn from(atom: A) -> Self {
        Self::Set([atom.into()].into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROW: &str = "550e8400-e29b-41d4-a716-44665544000f";

    #[test]
    fn a_row_s_name_has_one_spelling() {
        assert_eq!(Uuid::parse(ROW).unwrap().to_string(), ROW);
        assert_eq!(Uuid(0).to_string(), "00000000-0000-0000-0000-000000000000");
        for bad in ["", "550e8400e29b41d4a71644665544000f", &ROW.replace('f', "g"), &ROW.replace("00-", "-00")] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_atom_and_a_set_of_it_are_one() {
        for (one, other) in [(json!(7), json!(["set", [7]])), (json!(["uuid", ROW]), json!(["set", [["uuid", ROW]]]))] {
            assert_eq!(Value::from_json(&one), Value::from_json(&other));
            assert_eq!(Value::from_json(&other).unwrap().to_json(), one);
        }
        assert_eq!(Value::empty().to_json(), json!(["set", []]));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for bad in [
            json!(null),
            json!({}),
            json!([]),
            json!(["set"]),
            json!(["set", [1, 1]]),
            json!(["set", [["set", []]]]),
            json!(["map", [["a", 1], ["a", 2]]]),
            json!(["map", [["a"]]]),
            json!(["uuid", "no"]),
            json!(["row", "x"]),
            json!(u64::MAX),
            json!(1.5),
        ] {
            assert!(Value::from_json(&bad).is_err(), "{bad}");
        }
    }

    fn atom() -> impl Strategy<Value = Atom> {
        prop_oneof![
            any::<i64>().prop_map(Atom::Integer),
            any::<bool>().prop_map(Atom::Boolean),
            ".*".prop_map(Atom::Text),
            any::<u128>().prop_map(|bits| Atom::Uuid(Uuid(bits))),
            "[a-z_]+".prop_map(Atom::Named),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(
            value in prop_oneof![
                prop::collection::btree_set(atom(), 0..5).prop_map(Value::Set),
                prop::collection::btree_map(atom(), atom(), 0..5).prop_map(Value::Map),
            ]
        ) {
            let text = value.to_json().to_string();
            prop_assert_eq!(Value::from_json(&serde_json::from_str(&text).unwrap()), Ok(value));
        }
    }
}
