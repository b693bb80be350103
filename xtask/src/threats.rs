//! docs/threats.md against the tests that it names.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};

use crate::tokens::{Token, split};

/// The table, from the workspace's root.
pub(crate) const FILE: &str = "docs/threats.md";

/// Numbered tests of a source file (`a36_...`, `r9_...`) that every run of the tests runs: what is no `#[test]`, is
/// ignored or only there under a condition holds nobody to anything.
pub(crate) fn numbered(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut attributes: Vec<Vec<String>> = Vec::new();
    let mut tokens = split(source).into_iter().map(|(token, _)| token).peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Sign('#') if tokens.peek() == Some(&Token::Sign('[')) => attributes.push(attribute(&mut tokens)),
            Token::Word(word) if word == "fn" => {
                if let Some(Token::Word(name)) = tokens.peek()
                    && number(name).is_some()
                    && always_runs(&attributes)
                {
                    tests.insert(name.clone());
                }
                attributes.clear();
            }
            Token::Word(word) if matches!(word.as_str(), "pub" | "async") => {}
            _ => attributes.clear(),
        }
    }
    tests
}

/// The path of the attribute whose `[` comes next: `tokio`, `test` of `#[tokio::test(start_paused = true)]`.
fn attribute(tokens: &mut impl Iterator<Item = Token>) -> Vec<String> {
    let (mut path, mut depth) = (Vec::new(), 0_usize);
    for token in tokens {
        match token {
            Token::Sign('[' | '(') => depth += 1,
            Token::Sign(']' | ')') => depth -= 1,
            Token::Word(word) if depth == 1 => path.push(word),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    path
}

fn always_runs(attributes: &[Vec<String>]) -> bool {
    let conditional =
        |path: &[String]| path.first().is_some_and(|w| matches!(w.as_str(), "ignore" | "cfg" | "cfg_attr"));
    attributes.iter().any(|path| path.last().is_some_and(|word| word == "test"))
        && !attributes.iter().any(|path| conditional(path))
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
                found.push(format!("{place}: there is no test {name} that always runs"));
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
        assert_eq!(check(TABLE, &tests("#[test] fn a1_b() {} fn a_b() {} fn around_1() {}")), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_found() {
        assert_eq!(check(TABLE, &tests("#[test] fn a1_c() {}")).len(), 1);
        assert_eq!(check("| R9 | x | none yet | y |", &BTreeSet::new()).len(), 1);
        assert_eq!(check("| R9 | x | `a1_b` | y |", &tests("#[test] fn a1_b() {}")).len(), 1);
    }

    #[test]
    fn only_what_every_run_runs_is_a_test() {
        for source in [
            "#[test] fn a1_b() {}",
            "#[test]\n#[should_panic(expected = \"x\")]\n/// Words.\nfn a1_b() {}",
            "#[tokio::test(start_paused = true)] async fn a1_b() {}",
            "proptest! { #![proptest_config(c)] #[test] fn a1_b(x in 0..9) {} }",
            "#[ignore] #[test] fn other() {} #[test] pub fn a1_b() {}",
        ] {
            assert_eq!(tests(source), BTreeSet::from(["a1_b".to_owned()]), "{source}");
        }
        for source in [
            "fn a1_b() {}",
            "// #[test]\nfn a1_b() {}",
            "#[test] fn other() {} fn a1_b() {}",
            "#[test] const X: u8 = 1; fn a1_b() {}",
            "#[test] #[ignore] fn a1_b() {}",
            "#[ignore = \"slow\"] #[test] fn a1_b() {}",
            "#[cfg(any())] #[test] fn a1_b() {}",
            "#[cfg_attr(debug_assertions, ignore)] #[test] fn a1_b() {}",
            "#[allow(test)] fn a1_b() {}",
            "\"#[test] fn a1_b() {}\"",
        ] {
            assert_eq!(tests(source), BTreeSet::new(), "{source}");
        }
    }
}
