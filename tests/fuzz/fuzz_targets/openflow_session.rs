//! A session takes any bytes in any pieces, and never holds more than one incomplete message. The first byte
//! of the input says how large the pieces are.
#![no_main]

use bulkhead_openflow::{Config, Session};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let mut session = Session::new(Config::default());
    for (at, chunk) in bytes.chunks(usize::from(*size).max(1)).enumerate() {
        let now = Duration::from_millis(at as u64);
        if session.received(chunk, now).is_err() {
            assert_eq!(session.next_deadline(now), None);
            break;
        }
        session.tick(now);
        while session.poll_event().is_some() {}
        session.take_output();
    }
});
