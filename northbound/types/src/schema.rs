//! What the fields of documents are: read off their declarations in `v1.rs`, whose comments are the reference.

use crate::v1::kind_name;
use bulkhead_policy::Kind;
use serde::Serialize;

/// The declarations.
const SOURCE: &str = include_str!("v1.rs");

/// One field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDoc {
    /// Its name in documents.
    pub name: String,
    /// What is written there: `text`, `list of Peer`, ...
    pub form: String,
    /// Whether it has to be there.
    pub needed: bool,
    /// What it is.
    pub about: String,
}

/// A field, or a whole document, and the fields in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The kind.
    pub kind: String,
    /// The field, from the document's root; empty for the document.
    pub path: String,
    /// What is written there.
    pub form: String,
    /// What it is.
    pub about: String,
    /// The fields in it; none if it has none.
    pub fields: Vec<FieldDoc>,
}

/// A field as it is declared.
struct Declared {
    doc: FieldDoc,
    /// The structure that it holds, or that is in its list.
    holds: String,
}

/// What `path` of documents of a kind is. The fields of `spec` may be named without it.
///
/// # Errors
///
/// The part of the path that is not known, and the fields that are.
pub fn explain(kind: Kind, path: &[&str]) -> Result<Explained, (String, Vec<String>)> {
    let spec = format!("{}Spec", kind_name(kind));
    let mut at = fields("Envelope", &spec);
    let inside = path.first().is_some_and(|first| at.iter().all(|field| field.doc.name != *first));
    let steps: Vec<&str> = inside.then_some("spec").into_iter().chain(path.iter().copied()).collect();
    let mut explained = Explained {
        kind: kind_name(kind).into(),
        path: steps.join("."),
        form: kind_name(kind).into(),
        about: about(&spec),
        fields: Vec::new(),
    };
    for step in steps {
        let Some(found) = at.iter().find(|field| field.doc.name == step) else {
            return Err((step.into(), at.into_iter().map(|field| field.doc.name).collect()));
        };
        (explained.form, explained.about) = (found.doc.form.clone(), found.doc.about.clone());
        at = fields(&found.holds.clone(), &spec);
    }
    explained.fields = at.into_iter().map(|field| field.doc).collect();
    Ok(explained)
}

/// The comment above a structure.
fn about(structure: &str) -> String {
    let mut said = String::new();
    for line in SOURCE.lines() {
        match line.strip_prefix("///") {
            Some(text) => add(&mut said, text),
            None if line.starts_with("#[") => {}
            None if is_head(line, structure) => return said,
            None => said.clear(),
        }
    }
    String::new()
}

fn is_head(line: &str, structure: &str) -> bool {
    let name = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {"));
    name.is_some_and(|name| name == structure || name.split_once('<').is_some_and(|(name, _)| name == structure))
}

/// Adds a line of a comment, links to types as their names.
fn add(said: &mut String, line: &str) {
    if !said.is_empty() {
        said.push(' ');
    }
    said.push_str(&line.trim().replace("[`", "").replace("`]", ""));
}

/// The fields of a structure; none of what is no structure.
fn fields(structure: &str, spec: &str) -> Vec<Declared> {
    let mut all = Vec::new();
    let (mut said, mut renamed) = (String::new(), None);
    for line in SOURCE.lines().skip_while(|line| !is_head(line, structure)).skip(1).take_while(|line| *line != "}") {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            add(&mut said, text);
        } else if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split_once('"').map(|(name, _)| name.to_string());
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            let kind = kind.trim_end_matches(',');
            let optional = inner(kind, "Option<");
            let kind = optional.unwrap_or(kind);
            let holds = inner(kind, "Vec<").unwrap_or(kind);
            let holds = if holds == "S" { spec } else { holds };
            let form = match kind {
                "S" => spec.into(),
                _ if kind.starts_with("Vec<") => format!("list of {}", form(holds)),
                _ => form(kind).to_string(),
            };
            let name = renamed.take().unwrap_or_else(|| camel(name));
            let about = std::mem::take(&mut said);
            all.push(Declared { doc: FieldDoc { name, form, needed: optional.is_none(), about }, holds: holds.into() });
        }
    }
    all
}

