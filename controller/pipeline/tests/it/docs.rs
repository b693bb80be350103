//! docs/pipeline.md is what the declaration says.

#[test]
fn the_generated_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pipeline.md");
    let wanted = bulkhead_pipeline::render_pipeline();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let have = std::fs::read_to_string(path).unwrap_or_default();
    assert!(have == wanted, "docs/pipeline.md is stale: run UPDATE_GOLDEN=1 cargo nextest run -p bulkhead-pipeline");
}
