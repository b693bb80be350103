//! What a transaction is made of (RFC 7047 §5.2), and what comes back of it.

use super::value::{Atom, Uuid, Value};
use crate::error::{Shape, TransactError, cut};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// How a condition compares (RFC 7047 §5.1, `<function>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// The column is exactly the value.
    Equal,
    /// The column has all elements, or pairs, of the value.
    Includes,
}

/// One part of a `where`: rows have to fulfil all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column, or `_uuid`.
    pub column: &'static str,
    /// How it is compared.
    pub function: Function,
    /// With what.
    pub value: Value,
}

impl Condition {
    /// This one row.
    pub fn row(uuid: Uuid) -> Self {
        Self { column: "_uuid", function: Function::Equal, value: uuid.into() }
    }

    fn to_json(&self) -> Json {
        let function = match self.function {
            Function::Equal => "==",
            Function::Includes => "includes",
        };
        json!([self.column, function, self.value.to_json()])
    }
}

/// What a mutation does to a column (RFC 7047 §5.1, `<mutator>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutator {
    /// Adds to an integer.
    Add,
    /// Puts elements into a set, or pairs into a map; a key that is there keeps its value.
    Insert,
    /// Takes elements out of a set, pairs out of a map, or, given a set, keys out of a map.
    Delete,
}

/// A change of a part of a column, which leaves the rest to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The column.
    pub column: &'static str,
    /// What is done.
    pub mutator: Mutator,
    /// With what.
    pub value: Value,
}

impl Mutation {
    /// Puts elements or pairs in.
    pub fn insert(column: &'static str, value: Value) -> Self {
        Self { column, mutator: Mutator::Insert, value }
    }

    /// Takes elements, pairs or keys out.
    pub fn delete(column: &'static str, value: Value) -> Self {
        Self { column, mutator: Mutator::Delete, value }
    }

    /// Writes one pair of a map, whatever value its key had.
    pub fn put(column: &'static str, key: &str, value: &str) -> [Self; 2] {
        [Self::delete(column, Value::set([key])), Self::insert(column, Value::map([(key, value)]))]
    }

