//! Labels of namespaces and pods as labels of one workload, and selectors of theirs as selectors of ours.
//!
//! A workload has its pod's labels as they are, and its namespace's with a prefix: `team` becomes `namespace/team`, and
//! `kubernetes.io/metadata.name` becomes `namespace.kubernetes.io/metadata.name`. A pod whose own labels begin like that
//! is refused, so that nobody who may label pods can put one into another namespace.

use crate::{
    finding::short,
    value::{Reader, Value},
};
use bulkhead_topology::{Operator, Requirement, Selector, check_key, check_value};

/// The label that every namespace has: its name.
pub const NAME: &str = "kubernetes.io/metadata.name";
/// The same as a workload's label. Whoever has it was a pod.
pub const NAMESPACE_NAME: &str = "namespace.kubernetes.io/metadata.name";

/// A namespace's label as a workload's.
pub(crate) fn of_namespace(key: &str) -> String {
    // Keys with a prefix and without one do not meet: `namespace./x` is no key.
    if key.contains('/') { format!("namespace.{key}") } else { format!("namespace/{key}") }
}

/// The namespace's label that a workload's label stands for.
pub(crate) fn to_namespace(key: &str) -> Option<&str> {
    key.strip_prefix("namespace/").or_else(|| key.strip_prefix("namespace.").filter(|rest| rest.contains('/')))
}

/// Whether a pod's own label would be taken for its namespace's.
pub(crate) fn poses_as_namespace(key: &str) -> bool {
    to_namespace(key).is_some()
}

/// Whose labels a selector is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Pods.
    Pods,
    /// Namespaces.
    Namespaces,
}

/// The requirement of being in a namespace.
pub(crate) fn in_namespace(namespace: &str) -> Requirement {
    Requirement::new(NAMESPACE_NAME.into(), Operator::In, [namespace.into()])
}

/// The requirement of being a pod.
pub(crate) fn is_pod() -> Requirement {
    Requirement::new(NAMESPACE_NAME.into(), Operator::Exists, [])
}

/// The requirements of a selector: none if it is absent or empty, which then selects everything of its kind.
pub(crate) fn requirements(reader: &mut Reader<'_>, at: Option<&Value<'_>>, of: Of) -> Vec<Requirement> {
    let mut all = Vec::new();
    let Some(at) = at else { return all };
    if !reader.only(at, &["matchLabels", "matchExpressions"]) {
        return all;
    }
    let labels = at.field("matchLabels");
    if let Some(labels) = &labels
        && labels.fields().next().is_none()
    {
        // `{}`, or no map at all.
        reader.only(labels, &[]);
    }
    for (key, value) in labels.iter().flat_map(Value::fields) {
        let key = own_key(reader, &value, key, of);
        let text = reader.text(&value);
        if let (Some(key), Some(text)) = (key, text) {
            label_value(reader, &value, text);
            all.push(Requirement::new(key.into(), Operator::In, [text.into()]));
        }
    }
    for expression in reader.list(at, "matchExpressions").unwrap_or_default() {
        all.extend(requirement(reader, &expression, of));
    }
    all
}

fn requirement(reader: &mut Reader<'_>, at: &Value<'_>, of: Of) -> Option<Requirement> {
    if !reader.only(at, &["key", "operator", "values"]) {
        return None;
    }
    let key = reader.needed(at, "key")?;
    let key = reader.text(&key).and_then(|text| own_key(reader, &key, text, of));
    let operator = reader.needed(at, "operator")?;
    let word = match reader.text(&operator)? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            let message = format!("`{}` is no operator", short(other));
            reader.refuse(&operator, message, "In, NotIn, Exists or DoesNotExist");
            return None;
        }
    };
    let mut values = Vec::new();
    for value in reader.list(at, "values").unwrap_or_default() {
        let text = reader.text(&value)?;
        label_value(reader, &value, text);
        values.push(text);
    }
    // As the API server has it: a set is there, or it is not asked for.
    if values.is_empty() == matches!(word, Operator::In | Operator::NotIn) {
        let hint = "In and NotIn need values, Exists and DoesNotExist take none";
        reader.refuse(at, "an operator whose values do not fit it", hint);
        return None;
    }
    Some(Requirement::new(key?.into(), word, values.into_iter().map(Into::into)))
}

/// A label's key as workloads have it.
fn own_key(reader: &mut Reader<'_>, at: &Value<'_>, key: &str, of: Of) -> Option<String> {
    if let Err(wrong) = check_key(key) {
        reader.refuse(at, format!("`{}` is no label's key", short(key)), wrong.why);
        return None;
    }
    match of {
        Of::Pods if poses_as_namespace(key) => {
            let hint = "keys that begin with `namespace/` or `namespace.` are namespaces' labels here; rename it";
            reader.refuse(
                at,
                format!("`{}` is a pod's label that would be taken for its namespace's", short(key)),
                hint,
            );
            None
        }
        Of::Pods => Some(key.into()),
        Of::Namespaces => {
            let own = of_namespace(key);
            if check_key(&own).is_err() {
                let message = format!("`{}` is too long for a namespace's label", short(key));
                reader.refuse(at, message, "its prefix may have 243 characters here");
                return None;
            }
            Some(own)
        }
    }
}

fn label_value(reader: &mut Reader<'_>, at: &Value<'_>, text: &str) {
    if let Err(wrong) = check_value(text) {
        reader.refuse(at, format!("`{}` is no label's value", short(text)), wrong.why);
    }
}

/// The labels that an object's metadata has, as workloads' labels.
pub(crate) fn labels(reader: &mut Reader<'_>, metadata: &Value<'_>, of: Of) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (key, value) in metadata.field("labels").iter().flat_map(Value::fields) {
        let key = own_key(reader, &value, key, of);
        let Some(text) = reader.text(&value) else { continue };
        label_value(reader, &value, text);
        all.extend(key.map(|key| (key, text.to_string())));
    }
    all
}

/// The conjunction, as a selector.
pub(crate) fn selector(parts: impl IntoIterator<Item = Requirement>) -> Selector {
    Selector::new(parts)
}
