//! explain: what a kind's fields are.

use crate::{Outcome, Usage, args::Output, change::known_kind, print::Out};
use bulkhead_types::{explain as explained, nearest};

/// Widest line of a description.
const WIDTH: usize = 100;

/// `bulkhead explain`
pub fn explain(output: Output, out: &mut Out, what: &str) -> anyhow::Result<Outcome> {
    let mut parts = what.split('.');
    let kind = known_kind(parts.next().unwrap_or_default())?;
    let path: Vec<&str> = parts.collect();
    let found = explained(kind, &path).map_err(|(wrong, known)| {
        let hint = match nearest(&wrong, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "there is nothing in it".into(),
            None => format!("known here: {}", known.join(", ")),
        };
        Usage(format!("there is no field `{wrong}` in `{what}`; {hint}"))
    })?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &found)?;
        return Ok(Outcome::Yes);
    }
    out.line(format!("KIND:   {}", found.kind));
    if !found.path.is_empty() {
        out.line(format!("FIELD:  {} <{}>", found.path, found.form));
    }
    out.line("");
    wrapped(out, 2, &found.about);
    if !found.fields.is_empty() {
        out.line("\nFIELDS:");
    }
    for field in &found.fields {
        let needed = if field.needed { " needed" } else { "" };
        out.line(format!("  {} <{}>{needed}", field.name, field.form));
        wrapped(out, 4, &field.about);
    }
    Ok(Outcome::Yes)
}

fn wrapped(out: &mut Out, indent: usize, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.len() + 1 + word.len() > WIDTH {
            out.line(format!("{:indent$}{line}", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.line(format!("{:indent$}{line}", ""));
}
