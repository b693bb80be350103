//! YAML to [`Node`]s: the plain part of YAML 1.2, and nothing that makes a text mean more than it shows.
//!
//! Refused: anchors and aliases (a few lines could expand to gigabytes), tags, merge keys, keys that are
//! lists or maps, a key twice, and a key without a value (`from:` must not read as "anyone").
//! Plain scalars are `true`, `false`, decimal numbers without leading zeros, and otherwise text.

use crate::{
    limits::{Budget, Dialect, ReadError, check_duplicates},
    node::{Data, Field, Mark, Node},
};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

/// A list or map that is not closed yet.
enum Open {
    List(Mark, Vec<Node>),
    /// With the key that waits for its value.
    Fields(Mark, Vec<Field>, Option<(Mark, String)>),
}

/// Reads every document of a stream. Empty documents are left out.
pub(crate) fn read(text: &str, dialect: Dialect) -> Result<Vec<Node>, ReadError> {
    read_from(text, 1, &mut Budget::of(dialect))
}

/// The same of a text that begins at a line of another one, and within a budget that others use, too.
pub(crate) fn read_from(text: &str, first_line: u32, budget: &mut Budget) -> Result<Vec<Node>, ReadError> {
    let dialect = budget.dialect;
    let mark = |marker: &Marker| {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let line = number(marker.line()).saturating_add(first_line.saturating_sub(1));
        Mark { line, column: number(marker.col()).saturating_add(1) }
    };
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            ReadError::new(
                mark(error.marker()),
                format!("not YAML: {}", error.info()),
                syntax_hint(text, error.marker()),
            )
        })?;
        let at = mark(&span.start);
        let node = match event {
            Event::Alias(_) => return Err(refuse(at, "aliases (`*name`) are refused", "write the value out")),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return Err(refuse(at, "anchors (`&name`) are refused", "write the value out where it is needed"));
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(refuse(
                    at,
                    "tags (`!name`) are refused",
                    "leave the tag out; quote a value that is to be text",
                ));
            }
            Event::SequenceStart(..) => {
                key_is_text(&open, at)?;
                budget.value(at, open.len() + 1)?;
                open.push(Open::List(at, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                key_is_text(&open, at)?;
                budget.value(at, open.len() + 1)?;
                open.push(Open::Fields(at, Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(mark, items)) => Node { mark, data: Data::List(items) },
                Some(Open::Fields(mark, fields, _)) => {
                    check_duplicates(&fields)?;
                    Node { mark, data: Data::Fields(fields) }
                }
                None => continue,
            },
            Event::Scalar(text, style, ..) => {
                budget.value(at, open.len())?;
                if let Some(Open::Fields(_, _, key @ None)) = open.last_mut() {
                    if text == "<<" && style == ScalarStyle::Plain {
                        return Err(refuse(at, "merge keys (`<<`) are refused", "write the fields out"));
                    }
                    *key = Some((at, text.into_owned()));
                    continue;
                }
                Node { mark: at, data: scalar(&text, style) }
            }
            _ => continue,
        };
        match open.last_mut() {
            None => {
                if node.data != Data::Null {
                    budget.document(node.mark)?;
                    documents.push(node);
                }
            }
            Some(Open::List(_, items)) => {
                if node.data == Data::Null && dialect == Dialect::Own {
                    return Err(refuse(
                        node.mark,
                        "an item without a value",
                        "remove it, or write `\"\"` for an empty text",
                    ));
                }
                items.push(node);
            }
            Some(Open::Fields(_, fields, key)) => {
                let Some((mark, key)) = key.take() else { continue };
                if node.data == Data::Null && dialect == Dialect::Own {
                    return Err(no_value(mark, &key));
                }
                fields.push(Field { mark, key, value: node });
            }
        }
    }
    Ok(documents)
}

/// The error about a field without a value.
pub(crate) fn no_value(mark: Mark, key: &str) -> ReadError {
    let key: String = key.chars().take(64).collect();
    ReadError::new(
        mark,
        format!("`{key}` has no value"),
        "leave the field out, or write `[]` for an empty list, `{}` for an empty map, `\"\"` for an empty text",
    )
}

fn refuse(mark: Mark, message: &str, hint: &str) -> ReadError {
    ReadError::new(mark, message, hint)
}

/// A list or map where a key is expected is refused.
fn key_is_text(open: &[Open], at: Mark) -> Result<(), ReadError> {
    match open.last() {
        Some(Open::Fields(_, _, None)) => Err(refuse(
            at,
            "a key that is a list or a map",
            "keys are plain text; quote a value that begins with `{` or `[`",
        )),
        _ => Ok(()),
    }
}

/// What usually causes a syntax error at this place.
fn syntax_hint(text: &str, marker: &Marker) -> &'static str {
    let tab = |line: &str| line.trim_start_matches(' ').starts_with('\t');
    // A stray tab is often noticed only at the end of what comes before it.
    if text.lines().skip(marker.line().saturating_sub(1)).take(2).any(tab) {
        "indent with spaces; YAML does not allow tabs there"
    } else {
        "check the indentation, and quote text that has `: `, ` #` or begins with one of `{[&*!|>%@`"
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Data {
    if style != ScalarStyle::Plain {
        return Data::Text(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" => Data::Bool(true),
        "false" => Data::Bool(false),
        _ => number(text).map_or_else(|| Data::Text(text.into()), Data::Number),
    }
}

/// A number, if `text` is one by JSON's grammar: no leading zeros, no sign but `-`.
fn number(text: &str) -> Option<serde_json::Number> {
    // Cheap way out: most scalars are words.
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
