//! docs/threats.md against the tests that it names.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};

use crate::tokens::{Token, split};

/// The table, from the workspace's root.
pub(crate) const FILE: &str = "docs/threats.md";

/// Names of functions in a source file that begin like a numbered test: `a36_...`, `r9_...`.
pub(crate) fn numbered(source: &str) -> BTreeSet<String> {
    let tokens = split(source);
    let named = tokens.windows(2).filter_map(|pair| match pair {
        [(Token::Word(word), _), (Token::Word(name), _)] if word == "fn" && number(name).is_some() => {
            Some(name.clone())
        }
        _ => None,
    });
    named.collect()
}

/// `A36` of `a36_...`.
fn number(test: &str) -> Option<String> {
    let (head, _) = test.split_once('_')?;
    let digits = head.strip_prefix(['a', 'r'])?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| head.to_uppercase())
}

/// Findings: rows without a test, and tests that are not there.
pub(crate) fn check(table: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in table.lines().enumerate() {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (Some(row), Some(_), Some(names)) = (cells.next(), cells.next(), cells.next()) else { continue };
        if number(&format!("{}_", row.to_lowercase())).is_none() {
            continue;
        }
        let place = format!("{FILE}:{}: {row}", at + 1);
        let names: Vec<_> = names.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            found.push(format!("{place}: names no test"));
        }
        for name in names {
            if number(name).as_deref() != Some(row) {
                found.push(format!("{place}: {name} does not begin with the row's number"));
            }
            if !tests.contains(name) {
                found.push(format!("{place}: there is no test {name}"));
            }
        }
    }
    found
}

/// Reads the table.
pub(crate) fn read() -> Result<String> {
    std::fs::read_to_string(Path::new(FILE)).context(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| # | input | tests | outcome |\n|---|---|---|---|\n| A1 | x | `a1_b` | y |\n";

    fn tests(source: &str) -> BTreeSet<String> {
        numbered(source)
    }

    #[test]
    fn a_table_and_its_tests_are_fine() {
        assert_eq!(check(TABLE, &tests("fn a1_b() {} fn a_b() {} fn around_1() {} // fn a2_c")), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_found() {
        assert_eq!(check(TABLE, &tests("fn a1_c() {}")).len(), 1);
        assert_eq!(check("| R9 | x | none yet | y |", &BTreeSet::new()).len(), 1);
        assert_eq!(check("| R9 | x | `a1_b` | y |", &tests("fn a1_b() {}")).len(), 1);
    }
}
