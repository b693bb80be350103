//! Values of foreign documents, read with their places; `null` is as good as absent, as all of their owners have it.

use crate::finding::{Findings, Place, short};
use bulkhead_types::node::{Data, Mark, Node};

/// A value that is there, and where.
#[derive(Debug, Clone)]
pub(crate) struct Value<'a> {
    node: &'a Node,
    /// As `spec.ingress[0].from`.
    pub path: String,
}

impl<'a> Value<'a> {
    /// A whole document.
    pub fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    /// The field `key`, unless it is absent or `null`, or this has no fields.
    pub fn field(&self, key: &str) -> Option<Self> {
        let node = self.node.field(key).filter(|node| node.data != Data::Null)?;
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        Some(Self { node, path })
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&'a str> {
        self.node.text()
    }

    /// The text of field `key`, if it is there and text.
    pub fn text_of(&self, key: &str) -> Option<&'a str> {
        self.field(key).and_then(|value| value.as_text())
    }

    /// The items, if it is a list; none of anything else.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let items: &'a [Node] = if let Data::List(items) = &self.node.data { items } else { &[] };
        let path = self.path.clone();
        items.iter().enumerate().map(move |(i, node)| Value { node, path: format!("{path}[{i}]") })
    }

    /// Keys and values, if it has fields.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let fields: &'a [_] = if let Data::Fields(fields) = &self.node.data { fields } else { &[] };
        let path = self.path.clone();
        fields.iter().map(move |field| {
            let path = if path.is_empty() { field.key.clone() } else { format!("{path}.{}", field.key) };
            (field.key.as_str(), Value { node: &field.value, path })
        })
    }

    fn is_fields(&self) -> bool {
        matches!(self.node.data, Data::Fields(_))
    }

    fn is_list(&self) -> bool {
        matches!(self.node.data, Data::List(_))
    }
}

/// Reads one object and files what is wrong with it.
pub(crate) struct Reader<'f> {
    /// The file that it is in.
    pub file: &'f str,
    /// What findings call it.
    pub object: String,
    /// What was found.
    pub found: &'f mut Findings,
}

impl Reader<'_> {
    fn place<'p>(file: &'p str, object: &'p str, at: &'p Value<'_>) -> Place<'p> {
        // An empty map begins where nothing is written; its line is right all the same.
        let mark = Mark { line: at.node.mark.line, column: at.node.mark.column.max(1) };
        Place { file, object, path: &at.path, mark }
    }

    /// Something that cannot be left out.
    pub fn refuse(&mut self, at: &Value<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.found.refuse(Self::place(self.file, &self.object, at), message, hint);
    }

    /// Something that is left out, or that one should know.
    pub fn warn(&mut self, at: &Value<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.found.warn(Self::place(self.file, &self.object, at), message, hint);
    }

    /// Refuses whatever is not a map of these fields: a field that is not known here could narrow what the others say.
    pub fn only(&mut self, at: &Value<'_>, known: &[&str]) -> bool {
        if !at.is_fields() {
            self.refuse(at, "a map is expected here", "");
            return false;
        }
        let mut good = true;
        for (key, value) in at.fields().filter(|(key, _)| !known.contains(key)) {
            let hint = format!("known here: {}", known.join(", "));
            self.refuse(&value, format!("`{}` is not known here", short(key)), hint);
            good = false;
        }
        good
    }

    /// The field, which has to be there.
    pub fn needed<'a>(&mut self, at: &Value<'a>, key: &str) -> Option<Value<'a>> {
        let value = at.field(key);
        if value.is_none() {
            self.refuse(at, format!("`{key}` is missing"), "");
        }
        value
    }

    /// The items of a field that is a list, if it is there.
    pub fn list<'a>(&mut self, at: &Value<'a>, key: &str) -> Option<Vec<Value<'a>>> {
        let value = at.field(key)?;
        if !value.is_list() {
            self.refuse(&value, "a list is expected here", "");
            return None;
        }
        Some(value.items().collect())
    }

    /// The text of a value.
    pub fn text<'a>(&mut self, at: &Value<'a>) -> Option<&'a str> {
        let text = at.as_text();
        if text.is_none() {
            self.refuse(at, "a text is expected here", "put it in quotes if it is meant as one");
        }
        text
    }

    /// The text of a field, if it is there.
    pub fn text_in<'a>(&mut self, at: &Value<'a>, key: &str) -> Option<&'a str> {
        let value = at.field(key)?;
        self.text(&value)
    }

    /// A whole number of a value, within `range`.
    pub fn number(&mut self, at: &Value<'_>, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let number = match &at.node.data {
            Data::Number(number) => number.as_i64().filter(|number| range.contains(number)),
            _ => None,
        };
        if number.is_none() {
            self.refuse(at, format!("a number from {} to {} is expected here", range.start(), range.end()), "");
        }
        number
    }

    /// Whether a field is `true`.
    pub fn flag(&mut self, at: &Value<'_>, key: &str) -> bool {
        match at.field(key) {
            None => false,
            Some(value) => match value.node.data {
                Data::Bool(flag) => flag,
                _ => {
                    self.refuse(&value, "`true` or `false` is expected here", "");
                    false
                }
            },
        }
    }
}

impl Value<'_> {
    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        matches!(self.node.data, Data::Number(_))
    }
}
