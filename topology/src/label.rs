//! Labels and label selectors, with Kubernetes' syntax and meaning.

use crate::ParseError;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A workload's labels: sorted and each key once, so that equal sets are equal bytes. Fabrics have many
/// of them, so they take no more memory than the pairs themselves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(found, _)| (**found).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Labels {
    /// The last value of a key counts.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }
}

impl<const N: usize> From<[(Arc<str>, Arc<str>); N]> for Labels {
    fn from(pairs: [(Arc<str>, Arc<str>); N]) -> Self {
        pairs.into_iter().collect()
    }
}

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
    values: Box<[Arc<str>]>,
}

impl Requirement {
    /// The condition with these values, in canonical order.
    pub fn new(key: Arc<str>, operator: Operator, values: impl IntoIterator<Item = Arc<str>>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort();
        values.dedup();
        Self { key, operator, values: values.into() }
    }

    /// The values of `In` and `NotIn`, sorted and each once; empty otherwise.
    pub fn values(&self) -> &[Arc<str>] {
        &self.values
    }

    fn names(&self, value: &Arc<str>) -> bool {
        self.values.binary_search(value).is_ok()
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.names(v)),
            Operator::NotIn => !value.is_some_and(|v| self.names(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// A conjunction of requirements; the empty selector selects every workload.
///
/// Canonical: requirements are sorted and unique, and `matchLabels: {k: v}` is `k In [v]`. Cheap to clone:
/// a policy's selector is shared by every index that it is a key of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector {
    requirements: Arc<[Requirement]>,
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
        Self { requirements: requirements.into() }
    }

    /// `key In [value]` for each pair.
    pub fn of<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let one = |(key, value): (&str, &str)| Requirement::new(key.into(), Operator::In, [value.into()]);
        Self::new(labels.into_iter().map(one))
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
        Requirement::new(key.into(), operator, values.iter().map(|v| (*v).into()))
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
