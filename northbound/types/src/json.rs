//! JSON to [`Node`]s (RFC 8259): one value or several one after another.

use crate::{
    limits::{Budget, Dialect, ReadError, check_duplicates},
    node::{Data, Field, Mark, Node},
    yaml::no_value,
};

/// What may stand between values.
pub(crate) const SPACE: [char; 5] = [' ', '\t', '\n', '\r', '\u{feff}'];

/// Reads every value of a stream. The error has the place of the first thing that is not JSON.
pub(crate) fn read(text: &str, dialect: Dialect) -> Result<Vec<Node>, ReadError> {
    read_from(text, Mark { line: 1, column: 1 }, &mut Budget::of(dialect))
}

/// The same of a text that begins at a place of another one, and within a budget that others use, too.
pub(crate) fn read_from(text: &str, mark: Mark, budget: &mut Budget) -> Result<Vec<Node>, ReadError> {
    let mut reader = Reader { text, at: 0, mark, budget };
    let mut documents = Vec::new();
    loop {
        reader.space();
        if reader.peek().is_none() {
            return Ok(documents);
        }
        let mark = reader.mark;
        let node = reader.value(0)?;
        if node.data != Data::Null {
            reader.budget.document(mark)?;
            documents.push(node);
        }
    }
}

/// Reads some items of a list, at least one: what stands there between a bracket or comma and another one.
pub(crate) fn items(text: &str, mark: Mark, budget: &mut Budget) -> Result<Vec<Node>, ReadError> {
    let mut reader = Reader { text, at: 0, mark, budget };
    let mut items = Vec::new();
    loop {
        reader.space();
        items.push(reader.item(1)?);
        reader.space();
        if reader.peek().is_none() {
            return Ok(items);
        }
        if !reader.take(",") {
            return reader.error("`,`");
        }
    }
}

struct Reader<'a, 'b> {
    text: &'a str,
    /// Byte offset of the next character; always on a character's boundary.
    at: usize,
    mark: Mark,
    budget: &'b mut Budget,
}

impl<'a> Reader<'a, '_> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over `part`, which is what comes next.
    fn skip(&mut self, part: &str) {
        for c in part.chars() {
            if c == '\n' {
                self.mark = Mark { line: self.mark.line.saturating_add(1), column: 1 };
            } else {
                self.mark.column = self.mark.column.saturating_add(1);
            }
        }
        self.at += part.len();
    }

    fn space(&mut self) {
        let rest = self.rest();
        let len = rest.len() - rest.trim_start_matches(SPACE).len();
        self.skip(rest.get(..len).unwrap_or_default());
    }

    fn error<T>(&self, expected: &str) -> Result<T, ReadError> {
        let found = match self.rest().chars().next() {
            None => "the end of the input".into(),
            Some(c) => format!("`{}`", c.escape_default()),
        };
        Err(ReadError::new(self.mark, format!("not JSON: {expected} expected, found {found}"), ""))
    }

    /// Steps over `token` if it comes next.
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.skip(token);
        }
        found
    }

    /// One value inside `depth` lists and maps. The budget bounds the recursion.
    fn value(&mut self, depth: usize) -> Result<Node, ReadError> {
        let mark = self.mark;
        let data = match self.peek() {
            Some(b'{') => {
                self.budget.value(mark, depth + 1)?;
                Data::Fields(self.fields(depth + 1)?)
            }
            Some(b'[') => {
                self.budget.value(mark, depth + 1)?;
                Data::List(self.list(depth + 1)?)
            }
            Some(b'"') => {
                self.budget.value(mark, depth)?;
                Data::Text(self.string()?)
            }
            _ => {
                self.budget.value(mark, depth)?;
                let rest = self.rest();
                let end = rest.find(|c: char| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '+' | '.'));
                let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                let data = match word {
                    "null" => Data::Null,
                    "true" => Data::Bool(true),
                    "false" => Data::Bool(false),
                    _ => match word.parse() {
                        Ok(number) => Data::Number(number),
                        Err(_) => return self.error("a value"),
                    },
                };
                self.skip(word);
                data
            }
        };
        Ok(Node { mark, data })
    }

    /// Whether a value is none, and has to be one.
    fn refuses(&self, value: &Node) -> bool {
        value.data == Data::Null && self.budget.dialect == Dialect::Own
    }

    fn item(&mut self, depth: usize) -> Result<Node, ReadError> {
        let item = self.value(depth)?;
        if self.refuses(&item) {
            return Err(ReadError::new(item.mark, "an item without a value", "remove it"));
        }
        Ok(item)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, ReadError> {
        let mut items = Vec::new();
        self.skip("[");
        self.space();
        if self.take("]") {
            return Ok(items);
        }
        loop {
            self.space();
            items.push(self.item(depth)?);
            self.space();
            if self.take("]") {
                return Ok(items);
            }
            if !self.take(",") {
                return self.error("`,` or `]`");
            }
        }
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Field>, ReadError> {
        let mut fields = Vec::new();
        self.skip("{");
        self.space();
        if self.take("}") {
            return Ok(fields);
        }
        loop {
            self.space();
            let mark = self.mark;
            if self.peek() != Some(b'"') {
                return self.error("a key in double quotes");
            }
            let key = self.string()?;
            self.space();
            if !self.take(":") {
                return self.error("`:`");
            }
            self.space();
            let value = self.value(depth)?;
            if self.refuses(&value) {
                return Err(no_value(mark, &key));
            }
            fields.push(Field { mark, key, value });
            self.space();
            if self.take("}") {
                check_duplicates(&fields)?;
                return Ok(fields);
            }
            if !self.take(",") {
                return self.error("`,` or `}`");
            }
        }
    }

    /// A string, from its opening quote. serde_json unescapes it; here only its end is found.
    fn string(&mut self) -> Result<String, ReadError> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|b| {
            let closing = b == b'"' && !escaped;
            escaped = b == b'\\' && !escaped;
            closing
        });
        let quoted = end.and_then(|end| rest.get(..end + 2));
        let Some(quoted) = quoted else {
            return Err(ReadError::new(self.mark, "not JSON: this text has no closing quote", ""));
        };
        let Ok(text) = serde_json::from_str(quoted) else {
            let hint = "escape line breaks and control characters, and `\\` as `\\\\`";
            return Err(ReadError::new(
                self.mark,
                "not JSON: this text has a character or escape that is not allowed",
                hint,
            ));
        };
        self.skip(quoted);
        Ok(text)
    }
}
