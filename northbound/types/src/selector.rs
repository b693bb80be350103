//! Selectors on one line, in kubectl's syntax: `app=shop,tier!=db,env in (prod,test),!legacy`.

use bulkhead_topology::{Operator, ParseError, Requirement, Selector, check_key, check_value};

/// Longest selector text, in bytes; it travels in a URL.
const MAX_TEXT: usize = 4096;

/// Reads a selector from one line. The empty text selects everything, as in kubectl.
pub fn parse_selector(text: &str) -> Result<Selector, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(ParseError::new("selector", text, format!("at most {MAX_TEXT} characters")));
    }
    let mut requirements = Vec::new();
    for part in split(text) {
        requirements.push(requirement(part.trim()).map_err(|why| ParseError::new("selector", part.trim(), why))?);
    }
    Ok(Selector::new(requirements))
}

/// The parts between commas that are not inside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let separator = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    if text.trim().is_empty() { Vec::new() } else { text.split(separator).collect() }
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let make = |key: &str, operator, values: Vec<&str>| {
        let key = key.trim();
        check_key(key).map_err(|e| e.to_string())?;
        for value in &values {
            check_value(value).map_err(|e| e.to_string())?;
        }
        Ok(Requirement::new(key.into(), operator, values.into_iter().map(Into::into)))
    };
    if let Some(list) = part.strip_suffix(')') {
        let (head, values) = list.split_once('(').ok_or("`)` without `(`")?;
        let (key, word) = head.trim().rsplit_once(char::is_whitespace).ok_or("write `key in (a,b)`")?;
        let operator = match word {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return Err("write `key in (a,b)` or `key notin (a,b)`".into()),
        };
        return make(key, operator, values.split(',').map(str::trim).collect());
    }
    if let Some((key, value)) = part.split_once("!=") {
        return make(key, Operator::NotIn, vec![value.trim()]);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return make(key, Operator::In, vec![value.trim()]);
    }
    match part.strip_prefix('!') {
        Some(key) => make(key, Operator::DoesNotExist, vec![]),
        None => make(part, Operator::Exists, vec![]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_syntax_is_read() {
        let shown = |text: &str| parse_selector(text).unwrap().to_string();
        assert_eq!(shown(""), "everything");
        assert_eq!(shown("app=shop, tier==web"), "app=shop,tier=web");
        assert_eq!(shown("env in (prod, test),x notin (a),!old,new,t!=db"), "env in (prod,test),new,!old,t!=db,x!=a");
        for bad in ["=a", "a b", "a in b", "a in (b", ",", "a=b c", "a)", "a=$"] {
            assert!(parse_selector(bad).is_err(), "{bad}");
        }
    }
}
