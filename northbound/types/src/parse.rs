//! From text to checked resources, with a place for everything that is wrong.

use crate::{
    answer::{Diagnostic, Severity},
    canonical::canonical,
    convert::{convert, named},
    json,
    limits::{Dialect, MAX_DIAGNOSTICS, MAX_INPUT, ReadError},
    node::{Data, Mark, Node},
    parts::{self, Last, Part, Written},
    suggest,
    v1::{KINDS, Named, Object, kind_from, kind_name},
    yaml,
};
use bulkhead_policy::{Change, Key, Kind, Profiles, Resource, State, limit_warnings, remarks};
use bulkhead_topology::{Hands, alone};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, sync::Arc};

/// One resource as an operator wrote it; what it means is a [`Resource`], or nothing (`()`) where documents
/// only name what is to be removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<R = Resource> {
    /// The file it was read from.
    pub file: Option<Arc<str>>,
    /// Kind and name.
    pub key: Key,
    /// What it means, defaults applied.
    pub resource: R,
    /// `metadata.resourceVersion`, if it has one.
    pub expected: Option<u64>,
    written: Written,
}

impl<R> Document<R> {
    /// Where `path` is in the input.
    pub fn locate(&self, path: &str) -> Mark {
        self.place(path, &mut Last::default())
    }

    fn place(&self, path: &str, last: &mut Last) -> Mark {
        self.written.node(last).locate(path)
    }

    /// The document as it was written, without comments.
    pub fn to_value(&self) -> serde_json::Value {
        self.written.node(&mut Last::default()).to_value()
    }
}

/// What an input holds: its good documents, and what is wrong with the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<R = Resource> {
    /// The documents without an error, in the order written.
    pub documents: Vec<Document<R>>,
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

impl<R> Default for Parsed<R> {
    fn default() -> Self {
        Self { documents: Vec::new(), diagnostics: Vec::new() }
    }
}

impl Parsed {
    /// The documents as changes.
    pub fn changes(&self) -> Vec<Change> {
        let change = |d: &Document| Change { key: d.key.clone(), value: Some(d.resource.clone()) };
        self.documents.iter().map(change).collect()
    }
}

impl<R> Parsed<R> {
    /// Whether anything refuses the input.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// Appends what another input holds; [`Self::check_unique`] tells what is in both.
    pub fn extend(&mut self, other: Self) {
        self.documents.extend(other.documents);
        self.diagnostics.extend(other.diagnostics);
    }

    /// Refuses resources that are there twice.
    pub fn check_unique(&mut self) {
        let mut keys: Vec<&Key> = self.documents.iter().map(|document| &document.key).collect();
        // Most inputs are in some order already, which a stable sort makes use of.
        keys.sort();
        if keys.is_sorted_by(|one, next| one < next) {
            return;
        }
        let mut seen: BTreeMap<&Key, &Document<R>> = BTreeMap::new();
        let (mut there, mut here) = (Last::default(), Last::default());
        for document in &self.documents {
            let Some(earlier) = seen.insert(&document.key, document) else { continue };
            let mark = earlier.place("metadata.name", &mut there);
            let file = earlier.file.as_deref().map(|f| format!("{f}, ")).unwrap_or_default();
            let finding = Diagnostic {
                resource: Some(document.key.to_string()),
                ..error(
                    "metadata.name",
                    format!("{} is there twice in one change", document.key),
                    format!("it is already at {file}line {}; keep one", mark.line),
                )
            };
            self.diagnostics.push(place(document, finding, &mut here));
        }
    }

