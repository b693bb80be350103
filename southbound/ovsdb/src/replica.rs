//! The monitored part of a database, as it was last told.

use crate::{
    error::{Shape, cut},
    schema::{Column, Schema},
    wire::value::{Atom, Uuid, Value},
};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, btree_map};
use thiserror::Error;

/// Most bytes that rows take, by [`Value`]'s rough count. A switch of 10,000 ports has some 40 MB; a server that goes on
/// telling must not take all memory.
pub const MAX_BYTES: usize = 256 << 20;

/// Bytes that are counted for each row beside its columns.
const ROW_BYTES: usize = 64;

/// One row's monitored columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    columns: BTreeMap<String, Value>,
}

impl Row {
    fn new(columns: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self { columns: columns.into_iter().collect() }
    }

    /// A column's value; `None` if it is not monitored.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.columns.get(column)
    }

    /// The elements of a set.
    pub fn atoms(&self, column: &str) -> impl Iterator<Item = &Atom> {
        let set = match self.columns.get(column) {
            Some(Value::Set(set)) => Some(set),
            _ => None,
        };
        set.into_iter().flatten()
    }

    /// The only element of a column that has one.
    pub fn atom(&self, column: &str) -> Option<&Atom> {
        let mut atoms = self.atoms(column);
        atoms.next().filter(|_| atoms.next().is_none())
    }

    /// The only text of a column that has one.
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.atom(column) {
            Some(Atom::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The only integer of a column that has one.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.columns.get(column).and_then(Value::integer)
    }

    /// The rows that a column refers to.
    pub fn references(&self, column: &str) -> impl Iterator<Item = Uuid> {
        self.atoms(column).filter_map(|atom| match atom {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        })
    }

    /// The pairs of a map of texts.
    pub fn pairs(&self, column: &str) -> impl Iterator<Item = (&str, &str)> {
        let map = match self.columns.get(column) {
            Some(Value::Map(map)) => Some(map),
            _ => None,
        };
        map.into_iter().flatten().filter_map(|pair| match pair {
            (Atom::Text(key), Atom::Text(value)) => Some((key.as_str(), value.as_str())),
            _ => None,
        })
    }

    /// The value of a key in a map of texts.
    pub fn pair(&self, column: &str, key: &str) -> Option<&str> {
        let Some(Value::Map(map)) = self.columns.get(column) else { return None };
        match map.get(&Atom::from(key)) {
            Some(Atom::Text(value)) => Some(value),
            _ => None,
        }
    }

    fn weight(&self) -> usize {
        ROW_BYTES + self.columns.iter().map(|(name, value)| name.len() + value.weight()).sum::<usize>()
    }
}

/// Why an update was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UpdateError {
    /// It is not what an update looks like.
    #[error(transparent)]
    Shape(#[from] Shape),
    /// It speaks of something that is not monitored, or of a row that is not there or there already.
    #[error("{what} {name}")]
    Strange {
        /// What is strange.
        what: &'static str,
        /// Its name, cut to a printable length.
        name: String,
    },
    /// The rows would take more than [`MAX_BYTES`].
    #[error("more than {0} bytes")]
    TooLarge(usize),
}

/// Rows by table. It is what the database was at one moment: updates come whole, a transaction at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    tables: BTreeMap<String, BTreeMap<Uuid, Row>>,
    bytes: usize,
}

impl Replica {
    /// A table's rows, in the order of their names.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &Row)> {
        self.tables.get(table).into_iter().flatten().map(|(uuid, row)| (*uuid, row))
    }

    /// One row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.tables.get(table)?.get(&uuid)
    }

    /// Takes the difference that a `<table-updates2>` tells (ovsdb-server(7), §4.1.14).
    ///
    /// # Errors
    /// When it does not fit what is there. The replica is then no longer the database, and has to be read again.
    pub fn update(&mut self, schema: &Schema, updates: &Json) -> Result<(), UpdateError> {
        let strange = |what, name: &str| UpdateError::Strange { what, name: cut(name) };
        let updates = updates.as_object().ok_or_else(|| Shape::new("updates by table", updates))?;
        for (table, rows) in updates {
            let columns = schema.tables.get(table).ok_or_else(|| strange("an unmonitored table", table))?;
            let known = self.tables.entry(table.clone()).or_default();
            for (name, change) in rows.as_object().ok_or_else(|| Shape::new("updates by row", rows))? {
                let uuid = Uuid::parse(name).ok_or_else(|| strange("a row with the name", name))?;
                let (kind, told) = change
                    .as_object()
                    .filter(|change| change.len() == 1)
                    .and_then(|change| change.iter().next())
                    .ok_or_else(|| Shape::new("a row's update", change))?;
                match (kind.as_str(), known.entry(uuid)) {
                    ("initial" | "insert", btree_map::Entry::Vacant(place)) => {
                        let mut row =
                            Row::new(columns.iter().map(|(name, column)| (name.clone(), column.default.clone())));
                        row.change(columns, told, |_, _, new| Ok(new))?;
                        self.bytes += row.weight();
                        place.insert(row);
                    }
                    ("modify", btree_map::Entry::Occupied(mut place)) => {
                        let before = place.get().weight();
                        let changed = place.get_mut().change(columns, told, difference);
                        self.bytes = self.bytes - before + place.get().weight();
                        changed?;
                    }
                    ("delete", btree_map::Entry::Occupied(place)) => self.bytes -= place.remove().weight(),
                    ("initial" | "insert", _) => return Err(strange("a second insertion of row", name)),
                    ("modify" | "delete", _) => return Err(strange("a change of the unknown row", name)),
                    _ => return Err(strange("an unknown kind of update", kind)),
                }
                if self.bytes > MAX_BYTES {
                    return Err(UpdateError::TooLarge(MAX_BYTES));
                }
            }
            if known.is_empty() {
                self.tables.remove(table);
            }
        }
        Ok(())
    }
}