    fn to_json(&self) -> Json {
        let mutator = match self.mutator {
            Mutator::Add => "+=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        };
        json!([self.column, mutator, self.value.to_json()])
    }
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new row.
    Insert {
        /// Where.
        table: &'static str,
        /// Its columns; the others get their defaults.
        row: Vec<(&'static str, Value)>,
        /// What the same transaction calls it by, as [`Atom::Named`].
        name: Option<String>,
    },
    /// The columns of rows.
    Select {
        /// Where.
        table: &'static str,
        /// Which rows.
        conditions: Vec<Condition>,
        /// Which columns.
        columns: Vec<&'static str>,
    },
    /// Whole columns of rows are replaced.
    Update {
        /// Where.
        table: &'static str,
        /// Which rows.
        conditions: Vec<Condition>,
        /// The new values.
        row: Vec<(&'static str, Value)>,
    },
    /// Parts of columns change.
    Mutate {
        /// Where.
        table: &'static str,
        /// Which rows.
        conditions: Vec<Condition>,
        /// How.
        mutations: Vec<Mutation>,
    },
    /// Does nothing, unless the rows are no longer what they were thought to be: then the transaction fails.
    Wait {
        /// Where.
        table: &'static str,
        /// Which rows.
        conditions: Vec<Condition>,
        /// The one row that they are, by these columns.
        row: Vec<(&'static str, Value)>,
    },
    /// Does nothing but to stand in the database's log.
    Comment(String),
}

fn row(columns: &[(&'static str, Value)]) -> Json {
    Json::Object(columns.iter().map(|(name, value)| ((*name).to_owned(), value.to_json())).collect())
}

fn conditions(all: &[Condition]) -> Vec<Json> {
    all.iter().map(Condition::to_json).collect()
}

impl Operation {
    /// The operation as JSON.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Insert { table, row: columns, name } => {
                let mut json = Map::new();
                json.insert("op".into(), json!("insert"));
                json.insert("table".into(), json!(table));
                json.insert("row".into(), row(columns));
                if let Some(name) = name {
                    json.insert("uuid-name".into(), json!(name));
                }
                Json::Object(json)
            }
            Self::Select { table, conditions: all, columns } => {
                json!({"op": "select", "table": table, "where": conditions(all), "columns": columns})
            }
            Self::Update { table, conditions: all, row: columns } => {
                json!({"op": "update", "table": table, "where": conditions(all), "row": row(columns)})
            }
            Self::Mutate { table, conditions: all, mutations } => {
                let mutations: Vec<_> = mutations.iter().map(Mutation::to_json).collect();
                json!({"op": "mutate", "table": table, "where": conditions(all), "mutations": mutations})
            }
            Self::Wait { table, conditions: all, row: columns } => {
                let names: Vec<_> = columns.iter().map(|(name, _)| name).collect();
                json!({
                    "op": "wait", "table": table, "where": conditions(all), "columns": names, "until": "==",
                    "rows": [row(columns)], "timeout": 0,
                })
            }
            Self::Comment(text) => json!({"op": "comment", "comment": text}),
        }
    }
}

/// What came of one operation (RFC 7047 §5.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The new row, of an insert.
    pub uuid: Option<Uuid>,
    /// How many rows matched, of an update or a mutate.
    pub count: Option<i64>,
    /// The rows, of a select.
    pub rows: Vec<BTreeMap<String, Value>>,
}

impl Done {
    fn from_json(json: &Json) -> Result<Self, Shape> {
        let Json::Object(members) = json else {
            // A comment gives an empty object; some versions null.
            return if json.is_null() { Ok(Self::default()) } else { Err(Shape::new("an operation's result", json)) };
        };
        let mut done = Self { count: members.get("count").and_then(Json::as_i64), ..Self::default() };
        if let Some(uuid) = members.get("uuid") {
            let Value::Set(atoms) = Value::from_json(uuid)? else { return Err(Shape::new("a row's name", uuid)) };
            match (atoms.first(), atoms.len()) {
                (Some(Atom::Uuid(uuid)), 1) => done.uuid = Some(*uuid),
                _ => return Err(Shape::new("a row's name", uuid)),
            }
        }
        for found in members.get("rows").and_then(Json::as_array).into_iter().flatten() {
            let columns = found.as_object().ok_or_else(|| Shape::new("a row", found))?;
            let columns = columns.iter().map(|(name, value)| Ok((name.clone(), Value::from_json(value)?)));
            done.rows.push(columns.collect::<Result<_, Shape>>()?);
        }
        Ok(done)
    }
}

/// Reads the result of a transaction: what came of each of its operations, or why nothing did.
///
/// # Errors
/// When it is no such result.
pub fn outcome(result: &Json) -> Result<Result<Vec<Done>, TransactError>, Shape> {
    let results = result.as_array().ok_or_else(|| Shape::new("a transaction's results", result))?;
    let mut all = Vec::with_capacity(results.len());
    for (at, result) in results.iter().enumerate() {
        if let Some(error) = result.get("error") {
            let text = |json: Option<&Json>| cut(json.and_then(Json::as_str).unwrap_or_default());
            let details = text(result.get("details"));
            return Ok(Err(TransactError { at, error: text(Some(error)), details }));
        }
        all.push(Done::from_json(result)?);
    }
    Ok(Ok(all))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_the_first_error_tells() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        let done = outcome(&json!([{"uuid": ["uuid", uuid]}, {"count": 2}, {"rows": [{"next_cfg": 7}]}, {}, null]));
        let done = done.unwrap().unwrap();
        assert_eq!((done[0].uuid, done[1].count), (Uuid::parse(uuid), Some(2)));
        assert_eq!(done[2].rows[0]["next_cfg"], Value::from(7));
        let failed = outcome(&json!([{"count": 1}, null, {"error": "timed out", "details": "no"}])).unwrap();
        assert_eq!(failed.unwrap_err().to_string(), "timed out: no");
        for bad in
            [json!({}), json!([7]), json!([{"uuid": 7}]), json!([{"rows": [7]}]), json!([{"rows": [{"a": null}]}])]
        {
            assert!(outcome(&bad).is_err(), "{bad}");
        }
    }
}
