//! Metrics: their form, what they say, and that what is drawn of them exists.

use crate::common;
use bulkhead_daemon::start;
use bulkhead_driver_sim::Fabric;
use common::{Client, config, shop};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// What is wrong with metrics, by Prometheus' own conventions (its documentation, "Exposition formats" and "Metric and
/// label naming"): names with their unit in base units, `_total` for counters alone, a type before each sample, each
/// metric in one piece, no sample twice, whole histograms.
fn lint(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut kinds, mut told) = (BTreeMap::new(), BTreeSet::new());
    let (mut helped, mut current) = (None, "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            if help.is_empty() || !help.ends_with('.') && !help.contains(';') {
                wrong.push(format!("{name}: help is no sentence: `{help}`"));
            }
            helped = Some(name);
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            if helped.take() != Some(name) || kinds.insert(name, kind).is_some() {
                wrong.push(format!("{name}: no help, or told twice"));
            }
            if name.ends_with("_total") != (kind == "counter") {
                wrong.push(format!("{name} is a {kind}"));
            }
            let units = [
                "_ms",
                "_milliseconds",
                "_minutes",
                "_hours",
                "_kilobytes",
                "_kb",
                "_mb",
                "_percent",
                "_count",
                "_sum",
            ];
            if units.iter().any(|unit| name.trim_end_matches("_total").ends_with(unit)) {
                wrong.push(format!("{name}: not in a base unit, or named as a part of a histogram"));
            }
            let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !(name.starts_with("bulkhead_") || name.starts_with("process_")) || !name.chars().all(word) {
                wrong.push(format!("{name}: a bad name"));
            }
            current = name;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let of_histogram = kinds.get(current) == Some(&"histogram");
        let parts = ["_bucket", "_sum", "_count"].iter().map(|part| format!("{current}{part}"));
        if !(name == current && !of_histogram || of_histogram && parts.into_iter().any(|part| part == name)) {
            wrong.push(format!("{series}: not where {name} is told"));
        }
        if value.parse::<f64>().is_err() || !told.insert(series) {
            wrong.push(format!("{line}: no number, or told twice"));
        }
    }
    for (name, _) in kinds.iter().filter(|(_, kind)| **kind == "histogram") {
        let number = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
        let all = number(&format!("{name}_bucket{{le=\"+Inf\"}}"));
        if all.is_none() || all != number(&format!("{name}_count ")) || number(&format!("{name}_sum ")).is_none() {
            wrong.push(format!("{name}: not a whole histogram"));
        }
    }
    wrong
}

/// Names of metrics in a text, without the parts of histograms.
fn names(text: &str, kinds: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let words = words.filter(|word| word.starts_with("bulkhead_") || word.starts_with("process_"));
    let whole = |word: &str| {
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| word.strip_suffix(part));
        parts.filter(|name| kinds.contains(*name)).map(str::to_owned).next().unwrap_or_else(|| word.to_owned())
    };
    words.map(whole).collect()
}

fn number(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {series} in:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_keep_to_the_conventions_and_dashboards_to_the_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&config(directory.path()), Fabric::default()).await.unwrap();
    let client = Client::of(&daemon);
    assert_eq!(client.send("POST", "/v1/apply", Some(shop())).await.0, 200);
    assert_eq!(client.send("POST", "/v1/apply", Some("kind: Zone".into())).await.0, 422);
    client.get("/v1/realization?revision=1&wait=10s").await;
    let text = client.get("/metrics").await.as_str().unwrap().to_owned();

    assert_eq!(lint(&text), [""; 0], "{text}");
    for wrong in ["bulkhead_x 1", "# HELP bulkhead_x_ms A.\n# TYPE bulkhead_x_ms gauge", "# TYPE bulkhead_x counter"] {
        assert!(!lint(wrong).is_empty(), "{wrong}");
    }

    // One change was made, and took its time.
    for histogram in ["change_seconds", "change_wait_seconds", "compile_seconds", "store_commit_seconds"] {
        assert_eq!(number(&text, &format!("bulkhead_{histogram}_count")), 1.0, "{histogram}");
    }
    assert!(number(&text, "bulkhead_change_seconds_sum") >= number(&text, "bulkhead_compile_seconds_sum"));
    let entries = number(&text, "bulkhead_switch_entries{switch=\"hv1\"}");
    let by_table = text.lines().filter(|line| line.starts_with("bulkhead_switch_table_entries{switch=\"hv1\""));
    let by_table: f64 = by_table.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum();
    assert!(entries > 100.0 && entries == by_table, "{entries} entries, {by_table} by table");
    assert!(number(&text, "bulkhead_switch_entries_capacity{switch=\"hv1\"}") > entries);
    assert!(number(&text, "process_resident_memory_bytes") > 1e6);

    // What is drawn and alerted of exists.
    let mut known: BTreeSet<String> =
        text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split_once(' ')?.0.to_owned())).collect();
    // Told where there is TLS.
    known.extend(["southbound", "api"].map(|side| format!("bulkhead_{side}_certificate_expiry_timestamp_seconds")));
    let grafana = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/grafana");
    let dashboard = fs::read_to_string(grafana.join("bulkhead.json")).unwrap();
    let alerts = fs::read_to_string(grafana.join("alerts.yaml")).unwrap();
    let drawn = serde_json::from_str::<Value>(&dashboard).unwrap();
    assert!(drawn["panels"].as_array().unwrap().len() > 20);
    for (file, text) in [("bulkhead.json", dashboard), ("alerts.yaml", alerts)] {
        let used = names(&text, &known);
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty() && used.len() > 5, "{file}: {unknown:?}");
    }
    daemon.stop().await.unwrap();
}
