//! Earlier revisions of a whole controller: told, compared, gone back to; carried away and brought back.

use crate::common;
use bulkhead_client::Client;
use bulkhead_daemon::{Daemon, start};
use bulkhead_driver_sim::Fabric;
use bulkhead_pipeline::Program;
use bulkhead_types::{ApplyAnswer, RollbackQuestion, Verdict, read_backup};
use common::config;
use serde_json::{Value, json};
use std::{fs, io::Read, path::Path, time::Duration};

/// A controller with a simulated switch, and a client of it.
struct Rig {
    daemon: Daemon,
    fabric: Fabric,
    client: Client,
}

impl Rig {
    async fn start(directory: &Path) -> Self {
        let fabric = Fabric::default();
        let daemon = start(&config(directory), fabric.clone()).await.unwrap();
        let client = Client::new(&format!("http://{}", daemon.listen)).unwrap().of_user("alice@hv1");
        Self { daemon, fabric, client }
    }

    /// Asks off the test's own thread.
    async fn ask<R: Send + 'static>(&self, ask: impl FnOnce(&Client) -> R + Send + 'static) -> R {
        let client = self.client.clone();
        tokio::task::spawn_blocking(move || ask(&client)).await.unwrap()
    }

    async fn apply(&self, documents: Vec<Value>) -> ApplyAnswer {
        self.ask(move |client| client.apply(&documents, false).unwrap()).await
    }

    /// The switch's program, once it has the newest revision.
    async fn program(&self, revision: u64) -> Program {
        let realized = self.ask(move |client| client.realization(revision, Duration::from_secs(60)).unwrap()).await;
        assert!(realized.realized && realized.disconnected.is_empty(), "{realized:?}");
        self.fabric.with(&"hv1".parse().unwrap(), |switch| switch.program().clone())
    }
}

fn base() -> Vec<Value> {
    let mut documents = vec![
        json!({"kind": "Network", "metadata": {"name": "prod"}, "spec": {"vni": 5001, "subnets": ["10.1.0.0/16"]}}),
        json!({"kind": "Switch", "metadata": {"name": "hv1"}, "spec": {"driver": "sim"}}),
        json!({"kind": "Policy", "metadata": {"name": "out"}, "spec": {"egress": [{"action": "allow"}],
            "subject": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}}}),
    ];
    documents.extend((1..=4).map(|n| workload(n, "web")));
    documents
}

fn workload(n: u64, tier: &str) -> Value {
    let interface = json!({"mac": format!("02:00:00:00:00:{n:02x}"), "ips": [format!("10.1.0.{n}")],
        "attachment": {"switch": "hv1", "port": format!("w{n}")}});
    json!({"kind": "Workload", "metadata": {"name": format!("w{n}"), "labels": {"tier": tier}},
        "spec": {"network": "prod", "interfaces": [interface]}})
}

fn policy(n: u64, tier: &str, port: u64) -> Value {
    json!({"kind": "Policy", "metadata": {"name": format!("p{n}")}, "spec": {
        "subject": {"matchLabels": {"tier": tier}},
        "ingress": [{"action": "allow", "from": [{"matchLabels": {"tier": "web"}}, {"cidr": format!("198.51.{n}.0/24")}],
            "ports": [{"protocol": "tcp", "port": port}]}]}})
}

