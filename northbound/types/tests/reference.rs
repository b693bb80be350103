//! `docs/reference.md` is written from the declarations that `bulkhead explain` reads.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_policy::Kind;
use bulkhead_types::{Explained, explain, v1::KINDS};
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

const HEAD: &str = "# Reference of documents

Generated from `northbound/types/src/v1.rs` (`UPDATE_GOLDEN=1 cargo nextest run -p bulkhead-types`). `bulkhead explain KIND.FIELD`
tells the same. Documents are YAML or JSON; several in one file are divided by `---`. A field that is not listed here is an
error. An absent list and an empty one are different things: no `from` is anybody, an empty one is nobody.

";

/// What a list holds, or what is there itself.
fn held(form: &str) -> &str {
    form.strip_prefix("list of ").unwrap_or(form)
}

/// A heading's anchor.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}

struct Reference {
    /// Kinds, with the structure of their `spec`.
    kinds: Vec<(Explained, Explained)>,
    /// Structures that are named in them, each once.
    structures: BTreeMap<String, Explained>,
}

impl Reference {
    fn of_all_kinds() -> Self {
        let mut all = Self { kinds: Vec::new(), structures: BTreeMap::new() };
        for kind in KINDS {
            all.kinds.push((explain(kind, &[]).unwrap(), explain(kind, &["spec"]).unwrap()));
            all.look_into(kind, &["spec"]);
            all.look_into(kind, &["metadata"]);
        }
        let metadata = explain(Kind::Policy, &["metadata"]).unwrap();
        all.structures.insert(metadata.form.clone(), metadata);
        all
    }

    fn look_into(&mut self, kind: Kind, path: &[&str]) {
        for field in explain(kind, path).unwrap().fields {
            let inside: Vec<&str> = path.iter().copied().chain([field.name.as_str()]).collect();
            let found = explain(kind, &inside).unwrap();
            if !found.fields.is_empty() && !self.structures.contains_key(held(&found.form)) {
                self.structures.insert(held(&found.form).into(), found);
                self.look_into(kind, &inside);
            }
        }
    }

    fn table(&self, of: &Explained) -> String {
        let mut table = String::from("| field | what is written | |\n|---|---|---|\n");
        for field in &of.fields {
            let name = held(&field.form);
            let form = match self.structures.contains_key(name) {
                true => field.form.replace(name, &format!("[{name}](#{})", anchor(name))),
                false => field.form.clone(),
            };
            let needed = if field.needed { " (needed)" } else { "" };
            writeln!(table, "| `{}`{needed} | {form} | {} |", field.name, field.about.replace('|', "\\|")).unwrap();
        }
        table
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let names: Vec<String> =
            self.kinds.iter().map(|(kind, _)| format!("[{}](#{})", kind.kind, anchor(&kind.kind))).collect();
        writeln!(text, "Kinds: {}. Every document has `kind`, [`metadata`](#metadata) and `spec`.", names.join(", "))
            .unwrap();
        for (kind, spec) in &self.kinds {
            writeln!(text, "\n## {}\n\n{}\n\n{}", kind.kind, kind.about, self.table(spec).trim_end()).unwrap();
        }
        writeln!(text, "\n# What is in them").unwrap();
        for (name, structure) in &self.structures {
            writeln!(text, "\n## {name}\n\n{}", self.table(structure).trim_end()).unwrap();
        }
        text
    }
}

#[test]
fn the_reference_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let wanted = Reference::of_all_kinds().text();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let have = fs::read_to_string(&path).unwrap_or_default();
    assert!(have == wanted, "docs/reference.md is stale: run UPDATE_GOLDEN=1 cargo nextest run -p bulkhead-types");
}