    /// Gives findings that name a resource the place of their field in its document.
    pub fn locate(&self, findings: impl IntoIterator<Item = Diagnostic>) -> Vec<Diagnostic> {
        let mut findings: Vec<Diagnostic> = findings.into_iter().collect();
        if findings.is_empty() {
            return findings;
        }
        let by_key: BTreeMap<String, usize> =
            self.documents.iter().zip(0..).map(|(document, at)| (document.key.to_string(), at)).collect();
        let at = |finding: &Diagnostic| finding.resource.as_ref().and_then(|resource| by_key.get(resource)).copied();
        // One document after another, as they are in the parts of a large input.
        findings.sort_by_cached_key(at);
        let mut last = Last::default();
        let locate = |finding: Diagnostic| match at(&finding).and_then(|at| self.documents.get(at)) {
            Some(document) => place(document, finding, &mut last),
            None => finding,
        };
        let mut findings: Vec<Diagnostic> = findings.into_iter().map(locate).collect();
        // In the order of reading; what has no place comes first.
        findings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        findings
    }
}

fn place<R>(document: &Document<R>, finding: Diagnostic, last: &mut Last) -> Diagnostic {
    let mark = document.place(&finding.path, last);
    at(mark, Diagnostic { file: document.file.as_deref().map(Into::into), ..finding })
}

fn at(mark: Mark, finding: Diagnostic) -> Diagnostic {
    Diagnostic { line: Some(mark.line), column: Some(mark.column), ..finding }
}

/// An error at `path`, without a place yet.
pub(crate) fn error(path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        file: None,
        line: None,
        column: None,
        resource: None,
        path: path.into(),
        message: message.into(),
        hint: hint.into(),
    }
}

impl From<bulkhead_policy::Diagnostic> for Diagnostic {
    fn from(found: bulkhead_policy::Diagnostic) -> Self {
        let severity = match found.severity {
            bulkhead_policy::Severity::Error => Severity::Error,
            bulkhead_policy::Severity::Warning => Severity::Warning,
        };
        Self { severity, resource: Some(found.key.to_string()), ..error(found.path, found.message, found.hint) }
    }
}

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON, and nothing else.
    Json,
    /// YAML, or JSON.
    Any,
}

/// Reads an input: a stream of documents, or lists of them, in YAML or JSON.
pub fn read(file: Option<&str>, input: &[u8], format: Format) -> Parsed {
    read_with(file, input, format, alone, meaning)
}

/// Reads an input that says what is to be removed: the same documents, of which only kind, name and version
/// are looked at.
pub fn read_removals(file: Option<&str>, input: &[u8], format: Format, hands: Hands) -> Parsed<()> {
    read_with(file, input, format, hands, removal)
}

/// A resource in both of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What it means.
    pub resource: Resource,
    /// What is stored of it: [`canonical`].
    pub document: Arc<str>,
}

/// The same as [`read`] for who stores what it gives. `hands` read a large input.
pub fn read_to_store(file: Option<&str>, input: &[u8], format: Format, hands: Hands) -> Parsed<Stored> {
    read_with(file, input, format, hands, |node| {
        meaning(node).map(|found| found.map(|resource| Stored { document: canonical(&resource).into(), resource }))
    })
}

/// The same for who sends the documents on: of each there is its text, as compact JSON.
pub fn read_to_send(file: Option<&str>, input: &[u8], format: Format, hands: Hands) -> Parsed<String> {
    read_with(file, input, format, hands, |node| meaning(node).map(|found| found.sent(node)))
}

/// The same of what is to be removed.
pub fn read_removals_to_send(file: Option<&str>, input: &[u8], format: Format, hands: Hands) -> Parsed<String> {
    read_with(file, input, format, hands, |node| removal(node).map(|found| found.sent(node)))
}

pub(crate) fn read_with<R: Send>(
    file: Option<&str>,
    input: &[u8],
    format: Format,
    hands: Hands,
    one: One<R>,
) -> Parsed<R> {
    let file: Option<Arc<str>> = file.map(Into::into);
    in_parts(&file, input, format, (hands, parts::SIZE), one).unwrap_or_else(|| as_a_whole(&file, input, format, one))
}