/// xorshift: edits that are the same in every run.
fn random(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

#[tokio::test(flavor = "multi_thread")]
async fn any_revision_comes_back_with_the_very_same_program() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::start(directory.path()).await;
    let mut seed = 0x5eed_u64;
    let mut programs = vec![(rig.apply(base()).await.revision, Program::default())];
    programs[0].1 = rig.program(1).await;
    let tiers = ["web", "app", "db"];
    for _ in 0..14 {
        let tier = tiers[random(&mut seed, 3) as usize];
        let answer = match random(&mut seed, 4) {
            0 => {
                let gone = json!({"kind": "Policy", "metadata": {"name": format!("p{}", random(&mut seed, 3))}});
                rig.ask(move |client| client.delete(&[gone], false).unwrap()).await
            }
            1 => rig.apply(vec![workload(1 + random(&mut seed, 4), tier)]).await,
            _ => rig.apply(vec![policy(random(&mut seed, 3), tier, 80 + random(&mut seed, 4))]).await,
        };
        if answer.revision > programs.last().unwrap().0 {
            programs.push((answer.revision, rig.program(answer.revision).await));
        }
    }
    assert!(programs.len() > 8);
    let mut newest = programs.last().unwrap().0;
    for _ in 0..14 {
        let (revision, program) = &programs[random(&mut seed, programs.len() as u64) as usize];
        let question = RollbackQuestion { revision: *revision, newest: Some(newest) };
        newest = rig.ask(move |client| client.rollback(&question, false).unwrap()).await.revision;
        assert!(rig.program(newest).await == *program, "revision {revision} came back otherwise");
        let (from, to) = (*revision, newest);
        let diff = rig.ask(move |client| client.diff(from, Some(to)).unwrap()).await;
        assert!(diff.resources.is_empty() && diff.plan.gained.is_empty() && diff.plan.lost.is_empty());
    }
    // Back to when there was nothing: the switch is let go, and keeps what it has.
    let question = RollbackQuestion { revision: 0, newest: None };
    rig.ask(move |client| client.rollback(&question, false).unwrap()).await;
    assert!(rig.ask(|client| client.list("workloads", None).unwrap()).await.items.is_empty());
    rig.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_told_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::start(directory.path()).await;
    rig.apply(base()).await;
    rig.apply(vec![policy(1, "web", 80)]).await;
    rig.apply(vec![policy(1, "web", 81), workload(4, "app")]).await;
    let history = rig.ask(|client| client.history(None, 2).unwrap()).await;
    assert_eq!((history.revision, history.oldest), (3, 0));
    let told: Vec<_> = history.items.iter().map(|item| (item.revision, item.author.as_str(), item.more)).collect();
    assert_eq!(told, [(3, "alice@hv1", 0), (2, "alice@hv1", 0)]);
    let named: Vec<_> =
        history.items[0].changes.iter().map(|line| format!("{} {}", line.name, line.change.as_str())).collect();
    assert_eq!(named, ["w4 updated", "p1 updated"]);
    assert!(history.items[0].time.starts_with("20") && history.items[0].time.ends_with('Z'));
    let earlier = rig.ask(|client| client.history(Some(2), 10).unwrap()).await;
    assert_eq!((earlier.items.len(), earlier.items[0].changes.len()), (1, 7));
    // What it means: nobody reached anybody in a network that denies, then web reached web.
    let diff = rig.ask(|client| client.diff(1, Some(2)).unwrap()).await;
    assert_eq!((diff.from, diff.to, diff.resources.len()), (1, 2, 1));
    assert!(diff.resources[0].from.is_none() && diff.resources[0].to.as_ref().unwrap()["kind"] == "Policy");
    assert!(diff.plan.gained.iter().all(|row| row.port == Some(80) && row.verdict == Verdict::Allow));
    assert_eq!((diff.plan.gained.len(), diff.plan.lost.len()), (12, 0));
    let back = rig.ask(|client| client.diff(2, Some(1)).unwrap()).await;
    assert_eq!((back.plan.gained.len(), back.plan.lost.len()), (0, 12));
    let now = rig.ask(|client| client.diff(2, None).unwrap()).await;
    assert_eq!((now.to, now.resources.len(), now.plan.gained.len(), now.plan.lost.len()), (3, 2, 6, 12));
    // A stale rollback, and revisions that are not.
    let stale = RollbackQuestion { revision: 1, newest: Some(2) };
    let refused = rig.ask(move |client| client.rollback(&stale, false).unwrap_err().to_string()).await;
    assert!(refused.contains("revision 3 is the newest by now"), "{refused}");
    let refused = rig.ask(|client| client.diff(99, None).unwrap_err().to_string()).await;
    assert!(refused.contains("from 0 to 3"), "{refused}");
    let dry = RollbackQuestion { revision: 1, newest: None };
    let plan = rig.ask(move |client| client.rollback(&dry, true).unwrap()).await;
    assert_eq!((plan.revision, plan.changes.len(), plan.plan.unwrap().lost.len()), (3, 2, 6));
    rig.daemon.stop().await.unwrap();
    // All of it is there after a restart.
    let rig = Rig::start(directory.path()).await;
    assert_eq!(rig.ask(|client| client.history(None, 2).unwrap()).await, history);
    rig.daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_everything_back() {
    let (directory, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rig = Rig::start(directory.path()).await;
    rig.apply(base()).await;
    rig.apply(vec![policy(1, "web", 80)]).await;
    let program = rig.program(2).await;
    let history = rig.ask(|client| client.history(None, 10).unwrap()).await;
    let backup = rig
        .ask(|client| {
            let mut bytes = Vec::new();
            client.backup().unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        })
        .await;
    assert_eq!(read_backup(&backup[..], |_| Ok(())).unwrap().revision, 2);
    let path = directory.path().join("backup");
    let file = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        fs::File::open(&path).unwrap()
    };
    // Into one that has something it is not restored.
    let whole = file(&backup);
    let refused = rig.ask(move |client| client.restore(whole).unwrap_err().to_string()).await;
    assert!(refused.contains("nothing was changed"), "{refused}");
    rig.daemon.stop().await.unwrap();
    let rig = Rig::start(empty.path()).await;
    for damage in [&backup[..backup.len() / 2], b"", &[&backup[..], b"x"].concat(), &{
        let mut flipped = backup.clone();
        flipped[backup.len() / 2] ^= 1;
        flipped
    }] {
        let damaged = file(damage);
        let refused = rig.ask(move |client| client.restore(damaged).unwrap_err().to_string()).await;
        assert!(refused.contains("nothing was changed"), "{refused}");
    }
    assert_eq!(rig.ask(|client| client.history(None, 10).unwrap()).await.revision, 0);
    let whole = file(&backup);
    let answer = rig.ask(move |client| client.restore(whole).unwrap()).await;
    assert_eq!((answer.revision, answer.resources), (2, 8));
    assert!(rig.program(2).await == program, "another program came back");
    assert_eq!(rig.ask(|client| client.history(None, 10).unwrap()).await, history);
    // It goes on, and what was given after the backup was made is given to nobody else.
    let answer = rig.apply(vec![workload(9, "new")]).await;
    assert_eq!(answer.revision, 3);
    rig.program(3).await;
    rig.daemon.stop().await.unwrap();
    let rig = Rig::start(empty.path()).await;
    assert_eq!(rig.ask(|client| client.list("workloads", None).unwrap()).await.items.len(), 5);
    rig.daemon.stop().await.unwrap();
}
