//! Hostile requests: each is refused with the status that says why, and changes nothing.

use crate::{Fabric, JSON, PATCH, PATIENCE, YAML, ask, policy, raw};
use bulkhead_tests::fake::run::look;
use bulkhead_types::{MAX_NODES, Problem};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    thread,
};

/// A request of one fault: content type, body, and what it is to be told. Without the fault it would be accepted.
type Faulty = (&'static str, Vec<u8>, &'static str);

/// Asks each and holds its status against `status`, and its only finding, or what it is told as a whole, against the
/// reason; nothing of them may be there afterwards.
fn refused(fabric: &Fabric, status: u16, requests: &[Faulty]) {
    fabric.meanwhile(|| {
        for (content, body, reason) in requests {
            let (got, answer) = ask(fabric.api, "POST", "/v1/apply", content, body);
            let shown = String::from_utf8_lossy(body).chars().take(80).collect::<String>();
            assert_eq!(got, status, "{shown}: {answer}");
            let problem: Problem = serde_json::from_str(&answer).unwrap();
            let told = match problem.diagnostics.as_slice() {
                [] => &problem.detail,
                [finding] => &finding.message,
                more => panic!("{shown}: {} faults: {more:?}", more.len()),
            };
            assert!(told.contains(reason) && told.len() < 1000, "{shown}: {told}");
        }
    });
    for (kind, there) in [("networks", 1), ("workloads", 2), ("zones", 0), ("policies", 1), ("switches", 1)] {
        assert_eq!(fabric.controller.client.list(kind, None).unwrap().items.len(), there, "{kind}");
    }
}

/// Nothing is wrong with a document.
fn accepted(fabric: &Fabric, content: &str, document: &str) {
    let (status, answer) = ask(fabric.api, "POST", "/v1/apply?dryRun=true", content, document.as_bytes());
    assert_eq!(status, 200, "{document}: {answer}");
}

/// Documents without a fault, for one to be put in.
const ZONE: &str =
    "kind: Zone\nmetadata: {name: z}\nspec: {network: net, isolate: [], selector: {matchLabels: {app: a}}}\n";
const ZONE_JSON: &str =
    r#"{"kind":"Zone","metadata":{"name":"z"},"spec":{"network":"net","selector":{"matchLabels":{"app":"a"}}}}"#;
const SET: &str = "kind: AddressSet\nmetadata: {name: s}\nspec: {cidrs: [198.51.100.0/24]}\n";

/// One of them, with a fault in place of what is right.
fn zone(right: &str, wrong: &str) -> Vec<u8> {
    assert!(ZONE.contains(right));
    ZONE.replace(right, wrong).into_bytes()
}

fn zone_json(right: &str, wrong: &str) -> Vec<u8> {
    assert!(ZONE_JSON.contains(right));
    ZONE_JSON.replacen(right, wrong, 1).into_bytes()
}

fn set(cidrs: &str) -> Vec<u8> {
    SET.replace("[198.51.100.0/24]", cidrs).into_bytes()
}

/// Sends `chunk` for ever after `head`, until nobody takes it any more; what was taken, and the answer.
fn endless(address: SocketAddr, head: &str, chunk: &[u8], most: usize) -> (usize, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut sent = 0;
    while sent < most && stream.write_all(chunk).is_ok() {
        sent += chunk.len();
    }
    let mut answer = Vec::new();
    // What was sent beyond the answer may have reset the connection.
    let _ = stream.read_to_end(&mut answer);
    (sent, String::from_utf8_lossy(&answer).into_owned())
}

/// What may be on the way beside what is read: both sockets' buffers, at most 4 MiB and 6 MiB by Linux' defaults.
const BUFFERED: usize = 10 << 20;

#[test]
fn a37_a_body_of_a_hundred_megabytes_is_refused_unread() {
    let fabric = Fabric::new(1);
    let hundred = 100 << 20;
    fabric.meanwhile(|| {
        let head = format!(
            "POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: {YAML}\r\nContent-Length: {hundred}\r\n\r\n"
        );
        // Whoever waits for the answer gets one.
        let (_, answer) = endless(fabric.api, &head, b"", 0);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        // Whoever does not is not listened to.
        let (sent, _) = endless(fabric.api, &head, &[b'#'; 1 << 16], hundred);
        assert!(sent <= BUFFERED, "{sent} bytes were taken");
    });
}

