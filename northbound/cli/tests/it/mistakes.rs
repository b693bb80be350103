//! What an operator is told about a mistake: all of it at once, where it is, what was probably meant, and the exit code
//! that scripts go by.

use crate::common;
use std::{fs, path::Path};

/// Runs the command in a folder, without a controller: exit code, standard output, standard error.
fn bulkhead(folder: &Path, arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let output = common::bulkhead_in(folder, arguments, stdin);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "a.yaml",
        "kind: Zone\nmetadata: {name: shop}\nspec: {network: net, selectr: {}}\n---\nkind: Policy\nmetadata: {name: P}\n\
         spec: {subject: {zone: shop}, ingress: [{action: alow}]}\n---\nkind: Wrkload\nmetadata: {name: x}\n",
    );
    write("b.json", "{\"kind\": \"Zone\",}");
    let expected = "\
a.yaml:3:22: error: unknown field `selectr`
3 | spec: {network: net, selectr: {}}
  |                      ^
  hint: did you mean `selector`?
a.yaml:6:18: error: `P` is not a valid name
6 | metadata: {name: P}
  |                  ^
  hint: names use lower-case letters, digits, `-`, `.` and `_`
a.yaml:7:50: error: `alow` is not known here
7 | spec: {subject: {zone: shop}, ingress: [{action: alow}]}
  |                                                  ^
  hint: did you mean `allow`?
a.yaml:9:7: error: there is no kind `Wrkload`
9 | kind: Wrkload
  |       ^
  hint: did you mean `Workload`?
";
    for (verb, last) in
        [("apply", "nothing was changed\n"), ("plan", "nothing was changed\n"), ("validate", "5 errors\n")]
    {
        let (code, out, told) = bulkhead(folder.path(), &[verb, "-f", "a.yaml", "-f", "b.json"], "");
        assert_eq!((code, out.as_str()), (1, ""), "{verb}");
        let rest = told.strip_prefix(expected).unwrap_or_else(|| panic!("{verb}:\n{told}"));
        assert!(rest.starts_with("b.json:1:17: error: not JSON") && rest.ends_with(last), "{verb}:\n{rest}");
    }
    // Of what is to be removed only the names matter.
    let (code, _, told) = bulkhead(folder.path(), &["delete", "-f", "a.yaml"], "");
    assert_eq!(code, 1);
    assert!(told.contains("a.yaml:6:18:") && told.contains("a.yaml:9:7:") && !told.contains("selectr"), "{told}");
}

#[test]
fn references_are_guessed_and_told_in_the_order_of_reading() {
    let folder = tempfile::tempdir().unwrap();
    let text = "kind: Network\nmetadata: {name: prod}\nspec: {vni: 1, subnets: [10.0.0.0/8]}\n---\n\
                kind: Zone\nmetadata: {name: shop}\nspec: {network: prdo, selector: {matchLabels: {app: shop}}}\n---\n\
                kind: Policy\nmetadata: {name: p}\nspec:\n  subject: {zone: shopp}\n  ingress:\n  - action: allow\n    \
                from: [{addressSet: corp}]\n";
    let (code, _, told) = bulkhead(folder.path(), &["validate", "-f", "-"], text);
    assert_eq!(code, 1);
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with(['<', ' ']) && !line.contains(" | ")).collect();
    assert_eq!(
        lines,
        [
            "<stdin>:7:17: error: there is no Network/prdo",
            "  hint: did you mean `prod`? Else create it first, or in the same apply",
            "<stdin>:12:19: error: there is no Zone/shopp",
            "  hint: did you mean `shop`? Else create it first, or in the same apply",
            "<stdin>:15:25: error: there is no AddressSet/corp",
            "  hint: create it first, or in the same apply",
        ],
        "{told}"
    );
}

#[test]
fn an_input_without_documents_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.yaml"), "").unwrap();
    fs::write(folder.path().join("comment.yaml"), "# nothing\n---\n").unwrap();
    fs::create_dir(folder.path().join("notes")).unwrap();
    fs::write(folder.path().join("notes/readme.txt"), "kind: Zone").unwrap();
    for (file, told) in [
        ("empty.yaml", "error: there is no document in empty.yaml\n"),
        ("comment.yaml", "error: there is no document in comment.yaml\n"),
        ("-", "error: there is no document in <stdin>\n"),
        ("notes", "error: no .yaml, .yml or .json file in notes; folders inside of a folder are not looked into\n"),
        ("gone.yaml", "error: cannot read gone.yaml: No such file or directory (os error 2)\n"),
    ] {
        for verb in ["apply", "plan", "validate", "delete"] {
            let (code, out, error) = bulkhead(folder.path(), &[verb, "-f", file], "");
            assert_eq!((code, out.as_str(), error.as_str()), (1, "", told), "{verb} {file}");
        }
    }
}

