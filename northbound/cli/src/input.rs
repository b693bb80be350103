//! Documents from files, folders and standard input.

use crate::print::placeless;
use anyhow::{Context, bail};
use bulkhead_hands::all_cores;
use bulkhead_types::{Diagnostic, Format, Hands, MAX_INPUT, Parsed, Severity};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// What standard input is called in findings.
const STDIN: &str = "<stdin>";

/// Documents and the texts they were read from.
#[derive(Debug)]
pub struct Input {
    /// The documents, as compact JSON.
    pub parsed: Parsed<String>,
    /// The files' texts, for showing lines of them.
    pub sources: BTreeMap<String, String>,
}

impl Input {
    /// What goes to the server: a list.
    pub fn list(&self) -> String {
        let documents = self.parsed.documents.iter().map(|document| document.resource.as_str());
        let mut list = String::with_capacity(documents.clone().map(|text| text.len() + 1).sum::<usize>() + 2);
        list.push('[');
        for (at, document) in documents.enumerate() {
            list.push_str(if at > 0 { "," } else { "" });
            list.push_str(document);
        }
        list.push(']');
        list
    }

    /// Findings of the server, with the place in the operator's own files.
    pub fn locate(&self, found: &[Diagnostic]) -> Vec<Diagnostic> {
        // Lines and columns of the request mean nothing to who wrote the files.
        self.parsed.locate(placeless(found))
    }

    /// Whether anything refuses the documents.
    pub fn has_errors(&self) -> bool {
        self.parsed.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

/// A way to read documents.
pub type Reading = fn(Option<&str>, &[u8], Format, Hands) -> Parsed<String>;

/// A file of so many bytes is read by the server alone: to read it here and there would take twice as long.
const LARGE: usize = 1 << 20;

/// The one file that is for the server alone to read, with its name. (What is too large for it is refused here.)
pub fn large(files: &[(String, Vec<u8>)]) -> Option<(&str, &[u8])> {
    match files {
        [(name, content)] if (LARGE..=MAX_INPUT).contains(&content.len()) => Some((name, content)),
        _ => None,
    }
}

/// Reads what is in files that are at `paths`; what is wrong inside of them is in the result.
pub fn read(paths: &[PathBuf], files: &[(String, Vec<u8>)], reading: Reading) -> anyhow::Result<Input> {
    let mut input = Input { parsed: Parsed::default(), sources: BTreeMap::new() };
    for (name, content) in files {
        input.parsed.extend(reading(Some(name), content, format(name), all_cores));
        input.sources.insert(name.clone(), text(content));
    }
    if !input.has_errors() {
        input.parsed.check_unique();
        // Whoever names a file means that there is something in it.
        if input.parsed.documents.is_empty() {
            bail!("there is no document in {}", shown(paths));
        }
    }
    Ok(input)
}

/// What people call `paths`.
pub fn shown(paths: &[PathBuf]) -> String {
    let names =
        paths.iter().map(|path| if path.as_os_str() == "-" { STDIN.into() } else { path.display().to_string() });
    names.collect::<Vec<_>>().join(", ")
}

/// A file's content for showing lines of it.
pub fn text(content: &[u8]) -> String {
    String::from_utf8_lossy(content).into_owned()
}

/// How a file is written, by its name.
pub fn format(name: &str) -> Format {
    if name.ends_with(".json") { Format::Json } else { Format::Any }
}

/// Every file's name and content, folders opened. Of each at most a little more than `most` bytes.
pub fn contents(paths: &[PathBuf], most: usize) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            files.push((STDIN.into(), limited(std::io::stdin().lock(), STDIN, 0, most)?));
        } else if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
            let mut found = Vec::new();
            for entry in entries {
                let file = entry.with_context(|| format!("cannot list {}", path.display()))?.path();
                let known = file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
                if known && !file.is_dir() {
                    found.push(file);
                }
            }
            found.sort();
            for file in found {
                files.push(open(&file, most)?);
            }
        } else {
            files.push(open(path, most)?);
        }
    }
    if files.is_empty() {
        bail!("no .yaml, .yml or .json file in {}; folders inside of a folder are not looked into", shown(paths));
    }
    Ok(files)
}

fn open(path: &Path, most: usize) -> anyhow::Result<(String, Vec<u8>)> {
    let name = path.display().to_string();
    let file = fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
    // A file without one, like a pipe, says 0.
    let size = file.metadata().map_or(0, |about| about.len());
    let content = limited(file, &name, size, most)?;
    Ok((name, content))
}

/// Reads at most a little more than is allowed, so that the reader can say that it is too much; `size` is what to expect.
fn limited(source: impl Read, name: &str, size: u64, most: usize) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(size.min(most as u64) as usize);
    source.take(most as u64 + 1).read_to_end(&mut content).with_context(|| format!("cannot read {name}"))?;
    Ok(content)
}