#[test]
fn a37_a_chunked_body_without_an_end_is_read_up_to_the_limit() {
    let fabric = Fabric::new(1);
    let chunk = [b"10000\r\n".as_slice(), &[b'#'; 1 << 16], b"\r\n"].concat();
    let before = fabric.controller.peak().unwrap();
    fabric.meanwhile(|| {
        let head = format!(
            "POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: {YAML}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let (sent, answer) = endless(fabric.api, &head, &chunk, 1 << 30);
                    assert!(sent <= bulkhead_types::MAX_INPUT + BUFFERED, "{sent} bytes were taken");
                    // Who is at it longest makes room for the others.
                    let made_room = answer.is_empty() || answer.starts_with("HTTP/1.1 503 ");
                    assert!(made_room || answer.starts_with("HTTP/1.1 413 "), "{answer}");
                });
            }
        });
    });
    let grown = fabric.controller.peak().unwrap().saturating_sub(before);
    println!("16 endless bodies: {} MiB more", grown >> 20);
    assert!(grown < 256 << 20, "{} MiB", grown >> 20);
}

#[test]
fn a37_bombs_and_nesting_change_nothing() {
    let fabric = Fabric::new(1);
    [(YAML, ZONE), (JSON, ZONE_JSON), (YAML, SET)].into_iter().for_each(|(kind, text)| accepted(&fabric, kind, text));
    let mut bomb = "&a [198.51.100.0/24]".to_string();
    for name in 'b'..='i' {
        bomb = format!("&{name} [{bomb}{}]", format!(", *{}", char::from(name as u8 - 1)).repeat(8));
    }
    let deep = |open: &str, close: &str| open.repeat(100_000) + "1" + &close.repeat(100_000);
    let block: String = (1..2_000).map(|i| " ".repeat(i) + "a:\n").collect();
    let flat = "1,".repeat(MAX_NODES);
    refused(
        &fabric,
        422,
        &[
            (YAML, set(&bomb), "anchors"),
            (YAML, set("&a [*a]"), "anchors"),
            (YAML, set("*a"), "unknown anchor"),
            (YAML, zone("{app: a}", "{<<: {app: a}}"), "merge keys"),
            (YAML, zone("app: a", "app: !!binary YQ=="), "tags"),
            (YAML, set(&deep("[", "]")), "recursion limit"),
            (YAML, set(&deep("{a: ", "}")), "nested deeper"),
            (JSON, zone_json("\"a\"", &deep("[", "]")), "nested deeper"),
            (JSON, zone_json("\"a\"", &deep("{\"a\":", "}")), "nested deeper"),
            (YAML, ("kind: Zone\nspec:\n".to_owned() + &block).into_bytes(), "nested deeper"),
            (YAML, ("kind: Zone\nspec:\n".to_owned() + &"- ".repeat(1_000_000)).into_bytes(), "nested deeper"),
            (YAML, (ZONE.to_owned() + &"? ".repeat(1_000_000)).into_bytes(), "a key that is a list or a map"),
            (JSON, zone_json("\"a\"", &format!("[{flat}1]")), "more than 5000000 values"),
            (JSON, zone_json("}}}}", "}}}"), "the end of the input"),
            (YAML, vec![b' '; 4 << 20].into_iter().chain(*b"x").collect(), "a document is a map"),
        ],
    );
}

