//! A document as read: values with the place they were read at.

use crate::{
    limits::{Dialect, MAX_FOREIGN_INPUT, ReadError},
    parse::{Format, read_nodes},
};
use serde_json::{Map, Number, Value};

/// A place in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub data: Data,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing at all: an empty document, or `null` in somebody else's. In ours the readers refuse it elsewhere.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer or a decimal fraction.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Fields, in the order written; keys are unique.
    Fields(Vec<Field>),
}

/// A field of a [`Node`].
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Where the key begins.
    pub mark: Mark,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The field `key`, if this has fields.
    pub fn field(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Fields(fields) => fields.iter().find(|f| f.key == key).map(|f| &f.value),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same without the places. The readers' depth limit bounds the recursion.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Data::Fields(fields) => {
                Value::Object(fields.iter().map(|f| (f.key.clone(), f.value.to_value())).collect::<Map<_, _>>())
            }
        }
    }

    /// Where `path` (`spec.ingress[0].from`) is; of a path that leaves the document, the last place on
    /// it. Keys may have dots in them (labels): the longest key that fits is taken.
    pub fn locate(&self, path: &str) -> Mark {
        let mut node = self;
        let mut mark = self.mark;
        let mut rest = path;
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix('[') {
                let Some((index, tail)) = tail.split_once(']') else { break };
                let Data::List(items) = &node.data else { break };
                let Some(item) = index.parse().ok().and_then(|i: usize| items.get(i)) else { break };
                (node, mark, rest) = (item, item.mark, tail.strip_prefix('.').unwrap_or(tail));
                continue;
            }
            let Data::Fields(fields) = &node.data else { break };
            let fits = |field: &&Field| {
                rest.strip_prefix(field.key.as_str())
                    .is_some_and(|tail| !field.key.is_empty() && (tail.is_empty() || tail.starts_with(['.', '['])))
            };
            let Some(field) = fields.iter().filter(fits).max_by_key(|f| f.key.len()) else { break };
            let tail = rest.get(field.key.len()..).unwrap_or_default();
            rest = tail.strip_prefix('.').unwrap_or(tail);
            node = &field.value;
            // A list or map begins wherever its first item is; its key is what the operator looks for.
            mark = if matches!(node.data, Data::List(_) | Data::Fields(_)) { field.mark } else { node.mark };
        }
        mark
    }

    /// Where the key `key` of this node's fields is written.
    pub fn key_mark(&self, key: &str) -> Option<Mark> {
        match &self.data {
            Data::Fields(fields) => fields.iter().find(|f| f.key == key).map(|f| f.mark),
            _ => None,
        }
    }
}

/// Reads YAML of any shape, without the places: for what is not a resource.
pub fn read_yaml(text: &str) -> Result<Vec<Value>, ReadError> {
    Ok(crate::yaml::read(text, Dialect::Own)?.iter().map(Node::to_value).collect())
}

/// Reads documents that were written for somebody else, of any shape, in YAML or JSON: `null` is a value in them, and the
/// limits are wider ([`MAX_FOREIGN_INPUT`]); all else that [`crate::read`] refuses is refused here too.
pub fn read_foreign(input: &[u8]) -> Result<Vec<Node>, ReadError> {
    if input.len() > MAX_FOREIGN_INPUT {
        let message = format!("the input has {} bytes; at most {MAX_FOREIGN_INPUT} are read", input.len());
        return Err(ReadError::new(Mark { line: 1, column: 1 }, message, "give it in several parts"));
    }
    read_nodes(input, Format::Any, Dialect::Foreign)
}
