//! Every target over its kept inputs and a bounded number of changed ones; `make fuzz` does the same for millions.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_fuzz::{Mutator, TARGETS, corpus, regressions, target};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Changed inputs for each target: a few seconds of a debug build.
const EXECUTIONS: usize = 2_000;

#[test]
fn r24_kept_inputs_break_nothing() {
    for target in TARGETS {
        let kept = corpus(target.name).unwrap();
        assert!(!kept.is_empty(), "{} has no corpus", target.name);
        for (path, bytes) in kept.into_iter().chain(regressions(target.name).unwrap()) {
            println!("{}", path.display());
            (target.run)(&bytes);
        }
    }
}

#[test]
fn r24_changed_inputs_break_nothing() {
    for target in TARGETS {
        let inputs: Vec<_> = corpus(target.name).unwrap().into_iter().map(|(_, bytes)| bytes).collect();
        let mut mutator = Mutator::new(target.shape, 0);
        let mut input = Vec::new();
        for _ in 0..EXECUTIONS {
            mutator.make(&inputs, &mut input);
            let whole = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(whole.is_ok(), "{}: {:?}", target.name, String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn equal_seeds_make_equal_inputs() {
    let inputs = [b"kind: Zone".to_vec(), b"spec: {}".to_vec()];
    let made = |seed| {
        let mut mutator = Mutator::new(TARGETS[5].shape, seed);
        let mut all = Vec::new();
        let mut input = Vec::new();
        for _ in 0..100 {
            mutator.make(&inputs, &mut input);
            all.push(input.clone());
        }
        all
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}

/// An OpenFlow message of a type, a fixed part and `n` of an element.
fn message(kind: u8, fixed: &[u8], element: &[u8], n: usize) -> Vec<u8> {
    let body = [fixed.to_vec(), element.repeat(n)].concat();
    let length = u16::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&[4, kind, length[0], length[1], 0, 0, 0, 1], &body[..]].concat()
}

/// A flow-mod whose actions have this length.
fn flow_mod(actions: &[u8], n: usize) -> Vec<u8> {
    let length = u16::try_from(8 + actions.len() * n).unwrap().to_be_bytes();
    let mut fixed = vec![0; 40];
    fixed.extend([0, 1, 0, 4, 0, 0, 0, 0, 0, 4, length[0], length[1], 0, 0, 0, 0]);
    message(14, &fixed, actions, n)
}

/// Time that this thread had a processor: what else the machine does is not the target's.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// The shortest of several runs.
fn shortest(run: impl Fn()) -> Duration {
    let time = |_| {
        let began = used();
        run();
        used() - began
    };
    (0..7).map(time).min().unwrap()
}

/// A target and what makes its input of a size.
type Grower = (&'static str, fn(usize) -> Vec<u8>);

#[test]
fn r24_time_is_linear_in_the_length() {
    const GROWN: usize = 8;
    // Squared it would be 64 times as much.
    const MOST: u32 = 40;
    let growers: [Grower; 18] = [
        ("openflow_message", |n| flow_mod(&[0, 24, 0, 8, 0, 0, 0, 0], n)),
        ("openflow_message", |n| flow_mod(&[0x12, 0x34, 0, 8, 1, 2, 3, 4], n)),
        ("openflow_message", |n| message(0, &[], &[0, 9, 0, 8, 0, 0, 0, 0], n)),
        ("openflow_message", |n| message(19, &[0, 13, 0, 0, 0, 0, 0, 0], &[1; 64], n / 8)),
        ("openflow_session", |n| [vec![1], message(2, &[], &[0; 8], n)].concat()),
        ("openflow_session", |n| [vec![255], message(2, &[], &[], 0).repeat(n)].concat()),
        ("oxm", |n| [0x80, 0, 0x14, 1, 6].repeat(n)),
        ("nicira_actions", |n| [0xff, 0xff, 0, 16, 0, 0, 0x23, 0x20, 0, 1, 0, 1, 5, 0, 0, 0].repeat(n)),
        ("flow_text", |n| format!("actions={}drop", "dec_ttl,".repeat(n)).into()),
        ("resource_yaml", |n| {
            let label = |n| format!("k{n}: v, ");
            let labels: String = (0..n / 16).map(label).collect();
            format!("kind: Zone\nmetadata: {{name: z}}\nspec: {{network: n, selector: {{matchLabels: {{{labels}}}}}}}")
                .into()
        }),
        ("resource_yaml", |n| "kind: Zone\nmetadata: {name: z}\n---\n".repeat(n / 64).into()),
        ("ovsdb_session", |n| r#"{"id":9,"method":"echo","params":[]}"#.repeat(n / 4).into()),
        ("ovsdb_session", |n| {
            let row = |n| format!(r#""{n:08x}-0000-0000-0000-000000000000":{{"insert":{{"ofport":{n}}}}},"#);
            let rows: String = (0..n / 4).map(row).collect();
            let update = format!(r#"{{"method":"update2","params":["bulkhead",{{"Interface":{{{rows}"#);
            let update = format!("{}}}}}]}}", update.trim_end_matches(','));
            [include_bytes!("../corpus/ovsdb_session/00"), update.as_bytes()].concat()
        }),
        ("kubernetes", |n| {
            let rules = "{\"ports\":[{\"port\":80}],\"x\":1},".repeat(n / 16);
            let head = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p"},"spec":"#;
            format!("{head}{{\"ingress\":[{}]}}}}", rules.trim_end_matches(',')).into()
        }),
        ("kubernetes", |n| {
            let label = |n| format!("k{n}: v, ");
            let labels: String = (0..n / 16).map(label).collect();
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, labels: {{{labels}}}}}").into()
        }),
        ("kubernetes", |n| "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n".repeat(n / 64).into()),
        ("security_groups", |n| {
            let rule =
                |n| format!(r#"{{"IpProtocol":"{}","IpRanges":[{{"CidrIp":"10.0.{}.0/24"}}]}},"#, n % 256, n / 256);
            let rules: String = (0..n / 2).map(rule).collect();
            let head = r#"{"SecurityGroups":[{"GroupId":"sg-1","IpPermissions":["#;
            format!("{head}{}]}}]}}", rules.trim_end_matches(',')).into()
        }),
        ("resource_json", |n| format!("{}{}", "[".repeat(20), "{\"kind\":\"Zone\"},".repeat(n)).into()),
    ];
    for (at, (name, make)) in growers.into_iter().enumerate() {
        let run = target(name).unwrap().run;
        let (small, large) = (make(900), make(900 * GROWN));
        assert!(large.len() >= 6 * small.len(), "{at}: {name} does not grow");
        let short = shortest(|| run(&small)).max(Duration::from_micros(20));
        let long = shortest(|| run(&large));
        assert!(long < short * MOST, "{at}: {name}: {short:?} for {}, {long:?} for {} bytes", small.len(), large.len());
    }
}