#[test]
fn a37_numbers_text_and_keys_that_mean_two_things_are_refused() {
    let fabric = Fabric::new(1);
    let json = |vni: &str| {
        format!(
            "{{\"kind\":\"Network\",\"metadata\":{{\"name\":\"n\"}},\"spec\":{{\"vni\":{vni},\"subnets\":[\"10.0.0.0/8\"]}}}}"
        )
    };
    let yaml =
        |vni: &str| format!("kind: Network\nmetadata: {{name: n}}\nspec: {{vni: {vni}, subnets: [10.0.0.0/8]}}\n");
    accepted(&fabric, JSON, &json("5"));
    accepted(&fabric, YAML, &yaml("5"));
    let mut requests: Vec<Faulty> = Vec::new();
    let digits = "9".repeat(1 << 20);
    for (number, in_json, in_yaml) in [
        ("99999999999999999999999999", "expected u32", "expected u32"),
        ("1e400", "a value expected", "expected u32"),
        ("-1", "expected u32", "expected u32"),
        ("1.5", "expected u32", "expected u32"),
        ("16777216", "16777216 is not a VNI", "16777216 is not a VNI"),
        ("4294967297", "expected u32", "expected u32"),
        ("NaN", "a value expected", "expected u32"),
        ("0x10", "a value expected", "expected u32"),
        ("\"5\"", "expected u32", "expected u32"),
        ("null", "`vni` has no value", "`vni` has no value"),
        (&digits, "a value expected", "invalid type: string"),
    ] {
        requests.push((JSON, json(number).into_bytes(), in_json));
        requests.push((YAML, yaml(number).into_bytes(), in_yaml));
    }
    let invalid = |name: &[u8]| {
        let at = ZONE.find("z}").unwrap();
        [&ZONE.as_bytes()[..at], name, &ZONE.as_bytes()[at + 1..]].concat()
    };
    // Twice the same key, invalid and overlong UTF-8, a lone surrogate, control characters, unknown fields.
    requests.extend([
        (JSON, zone_json("{\"kind\"", "{\"kind\":\"Zone\",\"kind\""), "`kind` is there twice"),
        (YAML, zone("name: z", "name: z, name: y"), "`name` is there twice"),
        (YAML, invalid(b"\xff\xfe"), "not UTF-8"),
        (YAML, invalid(b"\xc0\xaf"), "not UTF-8"),
        (JSON, zone_json("\"z\"", "\"\\ud800\""), "escape that is not allowed"),
        (JSON, zone_json("\"z\"", "\"a\\u0000b\""), "is not a valid name"),
        (YAML, zone("isolate:", "isolat:"), "unknown field `isolat`"),
        (YAML, zone("name: z", "name: z, owner: me"), "unknown field `owner`"),
    ]);
    refused(&fabric, 422, &requests);
    // What a web page can send without asking is no content type of ours.
    let types = [
        "text/plain",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/html",
        "application/jsonp",
    ];
    refused(&fabric, 415, &types.map(|content| (content, ZONE.as_bytes().to_vec(), "Content-Type")));
}

