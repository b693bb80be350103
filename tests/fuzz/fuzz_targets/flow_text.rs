//! What is taken as a flow prints as something that is taken as the same flow.
#![no_main]

use bulkhead_openflow::text::{flow, parse_flow};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(parsed) = parse_flow(text)
    {
        let printed = flow(&parsed);
        assert_eq!(parse_flow(&printed), Ok(parsed), "{printed}");
    }
});
