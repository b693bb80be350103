//! What holds for every resource and every input.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_policy::{
    arbitrary,
    model::{Policy, PortMatch},
};
use bulkhead_types::{Format, MAX_DIAGNOSTICS, Resource, canonical, load, object, read};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Any resource that a document can hold: a link's ends differ, a workload has no address twice, In and
/// NotIn have values.
fn resource() -> impl Strategy<Value = Resource> {
    arbitrary::resource()
        .prop_filter("no document says this", |r| {
            let text = canonical(r);
            let bare = text.contains(r#""operator":"In"}"#) || text.contains(r#""operator":"NotIn"}"#);
            !bare
                && match r {
                    Resource::Link(link) => link.a != link.b,
                    Resource::Workload(w) => {
                        let ips: Vec<_> = w.interfaces.iter().flat_map(|i| &i.ips).collect();
                        let macs: BTreeSet<_> = w.interfaces.iter().map(|i| i.mac).collect();
                        macs.len() == w.interfaces.len() && ips.iter().collect::<BTreeSet<_>>().len() == ips.len()
                    }
                    _ => true,
                }
        })
        .prop_map(|r| {
            let Resource::Policy(policy) = &r else { return r };
            let mut policy = Policy::clone(policy);
            for rule in policy.ingress.iter_mut().chain(&mut policy.egress) {
                for port in rule.ports.iter_mut().flatten() {
                    // Documents have one way to say it.
                    if let PortMatch::Protocol(protocol @ (1 | 58)) = *port {
                        *port = PortMatch::Icmp { protocol, icmp_type: None, code: None };
                    }
                }
            }
            Resource::Policy(policy.into())
        })
}

/// Text that is nearly a document: its parts in any order and number.
fn soup() -> impl Strategy<Value = String> {
    let parts = [
        "kind",
        ": ",
        "Policy",
        "\n",
        "  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "spec",
        "metadata",
        "name",
        "\"",
        "'",
        "#",
        "&a",
        "*a",
        "!t",
        "|",
        ">",
        "---",
        "...",
        "<<",
        "~",
        "1",
        "é",
        "\t",
        ",",
        "?",
        "%YAML 1.2",
        "\\",
        "\u{feff}",
        "\r",
        "null",
        "kind: Policy\nmetadata: {name: p}\nspec: {subject: {zone: z}}\n",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn the_canonical_form_is_stable_and_says_everything(resource in resource()) {
        let text = canonical(&resource);
        let again = load(&text).map_err(|found| TestCaseError::fail(format!("{text}\n{found:#?}")))?;
        prop_assert_eq!(&again, &resource, "{}", text);
        prop_assert_eq!(canonical(&again), text);
    }

    #[test]
    fn pretty_json_and_yaml_flow_style_are_the_same_document(
        resource in resource().prop_filter("nobody writes what is seen", |r| !matches!(r, Resource::Host(_) | Resource::Adjacency(_))),
    ) {
        let pretty = serde_json::to_string_pretty(&object(&resource)).unwrap();
        for format in [Format::Json, Format::Any] {
            let parsed = read(None, pretty.as_bytes(), format);
            prop_assert_eq!(&parsed.documents[0].resource, &resource);
        }
        let yaml = format!("---\n{pretty}\n");
        prop_assert_eq!(&read(None, yaml.as_bytes(), Format::Any).documents[0].resource, &resource);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let parsed = read(Some("f"), &bytes, Format::Any);
        prop_assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS + 1);
        read(None, &bytes, Format::Json);
    }

    #[test]
    fn near_documents_never_panic_and_findings_have_places(text in soup()) {
        for format in [Format::Any, Format::Json] {
            for finding in read(None, text.as_bytes(), format).diagnostics {
                let (line, column) = (finding.line.unwrap(), finding.column.unwrap());
                prop_assert!(line >= 1 && column >= 1 && line as usize <= text.matches(['\n', '\r']).count() + 2, "{:?}", finding);
            }
        }
    }
}

/// Time that this process has had cores, so that what else runs on the machine does not count: large inputs are read by
/// several threads.
fn on_cores() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    // proc(5): utime and stime are the 14th and 15th field, in hundredths of a second; the 2nd may have spaces in it.
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    std::time::Duration::from_millis(10 * ticks)
}

#[test]
fn a_hundred_thousand_documents_are_read_in_seconds() {
    let text: String = (0..25_000)
        .map(|i| {
            format!(
                "kind: Workload\nmetadata: {{name: w{i}, labels: {{app: a{}, tier: web}}}}\nspec:\n  network: n\n  interfaces:\n  \
                 - mac: \"02:00:00:{:02x}:{:02x}:{:02x}\"\n    ips: [10.{}.{}.{}]\n    attachment: {{switch: s, port: p{i}}}\n---\n",
                i % 100, i >> 16, i >> 8 & 255, i & 255, i >> 16, i >> 8 & 255, i & 255
            )
        })
        .collect();
    assert!(text.len() < bulkhead_types::MAX_INPUT);
    let began = on_cores();
    let parsed = read(None, text.as_bytes(), Format::Any);
    assert_eq!((parsed.documents.len(), parsed.diagnostics.len()), (25_000, 0));
    let canonical: usize = parsed.documents.iter().map(|d| canonical(&d.resource).len()).sum();
    assert!(canonical > 0);
    // A quarter of 100,000, in an unoptimized build.
    let took = on_cores() - began;
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    println!("25,000 documents, {} bytes: {took:?}", text.len());
}
