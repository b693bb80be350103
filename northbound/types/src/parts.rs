//! Large inputs in parts: only as many parts of the text as there are hands are values in memory at a time. A part is read
//! again when a place in it is asked for.
//!
//! What is odd about an input makes it one that is read as a whole, which finds out what is wrong and where.

#[cfg(test)]
mod tests;

use crate::{
    json,
    limits::{Budget, Dialect, MAX_DOCUMENTS, MAX_NODES, ReadError},
    node::{Data, Mark, Node},
    parse::Format,
    yaml,
};
use bulkhead_topology::Hands;
use std::{
    borrow::Cow,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// About how many bytes a part has: some milliseconds of reading, so that a place in it is found at once.
pub(crate) const SIZE: usize = 64 << 10;
/// A part that is so many times as large has a document that is no part of many: what it comes to in memory is bounded
/// when all is read as a whole.
const LARGEST: usize = 8;
/// Fewest parts that are worth it.
const FEWEST: usize = 4;

/// How a part is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// YAML documents.
    Yaml,
    /// JSON values one after another.
    Values,
    /// Some items of a JSON list, perhaps its first ones.
    Items { first: bool },
}

/// Some whole documents of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    text: Arc<str>,
    range: Range<usize>,
    begins: Mark,
    shape: Shape,
}

impl Part {
    /// The documents of the part.
    pub fn read(&self, budget: &mut Budget) -> Result<Vec<Node>, ReadError> {
        let text = self.text.get(self.range.clone()).unwrap_or_default();
        let nodes = match self.shape {
            Shape::Yaml => yaml::read_from(text, self.begins.line, budget),
            Shape::Values => json::read_from(text, self.begins, budget),
            Shape::Items { first } => {
                if first {
                    // The list itself.
                    budget.value(self.begins, 1)?;
                    budget.document(self.begins)?;
                }
                return json::items(text, self.begins, budget);
            }
        };
        nodes.map(flat)
    }
}

/// Documents alone: those in lists, too.
fn flat(nodes: Vec<Node>) -> Vec<Node> {
    let mut documents = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node.data {
            Data::List(items) => documents.extend(items),
            _ => documents.push(node),
        }
    }
    documents
}

/// Where a document is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Written {
    /// Here.
    Here(Node),
    /// In a part, the so manieth of it.
    In(Arc<Part>, usize),
}

impl Written {
    /// The document. `last` is the part that was read last, for who asks for one document after another.
    pub fn node<'a>(&'a self, last: &'a mut Last) -> Cow<'a, Node> {
        match self {
            Self::Here(node) => Cow::Borrowed(node),
            Self::In(part, at) => {
                if !last.part.as_ref().is_some_and(|last| Arc::ptr_eq(last, part)) {
                    // It could be read before.
                    last.documents = part.read(&mut Budget::of(Dialect::Own)).unwrap_or_default();
                    last.part = Some(part.clone());
                }
                let lost = || Cow::Owned(Node { mark: part.begins, data: Data::Null });
                last.documents.get(*at).map_or_else(lost, Cow::Borrowed)
            }
        }
    }
}

/// The part that was read last.
#[derive(Default)]
pub(crate) struct Last {
    part: Option<Arc<Part>>,
    documents: Vec<Node>,
}

/// What a text is to be read in, if that is in parts.
pub(crate) fn parts(text: &str, format: Format, size: usize) -> Option<Vec<Arc<Part>>> {
    if text.len() < FEWEST * size {
        return None;
    }
    let json = format == Format::Json || text.trim_start_matches(json::SPACE).starts_with(['{', '[']);
    let cuts = if json { json_cuts(text, size)? } else { yaml_cuts(text, size)? };
    if cuts.len() < FEWEST || cuts.iter().any(|(range, ..)| range.len() > LARGEST * size) {
        return None;
    }
    let text: Arc<str> = text.into();
    let part = |(range, begins, shape)| Arc::new(Part { text: text.clone(), range, begins, shape });
    Some(cuts.into_iter().map(part).collect())
}

type Cut = (Range<usize>, Mark, Shape);

