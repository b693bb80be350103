//! `bulkhead-lab`.
fn main() {}
