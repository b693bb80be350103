//! Pure crates: no sockets, files, processes, threads, clock or randomness, neither themselves nor through others.

use crate::tokens::{Token, split, without_tests};

/// The pure crates.
pub(crate) const CRATES: [&str; 10] = [
    "bulkhead-topology",
    "bulkhead-policy",
    "bulkhead-pipeline",
    "bulkhead-compile",
    "bulkhead-reconcile",
    "bulkhead-dataplane",
    "bulkhead-openflow",
    "bulkhead-types",
    "bulkhead-convert",
    "bulkhead-access",
];

/// Crates from elsewhere that a pure crate may use, directly or not: none of them does I/O or looks at a clock. A crate
/// that is missing here may be as harmless; whoever adds it has looked.
const HARMLESS: &[&str] = &[
    "arraydeque",
    "bytes",
    "equivalent",
    "hashbrown",
    "indexmap",
    "itoa",
    "memchr",
    "proc-macro2",
    "quote",
    "saphyr-parser",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "serde_path_to_error",
    "siphasher",
    "smallvec",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "utoipa",
    "utoipa-gen",
    "zmij",
];

/// Modules of `std` that do I/O or depend on the machine.
const MODULES: [&str; 5] = ["fs", "process", "thread", "env", "os"];

/// Types of `std` that do, wherever their module is named.
const TYPES: [&str; 7] =
    ["Instant", "SystemTime", "TcpStream", "TcpListener", "UdpSocket", "RandomState", "ToSocketAddrs"];

/// Findings about everything that a pure crate is built with.
pub(crate) fn dependencies(package: &str, needed: &[String]) -> Vec<String> {
    let fine = |name: &str| HARMLESS.contains(&name) || CRATES.contains(&name);
    let mut bad: Vec<_> = needed.iter().filter(|name| !fine(name)).collect();
    bad.sort();
    bad.dedup();
    bad.into_iter().map(|name| format!("{package}: is pure and may not need {name} (xtask/src/pure.rs)")).collect()
}

/// Findings about one source file of a pure crate. Test code may do as it likes.
pub(crate) fn source(file: &str, text: &str) -> Vec<String> {
    if file.ends_with("/tests.rs") || file.contains("/tests/") {
        return Vec::new();
    }
    let tokens = without_tests(&split(text));
    let word = |at: usize| match tokens.get(at) {
        Some((Token::Word(word), _)) => Some(word.as_str()),
        _ => None,
    };
    let sign = |at: usize| match tokens.get(at) {
        Some((Token::Sign(sign), _)) => Some(*sign),
        _ => None,
    };
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let Some(this) = word(at) else { continue };
        if TYPES.contains(&this) {
            found.push((at, this));
        }
        if this != "std" || sign(at + 1) != Some(':') || sign(at + 2) != Some(':') {
            continue;
        }
        found.extend(word(at + 3).filter(|module| MODULES.contains(module)).map(|module| (at + 3, module)));
        if sign(at + 3) == Some('{') {
            // `use std::{...}`: the names right inside the braces are modules of std.
            let mut depth = 0_usize;
            for inner in at + 3..tokens.len() {
                match sign(inner) {
                    Some('{') => depth += 1,
                    Some('}') => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                let begins = matches!(sign(inner - 1), Some('{' | ','));
                let module = word(inner).filter(|module| depth == 1 && begins && MODULES.contains(module));
                found.extend(module.map(|module| (inner, module)));
            }
        }
    }
    let line = |at: usize| tokens.get(at).map_or(0, |(_, line)| *line);
    found.into_iter().map(|(at, what)| format!("{file}:{}: a pure crate may not use std's {what}", line(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_does_io_is_found_once() {
        let needed = ["bulkhead-policy", "serde", "tokio", "mio", "tokio", "bulkhead-topology"].map(str::to_owned);
        let found = dependencies("bulkhead-policy", &needed);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("mio") && found[1].contains("tokio"));
    }

    #[test]
    fn a_crate_of_ours_that_is_not_pure_is_found() {
        assert_eq!(dependencies("bulkhead-compile", &["bulkhead-store".to_owned()]).len(), 1);
    }

    #[test]
    fn io_is_found_however_it_is_named() {
        for bad in [
            "fn f() { std::fs::read(\"x\"); }",
            "use std::{collections::BTreeMap, thread};",
            "use std::{io, fs::File};",
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "use std::net::{IpAddr, TcpStream};",
        ] {
            assert_eq!(source("a/src/b.rs", bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn names_that_only_look_like_it_are_fine() {
        for good in [
            "// std::fs\nuse std::{fmt, net::IpAddr, time::Duration};",
            "use crate::{fs, process}; mod thread {}",
            "use std::{collections::{BTreeMap, BTreeSet}, fmt}; const A: &str = \"std::fs\";",
            "#[cfg(test)]\nmod tests { use std::fs; use std::time::Instant; }",
        ] {
            assert_eq!(source("a/src/b.rs", good), Vec::<String>::new(), "{good}");
        }
        assert_eq!(source("a/src/b/tests.rs", "use std::fs;"), Vec::<String>::new());
    }

    #[test]
    fn a_finding_says_where() {
        assert!(source("a/src/b.rs", "\n\nuse std::fs;")[0].starts_with("a/src/b.rs:3:"));
    }
}
