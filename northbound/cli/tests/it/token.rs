//! Tokens on the command line.

use crate::common;
use common::{Server, code, text};

#[test]
fn tokens_are_made_listed_and_revoked() {
    let server = Server::new(&[
        (
            "POST /v1/tokens",
            200,
            r#"{"token":"bulkhead_a_b","name":"ci","grants":["viewer"],"author":"root","created":"2026-05-01T10:00:00.000Z"}"#,
        ),
        (
            "GET /v1/tokens",
            200,
            r#"{"required":true,"items":[{"name":"ci","grants":["viewer","editor@app=shop"],"author":"root",
                "created":"2026-05-01T10:00:00.000Z","expires":"2026-06-01T10:00:00.000Z"}]}"#,
        ),
        ("DELETE /v1/tokens/ci", 200, "null"),
    ]);
    let made =
        server.run(&["token", "create", "ci", "--grant", "viewer", "--grant", "editor@app=shop", "--days", "3"], "");
    assert_eq!((code(&made), text(&made.stdout)), (0, "bulkhead_a_b\n"), "only the token is in the output");
    assert!(text(&made.stderr).contains("only time"));
    let asked = server.asked.lock().unwrap().pop().unwrap();
    assert!(asked.contains(r#"{"name":"ci","grants":["viewer","editor@app=shop"],"days":3}"#), "{asked}");
    let listed = server.run(&["token", "list"], "");
    assert!(text(&listed.stdout).contains("viewer editor@app=shop"), "{}", text(&listed.stdout));
    assert_eq!(code(&server.run(&["token", "revoke", "ci"], "")), 0);
    assert_eq!(code(&server.run(&["token", "create", "ci"], "")), 2);
}

#[test]
fn a_token_that_cannot_be_read_is_told() {
    let server = Server::new(&[]);
    let output = server.run(&["status", "--token-file", "/nowhere"], "");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("cannot read the token in /nowhere"));
    assert!(server.asked.lock().unwrap().is_empty());
}