#[test]
fn wrong_usage_is_2_and_says_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, word) in [
        (&["aply"][..], "apply"),
        (&["apply"], "--filename"),
        (&["apply", "-f", "a", "--wait=soon"], "10s, 500ms or 2m"),
        (&["get"], "<KIND>"),
        (&["get", "polices"], "did you mean `policies`?"),
        (&["get", "zon"], "did you mean `zone`?"),
        (&["get", "workloads", "-l", "a b"], "label key"),
        (&["get", "policies", "-l", "a=b"], "only workloads have labels"),
        (&["get", "zone/a", "b"], "KIND/NAME or KIND NAME"),
        (&["delete", "workloads"], "select it with -l"),
        (&["delete", "workloads", "-l", ""], "an empty selector selects every one"),
        (&["delete", "workloads", "a", "-l", "x=y"], "not both"),
        (&["delete", "workload", "a", "-f", "b.yaml"], "cannot be used with"),
        (&["delete"], "<KIND>"),
        (&["edit", "workload"], "name one resource"),
        (&["reach", "a"], "<TO>"),
        (&["reach", "a", "b", "tcp"], "tcp/443"),
        (&["reach", "a", "b", "tcp/99999"], "1 to 65535"),
        (&["reach", "a", "b", "tcp/80", "--family", "5"], "write 4 or 6"),
        (&["matrix", "--port", "http"], "tcp/443"),
        (&["zone"], "subcommand"),
        (&["zone", "create", "z", "--network", "n", "-l", "", "--mode", "monitor"], "an empty selector selects every"),
        (&["zone", "create", "z", "--network", "n", "-l", " "], "an empty selector selects every"),
        (&["zone", "mode", "z", "off"], "monitor, canary, enforce"),
        (&["status", "-o", "xml"], "table, wide, json, yaml"),
        (&["status", "--server", "127.0.0.1:7480"], "https://127.0.0.1:7480"),
    ] {
        let (code, out, told) = bulkhead(folder.path(), arguments, "");
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?} {told}");
        assert!(told.contains(word), "{arguments:?} {told}");
    }
}

#[test]
fn an_unreachable_server_is_1_for_every_verb_and_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let zone = "kind: Zone\nmetadata: {name: z}\nspec: {network: n, selector: {matchLabels: {a: b}}}\n";
    fs::write(folder.path().join("z.yaml"), zone).unwrap();
    for arguments in [
        &["apply", "-f", "z.yaml"][..],
        &["plan", "-f", "z.yaml"],
        &["delete", "-f", "z.yaml"],
        &["delete", "zone", "z"],
        &["get", "zones"],
        &["describe", "zone", "z"],
        &["reach", "a", "b", "tcp/80"],
        &["matrix"],
        &["trace", "a", "b", "tcp/80"],
        &["status"],
        &["zone", "list"],
        &["zone", "mode", "z", "monitor"],
    ] {
        let (code, out, told) = bulkhead(folder.path(), arguments, "");
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?} {told}");
        assert!(told.contains("http://127.0.0.1:9") && told.contains("--server or BULKHEAD_SERVER"), "{told}");
    }
}

#[test]
fn help_says_what_each_verb_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = bulkhead(folder.path(), &["--help"], "");
    assert_eq!(code, 0);
    assert!(out.contains("Exit codes: 0 yes or done; 1 failed; 2 wrong usage; 3 the answer is no"), "{out}");
    for verb in [
        "apply", "plan", "validate", "get", "describe", "edit", "delete", "reach", "matrix", "trace", "status", "zone",
        "import", "export",
    ] {
        assert!(out.contains(&format!("\n  {verb} ")), "{verb} is not listed:\n{out}");
        let (code, out, _) = bulkhead(folder.path(), &[verb, "--help"], "");
        assert_eq!(code, 0);
        let about = out.lines().next().unwrap();
        assert!(about.split(' ').count() >= 3, "{verb}: {about}");
    }
}
