//! How much a document stream may hold. A reader that meets a limit says which one and stops.

/// Largest input, in bytes: what one change may carry, and what the server is willing to buffer. A hundred thousand
/// workloads fit.
pub const MAX_INPUT: usize = 24 << 20;
/// Deepest nesting of lists and maps; the deepest field of the API is at 8.
pub const MAX_DEPTH: usize = 32;
/// Most values in one input: bounds memory to a small multiple of [`MAX_INPUT`].
pub const MAX_NODES: usize = 5_000_000;
/// Most documents in one input.
pub const MAX_DOCUMENTS: usize = 200_000;
/// Most findings that are reported at once; nobody reads further.
pub const MAX_DIAGNOSTICS: usize = 100;

/// Largest input that was written for somebody else, in bytes: a cluster's pods with all that their `status` says.
pub const MAX_FOREIGN_INPUT: usize = 32 << 20;
/// Deepest nesting there: pods' affinities and Terraform's modules in modules are deeper than what is ours.
const MAX_FOREIGN_DEPTH: usize = 64;
/// Most values there: 4,000,000 of them take some 500 MB.
const MAX_FOREIGN_NODES: usize = 4_000_000;

use crate::node::Mark;

/// Whose documents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Dialect {
    /// Ours: a field without a value is refused.
    #[default]
    Own,
    /// Somebody else's, where `null` is a value, and what it means is for whoever knows them.
    Foreign,
}

/// Why an input could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// Where.
    pub mark: Mark,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: String,
}

impl ReadError {
    /// An error at `mark`.
    pub fn new(mark: Mark, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { mark, message: message.into(), hint: hint.into() }
    }
}

/// Counts what has been read against the limits.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    pub dialect: Dialect,
    nodes: usize,
    documents: usize,
}

impl Budget {
    /// What documents of a dialect may hold.
    pub fn of(dialect: Dialect) -> Self {
        Self { dialect, ..Self::default() }
    }

    /// How many values and documents there were.
    pub fn used(&self) -> (usize, usize) {
        (self.nodes, self.documents)
    }

    /// One more value, inside `depth` lists and maps.
    pub fn value(&mut self, mark: Mark, depth: usize) -> Result<(), ReadError> {
        let (deepest, most) = match self.dialect {
            Dialect::Own => (MAX_DEPTH, MAX_NODES),
            Dialect::Foreign => (MAX_FOREIGN_DEPTH, MAX_FOREIGN_NODES),
        };
        self.nodes += 1;
        if depth > deepest {
            let message = format!("nested deeper than {deepest} levels");
            return Err(ReadError::new(mark, message, "no resource is that deep"));
        }
        if self.nodes > most {
            let message = format!("more than {most} values");
            return Err(ReadError::new(mark, message, "give it in several parts"));
        }
        Ok(())
    }

    /// One more document.
    pub fn document(&mut self, mark: Mark) -> Result<(), ReadError> {
        self.documents += 1;
        if self.documents > MAX_DOCUMENTS {
            let message = format!("more than {MAX_DOCUMENTS} documents");
            return Err(ReadError::new(mark, message, "apply them in several parts"));
        }
        Ok(())
    }
}

/// Number of keys above which a map's keys are checked for duplicates by sorting instead of by looking.
const FEW_KEYS: usize = 16;

/// Refuses a map that has one key twice.
pub(crate) fn check_duplicates(fields: &[crate::node::Field]) -> Result<(), ReadError> {
    let twice = if fields.len() <= FEW_KEYS {
        fields.iter().enumerate().find_map(|(i, f)| {
            fields.iter().take(i).find(|earlier| earlier.key == f.key).map(|earlier| (earlier.mark, f))
        })
    } else {
        let mut seen = std::collections::BTreeMap::new();
        fields.iter().find_map(|f| seen.insert(f.key.as_str(), f.mark).map(|earlier| (earlier, f)))
    };
    match twice {
        None => Ok(()),
        Some((earlier, field)) => Err(ReadError::new(
            field.mark,
            format!("`{}` is there twice", field.key.chars().take(64).collect::<String>()),
            format!("it is already at line {}, column {}; keep one", earlier.line, earlier.column),
        )),
    }
}
