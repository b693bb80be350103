//! What needs no controller, or says which: explain, contexts, manual pages, templates of answers, zones in words.

use crate::common;
use common::{Server, bulkhead, code, text};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

#[test]
fn fields_are_explained() {
    let output = bulkhead(&["explain", "policy.ingress.ports"], "");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "\
KIND:   Policy
FIELD:  spec.ingress.ports <list of Port>

  What it asks for: absent is anything, `[]` is nothing.

FIELDS:
  protocol <text or number>
    `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number; may be left out with a port's name.
  port <text or number>
    1-65535, or a name that is looked up at the destination workload.
  endPort <number>
    Last port of a range.
  type <number>
    ICMP type, 0-255.
  code <number>
    ICMP code, 0-255; only with a type.
"
    );
    let whole = bulkhead(&["explain", "zn"], "");
    let said = text(&whole.stdout);
    assert!(said.starts_with("KIND:   Zone\n\n") && said.contains("\n  spec <ZoneSpec> needed\n"), "{said}");
    let json = bulkhead(&["explain", "link.a", "-o", "json"], "");
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&value["path"], &value["fields"][0]["name"]), (&"spec.a".into(), &"switch".into()));
    for (what, hint) in [
        ("polcy", "did you mean `policy`?"),
        ("zone.selectr", "did you mean `selector`?"),
        ("zone.mode.x", "there is nothing in it"),
        ("zone.", "known here: network, selector, isolate, mode"),
    ] {
        let output = bulkhead(&["explain", what], "");
        assert_eq!((code(&output), text(&output.stdout)), (2, ""));
        assert!(text(&output.stderr).contains(hint), "{what}: {}", text(&output.stderr));
    }
}

#[test]
fn a_template_takes_out_of_an_answer_what_is_wanted() {
    let zones =
        r#"{"revision":5,"items":[{"kind":"Zone","metadata":{"name":"a"}},{"kind":"Zone","metadata":{"name":"b"}}]}"#;
    let server = Server::new(Box::leak(Box::new([("GET /v1/zones", 200, zones)])));
    let output = server.run(&["get", "zones", "-o", "jsonpath={range [*]}{.metadata.name}={.kind}{\"\\n\"}{end}"], "");
    assert_eq!((code(&output), text(&output.stdout)), (0, "a=Zone\nb=Zone\n"), "{}", text(&output.stderr));
    for (form, hint) in
        [("jsonpath={", "`{` without `}`"), ("jsonpath={.a[?(@)]}", "no filters"), ("xml", "jsonpath=TEMPLATE")]
    {
        let output = server.run(&["get", "zones", "-o", form], "");
        assert!(code(&output) == 2 && text(&output.stderr).contains(hint), "{}", text(&output.stderr));
    }
}

/// The command with a configuration of its own and nothing else that says a server.
fn with(config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.args(args).env_remove("BULKHEAD_SERVER").env("BULKHEAD_CONFIG", config).output().unwrap()
}

#[test]
fn contexts_say_whom_commands_ask() {
    const ZONES: &str = r#"{"revision":5,"items":[]}"#;
    let one = Server::new(&[("GET /v1/zones", 200, ZONES)]);
    let other = Server::new(&[("GET /v1/zones", 200, ZONES)]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("new").join("config.yaml");
    let run = |args: &[&str]| with(&config, args);
    let asked = |server: &Server| server.asked.lock().unwrap().len();
    assert!(text(&run(&["context", "list"]).stdout).starts_with("no contexts in "));
    assert_eq!(code(&run(&["context", "set", "lab", &one.url])), 0);
    assert_eq!(code(&run(&["context", "set", "prod", &other.url])), 0);
    assert_eq!(
        fs::read_to_string(&config).unwrap(),
        format!(
            "contexts:\n  lab:\n    server: \"{}\"\n  prod:\n    server: \"{}\"\ncurrent: lab\n",
            one.url, other.url
        )
    );
    assert_eq!(code(&run(&["get", "zones"])), 0);
    assert_eq!((asked(&one), asked(&other)), (1, 0), "the first context is used");
    assert_eq!(code(&run(&["get", "zones", "--context", "prod"])), 0);
    assert_eq!(code(&run(&["context", "use", "prod"])), 0);
    assert_eq!(code(&run(&["get", "zones"])), 0);
    assert_eq!((asked(&one), asked(&other)), (1, 2));
    assert_eq!(code(&run(&["get", "zones", "--server", &one.url])), 0);
    assert_eq!((asked(&one), asked(&other)), (2, 2), "what the line says is stronger");
    let list = run(&["context", "list"]);
    assert_eq!(
        text(&list.stdout),
        format!("CURRENT   NAME   SERVER\n          lab    {}\n*         prod   {}\n", one.url, other.url)
    );
    assert_eq!(code(&run(&["context", "delete", "prod"])), 0);
    // Nobody listens at the default on a test machine, or it is not this one.
    assert_eq!(code(&run(&["get", "zones", "--context", "lab"])), 0);
    for (args, hint) in [
        (&["get", "zones", "--context", "labb"][..], "did you mean `lab`?"),
        (&["context", "use", "prod"], "there is no context `prod`"),
        (&["context", "set", "x", "192.0.2.1"], "http://"),
        (&["get", "zones", "--context", "lab", "--server", "http://192.0.2.1"], "cannot be used with"),
    ] {
        let output = run(args);
        assert!(code(&output) == 2 && text(&output.stderr).contains(hint), "{args:?} {}", text(&output.stderr));
    }
    fs::write(&config, "current: lab\ncontext: {}\n").unwrap();
    let output = run(&["get", "zones"]);
    assert!(code(&output) == 1 && text(&output.stderr).contains("unknown field `context`"), "{}", text(&output.stderr));
}

#[test]
fn without_a_word_the_controller_on_this_machine_is_asked() {
    const ZONES: &str = r#"{"revision":5,"items":[]}"#;
    let (here, other) = (Server::new(&[("GET /v1/zones", 200, ZONES)]), Server::new(&[("GET /v1/zones", 200, ZONES)]));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let admin = folder.path().join("admin.yaml");
    let text_of = format!(
        "# Whoever can read this file is an admin.\ncurrent: local\ncontexts:\n  local:\n    server: \"{}\"\n    ca: |\n      \
         -----BEGIN CERTIFICATE-----\n      x\n      -----END CERTIFICATE-----\n    token: bulkhead_a_b\n",
        here.url
    );
    fs::write(&admin, text_of).unwrap();
    let run = |args: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(args).env_remove("BULKHEAD_SERVER").env_remove("BULKHEAD_TOKEN").env("BULKHEAD_CONFIG", &config);
        command.env("BULKHEAD_DATA_DIR", folder.path()).envs(environment.iter().copied()).output().unwrap()
    };
    let last = |server: &Server| server.heads.lock().unwrap().pop().unwrap();
    let done = run(&["get", "zones"], &[]);
    assert_eq!(code(&done), 0, "{}", text(&done.stderr));
    assert!(last(&here).contains("authorization: bearer bulkhead_a_b"));
    assert_eq!(code(&run(&["get", "zones"], &[("BULKHEAD_TOKEN", "mine")])), 0);
    assert!(last(&here).contains("authorization: bearer mine"));
    // Whoever is asked instead is not shown that token.
    assert_eq!(code(&run(&["get", "zones", "--server", &other.url], &[])), 0);
    assert_eq!(code(&run(&["get", "zones"], &[("BULKHEAD_SERVER", &other.url)])), 0);
    let token = folder.path().join("token");
    fs::write(&token, "kept\n").unwrap();
    let set = run(&["context", "set", "x", &other.url, "--token-file", token.to_str().unwrap()], &[]);
    assert_eq!(code(&set), 0, "{}", text(&set.stderr));
    assert_eq!(code(&run(&["get", "zones"], &[])), 0);
    let asked = other.heads.lock().unwrap();
    let shown: Vec<bool> = asked.iter().map(|asked| asked.contains("authorization")).collect();
    assert_eq!(shown, [false, false, true]);
    assert!(asked[2].contains("bearer kept"), "{}", asked[2]);
    drop(asked);
    // A file that cannot be understood is told of.
    fs::remove_file(&config).unwrap();
    fs::write(&admin, "contexts: {}\n").unwrap();
    let broken = run(&["get", "zones"], &[]);
    assert!(code(&broken) == 1 && text(&broken.stderr).contains("admin.yaml"), "{}", text(&broken.stderr));
}

#[test]
fn manual_pages_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = bulkhead(&["man", folder.path().to_str().unwrap()], "");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("bulkhead.1").contains("Who may talk to whom, in labels"));
    assert!(page("bulkhead-import-k8s.1").contains(".SH NAME"), "every command has one");
    let nowhere = bulkhead(&["man", folder.path().join("x").to_str().unwrap()], "");
    assert_eq!(code(&nowhere), 1);
}

#[test]
fn a_zone_is_created_in_words() {
    let one = r#"{"revision":1,"items":[{"kind":"Network","metadata":{"name":"prod"}}]}"#;
    let several = r#"{"revision":1,"items":[{"kind":"Network","metadata":{"name":"prod"}},{"kind":"Network","metadata":{"name":"test"}}]}"#;
    let done = r#"{"revision":2,"changes":[{"kind":"Zone","name":"shop","change":"created"}],"diagnostics":[]}"#;
    let server = |networks| {
        Server::new(Box::leak(Box::new([("GET /v1/networks", 200, networks), ("PUT /v1/zones/shop", 200, done)])))
    };
    let args = ["zone", "create", "shop", "--selector", "app=shop", "--isolate", "--mode", "monitor"];
    let first = server(one);
    let output = first.run(&args, "");
    assert_eq!(
        (code(&output), text(&output.stdout)),
        (0, "zone/shop created\nrevision 2\n"),
        "{}",
        text(&output.stderr)
    );
    let asked = first.asked.lock().unwrap();
    let spec = r#""spec":{"isolate":["ingress","egress"],"mode":"monitor","network":"prod","selector":"#;
    assert!(asked[1].starts_with("PUT /v1/zones/shop ") && asked[1].contains(spec), "{asked:?}");
    let output = server(several).run(&args, "");
    assert!(code(&output) == 2 && text(&output.stderr).contains("which of 2 networks? say --network, as prod, test"));
    let output = server(r#"{"revision":0,"items":[]}"#).run(&args, "");
    assert!(code(&output) == 1 && text(&output.stderr).contains("there is no network yet"));
    let last = server(several);
    let output =
        last.run(&["zone", "create", "shop", "--network", "test", "-l", "app=shop", "--isolate", "egress"], "");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(last.asked.lock().unwrap()[0].contains(r#""isolate":["egress"],"mode":"enforce","network":"test""#));
}