pub(crate) fn as_a_whole<R>(file: &Option<Arc<str>>, input: &[u8], format: Format, one: One<R>) -> Parsed<R> {
    let mut parsed = Parsed::default();
    match read_own(input, format) {
        Err(refused) => parsed.diagnostics.push(at(refused.mark, error("", refused.message, refused.hint))),
        Ok(nodes) => {
            for node in nodes {
                match node.data {
                    Data::List(items) => {
                        items.into_iter().for_each(|item| document(file, item, None, one, &mut parsed))
                    }
                    _ => document(file, node, None, one, &mut parsed),
                }
                let found = parsed.diagnostics.len();
                if found > MAX_DIAGNOSTICS {
                    parsed.diagnostics.truncate(MAX_DIAGNOSTICS);
                    parsed.diagnostics.push(error("", "more findings are left out", "mend these first"));
                    break;
                }
            }
        }
    }
    for finding in &mut parsed.diagnostics {
        finding.file = file.as_deref().map(Into::into);
    }
    parsed.check_unique();
    parsed
}

/// A large input that nothing is wrong with, read in parts of about `size` bytes.
pub(crate) fn in_parts<R: Send>(
    file: &Option<Arc<str>>,
    input: &[u8],
    format: Format,
    (hands, size): (Hands, usize),
    one: One<R>,
) -> Option<Parsed<R>> {
    let text = std::str::from_utf8(input).ok().filter(|text| text.len() <= MAX_INPUT)?;
    let read = parts::each(&parts::parts(text, format, size)?, hands, |part, budget| {
        let mut parsed = Parsed::default();
        for (node, at) in part.read(budget).ok()?.into_iter().zip(0..) {
            document(file, node, Some((part, at)), one, &mut parsed);
        }
        (!parsed.has_errors()).then_some(parsed)
    })?;
    let mut parsed = Parsed::default();
    read.into_iter().for_each(|part| parsed.extend(part));
    for finding in &mut parsed.diagnostics {
        finding.file = file.as_deref().map(Into::into);
    }
    parsed.check_unique();
    (!parsed.has_errors() && parsed.diagnostics.len() <= MAX_DIAGNOSTICS).then_some(parsed)
}

fn read_own(input: &[u8], format: Format) -> Result<Vec<Node>, ReadError> {
    if input.len() > MAX_INPUT {
        let message = format!("the input has {} bytes; at most {MAX_INPUT} are read", input.len());
        return Err(ReadError::new(Mark { line: 1, column: 1 }, message, "apply it in several parts"));
    }
    read_nodes(input, format, Dialect::Own)
}

/// The values of a stream.
pub(crate) fn read_nodes(input: &[u8], format: Format, dialect: Dialect) -> Result<Vec<Node>, ReadError> {
    let text = std::str::from_utf8(input).map_err(|bad| {
        let good = input.get(..bad.valid_up_to()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        let line = good.matches('\n').count() + 1;
        let column = good.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mark = Mark { line: number(line), column: number(column) };
        ReadError::new(mark, "not UTF-8", "save the file as UTF-8")
    })?;
    let first = text.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}']);
    if format == Format::Json {
        return json::read(text, dialect);
    }
    if !first.starts_with(['{', '[']) {
        return yaml::read(text, dialect);
    }
    // YAML's flow style begins the same way, so both may have a look; what begins with a quoted key is
    // meant as JSON, and JSON's error is the better one.
    let as_json = json::read(text, dialect);
    if as_json.is_ok() || first.trim_start_matches(['{', '[', ' ', '\t', '\r', '\n']).starts_with('"') {
        return as_json;
    }
    yaml::read(text, dialect)
}

/// A document that was understood.
pub(crate) struct Understood<R> {
    /// How findings call it.
    called: String,
    /// What it says, if nothing refuses it.
    value: Option<(Key, R)>,
    expected: Option<u64>,
    /// What there is to say about its fields.
    findings: Vec<Diagnostic>,
}

impl<R> Understood<R> {
    fn map<S>(self, other: impl FnOnce(R) -> S) -> Understood<S> {
        let value = self.value.map(|(key, value)| (key, other(value)));
        Understood { called: self.called, value, expected: self.expected, findings: self.findings }
    }

    /// With the document's text.
    fn sent(self, node: &Node) -> Understood<String> {
        // A document's keys are texts; it cannot fail to serialize.
        self.map(|_| serde_json::to_string(node).unwrap_or_default())
    }
}

