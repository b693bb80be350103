//! Labels and label selectors, with Kubernetes' syntax and meaning.

use crate::ParseError;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// A workload's labels. Sorted, so that equal sets are equal bytes.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Most labels that one workload may carry: bounds what an identity's key can cost.
pub const MAX_LABELS: usize = 64;

/// Label keys below this prefix belong to Bulkhead; users may not set them.
pub const RESERVED_PREFIX: &str = "bulkhead.io/";

/// Longest name part of a label key and longest label value, in bytes (as in Kubernetes).
const MAX_PART: usize = 63;
/// Longest DNS prefix of a label key, in bytes (as in Kubernetes).
const MAX_PREFIX: usize = 253;

/// Checks a label key: `[prefix/]name`, as in Kubernetes.
pub fn check_key(key: &str) -> Result<(), ParseError> {
    let error = |why: &str| Err(ParseError::new("label key", key, why));
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            let dns = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
            if prefix.is_empty() || prefix.len() > MAX_PREFIX || !prefix.bytes().all(dns) {
                return error("the part before `/` is a DNS name of at most 253 characters");
            }
            name
        }
    };
    if name.is_empty() || !is_part(name) {
        return error("use 1 to 63 letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit");
    }
    Ok(())
}

/// Checks a label value: empty, or as the name part of a key.
pub fn check_value(value: &str) -> Result<(), ParseError> {
    if value.is_empty() || is_part(value) {
        return Ok(());
    }
    Err(ParseError::new(
        "label value",
        value,
        "use at most 63 letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit",
    ))
}

fn is_part(text: &str) -> bool {
    text.len() <= MAX_PART
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && [text.bytes().next(), text.bytes().next_back()].into_iter().flatten().all(|b| b.is_ascii_alphanumeric())
}

/// How a requirement looks at one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The label is present with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: Arc<str>,
    /// The condition.
    pub operator: Operator,
    /// The values of `In` and `NotIn`; empty otherwise.
    pub values: BTreeSet<Arc<str>>,
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => !value.is_some_and(|v| self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// A conjunction of requirements; the empty selector selects every workload.
///
/// Canonical: requirements are sorted and unique, and `matchLabels: {k: v}` is `k In [v]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// The selector of everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The conjunction of `requirements`, in canonical order.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<_> = requirements.into_iter().collect();
        requirements.sort();
        requirements.dedup();
        Self { requirements }
    }

    /// `key In [value]` for each pair.
    pub fn of<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::new(labels.into_iter().map(|(key, value)| Requirement {
            key: key.into(),
            operator: Operator::In,
            values: BTreeSet::from([value.into()]),
        }))
    }

    /// The requirements, sorted.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether a workload with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requirements.is_empty() {
            return f.write_str("everything");
        }
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let values: Vec<&str> = r.values.iter().map(AsRef::as_ref).collect();
            match (r.operator, values.as_slice()) {
                (Operator::In, [one]) => write!(f, "{}={one}", r.key)?,
                (Operator::In, many) => write!(f, "{} in ({})", r.key, many.join(","))?,
                (Operator::NotIn, [one]) => write!(f, "{}!={one}", r.key)?,
                (Operator::NotIn, many) => write!(f, "{} notin ({})", r.key, many.join(","))?,
                (Operator::Exists, _) => write!(f, "{}", r.key)?,
                (Operator::DoesNotExist, _) => write!(f, "!{}", r.key)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: key.into(), operator, values: values.iter().map(|v| (*v).into()).collect() }
    }

    #[test]
    fn operators_mean_what_kubernetes_says() {
        let web = labels(&[("app", "shop"), ("tier", "web")]);
        let yes = |r: Requirement| assert!(Selector::new([r]).matches(&web));
        let no = |r: Requirement| assert!(!Selector::new([r]).matches(&web));
        yes(requirement("app", Operator::In, &["shop", "pay"]));
        no(requirement("app", Operator::In, &[]));
        no(requirement("env", Operator::In, &["prod"]));
        yes(requirement("env", Operator::NotIn, &["prod"]));
        no(requirement("app", Operator::NotIn, &["shop"]));
        yes(requirement("tier", Operator::Exists, &[]));
        yes(requirement("env", Operator::DoesNotExist, &[]));
        assert!(Selector::everything().matches(&Labels::new()));
    }

    #[test]
    fn keys_and_values_are_checked() {
        for good in ["app", "bulkhead.io/zone", "k8s.io/a.b-c_d", "A1"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a b", "-a", "UP.io/a", &"a".repeat(64), "a/b/c"] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        assert!(check_value("").is_ok() && check_value("v1.2").is_ok() && check_value("a b").is_err());
    }
}
