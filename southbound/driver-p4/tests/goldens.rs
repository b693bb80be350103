//! The files of `southbound/p4` are what the layout says; `UPDATE_GOLDEN=1` writes those that are written from it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_driver_p4::{layout, source, underlay};
use bulkhead_p4runtime::info::{Info, Kind};
use std::{fs, path::PathBuf};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../p4").join(name)
}

fn kept(name: &str, written: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path(name), written).unwrap();
    }
    let found = fs::read_to_string(path(name)).unwrap();
    assert!(found == written, "southbound/p4/{name} is not what the layout says (UPDATE_GOLDEN=1 writes it anew)");
}

#[test]
fn the_program_has_the_layout_s_tables() {
    kept("tables.p4", &source::tables());
    kept("sizes.p4", &source::size_defines());
}

/// The program applies each table once, in the order of stages, and where the packet goes to it.
#[test]
fn the_program_applies_every_table_in_order() {
    let program = fs::read_to_string(path("bulkhead.p4")).unwrap();
    let applied: Vec<&str> = program.lines().filter(|line| line.contains(".apply();")).map(str::trim).collect();
    let wanted: Vec<String> = layout::stages()
        .map(|stage| format!("if (meta.next == {}) {{ {}.apply(); }}", stage as u8, layout::identifier(stage)))
        .collect();
    let stages: Vec<&str> = applied.into_iter().filter(|line| line.starts_with("if (meta.next ==")).collect();
    assert_eq!(stages, wanted);
    for (name, value) in [("DROP", layout::DROP), ("DONE", layout::DONE)] {
        assert!(program.contains(&format!("const bit<8> {name} = {value:#x};")), "{name}");
    }
}

#[test]
fn p4info_says_what_the_layout_does() {
    let info = Info::from_text(&fs::read_to_string(path("bulkhead.p4info.txtpb")).unwrap()).unwrap();
    let ours = Info::from_text(&source::info()).unwrap();
    let stages: Vec<_> = info.tables().filter(|table| ours.table(table.id).is_some()).collect();
    assert_eq!(stages.len(), layout::stages().count());
    for table in stages {
        let wanted = ours.table(table.id).unwrap();
        assert_eq!((&table.name, &table.fields, &table.actions), (&wanted.name, &wanted.fields, &wanted.actions));
        assert_eq!((table.size, table.counter), (wanted.size, wanted.counter), "{}", table.name);
        assert!(table.fields.iter().all(|field| field.kind == Kind::Ternary), "{}", table.name);
        for id in table.actions.keys() {
            assert_eq!(info.action(*id), ours.action(*id));
        }
    }
    assert_eq!(ours.actions().filter(|action| info.action(action.id).is_none()).count(), 0);
}

/// What a switch loads has the same tables, keys and actions as P4Info says; p4c wrote both, from the source as it is now.
#[test]
fn what_a_switch_loads_is_what_p4info_says() {
    let json = fs::read_to_string(path("bulkhead.json")).unwrap();
    let loaded: serde_json::Value = serde_json::from_str(&json).unwrap();
    let info = Info::from_text(&fs::read_to_string(path("bulkhead.p4info.txtpb")).unwrap()).unwrap();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let tables: Vec<_> = list(&loaded["pipelines"]).iter().flat_map(|pipeline| list(&pipeline["tables"])).collect();
    for table in info.tables() {
        let found = tables.iter().find(|found| text(&found["name"]) == table.name).unwrap();
        let keys: Vec<(String, String)> =
            list(&found["key"]).iter().map(|key| (text(&key["name"]), text(&key["match_type"]))).collect();
        let kind = |kind| match kind {
            Kind::Ternary => "ternary",
            Kind::Exact => "exact",
            Kind::Lpm => "lpm",
            Kind::Range => "range",
            Kind::Optional => "optional",
        };
        let wanted: Vec<_> =
            table.fields.iter().map(|field| (field.value.name.clone(), kind(field.kind).into())).collect();
        assert_eq!(keys, wanted, "{}", table.name);
        assert_eq!(found["max_size"].as_u64(), table.size, "{}", table.name);
        assert_eq!(found["with_counters"].as_bool(), Some(true), "{}", table.name);
    }
    for action in info.actions() {
        let loaded = list(&loaded["actions"]);
        let found = loaded.iter().find(|found| text(&found["name"]) == action.name).unwrap();
        let params = |found: &serde_json::Value| -> Vec<(String, u64)> {
            list(&found["runtime_data"]).iter().map(|p| (text(&p["name"]), p["bitwidth"].as_u64().unwrap())).collect()
        };
        let wanted: Vec<_> = action.params.iter().map(|p| (p.name.clone(), u64::from(p.width))).collect();
        assert_eq!(params(found), wanted, "{}", action.name);
    }
    // p4c notes where each table stands in the source: it is the source that lies beside it.
    let source = fs::read_to_string(path("tables.p4")).unwrap();
    for table in &tables {
        let place = &table["source_info"];
        if text(&place["filename"]).ends_with("tables.p4") {
            let line = source.lines().nth(place["line"].as_u64().unwrap() as usize - 1).unwrap();
            assert!(line.contains(&text(&place["source_fragment"])), "{line}: compile southbound/p4 again");
        }
    }
}

/// The document says what each table costs.
#[test]
fn the_document_s_table_of_costs_is_current() {
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/p4.md");
    let text = fs::read_to_string(&document).unwrap();
    let (begin, end) = ("<!-- costs -->\n", "<!-- end -->");
    let (head, rest) = text.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let mut table =
        String::from("| table | key | bits | entries | KiB of key | actions |\n|---|---|---|---|---|---|\n");
    for stage in layout::stages() {
        let key = layout::key(stage);
        let bits: u32 = key.iter().map(|slot| slot.width).sum();
        let names: Vec<&str> = key.iter().map(|slot| slot.name).collect();
        let (size, actions) = (layout::size(stage), layout::shapes(stage).len());
        let kib = u64::from(bits) * u64::from(size) / 8 / 1024;
        let name = layout::identifier(stage);
        table += &format!("| {name} | {} | {bits} | {size} | {kib} | {actions} |\n", names.join(", "));
    }
    let info = Info::from_text(&fs::read_to_string(path("bulkhead.p4info.txtpb")).unwrap()).unwrap();
    for name in [underlay::PORTS, underlay::ROUTES] {
        let known = info.table_named(name).unwrap();
        let bits: u32 = known.fields.iter().map(|field| field.value.width).sum();
        let names: Vec<&str> = known.fields.iter().map(|field| field.value.name.as_str()).collect();
        let size = known.size.unwrap();
        let kib = u64::from(bits) * size / 8 / 1024;
        let name = name.trim_start_matches("ingress.");
        table += &format!("| {name} | {} | {bits} | {size} | {kib} | 1 |\n", names.join(", "));
    }
    let wanted = format!("{head}{begin}{table}{end}{tail}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&document, &wanted).unwrap();
    }
    assert!(fs::read_to_string(&document).unwrap() == wanted, "docs/p4.md: UPDATE_GOLDEN=1 writes the table anew");
}