/// How one document is read.
pub(crate) type One<R> = fn(&Node) -> Result<Understood<R>, Box<Diagnostic>>;

fn called(kind: Kind, name: &str) -> String {
    format!("{}/{}", kind_name(kind), suggest::short(name))
}

/// As a resource that users write.
pub(crate) fn meaning(node: &Node) -> Result<Understood<Resource>, Box<Diagnostic>> {
    let mut understood = understood(typed(node)?)?;
    if let Some((_, Resource::Workload(workload))) = &understood.value
        && workload.is_learned()
    {
        let (message, hint) = ("this label says that Bulkhead learned the workload", "leave it out");
        understood.findings.push(error("metadata.labels", message, hint));
        understood.value = None;
    }
    Ok(understood)
}

/// As a resource that may be in the store.
pub(crate) fn stored(node: &Node) -> Result<Understood<Resource>, Box<Diagnostic>> {
    match node.field("kind").and_then(Node::text) {
        Some(kind) if kind == kind_name(Kind::Host) => understood(Object::Host(shape(node)?)),
        Some(kind) if kind == kind_name(Kind::Adjacency) => understood(Object::Adjacency(shape(node)?)),
        _ => understood(typed(node)?),
    }
}

fn understood(object: Object) -> Result<Understood<Resource>, Box<Diagnostic>> {
    let (value, findings) = convert(&object);
    Ok(Understood {
        called: called(object.kind(), &object.metadata().name),
        value: value.map(|resource| (key_of(&resource), resource)),
        expected: object.metadata().resource_version,
        findings,
    })
}

/// As the name of what is to be removed.
fn removal(node: &Node) -> Result<Understood<()>, Box<Diagnostic>> {
    let kind = kind_of(node)?;
    let document: Named = shape(node)?;
    let (name, findings) = named(&document);
    Ok(Understood {
        called: called(kind, &document.metadata.name),
        value: name.map(|name| (Key { kind, name }, ())),
        expected: document.metadata.resource_version,
        findings,
    })
}

/// Reads one document and files it, or what is wrong with it. `part` is where it can be read again.
fn document<R>(
    file: &Option<Arc<str>>,
    node: Node,
    part: Option<(&Arc<Part>, usize)>,
    one: One<R>,
    parsed: &mut Parsed<R>,
) {
    let Understood { called, value, expected, findings } = match one(&node) {
        Ok(understood) => understood,
        Err(finding) => return parsed.diagnostics.push(*finding),
    };
    for finding in findings {
        let mark = node.locate(&finding.path);
        parsed.diagnostics.push(at(mark, Diagnostic { resource: Some(called.clone()), ..finding }));
    }
    if let Some((key, resource)) = value {
        let written = part.map_or(Written::Here(node), |(part, at)| Written::In(part.clone(), at));
        parsed.documents.push(Document { file: file.clone(), key, resource, expected, written });
    }
}

/// A resource's kind and name.
pub fn key_of(resource: &Resource) -> Key {
    let (kind, name) = match resource {
        Resource::Network(r) => (Kind::Network, &r.name),
        Resource::Switch(r) => (Kind::Switch, &r.name),
        Resource::AddressSet(r) => (Kind::AddressSet, &r.name),
        Resource::Workload(r) => (Kind::Workload, &r.name),
        Resource::Zone(r) => (Kind::Zone, &r.name),
        Resource::Policy(r) => (Kind::Policy, &r.name),
        Resource::Link(r) => (Kind::Link, &r.name),
        Resource::Host(r) => (Kind::Host, &r.name),
        Resource::Adjacency(r) => (Kind::Adjacency, &r.name),
    };
    Key { kind, name: name.clone() }
}

