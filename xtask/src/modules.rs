//! Files that nothing builds: a test outside the module tree never runs, and looks as if it did.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shown;
use crate::tokens::{Placed, Token, split};

/// Every `.rs` file of a package: below its directory, without those of packages inside it and of build directories.
pub(crate) fn files(package: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut dirs = vec![package.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if entry.file_type()?.is_dir() {
                if !hidden && entry.file_name() != "target" && !path.join("Cargo.toml").exists() {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

/// The files that neither are roots nor are reached from one by `mod` or `include!`.
pub(crate) fn unreached(roots: Vec<PathBuf>, files: &BTreeSet<PathBuf>) -> Result<Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<_> = roots.into_iter().map(|root| (root, true)).collect();
    while let Some((file, root)) = waiting.pop() {
        if !file.exists() || !reached.insert(file.clone()) {
            continue;
        }
        let source = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let children = children(&split(&source), &file, root);
        waiting.extend(children.into_iter().map(|child| (child, false)));
    }
    let lost = files.difference(&reached);
    Ok(lost.map(|file| format!("{}: no `mod` and no Cargo target reaches this file", shown(file))).collect())
}

/// Where the files may be that a file's `mod` and `include!` name.
fn children(tokens: &[Placed], file: &Path, root: bool) -> Vec<PathBuf> {
    let beside = file.parent().unwrap_or(Path::new("")).to_owned();
    let own = root || file.file_stem().is_some_and(|stem| stem == "mod");
    let base = if own { beside.clone() } else { file.with_extension("") };
    let mut found = Vec::new();
    // Inline modules that are open here, with the depth of braces that each was opened at.
    let mut open: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut path) = (0_usize, None);
    for (at, (token, _)) in tokens.iter().enumerate() {
        let ahead = |number: usize| tokens.get(at + number).map(|(token, _)| token);
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => {
                depth = depth.saturating_sub(1);
                if open.last().is_some_and(|(_, opened)| *opened == depth) {
                    open.pop();
                }
            }
            Token::Word(word) if word == "path" => {
                if let (Some(Token::Sign('=')), Some(Token::Text(text))) = (ahead(1), ahead(2)) {
                    path = Some(text.clone());
                }
            }
            Token::Word(word) if word == "include" => {
                if let (Some(Token::Sign('!')), Some(Token::Text(text))) = (ahead(1), ahead(3)) {
                    found.push(beside.join(text));
                }
            }
            Token::Word(word) if word == "mod" => match (ahead(1), ahead(2)) {
                (Some(Token::Word(name)), Some(Token::Sign(';'))) => {
                    let dir = open.iter().fold(base.clone(), |dir, (name, _)| dir.join(name));
                    match path.take() {
                        Some(path) => found.push(if open.is_empty() { beside.join(path) } else { dir.join(path) }),
                        None => found.extend([dir.join(format!("{name}.rs")), dir.join(name).join("mod.rs")]),
                    }
                }
                (Some(Token::Word(name)), Some(Token::Sign('{'))) => open.push((name.clone(), depth)),
                _ => {}
            },
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a small package; returns its directory.
    fn package(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn lost(sources: &[(&str, &str)], roots: &[&str]) -> Vec<String> {
        let dir = package(sources);
        let roots = roots.iter().map(|root| dir.path().join(root)).collect();
        let lost = unreached(roots, &files(dir.path()).unwrap()).unwrap();
        let prefix = format!("{}/", dir.path().display());
        lost.iter().map(|line| line.trim_start_matches(&prefix).split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn everything_reached_is_fine() {
        let sources = [
            ("src/lib.rs", "mod a;\npub mod b { mod c; }\n#[path = \"odd.rs\"]\nmod d;\ninclude!(\"e.rs\");"),
            ("src/a.rs", "#[cfg(test)]\nmod tests;"),
            ("src/a/tests.rs", ""),
            ("src/b/c/mod.rs", "mod f;"),
            ("src/b/c/f.rs", ""),
            ("src/odd.rs", ""),
            ("src/e.rs", ""),
            ("tests/one.rs", "mod help;"),
            ("tests/help/mod.rs", ""),
        ];
        assert_eq!(lost(&sources, &["src/lib.rs", "tests/one.rs"]), Vec::<String>::new());
    }

    #[test]
    fn a_lost_file_is_found_even_if_a_comment_names_it() {
        let sources = [("src/lib.rs", "// mod gone;\nconst A: &str = \"mod gone;\";"), ("src/gone.rs", "")];
        assert_eq!(lost(&sources, &["src/lib.rs"]), ["src/gone.rs"]);
    }

    #[test]
    fn a_child_of_a_file_is_not_looked_for_beside_it() {
        let sources = [("src/lib.rs", "mod a;"), ("src/a.rs", "mod b;"), ("src/b.rs", ""), ("src/a/b.rs", "")];
        assert_eq!(lost(&sources, &["src/lib.rs"]), ["src/b.rs"]);
    }

    #[test]
    fn a_package_inside_is_not_this_one() {
        let sources = [("src/lib.rs", ""), ("fuzz/Cargo.toml", ""), ("fuzz/main.rs", "")];
        assert_eq!(lost(&sources, &["src/lib.rs"]), Vec::<String>::new());
    }
}
