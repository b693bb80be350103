//! Whether one selector selects nothing that another does not.

use bulkhead_topology::{Operator, Requirement, Selector};
use std::{collections::BTreeSet, sync::Arc};

/// What a label may be: absent, or one of some values.
#[derive(Debug, PartialEq, Eq)]
struct Allowed<'a> {
    absent: bool,
    values: Values<'a>,
}

/// Values of a label. There are more than anybody can name.
#[derive(Debug, PartialEq, Eq)]
enum Values<'a> {
    Only(BTreeSet<&'a Arc<str>>),
    AllBut(BTreeSet<&'a Arc<str>>),
}

impl<'a> Allowed<'a> {
    /// What a selector lets the label of `key` be.
    fn by(selector: &'a Selector, key: &str) -> Self {
        let all = Self { absent: true, values: Values::AllBut(BTreeSet::new()) };
        selector.requirements().iter().filter(|requirement| *requirement.key == *key).fold(all, Self::and)
    }

    fn and(self, requirement: &'a Requirement) -> Self {
        let named = || requirement.values().iter().collect::<BTreeSet<_>>();
        match requirement.operator {
            Operator::In => Self { absent: false, values: self.values.only(&named()) },
            Operator::NotIn => Self { values: self.values.but(named()), ..self },
            Operator::Exists => Self { absent: false, ..self },
            Operator::DoesNotExist => Self { values: Values::Only(BTreeSet::new()), ..self },
        }
    }

    /// Whether nothing fits.
    fn is_empty(&self) -> bool {
        !self.absent && matches!(&self.values, Values::Only(values) if values.is_empty())
    }

    fn within(&self, other: &Self) -> bool {
        (!self.absent || other.absent)
            && match (&self.values, &other.values) {
                (Values::Only(own), Values::Only(others)) => own.is_subset(others),
                (Values::Only(own), Values::AllBut(others)) => own.is_disjoint(others),
                (Values::AllBut(own), Values::AllBut(others)) => others.is_subset(own),
                (Values::AllBut(_), Values::Only(_)) => false,
            }
    }
}

impl<'a> Values<'a> {
    fn only(self, named: &BTreeSet<&'a Arc<str>>) -> Self {
        match self {
            Self::Only(own) => Self::Only(own.intersection(named).copied().collect()),
            Self::AllBut(own) => Self::Only(named.difference(&own).copied().collect()),
        }
    }

    fn but(self, named: BTreeSet<&'a Arc<str>>) -> Self {
        match self {
            Self::Only(own) => Self::Only(own.difference(&named).copied().collect()),
            Self::AllBut(mut own) => {
                own.extend(named);
                Self::AllBut(own)
            }
        }
    }
}

/// Whether every set of labels that `inner` matches is one that `outer` matches. Exact: each label is looked at by itself,
/// since a selector is a conjunction.
pub fn within(inner: &Selector, outer: &Selector) -> bool {
    let nobody = |requirement: &Requirement| Allowed::by(inner, &requirement.key).is_empty();
    inner.requirements().iter().any(nobody)
        || outer.requirements().iter().all(|requirement| {
            let key = &requirement.key;
            Allowed::by(inner, key).within(&Allowed::by(outer, key))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use bulkhead_topology::Labels;
    use proptest::prelude::*;

    fn selector() -> impl Strategy<Value = Selector> {
        let values = prop::collection::vec(prop::sample::select(vec!["x", "y", "z"]), 0..3);
        let operator =
            prop::sample::select(vec![Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist]);
        let requirement =
            (prop::sample::select(vec!["a", "b"]), operator, values).prop_map(|(key, operator, values)| {
                let values = match operator {
                    Operator::In | Operator::NotIn => values,
                    _ => Vec::new(),
                };
                Requirement::new(key.into(), operator, values.into_iter().map(Into::into))
            });
        prop::collection::vec(requirement, 0..4).prop_map(Selector::new)
    }

    /// Every set of labels that selectors over these keys and values can tell apart: `other` stands for all values that
    /// nobody names.
    fn worlds() -> Vec<Labels> {
        let values = [None, Some("x"), Some("y"), Some("z"), Some("other")];
        let label = |key: &str, value: Option<&str>| value.map(|value| (Arc::from(key), Arc::from(value)));
        let pairs = values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b)));
        pairs.map(|(a, b)| label("a", a).into_iter().chain(label("b", b)).collect()).collect()
    }

    proptest! {
        #[test]
        fn it_says_what_trying_all_labels_says(inner in selector(), outer in selector()) {
            let tried = worlds().iter().all(|labels| !inner.matches(labels) || outer.matches(labels));
            prop_assert_eq!(within(&inner, &outer), tried, "{} within {}", inner, outer);
        }
    }
}
