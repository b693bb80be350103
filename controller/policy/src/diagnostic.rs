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

/// Most warnings of one answer: more are counted, not listed. Nobody reads on, and a change of a whole fabric may have
/// one for every resource.
pub const MAX_WARNINGS: usize = 50;

/// Sorts findings, and keeps all errors and the first warnings; a last warning counts those that are left out.
pub fn limit_warnings(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort();
    found.dedup();
    let errors = found.iter().filter(|finding| finding.severity == Severity::Error).count();
    let more = found.len() - errors.min(found.len());
    if more > MAX_WARNINGS
        && let Some(first) = found.get(errors + MAX_WARNINGS).map(|finding| finding.key.clone())
    {
        found.truncate(errors + MAX_WARNINGS);
        let message = format!("and {} more warnings, from this resource on", more - MAX_WARNINGS);
        found.push(Diagnostic::warning(first, "", message, ""));
    }
    found
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::state::Kind;

    #[test]
    fn warnings_are_listed_up_to_a_limit_and_errors_all() {
        let key = |i: usize| Kind::Policy.named(&format!("p{i:03}").parse().unwrap());
        let warnings =
            |count| (0..count).map(|i| Diagnostic::warning(key(i), "spec", "odd", "")).rev().collect::<Vec<_>>();
        assert_eq!(limit_warnings(warnings(MAX_WARNINGS)).len(), MAX_WARNINGS);
        let mut many = warnings(MAX_WARNINGS + 7);
        many.extend((0..60).map(|i| Diagnostic::error(key(i), "spec", "wrong", "")));
        let kept = limit_warnings(many);
        assert_eq!(kept.len(), 60 + MAX_WARNINGS + 1);
        let last = kept.last().unwrap();
        assert_eq!(
            (last.key.clone(), last.message.as_str()),
            (key(MAX_WARNINGS), "and 7 more warnings, from this resource on")
        );
    }
}
