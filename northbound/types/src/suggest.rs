//! From a reader's complaint to a sentence that helps.

/// Longest piece of the operator's text that a message repeats, in characters.
const MAX_QUOTED: usize = 64;

/// `text`, cut to a length that a message can repeat.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// Edits (insert, remove, replace, swap neighbours) from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let get = |row: &[usize], k: usize| row.get(k).copied().unwrap_or(usize::MAX / 2);
            let mut best = (get(&last, j) + usize::from(x != y)).min(get(&last, j + 1) + 1).min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(get(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

/// The candidate that `text` is probably meant to be: letter case aside, at most a third of it differs.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.is_empty() || text.len() > MAX_QUOTED {
        return None;
    }
    let lower = text.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (distance(&lower, &c.to_lowercase()), c))
        .filter(|(edits, c)| edits * 3 <= c.len().max(text.len()))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, c)| c)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("subnet", ["vni", "subnets", "encap"]), Some("subnets"));
        assert_eq!(nearest("onTihgten", ["onTighten"]), Some("onTighten"));
        assert_eq!(nearest("NETWORK", ["Network", "Zone"]), Some("Network"));
        assert_eq!(nearest("colour", ["vni", "subnets"]), None);
        assert_eq!(distance("abcd", "acbd"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
