//! A24: absent, empty, null and `{}` are four different things, in YAML and in JSON, and only the first one can mean
//! everybody.

use crate::{Fabric, JSON, YAML, ask};

/// What the rule `allow` with these peers decides between workloads, and for an outside address; or the status that it is
/// refused with.
fn decided(fabric: &Fabric, section: &str, json: bool) -> Result<(String, String), u16> {
    let (content, body) = if json {
        let text = format!(
            r#"{{"kind":"Policy","metadata":{{"name":"p"}},"spec":{{"subject":{{"matchLabels":{{"app":"b"}}}},"ingress":[{{"action":"allow"{section}}}]}}}}"#
        );
        (JSON, text)
    } else {
        let text = format!(
            "kind: Policy\nmetadata: {{name: p}}\nspec:\n  subject: {{matchLabels: {{app: b}}}}\n  ingress:\n  - action: allow\n{section}"
        );
        (YAML, text)
    };
    let (status, answer) = ask(fabric.api, "POST", "/v1/apply", content, body.as_bytes());
    if status != 200 {
        assert!(answer.contains("\"line\""), "no place: {answer}");
        return Err(status);
    }
    let reach = |from: &str| {
        let question = format!(r#"{{"from":"{from}","to":"b1","protocol":"tcp","port":80}}"#);
        let (_, answer) = ask(fabric.api, "POST", "/v1/reach", JSON, question.as_bytes());
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["ingress"]["verdict"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    Ok((reach("a1"), reach("ip:192.0.2.1")))
}

#[test]
fn a24_absent_empty_and_null_peers_are_told_apart_in_yaml_and_json() {
    let fabric = Fabric::new(1);
    let ok = |inside: &str, outside: &str| Ok((inside.to_owned(), outside.to_owned()));
    for (yaml, json, expected) in [
        // Absent: no condition.
        ("", "", ok("allow", "allow")),
        // An empty list: nobody.
        ("    from: []\n", r#","from":[]"#, ok("deny", "deny")),
        // Written out: every workload, and no outside address.
        ("    from: [{matchLabels: {}}]\n", r#","from":[{"matchLabels":{}}]"#, ok("allow", "deny")),
        ("    from: [{matchExpressions: []}]\n", r#","from":[{"matchExpressions":[]}]"#, ok("allow", "deny")),
        // Labels that nobody has, and no values at all: nobody.
        ("    from: [{matchLabels: {app: z}}]\n", r#","from":[{"matchLabels":{"app":"z"}}]"#, ok("deny", "deny")),
        (
            "    from: [{matchExpressions: [{key: app, operator: In, values: []}]}]\n",
            r#","from":[{"matchExpressions":[{"key":"app","operator":"In","values":[]}]}]"#,
            Err(422),
        ),
        // Nothing at all said: refused, because it could mean either.
        ("    from:\n", r#","from":null"#, Err(422)),
        ("    from: null\n", r#","from":null"#, Err(422)),
        ("    from: ~\n", r#","from":null"#, Err(422)),
        ("    from: {}\n", r#","from":{}"#, Err(422)),
        ("    from: \"\"\n", r#","from":"""#, Err(422)),
        ("    from: [{}]\n", r#","from":[{}]"#, Err(422)),
        ("    from: [null]\n", r#","from":[null]"#, Err(422)),
        ("    from: [{matchLabels: null}]\n", r#","from":[{"matchLabels":null}]"#, Err(422)),
        ("    from: [{matchLabels: {app: null}}]\n", r#","from":[{"matchLabels":{"app":null}}]"#, Err(422)),
        ("    from: [{cidrs: []}]\n", r#","from":[{"cidrs":[]}]"#, ok("deny", "deny")),
        // The same for ports.
        ("    ports: []\n", r#","ports":[]"#, ok("deny", "deny")),
        ("    ports: null\n", r#","ports":null"#, Err(422)),
        ("    ports: [{}]\n", r#","ports":[{}]"#, Err(422)),
    ] {
        assert_eq!(decided(&fabric, yaml, false), expected, "{yaml}");
        assert_eq!(decided(&fabric, json, true), expected, "{json}");
    }
}

#[test]
fn a24_what_is_stored_and_given_out_keeps_the_difference() {
    let fabric = Fabric::new(1);
    for (section, there) in [("", false), ("    from: []\n", true)] {
        let first = decided(&fabric, section, false);
        let document = fabric.controller.client.get("policies", "p").unwrap();
        let rule = &document["spec"]["ingress"][0];
        assert_eq!(rule.get("from").is_some(), there, "{document}");
        assert_ne!(rule.get("from"), Some(&serde_json::Value::Null), "{document}");
        // What is given out means the same when it comes back.
        let answer = fabric.controller.client.apply(std::slice::from_ref(&document), false).unwrap();
        assert_eq!(answer.changes[0].change, bulkhead_types::ChangeKind::Unchanged);
        assert_eq!(decided(&fabric, section, false), first);
    }
}