/// The kind that a document says it is of.
fn kind_of(node: &Node) -> Result<Kind, Box<Diagnostic>> {
    let refuse =
        |path: &str, message: String, hint: String| Box::new(at(node.locate(path), error(path, message, hint)));
    let kinds = || KINDS.map(kind_name).join(", ");
    if !matches!(node.data, Data::Fields(_)) {
        return Err(refuse("", "a document is a map with `kind`, `metadata` and `spec`".into(), String::new()));
    }
    let Some(kind) = node.field("kind") else {
        return Err(refuse("", "`kind` is missing".into(), format!("one of {}", kinds())));
    };
    let text = kind.text().unwrap_or_default();
    kind_from(text).filter(|k| kind_name(*k) == text).ok_or_else(|| {
        let hint = match suggest::nearest(text, KINDS.map(kind_name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of {}", kinds()),
        };
        refuse("kind", format!("there is no kind `{}`", suggest::short(text)), hint)
    })
}

/// The document in the shape of its kind.
fn typed(node: &Node) -> Result<Object, Box<Diagnostic>> {
    match kind_of(node)? {
        Kind::Network => shape(node).map(Object::Network),
        Kind::Switch => shape(node).map(Object::Switch),
        Kind::AddressSet => shape(node).map(Object::AddressSet),
        Kind::Workload => shape(node).map(Object::Workload),
        Kind::Zone => shape(node).map(Object::Zone),
        Kind::Policy => shape(node).map(Object::Policy),
        Kind::Link => shape(node).map(Object::Link),
        Kind::Host => shape(node).map(Object::Host),
        Kind::Adjacency => shape(node).map(Object::Adjacency),
    }
}

fn shape<T: DeserializeOwned>(node: &Node) -> Result<T, Box<Diagnostic>> {
    // Tracking the path costs more than reading; it is done only once something is known to be wrong.
    T::deserialize(node).or_else(|_| {
        let value = node.to_value();
        serde_path_to_error::deserialize(&value).map_err(|found| {
            let path = found.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let (path, message, hint) = suggest::explain(&path, &found.inner().to_string());
            // An unknown or missing field is pointed at by the key that is there, not by the value.
            let (parent, key) = path.rsplit_once('.').unwrap_or(("", &path));
            let mark = if message.starts_with("unknown field") { key_mark(node, parent, key) } else { None };
            let resource = node.field("metadata").and_then(|m| m.field("name")).and_then(Node::text).map(|name| {
                format!("{}/{}", node.field("kind").and_then(Node::text).unwrap_or_default(), suggest::short(name))
            });
            Box::new(at(
                mark.unwrap_or_else(|| node.locate(&path)),
                Diagnostic { resource, ..error(path, message, hint) },
            ))
        })
    })
}

/// Where the key `key` of the map at `path` is written.
fn key_mark(node: &Node, path: &str, key: &str) -> Option<Mark> {
    let mut node = node;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        let (name, indexes) = part.split_once('[').map_or((part, ""), |(name, rest)| (name, rest));
        if !name.is_empty() {
            node = node.field(name)?;
        }
        for index in indexes.split(['[', ']']).filter(|i| !i.is_empty()) {
            let Data::List(items) = &node.data else { return None };
            node = items.get(index.parse::<usize>().ok()?)?;
        }
    }
    node.key_mark(key)
}

/// Everything that is wrong with `files` taken together as the first change to an empty fabric.
/// Each file is a name and its content.
pub fn validate<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<Diagnostic> {
    let mut parsed = Parsed::default();
    for (name, content) in files {
        parsed.extend(read(Some(name), content, Format::Any));
    }
    if !parsed.has_errors() {
        parsed.check_unique();
    }
    if !parsed.has_errors() {
        let (mut state, changes) = (State::default(), parsed.changes());
        let mut found = state.check(&changes);
        let wrong = found.iter().any(|finding| finding.severity == bulkhead_policy::Severity::Error);
        // Files without a workload are a part of a fabric: who is there is for the controller to say.
        if !wrong && parsed.documents.iter().any(|document| document.key.kind == Kind::Workload) {
            state.apply(&changes);
            found.extend(remarks(&state, &changes, &Profiles::of(&state)));
        }
        let found = parsed.locate(limit_warnings(found).into_iter().map(Diagnostic::from));
        parsed.diagnostics.extend(found);
    }
    let mut found = parsed.diagnostics;
    found.truncate(MAX_DIAGNOSTICS);
    found
}
