//! Back from the form that is stored: quickly where it is what [`canonical`](crate::canonical) writes.

use crate::{
    answer::Diagnostic,
    convert::convert,
    limits::MAX_NODES,
    parse::{Format, error, read_with, stored},
    v1::Object,
};
use bulkhead_policy::Resource;
use bulkhead_topology::alone;
use serde::{
    Deserializer,
    de::{DeserializeOwned, Error, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt};

/// How a stored document begins, up to its kind.
const START: &str = r#"{"apiVersion":"bulkhead/v1","kind":""#;

/// Reads one resource that [`crate::canonical`] has written, as it comes from the store.
pub fn load(document: &str) -> Result<Resource, Vec<Diagnostic>> {
    quick(document).map_or_else(|| thorough(document), Ok)
}

/// The resource, by the way that finds out what is wrong and where.
fn thorough(document: &str) -> Result<Resource, Vec<Diagnostic>> {
    let mut parsed = read_with(None, document.as_bytes(), Format::Json, alone, stored);
    match parsed.documents.pop() {
        Some(found) if !parsed.has_errors() && parsed.documents.is_empty() => Ok(found.resource),
        _ if parsed.diagnostics.is_empty() => Err(vec![error("", "one document expected", "")]),
        _ => Err(parsed.diagnostics),
    }
}

/// The resource, if [`thorough`] would give the same, in a quarter of the time: places in the text are not kept, and
/// nothing lies between the text and the fields. Anything odd is `None`.
fn quick(document: &str) -> Option<Resource> {
    let kind = document.strip_prefix(START)?.split('"').next()?;
    // To serde a field without a value is one that is left out; the other way refuses it. It refuses a document with
    // too many values too, and every value takes a byte.
    if document.len() > MAX_NODES || document.contains("null") {
        return None;
    }
    let object = match kind {
        "Network" => Object::Network(shape(document)?),
        "Switch" => Object::Switch(shape(document)?),
        "AddressSet" => Object::AddressSet(shape(document)?),
        "Workload" => Object::Workload(shape(document)?),
        "Zone" => Object::Zone(shape(document)?),
        "Policy" => Object::Policy(shape(document)?),
        "Link" => Object::Link(shape(document)?),
        "Host" => Object::Host(shape(document)?),
        "Adjacency" => Object::Adjacency(shape(document)?),
        _ => return None,
    };
    convert(&object).0
}

fn shape<T: DeserializeOwned>(document: &str) -> Option<T> {
    serde_json::from_str(document).ok()
}

/// A map whose keys differ: serde would take the last of two that are the same.
pub(crate) fn distinct<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Maybe;
    impl<'de> Visitor<'de> for Maybe {
        type Value = Option<BTreeMap<String, String>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }
        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            from.deserialize_map(self)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some((key, value)) = map.next_entry()? {
                if entries.insert(key, value).is_some() {
                    return Err(A::Error::custom("a key is there twice"));
                }
            }
            Ok(Some(entries))
        }
    }
    from.deserialize_option(Maybe)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::canonical;
    use bulkhead_policy::arbitrary;
    use proptest::prelude::*;

    /// What the quick way says, the other one says too.
    fn agrees(text: &str) -> Result<bool, TestCaseError> {
        let quickly = quick(text);
        let found = quickly.is_some();
        if let Some(quickly) = quickly {
            prop_assert_eq!(thorough(text), Ok(quickly), "{}", text);
        }
        Ok(found)
    }

    #[test]
    fn what_only_serde_would_take_goes_the_other_way() {
        let with = |labels: &str, rest: &str| {
            format!(
                r#"{START}Workload","metadata":{{"name":"w","labels":{labels}}},"spec":{{"network":"n","interfaces":[]{rest}}}}}"#
            )
        };
        assert!(quick(&with(r#"{"a":"b"}"#, "")).is_some());
        for odd in [
            with(r#"{"a":"b","a":"c"}"#, ""),
            with(r#"{"a":"b","\u0061":"c"}"#, ""),
            with("null", ""),
            with("{}", r#","namedPorts":null"#),
            with("{}", r#","namedPorts":{"p":"80/tcp","p":"81/tcp"}"#),
            with("{}", r#","network":"n""#),
            with("{}", r#","other":1"#),
            with("{}", "") + "{}",
            with("{}", "").replace("Workload", "Workloads"),
        ] {
            assert_eq!(quick(&odd), None, "{odd}");
            assert!(thorough(&odd).is_err(), "{odd}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

        #[test]
        fn both_ways_say_the_same(
            resource in arbitrary::resource(), other in arbitrary::resource(),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3, any::<prop::sample::Index>(), 0_usize..40), 0..4),
        ) {
            let (text, other) = (canonical(&resource), canonical(&other));
            let whole = agrees(&text)?;
            prop_assert_eq!(whole, thorough(&text).is_ok(), "the quick way must not be for nothing: {}", &text);
            // Pieces taken out, doubled, or put in from elsewhere, often between a comma and a comma.
            let mut spoiled = text.into_bytes();
            for (at, what, from, length) in cuts {
                let start = at.index(spoiled.len().max(1)).max(START.len()).min(spoiled.len());
                let end = (start + length).min(spoiled.len());
                let piece = match what {
                    0 => Vec::new(),
                    1 => spoiled[start..end].repeat(2),
                    _ => {
                        let from = from.index(other.len());
                        other.as_bytes()[from..(from + length).min(other.len())].to_vec()
                    }
                };
                spoiled.splice(start..end, piece);
            }
            if let Ok(spoiled) = String::from_utf8(spoiled) {
                agrees(&spoiled)?;
            }
        }

        #[test]
        fn both_ways_say_the_same_of_doubled_fields(resource in arbitrary::resource(), which in any::<prop::sample::Index>()) {
            let text = canonical(&resource);
            let commas: Vec<usize> = text.match_indices([',', '{', '[']).map(|(at, _)| at).collect();
            // From one comma to the next, once more; the last one ends where the text does.
            let from = commas[which.index(commas.len())];
            let to = text[from + 1..].find([',', '}', ']']).map_or(text.len(), |end| from + 1 + end);
            let doubled = format!("{},{}{}", &text[..to], &text[from + 1..to], &text[to..]);
            agrees(&doubled)?;
        }
    }
}
