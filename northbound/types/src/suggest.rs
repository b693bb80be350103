//! From a reader's complaint to a sentence that helps.

pub use bulkhead_topology::nearest;

/// Longest piece of the operator's text that a message repeats, in characters.
const MAX_QUOTED: usize = 64;

/// `text`, cut to a length that a message can repeat.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// Path, message and hint for a complaint of serde's about the field at `path`.
pub(crate) fn explain(path: &str, complaint: &str) -> (String, String, String) {
    let quoted = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(String::from).collect() };
    let join = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    if let Some(rest) = complaint.strip_prefix("unknown field ") {
        let names = quoted(rest);
        let (unknown, known) = match names.split_first() {
            Some((unknown, known)) => (unknown.as_str(), known),
            None => ("", &[][..]),
        };
        let hint = match nearest(unknown, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => String::new(),
            None => format!("known here: {}", known.join(", ")),
        };
        // The path already ends in the field, or is its parent's, by how serde met it.
        let ends = path == unknown || path.ends_with(&format!(".{unknown}"));
        let path = if ends { path.to_string() } else { join(unknown) };
        return (path, format!("unknown field `{}`", short(unknown)), hint);
    }
    if complaint.starts_with("missing field ") {
        let field = quoted(complaint).into_iter().next().unwrap_or_default();
        return (path.to_string(), format!("`{field}` is missing"), String::new());
    }
    let message = complaint.chars().take(4 * MAX_QUOTED).collect::<String>();
    let number = complaint.contains("invalid type: integer") || complaint.contains("invalid type: floating");
    let hint = if complaint.contains("expected a string") && (number || complaint.contains("invalid type: boolean")) {
        "put it in quotes"
    } else if complaint.contains("invalid type: string") && complaint.contains("expected a sequence") {
        "write a list: `[...]`, or lines that begin with `- `"
    } else if complaint.contains("invalid type: string") && complaint.contains("expected u") {
        "write a plain number, without quotes"
    } else {
        ""
    };
    (path.to_string(), message, hint.to_string())
}
