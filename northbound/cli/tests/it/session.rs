//! Every verb and what it prints, in order, against a controller with one simulated switch.

use bulkhead_daemon::{Config, start};
use bulkhead_driver_sim::Fabric;
use trycmd::TestCases;

#[test]
fn every_verb_prints_what_it_is_known_to() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let daemon = runtime.block_on(start(&Config::inside(data.path().join("data")), Fabric::default())).unwrap();
    let cases = TestCases::new();
    cases.env("BULKHEAD_SERVER", format!("http://{}", daemon.listen));
    // Neither the contexts nor the colours of whoever runs this.
    cases.env("HOME", data.path().display().to_string()).env("XDG_CONFIG_HOME", data.path().display().to_string());
    cases.env("NO_COLOR", "1").env("USER", "operator");
    let configuration = data.path().join("bulkhead/config.yaml").display().to_string();
    cases.insert_var("[CONFIGURATION]", configuration).unwrap();
    cases.case("tests/session.trycmd");
    cases.run();
    runtime.block_on(daemon.stop()).unwrap();
}
