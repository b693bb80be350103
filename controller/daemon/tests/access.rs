//! Tokens of a whole controller: they close it, survive it, and are carried nowhere.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use bulkhead_client::{Client, Error};
use bulkhead_daemon::{Daemon, start};
use bulkhead_driver_sim::Fabric;
use bulkhead_types::TokenQuestion;
use common::config;
use serde_json::{Value, json};
use std::{fs, io::Read};

fn client(daemon: &Daemon) -> Client {
    Client::new(&format!("http://{}", daemon.listen)).unwrap().of_user("root")
}

/// Asks off the test's own thread.
async fn ask<R: Send + 'static>(ask: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(ask).await.unwrap()
}

fn status(error: &Error) -> u16 {
    error.problem().map(|problem| problem.status).unwrap_or_default()
}

fn question(name: &str, grant: &str) -> TokenQuestion {
    TokenQuestion { name: name.into(), grants: vec![grant.into()], days: None }
}

fn policy(app: &str) -> Vec<Value> {
    vec![json!({"kind": "Policy", "metadata": {"name": app},
        "spec": {"subject": {"matchLabels": {"app": app}}, "ingress": []}})]
}

#[tokio::test]
async fn tokens_close_a_controller() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&config(directory.path()), Fabric::default()).await.unwrap();
    let open = client(&daemon);
    let (root, shop) = ask(move || {
        assert_eq!(open.apply(&policy("pay"), false).unwrap().revision, 1);
        let token = open.create_token(&question("root", "admin")).unwrap().token;
        assert_eq!(status(&open.status().unwrap_err()), 401);
        assert_eq!(status(&open.apply(&policy("pay"), false).unwrap_err()), 401);
        assert_eq!(status(&open.clone().with_token("bulkhead_1_2").status().unwrap_err()), 401);
        let root = open.clone().with_token(&token);
        let shop = root.create_token(&question("shop-ci", "editor@app=shop")).unwrap();
        assert_eq!(shop.line.author, "root");
        (token, shop.token)
    })
    .await;
    daemon.stop().await.unwrap();

    let daemon = start(&config(directory.path()), Fabric::default()).await.unwrap();
    let open = client(&daemon);
    ask(move || {
        assert_eq!(status(&open.status().unwrap_err()), 401);
        let (root, shop) = (open.clone().with_token(&root), open.with_token(&shop));
        // Nothing of it is new, so it changes nothing of others.
        assert_eq!(shop.apply(&policy("pay"), false).unwrap().revision, 1);
        assert_eq!(status(&shop.apply(&policy("lab"), false).unwrap_err()), 403);
        assert_eq!(root.apply(&policy("lab"), false).unwrap().revision, 2);
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn tokens_are_in_no_backup_and_no_history() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&config(directory.path()), Fabric::default()).await.unwrap();
    let open = client(&daemon);
    ask(move || {
        let token = open.create_token(&question("root", "admin")).unwrap().token;
        let root = open.with_token(&token);
        let shop = root.create_token(&question("shop-ci", "editor@app=shop")).unwrap().token;
        let shop = root.clone().with_token(&shop);
        assert_eq!(shop.apply(&policy("shop"), false).unwrap().revision, 1);
        assert_eq!(status(&shop.apply(&policy("pay"), false).unwrap_err()), 403);
        let history = root.history(None, 10).unwrap();
        assert_eq!((history.items.len(), history.items[0].author.as_str()), (1, "shop-ci"));
        let mut backup = String::new();
        root.backup().unwrap().read_to_string(&mut backup).unwrap();
        assert!(backup.contains("shop") && !backup.contains("shop-ci\",\"grants") && !backup.contains("admin"));
        assert!(matches!(shop.backup().map(|_| ()), Err(error) if status(&error) == 403));
        root.revoke_token("shop-ci").unwrap();
        assert_eq!(status(&shop.status().unwrap_err()), 401);
        assert!(root.metrics().is_ok() && shop.metrics().is_err());
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_of_tokens_keeps_it_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    fs::create_dir_all(&config.data_dir).unwrap();
    fs::write(config.data_dir.join("tokens.json"), "{").unwrap();
    let error = start(&config, Fabric::default()).await.map(|_| ()).unwrap_err();
    assert!(format!("{error:#}").contains("cannot read the tokens"), "{error:#}");
}