#[test]
fn a26_other_letters_are_other_names_or_none() {
    let fabric = Fabric::new(1);
    let mut requests: Vec<Faulty> = Vec::new();
    // Capitals; Cyrillic, full width and combining look-alikes; invisible characters; spaces; a path.
    for name in [
        "Web",
        "WEB",
        "w\u{435}b",
        "\u{ff57}eb",
        "we\u{301}b",
        "web\u{200b}",
        "web\u{feff}",
        " web",
        "web ",
        "a/../b",
        "a%2fb",
        "-a",
        "",
    ] {
        requests.push((YAML, zone("name: z", &format!("name: \"{name}\"")), "is not a valid name"));
    }
    for kind in ["zone", "ZONE", "zones", "Zon\u{435}"] {
        requests.push((YAML, zone("kind: Zone", &format!("kind: {kind}")), "there is no kind"));
    }
    // A reference in other letters is a reference to something else.
    requests.push((YAML, zone("network: net", "network: Net"), "`Net` is not a valid name"));
    let policy_with = |word: &str| policy(7).replace("  subject:", word).into_bytes();
    accepted(&fabric, YAML, &policy(7));
    requests.push((YAML, policy_with("  Subject:"), "unknown field `Subject`"));
    refused(&fabric, 422, &requests);
    for (path, status) in [
        ("/v1/Policies/p", 404),
        ("/v1/policies/P", 400),
        ("/v1/policies/%70", 200),
        ("/v1/policies/p%00", 400),
        ("/v1//policies/p", 404),
    ] {
        assert_eq!(ask(fabric.api, "GET", path, JSON, b"").0, status, "{path}");
    }
    // Labels are compared letter by letter: another case is another label, and selects nobody.
    let verdict = |app: &str| {
        fabric.apply(format!("kind: Workload\nmetadata: {{name: a1, labels: {{app: {app}}}}}\nspec: {{network: net, interfaces: [{{mac: \"02:00:00:00:01:00\", ips: [10.0.1.0], attachment: {{switch: hv1, port: a}}}}]}}\n").as_bytes());
        fabric.apply(policy(80).as_bytes());
        let (_, answer) =
            ask(fabric.api, "POST", "/v1/reach", JSON, br#"{"from":"a1","to":"b1","protocol":"tcp","port":80}"#);
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["verdict"].as_str().map(String::from)
    };
    assert_eq!(verdict("A").as_deref(), Some("deny"));
}

#[test]
fn a29_there_is_no_way_to_write_a_flow() {
    let fabric = Fabric::new(1);
    let flow = br#"{"kind":"Flow","metadata":{"name":"f"},"spec":{"match":{},"actions":["output:2"]}}"#;
    let open = b"kind: Policy\nmetadata: {name: open}\nspec:\n  subject: {matchLabels: {app: b}}\n  flows: [\"priority=65535,actions=NORMAL\"]\n  ingress: []\n";
    refused(
        &fabric,
        422,
        &[(JSON, flow.to_vec(), "there is no kind `Flow`"), (YAML, open.to_vec(), "unknown field `flows`")],
    );
    let flows = |fabric: &Fabric| look(&fabric.switches[0]).flows().map(|flow| format!("{flow:?}")).collect::<Vec<_>>();
    let before = flows(&fabric);
    for (method, path, status) in [
        ("POST", "/v1/flows", 405),
        ("GET", "/v1/flows", 404),
        ("PUT", "/v1/flows/f", 404),
        ("POST", "/v1/switches/hv1/flows", 404),
        ("PUT", "/v1/switches/hv1/entries/1", 404),
        ("POST", "/stats/flowentry/add", 404),
        ("POST", "/restconf/operations/sal-flow:add-flow", 404),
        ("POST", "/v1/trace", 400),
        ("PATCH", "/v1/switches/hv1", 415),
    ] {
        assert_eq!(ask(fabric.api, method, path, JSON, flow).0, status, "{method} {path}");
    }
    for patch in [&flow[..], br#"{"spec":{"flows":["priority=65535,actions=NORMAL"]}}"#] {
        let (status, said) = ask(fabric.api, "PATCH", "/v1/switches/hv1", PATCH, patch);
        assert_eq!(status, 422, "{said}");
    }
    fabric.edit();
    fabric.apply(policy(1000).as_bytes());
    assert_eq!(flows(&fabric).len(), before.len());
}

#[test]
fn a28_of_contradictory_edits_at_once_one_wins_and_the_switches_have_it() {
    let fabric = Fabric::new(2);
    let clients = 8;
    let own = |port: u16, version: Option<u64>| {
        let text = policy(port);
        version.map_or(text.clone(), |v| text.replace("{name: p}", &format!("{{name: p, resourceVersion: {v}}}")))
    };
    let at_once = |version: Option<u64>, round: u16| -> Vec<u16> {
        let start = Barrier::new(clients);
        thread::scope(|scope| {
            let (start, fabric, own) = (&start, &fabric, &own);
            let tasks: Vec<_> = (0..clients as u16)
                .map(|i| {
                    scope.spawn(move || {
                        let body = own(10_000 + round * 100 + i, version);
                        start.wait();
                        ask(fabric.api, "PUT", "/v1/policies/p", YAML, body.as_bytes()).0
                    })
                })
                .collect();
            tasks.into_iter().map(|task| task.join().unwrap()).collect()
        })
    };
    for round in 0..5 {
        let version = fabric.controller.client.get("policies", "p").unwrap()["metadata"]["resourceVersion"].as_u64();
        let mut statuses = at_once(version, round);
        statuses.sort_unstable();
        assert_eq!(statuses, [&[200][..], &[409; 7]].concat(), "round {round}");
        assert!(at_once(None, round + 10).iter().all(|status| *status == 200));
    }
    // The switches have what the last one said, and nothing of the others: as if it had been the only one.
    let document = fabric.controller.client.get("policies", "p").unwrap();
    let last = document["spec"]["ingress"][0]["ports"][0]["port"].as_u64().unwrap();
    fabric.acknowledged(fabric.revision(), PATIENCE);
    let flows = |fabric: &Fabric| -> Vec<Vec<String>> {
        let of = |switch| {
            look(switch)
                .flows()
                .map(|f| format!("{} {} {:?} {:?}", f.table, f.priority, f.matching, f.instructions))
                .collect()
        };
        fabric.switches.iter().map(of).collect()
    };
    let fresh = Fabric::new(2);
    let revision = fresh.apply(policy(u16::try_from(last).unwrap()).as_bytes());
    fresh.acknowledged(revision, PATIENCE);
    assert_eq!(flows(&fabric), flows(&fresh));
}

#[test]
fn a38_streams_that_are_opened_and_reset_end_the_connection() {
    let fabric = Fabric::new(1);
    fabric.meanwhile(|| {
        let mut attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for stream in (1..200_001_u32).step_by(2) {
            // HEADERS (GET /v1/status by static table entries), then RST_STREAM with CANCEL.
            attack.extend([0, 0, 3, 1, 5]);
            attack.extend(stream.to_be_bytes());
            attack.extend([0x82, 0x84, 0x86]);
            attack.extend([0, 0, 4, 3, 0]);
            attack.extend(stream.to_be_bytes());
            attack.extend([0, 0, 0, 8]);
        }
        for _ in 0..20 {
            // It is over long before all of that is read.
            raw(fabric.api, &attack);
        }
        // An offer to change over is not taken.
        let upgrade = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        assert!(raw(fabric.api, upgrade.as_bytes()).starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn r25_requests_that_do_not_wait_for_their_answers_get_them_in_order() {
    let fabric = Fabric::new(1);
    fabric.meanwhile(|| {
        let mut stream = TcpStream::connect(fabric.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let many = 2_000;
        let mut reader = stream.try_clone().unwrap();
        let asker = thread::spawn(move || {
            for i in 0..many {
                let last = if i + 1 == many { "Connection: close\r\n" } else { "" };
                let path = if i % 2 == 0 { "/healthz" } else { "/v1/nothing/here" };
                stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n").as_bytes()).unwrap();
            }
            // Not to be closed before everything is read.
            stream
        });
        let mut answers = String::new();
        reader.read_to_string(&mut answers).unwrap();
        drop(asker.join().unwrap());
        let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses.len(), many);
        assert!(statuses.chunks(2).all(|pair| pair == ["200", "404"]), "out of order");
    });
}

#[test]
fn r25_heads_that_are_too_large_or_make_no_sense_end_their_connection() {
    let fabric = Fabric::new(1);
    fabric.meanwhile(|| {
        let many = "x: y\r\n".repeat(10_000);
        let post = format!("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: {YAML}\r\n");
        for (head, status) in [
            (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20)), 431),
            (format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)), 431),
            (format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431),
            ("GET\r\n\r\n".into(), 400),
            ("\0\x01\x02\x03\r\n\r\n".into(), 400),
            // Two lengths, or a length and chunks: what one reader skips another would take for a request.
            (format!("{post}Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde"), 400),
            (format!("{post}Content-Length: -1\r\n\r\n"), 400),
            (format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"), 400),
        ] {
            let answer = raw(fabric.api, head.as_bytes());
            let shown = head.chars().take(60).collect::<String>();
            // Who is refused before he has said all may lose the answer with the connection.
            let lost = answer.is_empty() && head.len() > 1 << 16;
            assert!(lost || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        }
    });
}
