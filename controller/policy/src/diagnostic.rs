//! What is wrong with a user's document, said so that it can be mended.

use crate::state::Key;
use std::fmt;

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The change is refused.
    Error,
    /// The change is accepted; something about it is probably not meant.
    Warning,
}

/// One finding about one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Refused, or only remarked on.
    pub severity: Severity,
    /// The resource.
    pub key: Key,
    /// The field, as a path from the document's root: `spec.ingress[0].from[1].zone`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty if there is nothing to add.
    pub hint: String,
}

impl Diagnostic {
    /// A finding that refuses the change.
    pub fn error(key: Key, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Error, key, path: path.into(), message: message.into(), hint: hint.into() }
    }

    /// A remark.
    pub fn warning(key: Key, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, path, message, hint) }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.key, self.path, self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
