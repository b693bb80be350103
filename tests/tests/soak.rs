//! The soak of `make soak`, for seconds instead of half an hour.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_tests::{
    controller::program,
    soak::{Soak, soak},
};
use std::time::Duration;

#[test]
fn r21_churn_leaves_memory_flat_queues_bounded_and_tables_exact() {
    if let Some(why) = bulkhead_lab::missing() {
        eprintln!("NOT TESTED: the soak with a real Open vSwitch: {why}");
    }
    let program = program("bulkheadd").unwrap();
    let report = soak(&program, &Soak { time: Duration::from_secs(15), switches: 100, rate: 100, real: true }).unwrap();
    eprintln!("{report:?}");
    // A machine that is too slow for the rate does less, not nothing.
    assert!(report.events >= 150 && report.flaps > 0, "{report:?}");
}
