//! What is taken as a message can be written, and is then read as the same.
#![no_main]

use bulkhead_openflow::Msg;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, msg)) = Msg::decode(bytes) {
        let mut again = Vec::new();
        msg.encode(header.xid, &mut again);
        if again.len() <= 0xffff && header.version == 4 {
            assert_eq!(Msg::decode(&again).map(|(_, msg)| msg), Ok(msg));
        }
    }
});
