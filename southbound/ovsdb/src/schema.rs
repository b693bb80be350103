//! What a database's columns are (RFC 7047 §3.2): as much as updates need to be understood.

use crate::{
    error::{SessionError, Shape, WireError},
    wire::value::{Uuid, Value},
};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// A column's type, as an update sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Whether it may hold more than one element: an update then tells the difference, and the new value otherwise
    /// (ovsdb-server(7), §4.1.14).
    pub many: bool,
    /// What it is in a row that was told without it.
    pub default: Value,
}

impl Column {
    fn from_json(json: &Json) -> Result<Self, Shape> {
        let kind = json.get("type").ok_or_else(|| Shape::missing("a column's type"))?;
        // `"integer"`, or `{"key": ..., "value": ..., "min": ..., "max": ...}`; a key is a name, or `{"type": ...}`.
        let key = kind.get("key").unwrap_or(kind);
        let base = key.get("type").unwrap_or(key).as_str().ok_or_else(|| Shape::new("an atomic type", key))?;
        let many = match kind.get("max") {
            None => false,
            Some(Json::String(word)) if word == "unlimited" => true,
            Some(max) => max.as_u64().ok_or_else(|| Shape::new("a column's max", max))? > 1,
        };
        let empty = kind.get("min").is_some_and(|min| min.as_u64() == Some(0));
        let default = match (empty, kind.get("value").is_some()) {
            (true, true) => Value::Map(BTreeMap::new()),
            (true, false) => Value::empty(),
            (false, true) => return Err(Shape::new("a map that may be empty", kind)),
            (false, false) => match base {
                "integer" => 0.into(),
                "boolean" => false.into(),
                "string" => "".into(),
                "uuid" => Uuid(0).into(),
                _ => return Err(Shape::new("an atomic type", key)),
            },
        };
        Ok(Self { many, default })
    }
}

/// The monitored columns of the monitored tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Columns by name, by table.
    pub tables: BTreeMap<String, BTreeMap<String, Column>>,
}

impl Schema {
    /// Reads what is to be monitored out of a database's schema.
    ///
    /// # Errors
    /// When a column is not there, or what is there is no schema.
    pub fn from_json(json: &Json, wanted: &[(&str, &[&str])]) -> Result<Self, SessionError> {
        let tables = json.get("tables").ok_or_else(|| WireError::from(Shape::missing("a schema's tables")))?;
        let mut schema = Self::default();
        for (table, columns) in wanted {
            let described = tables.get(table).and_then(|table| table.get("columns"));
            for column in *columns {
                let found = described.and_then(|columns| columns.get(column));
                let missing = || SessionError::Schema { table: (*table).into(), column: (*column).into() };
                let read = Column::from_json(found.ok_or_else(missing)?).map_err(WireError::from)?;
                schema.tables.entry((*table).to_owned()).or_default().insert((*column).to_owned(), read);
            }
        }
        Ok(schema)
    }
}