/// YAML is cut at lines that are `---`: no text and no list goes on after one (YAML 1.2 §9.1.2).
fn yaml_cuts(text: &str, size: usize) -> Option<Vec<Cut>> {
    // What comes before these, or after them, is not read as if they were not there.
    if text.contains(['\u{feff}', '\0']) {
        return None;
    }
    let (mut cuts, mut start, mut at) = (Vec::new(), 0, 0);
    let (mut begins, mut line) = (1, 1);
    for content in text.split_inclusive('\n') {
        let bare = content.strip_suffix('\n').unwrap_or(content);
        let bare = bare.strip_suffix('\r').unwrap_or(bare);
        // Directives are about what follows them; a line may end with `\r` alone.
        if bare.starts_with(['%', '.']) || bare.contains('\r') {
            return None;
        }
        if bare == "---" && at - start >= size {
            cuts.push((start..at, Mark { line: begins, column: 1 }, Shape::Yaml));
            (start, begins) = (at, line);
        }
        at += content.len();
        line += 1;
    }
    cuts.push((start..at, Mark { line: begins, column: 1 }, Shape::Yaml));
    Some(cuts)
}

/// JSON is cut between the items of its lists, and between the values that follow one another. Only brackets, quotes and
/// commas are looked at: whether all else makes sense shows when parts are read.
fn json_cuts(text: &str, size: usize) -> Option<Vec<Cut>> {
    let mut cuts: Vec<Cut> = Vec::new();
    let mut mark = Mark { line: 1, column: 1 };
    let (mut depth, mut start, mut begins) = (0_usize, 0, mark);
    let (mut listed, mut first, mut quoted, mut escaped) = (false, true, false, false);
    for (at, byte) in text.bytes().enumerate() {
        let after = match byte {
            b'\n' => Mark { line: mark.line.saturating_add(1), column: 1 },
            // Not the first byte of a character.
            0x80..=0xbf => mark,
            _ => Mark { column: mark.column.saturating_add(1), ..mark },
        };
        if quoted {
            quoted = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            mark = after;
            continue;
        }
        let ends = match byte {
            b'"' => {
                quoted = true;
                None
            }
            b'[' if depth == 0 => {
                (depth, listed) = (1, true);
                Some(Shape::Values)
            }
            b'[' | b'{' => {
                depth += 1;
                None
            }
            b']' if depth == 1 && listed => {
                (depth, listed) = (0, false);
                Some(Shape::Items { first })
            }
            b']' | b'}' => {
                depth = depth.checked_sub(1).filter(|depth| *depth > 0 || !listed)?;
                None
            }
            b',' if depth == 1 && listed && at - start >= size => Some(Shape::Items { first }),
            // What ends with its own last bracket needs nothing after it.
            b' ' | b'\n' if depth == 0 && at - start >= size => Some(Shape::Values),
            _ => None,
        };
        if let Some(shape) = ends {
            cuts.push((start..at, begins, shape));
            // Each short list is two of them.
            if cuts.len() > 4 * (text.len() / size) {
                return None;
            }
            (start, begins, first) = (at + 1, after, shape == Shape::Values);
        }
        mark = after;
    }
    if depth > 0 || quoted {
        return None;
    }
    cuts.push((start..text.len(), begins, Shape::Values));
    Some(cuts)
}

/// Does `work` with every part; `None` once it says so of one of them.
pub(crate) fn each<T: Send>(
    parts: &[Arc<Part>],
    hands: Hands,
    work: impl Fn(&Arc<Part>, &mut Budget) -> Option<T> + Sync,
) -> Option<Vec<T>> {
    let odd = AtomicBool::new(false);
    let one = |part: &Arc<Part>| {
        let mut budget = Budget::of(Dialect::Own);
        let done = if odd.load(Ordering::Relaxed) { None } else { work(part, &mut budget) };
        odd.fetch_or(done.is_none(), Ordering::Relaxed);
        done.map(|done| (done, budget.used()))
    };
    let done: Vec<(T, (usize, usize))> =
        bulkhead_topology::each(hands, parts.iter().collect(), one).into_iter().collect::<Option<_>>()?;
    let values: usize = done.iter().map(|(_, (values, _))| values).sum();
    let documents: usize = done.iter().map(|(_, (_, documents))| documents).sum();
    (values <= MAX_NODES && documents <= MAX_DOCUMENTS).then(|| done.into_iter().map(|(done, _)| done).collect())
}
