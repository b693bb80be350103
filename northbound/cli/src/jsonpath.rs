//! `-o jsonpath=TEMPLATE`, as kubectl has it: fields, items, `range`, and texts; no filters and no `..`.

use serde_json::Value;

/// Longest template, in bytes.
const MAX_TEMPLATE: usize = 4096;
/// Deepest nesting of `range`.
const MAX_RANGES: usize = 8;

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    /// For each value at the path, these parts.
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// From the end if it is negative.
    Item(i64),
    All,
}

impl JsonPath {
    /// Reads a template.
    pub fn parse(template: &str) -> Result<Self, String> {
        if template.len() > MAX_TEMPLATE {
            return Err(format!("a template has at most {MAX_TEMPLATE} characters"));
        }
        let mut open: Vec<(Vec<Step>, Vec<Part>)> = Vec::new();
        let mut parts = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let Some((text, after)) = rest.split_once('{') else {
                parts.push(Part::Text(rest.into()));
                break;
            };
            if !text.is_empty() {
                parts.push(Part::Text(text.into()));
            }
            let end = closing(after).ok_or("`{` without `}`")?;
            let (inside, after) =
                (after.get(..end).unwrap_or_default().trim(), after.get(end + 1..).unwrap_or_default());
            rest = after;
            if let Some(path) = inside.strip_prefix("range ") {
                if open.len() == MAX_RANGES {
                    return Err(format!("`range` in `range` at most {MAX_RANGES} deep"));
                }
                open.push((steps(path.trim())?, std::mem::take(&mut parts)));
            } else if inside == "end" {
                let (path, before) = open.pop().ok_or("`{end}` without `{range ...}`")?;
                let inner = std::mem::replace(&mut parts, before);
                parts.push(Part::Range(path, inner));
            } else if inside.starts_with('"') {
                let text = serde_json::from_str(inside).map_err(|_| format!("{inside} is no text"))?;
                parts.push(Part::Text(text));
            } else {
                parts.push(Part::Path(steps(inside)?));
            }
        }
        if !open.is_empty() {
            return Err("`{range ...}` without `{end}`".into());
        }
        Ok(Self(parts))
    }

    /// What it makes of a value, with a line's end.
    pub fn print(&self, value: &Value) -> String {
        let mut out = String::new();
        print(&self.0, value, &mut out);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }
}

fn print(parts: &[Part], value: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let found = select(steps, value).into_iter().map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                out.push_str(&found.collect::<Vec<_>>().join(" "));
            }
            Part::Range(steps, inner) => {
                for value in select(steps, value) {
                    print(inner, value, out);
                }
            }
        }
    }
}

/// The values at a path; those that are not there are left out.
fn select<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut at = vec![value];
    for step in steps {
        at = at
            .into_iter()
            .flat_map(|value| -> Vec<&Value> {
                match (step, value) {
                    (Step::Field(key), _) => value.get(key).into_iter().collect(),
                    (Step::Item(number), Value::Array(items)) => {
                        let index = match number {
                            0.. => usize::try_from(*number).ok(),
                            _ => usize::try_from(number.unsigned_abs())
                                .ok()
                                .and_then(|back| items.len().checked_sub(back)),
                        };
                        index.and_then(|index| items.get(index)).into_iter().collect()
                    }
                    (Step::All, Value::Array(items)) => items.iter().collect(),
                    (Step::All, Value::Object(fields)) => fields.values().collect(),
                    _ => Vec::new(),
                }
            })
            .collect();
    }
    at
}

/// Where the brace is that closes, texts in quotes left aside.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (None, '}') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let wrong = |why: &str| Err(format!("`{path}`: {why}"));
    let mut rest = path.strip_prefix(['$', '@']).unwrap_or(path);
    if !rest.is_empty() && !rest.starts_with(['.', '[']) {
        return wrong("a path begins with `.`, as in {.metadata.name}");
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let Some((index, after)) = inside.split_once(']') else { return wrong("`[` without `]`") };
            let quoted = index.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            steps.push(match (index, quoted) {
                ("*", _) => Step::All,
                (_, Some(key)) => Step::Field(key.into()),
                _ => match index.parse() {
                    Ok(number) => Step::Item(number),
                    Err(_) => {
                        return wrong("in brackets are a number, `*`, or a key in single quotes; there are no filters");
                    }
                },
            });
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let (key, length) = key(rest);
        match key.as_str() {
            "" if rest.starts_with('.') => return wrong("`..` is not known"),
            // `{.}`, and `.[0]`.
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(key)),
        }
        rest = rest.get(length..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
    }
    Ok(steps)
}

/// A key up to the next step, and how much of the text it takes; `\.` is a dot in it.
fn key(text: &str) -> (String, usize) {
    let (mut key, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                key.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => return (key, at),
            _ => key.push(c),
        }
    }
    (key, text.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_are_filled_in() {
        let value = json!([
            {"metadata": {"name": "a", "labels": {"app.io/x": "1"}}, "spec": {"ips": ["10.0.0.1", "fd00::1"], "n": 7}},
            {"metadata": {"name": "b"}, "spec": {"ips": [], "n": true}},
        ]);
        for (template, expected) in [
            ("{[*].metadata.name}", "a b\n"),
            ("{.[0].metadata.name}", "a\n"),
            ("{$[-1].metadata.name}!", "b!\n"),
            ("{[-3].metadata.name}", "\n"),
            ("{[0].spec}", "{\"ips\":[\"10.0.0.1\",\"fd00::1\"],\"n\":7}\n"),
            ("{[*].spec.n}", "7 true\n"),
            ("{[0].metadata.labels['app.io/x']}{[0].metadata.labels.app\\.io/x}", "11\n"),
            (
                "{range [*]}{.metadata.name}{\"\\t\"}{range .spec.ips[*]}<{@}>{end}{\"\\n\"}{end}",
                "a\t<10.0.0.1><fd00::1>\nb\t\n",
            ),
            ("{[0].spec.*}", "[\"10.0.0.1\",\"fd00::1\"] 7\n"),
            ("plain", "plain\n"),
            ("{[0].nothing.there}", "\n"),
        ] {
            assert_eq!(JsonPath::parse(template).unwrap().print(&value), expected, "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let long = "{.a}".repeat(2000);
        let deep = "{range .a}".repeat(9) + &"{end}".repeat(9);
        for bad in
            ["{", "{.a", "{[}", "{[x]}", "{..a}", "{[?(@.a==1)]}", "{end}", "{range .a}", "{a}", "{\"a}", &long, &deep]
        {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
