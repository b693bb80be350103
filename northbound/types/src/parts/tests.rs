#![allow(clippy::unwrap_used)]

use crate::{
    Format, Parsed,
    parse::{as_a_whole, in_parts, meaning},
};
use proptest::prelude::*;

/// Small enough that most documents are parts of their own.
const SMALL: usize = 48;

/// The same documents at the same places, and the same findings.
fn same(parts: &Parsed, whole: &Parsed) {
    assert_eq!(parts.diagnostics, whole.diagnostics);
    assert_eq!(parts.documents.len(), whole.documents.len());
    for (a, b) in parts.documents.iter().zip(&whole.documents) {
        assert_eq!((&a.key, &a.resource, a.expected, &a.file), (&b.key, &b.resource, b.expected, &b.file));
        for path in ["", "kind", "metadata.name", "metadata.labels.app", "spec", "spec.interfaces[0].ips[0]", "none"] {
            assert_eq!(a.locate(path), b.locate(path), "{path} of {}", a.key);
        }
        assert_eq!(a.to_value(), b.to_value());
    }
}

/// Hands whose last part is done first.
fn last_first(parts: usize, part: &(dyn Fn(usize) + Sync)) {
    (0..parts).rev().for_each(part);
}

/// What both ways say of a text; whether it is one that is read in parts.
fn agree(text: &str, format: Format) -> bool {
    let file = Some("f".into());
    let whole = as_a_whole(&file, text.as_bytes(), format, meaning);
    let parts = in_parts(&file, text.as_bytes(), format, (last_first, SMALL), meaning);
    parts.iter().for_each(|parts| same(parts, &whole));
    parts.is_some()
}

fn yaml(number: usize) -> String {
    let labels = "labels: {app: \"a\"} # ä\n";
    format!("kind: Workload\nmetadata:\n  name: w{number}\n  {labels}spec:\n  network: n\n  interfaces: []\n")
}

fn json(number: usize) -> String {
    // Brackets and quotes in a text are none.
    let spec = r#"{"network":"n","interfaces":[{"mac":"02:00:00:00:00:01","ips":[],"attachment":{"switch":"s","port":"],}[{\"\\"}}]}"#;
    format!(r#"{{"kind":"Workload","metadata":{{"name":"w{number}","labels":{{"\u0061pp":"a"}}}},"spec":{spec}}}"#)
}

#[test]
fn every_way_to_write_many_documents_is_read_in_parts() {
    let yamls: Vec<String> = (0..20).map(yaml).collect();
    let jsons: Vec<String> = (0..20).map(json).collect();
    let bare = "kind: AddressSet\nmetadata:\n  name: last\nspec:\n  cidrs: [10.0.0.0/8]\n";
    for text in [
        yamls.join("---\n"),
        format!("# first\n---\n{}---\n---\n{bare}", yamls.join("---\r\n").replace('\n', "\r\n").replace("\r\r", "\r")),
        yamls
            .iter()
            .map(|text| format!("---\n- {}", text.trim_end().replace('\n', "\n  ")))
            .collect::<Vec<_>>()
            .join("\n"),
    ] {
        assert!(agree(&text, Format::Any), "{text}");
    }
    let pretty = format!("[\n  {}\n]\n", jsons.join(",\n  "));
    for text in [
        format!("[{}]", jsons.join(",")),
        pretty.clone(),
        jsons.join("\n"),
        format!("{} [{}]\n{pretty}", jsons[0].replace("w0", "x0"), jsons[19].replace("w19", "x1")),
    ] {
        for format in [Format::Any, Format::Json] {
            assert!(agree(&text, format), "{text}");
        }
    }
}

#[test]
fn lines_that_end_otherwise_are_counted_by_the_other_way() {
    let yamls: Vec<String> = (0..20).map(yaml).collect();
    for odd in ["\r", "\r\r\n", "\u{feff}", "\0", "%YAML 1.2\n---\n"] {
        let text = odd.to_owned() + &yamls.join("---\n");
        assert!(!agree(&text, Format::Any), "{odd:?}");
    }
}

#[test]
fn what_is_wrong_is_for_the_other_way() {
    let jsons: Vec<String> = (0..20).map(json).collect();
    let list = jsons.join(",");
    for text in [
        format!("[{list},]"),
        format!("[,{list}]"),
        format!("[{list}"),
        format!("[{list}}}"),
        format!("[{list}]]"),
        format!("[{list},null]"),
        format!("[{list},{}]", jsons[3]),
        format!("[{list},\"x]"),
        list.clone(),
        "[],".repeat(100),
    ] {
        assert!(!agree(&text, Format::Json), "{text}");
        assert!(as_a_whole(&None, text.as_bytes(), Format::Json, meaning).has_errors(), "{text}");
    }
    let yamls: Vec<String> = (0..20).map(yaml).collect();
    for text in [
        format!("{}---\n{}", yamls.join("---\n"), yamls[3]),
        format!("{}---\nkind: \"\n---\n{}", yamls.join("---\n"), yaml(30)),
        format!("{}---\nkind: [\n---\n{}", yamls.join("---\n"), yaml(30)),
        format!("{}---\n|\n---\n{}", yamls.join("---\n"), yaml(30)),
    ] {
        assert!(!agree(&text, Format::Any), "{text}");
        assert!(as_a_whole(&None, text.as_bytes(), Format::Any, meaning).has_errors(), "{text}");
    }
}

#[test]
fn as_many_values_are_counted_as_there_are() {
    let item = r#"{"kind":"AddressSet","metadata":{"name":"a"},"spec":{"cidrs":["::/0","::/0","::/0","::/0","::/0"]}}"#;
    let list = |count: usize| format!("[{}]", vec![item; count].join(","));
    let parts = crate::parts::parts(&list(1000), Format::Json, SMALL).unwrap();
    let used = |part: &std::sync::Arc<super::Part>| {
        let mut budget = super::Budget::of(super::Dialect::Own);
        part.read(&mut budget).unwrap();
        budget.used().0
    };
    // 11 values each, and the list.
    assert_eq!(parts.iter().map(used).sum::<usize>(), 1000 * 11 + 1);
}

fn soup() -> impl Strategy<Value = String> {
    let pieces = [
        "---\n",
        "--- \n",
        "---",
        "\n",
        "\r\n",
        "\r",
        "...\n",
        "%YAML 1.2\n",
        "# c\n",
        "- ",
        "  ",
        "|\n",
        ">+\n",
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        ",",
        ", ",
        ": ",
        "null",
        "\u{feff}",
        "\0",
        "ä",
        "\t",
        "\\",
        "\u{2028}",
        "\u{85}",
    ];
    let good = (0..6_usize).prop_flat_map(|number| {
        prop::sample::select(vec![
            yaml(number),
            json(number),
            format!("{}---\n", yaml(number)),
            format!("{},", json(number)),
        ])
    });
    let piece = prop_oneof![2 => good, 1 => prop::sample::select(pieces.to_vec()).prop_map(String::from)];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn both_ways_say_the_same(text in soup()) {
        agree(&text, Format::Any);
        agree(&format!("[{}]", text.trim_end_matches(',')), Format::Json);
    }
}