impl Row {
    fn change(
        &mut self,
        columns: &BTreeMap<String, Column>,
        told: &Json,
        merge: fn(&Column, &Value, Value) -> Result<Value, Shape>,
    ) -> Result<(), UpdateError> {
        let none = Map::new();
        // A row whose columns all have their defaults is told as null or as an empty object.
        let told = if told.is_null() { &none } else { told.as_object().ok_or_else(|| Shape::new("a row", told))? };
        for (name, json) in told {
            let strange = || UpdateError::Strange { what: "an unmonitored column", name: cut(name) };
            let column = columns.get(name).ok_or_else(strange)?;
            let value = self.columns.get_mut(name).ok_or_else(strange)?;
            *value = merge(column, value, shaped(column, Value::from_json(json)?))?;
        }
        Ok(())
    }
}

/// An empty map may be written as an empty set by nobody; an empty set is what an optional column has.
fn shaped(column: &Column, value: Value) -> Value {
    match (&column.default, &value) {
        (Value::Map(_), Value::Set(set)) if set.is_empty() => column.default.clone(),
        _ => value,
    }
}

/// What a column becomes by a `modify`: the new value if it holds at most one element. Otherwise elements that are told
/// are taken out if they are there and put in if not; and so are pairs, but that a pair with another value replaces it.
fn difference(column: &Column, old: &Value, told: Value) -> Result<Value, Shape> {
    if !column.many {
        return Ok(told);
    }
    match (old, told) {
        (Value::Set(old), Value::Set(told)) => Ok(Value::Set(old.symmetric_difference(&told).cloned().collect())),
        (Value::Map(old), Value::Map(told)) => {
            let mut new = old.clone();
            for (key, value) in told {
                if new.get(&key) == Some(&value) {
                    new.remove(&key);
                } else {
                    new.insert(key, value);
                }
            }
            Ok(Value::Map(new))
        }
        (_, told) => Err(Shape::new("a value of the column's kind", &told.to_json())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::json;

    const ROW: &str = "550e8400-e29b-41d4-a716-446655440000";

    fn schema() -> Schema {
        let map = json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"});
        let set = json!({"key": {"type": "integer"}, "min": 0, "max": 4096});
        let maybe = json!({"key": "integer", "min": 0, "max": 1});
        let columns = json!({"ids": {"type": map}, "tags": {"type": set}, "port": {"type": maybe},
            "name": {"type": "string"}});
        let schema = json!({"tables": {"T": {"columns": columns}}});
        Schema::from_json(&schema, &[("T", &["ids", "tags", "port", "name"])]).unwrap()
    }

    fn told(replica: &mut Replica, kind: &str, row: Json) -> Result<(), UpdateError> {
        replica.update(&schema(), &json!({"T": {ROW: {kind: row}}}))
    }

    #[test]
    fn updates_are_differences_where_a_column_holds_many() {
        let mut replica = Replica::default();
        told(&mut replica, "insert", json!({"ids": ["map", [["a", "1"], ["b", "2"]]], "tags": 7})).unwrap();
        let row = |replica: &Replica| replica.row("T", Uuid::parse(ROW).unwrap()).unwrap().clone();
        assert_eq!((row(&replica).text("name"), row(&replica).integer("port")), (Some(""), None));
        let change = json!({"ids": ["map", [["a", "1"], ["b", "3"], ["c", "4"]]], "tags": ["set", [7, 8, 9]],
            "port": 5, "name": "x"});
        told(&mut replica, "modify", change).unwrap();
        let now = row(&replica);
        assert_eq!(now.pairs("ids").collect::<Vec<_>>(), [("b", "3"), ("c", "4")]);
        assert_eq!(now.get("tags"), Some(&Value::set([8, 9])));
        assert_eq!((now.integer("port"), now.text("name")), (Some(5), Some("x")));
        told(&mut replica, "modify", json!({"port": 6})).unwrap();
        told(&mut replica, "modify", json!({"port": ["set", []]})).unwrap();
        assert_eq!(row(&replica).integer("port"), None);
        told(&mut replica, "delete", json!(null)).unwrap();
        assert_eq!((replica.rows("T").count(), replica.bytes), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut replica = Replica::default();
        assert!(told(&mut replica, "modify", json!({})).is_err(), "not there");
        assert!(told(&mut replica, "delete", json!(null)).is_err(), "not there");
        told(&mut replica, "initial", json!({})).unwrap();
        for (kind, row) in [
            ("insert", json!({})),
            ("rename", json!({})),
            ("modify", json!(7)),
            ("modify", json!({"alien": 7})),
            ("modify", json!({"ids": 7})),
            ("modify", json!({"tags": ["map", []]})),
        ] {
            assert!(told(&mut replica, kind, row.clone()).is_err(), "{kind} {row}");
        }
        let schema = schema();
        for bad in [json!(7), json!({"U": {}}), json!({"T": 7}), json!({"T": {"x": {}}}), json!({"T": {ROW: {}}})] {
            assert!(replica.update(&schema, &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn r24_it_does_not_grow_without_end() {
        let (mut replica, long) = (Replica::default(), "x".repeat(1 << 20));
        let refused = (0..=MAX_BYTES >> 20).find_map(|number| {
            let name = Uuid(number as u128).to_string();
            replica.update(&schema(), &json!({"T": {name: {"insert": {"name": long}}}})).err()
        });
        assert_eq!(refused, Some(UpdateError::TooLarge(MAX_BYTES)));
    }
}
