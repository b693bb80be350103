//! What narrows access, in the midst of everybody's asking for more.

use crate::{Fabric, JSON, LIMIT, ask};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

/// Clients that allow more and more, as fast as they are answered.
const GRANTERS: usize = 8;
/// Revocations meanwhile.
const REVOCATIONS: usize = 40;

#[test]
fn r22_revocations_are_in_force_soon_under_a_flood_of_allows() {
    let fabric = Fabric::new(3);
    let allow = |name: &str, port: usize| {
        format!(
            "kind: Policy\nmetadata: {{name: {name}}}\nspec:\n  subject: {{matchLabels: {{app: b}}}}\n  ingress: [{{action: \
             allow, from: [{{matchLabels: {{app: a}}}}], ports: [{{protocol: tcp, port: {port}}}]}}]\n"
        )
    };
    let over = AtomicBool::new(false);
    let (mut times, grants) = thread::scope(|scope| {
        let grant = |client: usize| {
            let mut grants = 0;
            while !over.load(Ordering::Relaxed) {
                let documents: Vec<_> = (0..20)
                    .map(|n| allow(&format!("grant-{client}-{n}"), 2000 + client * 5000 + (grants * 20 + n) % 5000))
                    .collect();
                fabric.apply(documents.join("---\n").as_bytes());
                grants += 1;
            }
            grants
        };
        let granters: Vec<_> = (0..GRANTERS).map(|client| scope.spawn(move || grant(client))).collect();
        let times: Vec<_> = (0..REVOCATIONS)
            .map(|n| {
                fabric.apply(allow("revoked", 60_000 + n).as_bytes());
                let began = Instant::now();
                let (status, answer) = ask(fabric.api, "DELETE", "/v1/policies/revoked", JSON, b"");
                assert_eq!(status, 200, "{answer}");
                let revision =
                    serde_json::from_str::<serde_json::Value>(&answer).unwrap()["revision"].as_u64().unwrap();
                let realized = fabric.controller.client.realization(revision, LIMIT).unwrap();
                assert!(realized.realized, "not within {LIMIT:?}: {realized:?}");
                began.elapsed()
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        (times, granters.into_iter().map(|granter| granter.join().unwrap()).sum::<usize>())
    });
    times.sort_unstable();
    // Of forty, the longest.
    let (p50, p99) = (times[REVOCATIONS / 2], times[REVOCATIONS - 1]);
    println!(
        "{grants} changes of 20 grants each meanwhile; revocations in force after {p50:?}, the slowest after {p99:?}"
    );
    assert!(grants > 2 * REVOCATIONS, "no flood: {grants}");
    assert!(p99 <= LIMIT);
    let metrics = ask(fabric.api, "GET", "/metrics", JSON, b"").1;
    let waits = metrics.lines().find_map(|line| line.strip_prefix("bulkhead_change_wait_seconds_count "));
    assert!(waits.unwrap().parse::<usize>().unwrap() >= grants, "{metrics}");
}
