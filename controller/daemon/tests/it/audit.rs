//! The audit log of a whole controller.

use crate::common;
use bulkhead_client::Client;
use bulkhead_daemon::start;
use bulkhead_driver_sim::Fabric;
use bulkhead_types::{AuditRecord, Chain};
use common::{admin, ask, config, policy, question, secured, status};
use std::{
    io::{Seek, Write},
    time::{Duration, Instant},
};

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All records, which fit together.
fn records(client: &Client) -> Vec<AuditRecord> {
    let page = client.audit(0, 1_000).unwrap();
    let mut chain = Chain::new(sha256);
    let records = page.records.iter().map(|line| chain.follow(line).unwrap()).collect();
    assert_eq!(page.head, chain.head);
    records
}

fn told(record: &AuditRecord) -> (&str, &str, &str, &str) {
    (&record.user, &record.known, &record.action, &record.outcome)
}

#[tokio::test]
async fn who_did_what_and_who_tried_to_is_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let config = secured(directory.path());
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, nobody) = admin(&config, &daemon);
    ask(move || {
        let root = root.of_user("alice@desk");
        root.apply(&policy("shop"), false).unwrap();
        // What changes nothing makes no record.
        root.apply(&policy("shop"), false).unwrap();
        root.apply(&policy("pay"), true).unwrap();
        let shop =
            nobody.clone().with_token(&root.create_token(&question("shop-ci", "editor@app=shop")).unwrap().token);
        assert!(root.create_token(&question("shop-ci", "viewer")).is_err());
        shop.delete(&policy("shop"), false).unwrap();
        root.revoke_token("shop-ci").unwrap();
        // Its record is there before its first part.
        std::io::copy(&mut root.backup().unwrap(), &mut std::io::sink()).unwrap();
        let mut records = records(&root);
        records.retain(|record| record.outcome != "rejected");
        let expected = [
            ("local-admin", "local", "POST /v1/apply", "done"),
            // Once, and the one that was refused follows with what is refused.
            ("local-admin", "local", "POST /v1/tokens", "done"),
            ("shop-ci", "token", "POST /v1/delete", "done"),
            ("local-admin", "local", "DELETE /v1/tokens/shop-ci", "done"),
            ("local-admin", "local", "GET /v1/backup", "done"),
        ];
        assert_eq!(records.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!((records[0].says.as_str(), records[0].revision), ("alice@desk", Some(1)));
        assert!(records[0].from.starts_with("127.0.0.1:"), "{}", records[0].from);
        assert_eq!(records[0].objects[0].key, "Policy/shop");
        assert!(records[2].says.is_empty() && records[2].objects[0].after.is_none());
        assert!(records[1].detail.contains("shop-ci by a token: editor@app=shop"), "{}", records[1].detail);
        assert!(records.iter().all(|record| !record.detail.contains("bulkhead_")));

        // What is refused follows a moment later.
        let viewer = nobody.clone().with_token(&root.create_token(&question("v", "viewer")).unwrap().token);
        let editor = nobody.clone().with_token(&root.create_token(&question("e", "editor@app=shop")).unwrap().token);
        assert_eq!(status(&nobody.status().unwrap_err()), 401);
        assert_eq!(status(&viewer.apply(&policy("shop"), false).unwrap_err()), 403);
        assert_eq!(status(&editor.apply(&policy("pay"), false).unwrap_err()), 403);
        assert_eq!(status(&viewer.audit(0, 1).unwrap_err()), 403);
        let deadline = Instant::now() + Duration::from_secs(30);
        let refused = loop {
            let mut records = self::records(&root);
            records.retain(|record| record.outcome == "refused");
            let taken = |record: &AuditRecord| record.detail.starts_with("409: there is a token of the name `shop-ci`");
            if records.len() >= 4 && self::records(&root).iter().filter(|record| taken(record)).count() == 1 {
                break records;
            }
            assert!(Instant::now() < deadline, "{records:?}");
            std::thread::sleep(Duration::from_millis(50));
        };
        let expected = [
            ("", "nobody", "GET /v1/status", "refused"),
            ("v", "token", "POST /v1/apply", "refused"),
            ("e", "token", "POST /v1/apply", "refused"),
            ("v", "token", "GET /v1/audit", "refused"),
        ];
        assert_eq!(refused.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!((refused[2].about.as_slice(), refused[2].revision), (&["Policy/pay".to_owned()][..], None));
    })
    .await;
    let (root, nobody) = admin(&config, &daemon);
    // What was refused last is written before the end.
    ask(move || {
        let _ = nobody.status();
        drop(root);
    })
    .await;
    daemon.stop().await.unwrap();
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, _) = admin(&config, &daemon);
    ask(move || assert_eq!(records(&root).iter().filter(|record| record.outcome == "refused").count(), 5)).await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_restored_backup_is_a_record_and_the_backup_has_none() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = start(&config(one.path()), Fabric::default()).await.unwrap();
    let url = format!("http://{}", daemon.listen);
    let file = ask(move || {
        let client = Client::new(&url).unwrap();
        client.apply(&policy("shop"), false).unwrap();
        client.apply(&policy("pay"), false).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::copy(&mut client.backup().unwrap(), &mut file).unwrap();
        file.flush().unwrap();
        file.rewind().unwrap();
        file
    })
    .await;
    daemon.stop().await.unwrap();
    let daemon = start(&config(two.path()), Fabric::default()).await.unwrap();
    let url = format!("http://{}", daemon.listen);
    ask(move || {
        let client = Client::new(&url).unwrap();
        client.restore(file).unwrap();
        client.apply(&policy("lab"), false).unwrap();
        let records = records(&client);
        let told: Vec<_> = records.iter().map(|record| (told(record), record.revision)).collect();
        assert_eq!(
            told,
            [
                (("api", "open", "POST /v1/restore", "done"), Some(2)),
                (("api", "open", "POST /v1/apply", "done"), Some(3))
            ]
        );
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn changes_that_are_refused_for_what_they_ask_are_written_down_up_to_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let config = secured(directory.path());
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, nobody) = admin(&config, &daemon);
    ask(move || {
        let shop = nobody.clone().with_token(&root.create_token(&question("shop-ci", "editor")).unwrap().token);
        let mut lost = policy("lost");
        lost[0]["spec"]["subject"] = serde_json::json!({"zone": "nowhere"});
        // Strangers' requests are another sort: they do not crowd out these.
        (0..200).for_each(|_| _ = nobody.status().unwrap_err());
        assert_eq!(status(&shop.apply(&lost, true).unwrap_err()), 422);
        (0..100).for_each(|_| assert_eq!(status(&shop.apply(&lost, false).unwrap_err()), 422));
        let mut stale = policy("shop");
        stale[0]["metadata"]["resourceVersion"] = 7.into();
        assert_eq!(status(&shop.apply(&stale, false).unwrap_err()), 409);
    })
    .await;
    daemon.stop().await.unwrap();
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, _) = admin(&config, &daemon);
    ask(move || {
        let mut records = records(&root);
        records.retain(|record| record.outcome == "rejected");
        // What is beyond is counted.
        assert_eq!(records.len(), 61, "{records:?}");
        for record in &records[..60] {
            assert_eq!(told(record), ("shop-ci", "token", "POST /v1/apply", "rejected"));
            assert_eq!((record.about.as_slice(), record.revision), (&["Policy/lost".to_owned()][..], None));
            assert!(record.detail.starts_with("422: Policy/lost: spec.subject.zone: "), "{}", record.detail);
        }
        let rest = &records[60];
        assert_eq!((rest.times, rest.action.as_str()), (Some(41), "several requests"));
        assert!(rest.detail.ends_with(", from shop-ci at 127.0.0.1"), "{}", rest.detail);
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_change_of_access_that_was_cut_off_is_told_of_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let config = secured(directory.path());
    start(&config, Fabric::default()).await.unwrap().stop().await.unwrap();
    std::fs::write(config.data_dir.join("tokens.new"), "{").unwrap();
    for _ in 0..2 {
        start(&config, Fabric::default()).await.unwrap().stop().await.unwrap();
    }
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, _) = admin(&config, &daemon);
    ask(move || {
        let records = records(&root);
        assert_eq!(records.iter().map(told).collect::<Vec<_>>(), [("", "controller", "start", "failed")]);
    })
    .await;
    daemon.stop().await.unwrap();
}
