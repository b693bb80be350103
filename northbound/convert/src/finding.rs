//! What is found out on the way, with its place.

use crate::File;
use bulkhead_types::{
    Diagnostic, Severity,
    node::{Mark, Node, read_foreign},
};

/// Most findings of one conversion that are told; more are counted.
pub const MAX_FINDINGS: usize = 200;
/// Longest piece of somebody's text that a message repeats, in characters.
const MAX_QUOTED: usize = 64;

/// Longest path that is told, in characters: no field that is known is deeper, and a label's key may be as long as the input.
const MAX_PATH: usize = 512;

/// `text`, cut to a length that a message can repeat.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// Where something is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The file.
    pub file: &'a str,
    /// The object as `Kind/namespace/name`.
    pub object: &'a str,
    /// The field.
    pub path: &'a str,
    /// Its line and column.
    pub mark: Mark,
}

/// Findings, up to a number of them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    told: Vec<Diagnostic>,
    more: usize,
    wrong: bool,
}

impl Findings {
    /// Something that cannot be left out: nothing is converted.
    pub fn refuse(&mut self, place: Place<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.wrong = true;
        self.add(Severity::Error, place, message.into(), hint.into());
    }

    /// Something that is not said in the result, which is the narrower for it; or that one should know.
    pub fn warn(&mut self, place: Place<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, place, message.into(), hint.into());
    }

    /// The documents of each file, by its name; files that cannot be read are refused.
    pub fn read<'a>(&mut self, files: &[File<'a>]) -> Vec<(&'a str, Vec<Node>)> {
        let mut documents = Vec::new();
        for file in files {
            match read_foreign(file.content) {
                Ok(nodes) => documents.push((file.name, nodes)),
                Err(refused) => {
                    let place = Place { file: file.name, object: "", path: "", mark: refused.mark };
                    self.refuse(place, refused.message, refused.hint);
                }
            }
        }
        documents
    }

    /// Whether something was refused.
    pub fn wrong(&self) -> bool {
        self.wrong
    }

    fn add(&mut self, severity: Severity, place: Place<'_>, message: String, hint: String) {
        // The first refusal is always told: it is why there is no result.
        let first = severity == Severity::Error && self.told.iter().all(|told| told.severity != Severity::Error);
        if self.told.len() >= MAX_FINDINGS && !first {
            self.more += 1;
            return;
        }
        let some = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        let placed = place.mark.line != 0;
        self.told.push(Diagnostic {
            severity,
            file: some(place.file),
            line: placed.then_some(place.mark.line),
            column: placed.then_some(place.mark.column),
            resource: some(place.object),
            path: place.path.chars().take(MAX_PATH).collect(),
            message,
            hint,
        });
    }

    /// All that is told.
    pub fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        if self.more > 0 {
            self.told.push(Diagnostic {
                severity: if self.wrong { Severity::Error } else { Severity::Warning },
                file: None,
                line: None,
                column: None,
                resource: None,
                path: String::new(),
                message: format!("and {} more findings", self.more),
                hint: "convert fewer documents at once to see them".into(),
            });
        }
        self.told
    }
}
