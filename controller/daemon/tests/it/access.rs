//! Tokens of a whole controller: they close it, survive it, and are carried nowhere.

use crate::common;
use bulkhead_daemon::start;
use bulkhead_driver_sim::Fabric;
use common::{admin, ask, config, policy, question, secured, status};
use std::{fs, io::Read};

#[tokio::test]
async fn without_a_token_nobody_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let config = secured(directory.path());
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, nobody) = admin(&config, &daemon);
    let shop = ask(move || {
        assert_eq!(status(&nobody.status().unwrap_err()), 401);
        assert_eq!(status(&nobody.apply(&policy("pay"), false).unwrap_err()), 401);
        assert_eq!(status(&nobody.clone().with_token("bulkhead_1_2").status().unwrap_err()), 401);
        assert_eq!(root.clone().of_user("alice@desk").apply(&policy("pay"), false).unwrap().revision, 1);
        let root = nobody.clone().with_token(&root.create_token(&question("root", "admin")).unwrap().token);
        assert_eq!(root.history(None, 1).unwrap().items[0].author, "alice@desk");
        let shop = root.create_token(&question("shop-ci", "editor@app=shop")).unwrap();
        assert_eq!(shop.line.author, "root");
        shop.token
    })
    .await;
    let (before, _) = admin(&config, &daemon);
    daemon.stop().await.unwrap();

    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, nobody) = admin(&config, &daemon);
    ask(move || {
        assert_eq!(status(&nobody.status().unwrap_err()), 401);
        // The authority is the one of before; the local admin is another one.
        assert!(before.status().is_err());
        let shop = nobody.with_token(&shop);
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
    let config = secured(directory.path());
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let (root, nobody) = admin(&config, &daemon);
    ask(move || {
        let shop = root.create_token(&question("shop-ci", "editor@app=shop")).unwrap().token;
        let shop = nobody.with_token(&shop);
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
