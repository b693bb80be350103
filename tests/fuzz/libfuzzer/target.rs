//! The targets of `bulkhead-fuzz`, guided by coverage. `BULKHEAD_FUZZ_TARGET` says which one.
#![no_main]

use bulkhead_fuzz::{Target, target};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("BULKHEAD_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("BULKHEAD_FUZZ_TARGET: there is no target `{name}`"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
