//! YAML that people like to read: block style, quotes only where a reader could misunderstand.

use serde_json::Value;

/// A stream of documents.
pub fn documents<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let mut out = String::new();
    for (i, value) in values.into_iter().enumerate() {
        if i > 0 {
            out.push_str("---\n");
        }
        match value {
            Value::Object(map) if !map.is_empty() => fields(&mut out, map, 0, false),
            Value::Array(items) if !items.is_empty() => list(&mut out, items, 0),
            plain => {
                scalar(&mut out, plain);
                out.push('\n');
            }
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n(' ', depth));
}

/// `inline`: the first field goes on the line that is already begun.
fn fields(out: &mut String, map: &serde_json::Map<String, Value>, depth: usize, inline: bool) {
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 || !inline {
            indent(out, depth);
        }
        text(out, key);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                fields(out, inner, depth + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                list(out, items, depth);
            }
            plain => {
                out.push(' ');
                scalar(out, plain);
                out.push('\n');
            }
        }
    }
}

fn list(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => fields(out, inner, depth + 2, true),
            Value::Array(inner) if !inner.is_empty() => {
                // A list in a list: flow style, which JSON is.
                out.push_str(&Value::Array(inner.clone()).to_string());
                out.push('\n');
            }
            plain => {
                scalar(out, plain);
                out.push('\n');
            }
        }
    }
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(string) => text(out, string),
        // Empty lists and maps, numbers, booleans and null are written as in JSON.
        other => out.push_str(&other.to_string()),
    }
}

/// Words that some YAML version reads as something else than text.
const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];

/// Whether every YAML reader takes `text` for the same text without quotes. Errs on the side of quotes.
fn is_plain(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-');
    let Some(first) = text.bytes().next() else { return false };
    let word = first.is_ascii_alphabetic() || first == b'_';
    // An address, a prefix, a port with its protocol: nothing that begins like this is a number.
    let address = first.is_ascii_digit() && (text.contains('/') || text.matches('.').count() >= 2);
    (word || address) && text.bytes().all(inside) && !WORDS.iter().any(|w| w.eq_ignore_ascii_case(text))
}

fn text(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // YAML 1.2 §5.1: what is not printable has to be escaped; line separators would fold.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bulkhead_types::{Format, read};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn it_reads_well() {
        let value = json!({
            "kind": "Workload",
            "metadata": {"labels": {"app": "shop", "on": "1"}, "name": "web-1"},
            "spec": {"empty": [], "none": {}, "interfaces": [{"ips": ["10.1.0.11", "fd00:1::11"], "mac": "02:00:00:00:00:01"}]}
        });
        assert_eq!(
            documents([&value]),
            "kind: Workload\nmetadata:\n  labels:\n    app: shop\n    \"on\": \"1\"\n  name: web-1\nspec:\n  empty: []\n  \
             interfaces:\n  - ips:\n    - 10.1.0.11\n    - \"fd00:1::11\"\n    mac: \"02:00:00:00:00:01\"\n  none: {}\n"
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[a-z0-9:.# -]{0,8}",
            "\\PC{0,6}",
            Just("true".to_string()),
            Just("~".into()),
            "[\\x00-\\x7f]{0,4}"
        ];
        let leaf = prop_oneof![
            text.clone().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(labels in prop::collection::btree_map("[a-z][a-z0-9]{0,6}", "[A-Za-z0-9]([-._A-Za-z0-9]{0,6}[A-Za-z0-9])?", 1..5), junk in value()) {
            let document = json!({
                "kind": "Workload", "metadata": {"name": "w", "labels": labels},
                "spec": {"network": "n", "interfaces": [{"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1"]}]}
            });
            let printed = documents([&document, &document]);
            let parsed = read(None, printed.as_bytes(), Format::Any);
            // The same resource twice is one finding; the texts are what matters here.
            prop_assert_eq!(parsed.documents.len(), 2, "{}\n{:?}", printed, parsed.diagnostics);
            for read_back in parsed.documents {
                prop_assert_eq!(read_back.to_value(), document.clone());
            }
            // Any value at all survives in the place of one that is looked at as it is.
            let wrapped = json!({"kind": "Zone", "metadata": {"name": "z"}, "spec": junk});
            let printed = documents([&wrapped]);
            prop_assert_eq!(bulkhead_types::node::read_yaml(&printed).unwrap(), vec![wrapped], "{}", printed);
        }
    }
}