fn inner<'a>(kind: &'a str, around: &str) -> Option<&'a str> {
    kind.strip_prefix(around)?.strip_suffix('>')
}

/// A type in the words of those who write documents.
fn form(kind: &str) -> &str {
    match kind {
        "String" => "text",
        "bool" => "true or false",
        "u16" | "u32" | "u64" => "number",
        "TextOrNumber" => "text or number",
        "BTreeMap<String, String>" => "map of text",
        other => other,
    }
}

/// A field's name as serde has it.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (head, tail) = part.split_at(part.len().min(1));
        whole.push_str(&head.to_ascii_uppercase());
        whole.push_str(tail);
    }
    whole
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::v1::{self, KINDS};
    use serde::de::DeserializeOwned;
    use serde_json::json;

    /// The fields that serde knows, as it lists them when it meets one that it does not know.
    fn known<T: DeserializeOwned>() -> Vec<String> {
        let wrong = T::deserialize(&json!({"no such field": 1})).map(|_| ()).unwrap_err().to_string();
        let (_, list) = wrong.split_once("expected ").unwrap();
        list.split('`').skip(1).step_by(2).map(String::from).collect()
    }

    #[test]
    fn every_field_that_serde_knows_is_explained() {
        let names = |structure: &str| fields(structure, "").into_iter().map(|field| field.doc.name).collect::<Vec<_>>();
        let all = [
            ("NetworkSpec", known::<v1::NetworkSpec>()),
            ("Uplink", known::<v1::Uplink>()),
            ("Attachment", known::<v1::Attachment>()),
            ("WorkloadSpec", known::<v1::WorkloadSpec>()),
            ("Interface", known::<v1::Interface>()),
            ("ZoneSpec", known::<v1::ZoneSpec>()),
            ("Selector", known::<v1::Selector>()),
            ("MatchExpression", known::<v1::MatchExpression>()),
            ("PolicySpec", known::<v1::PolicySpec>()),
            ("Subject", known::<v1::Subject>()),
            ("IngressRule", known::<v1::IngressRule>()),
            ("EgressRule", known::<v1::EgressRule>()),
            ("Peer", known::<v1::Peer>()),
            ("Port", known::<v1::Port>()),
            ("SwitchSpec", known::<v1::SwitchSpec>()),
            ("Underlay", known::<v1::Underlay>()),
            ("Route", known::<v1::Route>()),
            ("Hop", known::<v1::Hop>()),
            ("AddressSetSpec", known::<v1::AddressSetSpec>()),
            ("LinkSpec", known::<v1::LinkSpec>()),
            ("Metadata", known::<v1::Metadata>()),
            ("Envelope", known::<v1::Envelope<v1::LinkSpec>>()),
        ];
        for (structure, known) in all {
            assert_eq!(names(structure), known, "{structure}");
            for field in fields(structure, "x") {
                assert!(!field.doc.about.is_empty() && !field.doc.form.contains('<'), "{structure} {:?}", field.doc);
            }
        }
    }

    #[test]
    fn every_kind_is_explained_and_paths_are_followed() {
        for kind in KINDS {
            let whole = explain(kind, &[]).unwrap();
            assert!(whole.fields.len() == 4 && !whole.about.is_empty(), "{whole:?}");
            assert!(!explain(kind, &["spec"]).unwrap().fields.is_empty());
        }
        let port = explain(Kind::Policy, &["ingress", "ports", "type"]).unwrap();
        assert_eq!((port.path.as_str(), port.form.as_str()), ("spec.ingress.ports.type", "number"));
        assert_eq!(port.about, "ICMP type, 0-255.");
        assert!(port.fields.is_empty());
        let from = explain(Kind::Policy, &["spec", "ingress", "from"]).unwrap();
        assert_eq!(from.form, "list of Peer");
        assert!(from.fields.iter().any(|field| field.name == "addressSet"));
        let (wrong, known) = explain(Kind::Zone, &["selektor"]).unwrap_err();
        assert!(wrong == "selektor" && known.contains(&"selector".into()));
    }
}
