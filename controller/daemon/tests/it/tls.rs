//! TLS of the API: by a certificate of its own, by files that change, and with clients' certificates.

use crate::common;
use crate::pki;
use bulkhead_client::{Client, Security};
use bulkhead_daemon::{Api, Config, Daemon, start};
use bulkhead_driver_sim::Fabric;
use bulkhead_types::TokenQuestion;
use common::{admin, ask, local_token, policy, question, secured, status};
use pki::{Pki, Time};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

/// Longest that anything may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What somebody with these files shows, who believes that authority.
fn shows(ca: &Path, files: Option<&bulkhead_tls::Files>) -> Security {
    let read = |path: &Path| Some(fs::read_to_string(path).unwrap());
    Security {
        ca: read(ca),
        certificate: files.and_then(|files| read(&files.certificate)),
        key: files.and_then(|files| read(&files.key)),
    }
}

fn client(daemon: &Daemon, security: &Security) -> Client {
    Client::secure(&format!("https://localhost:{}", daemon.listen.port()), security).unwrap()
}

/// A daemon with a certificate that this authority has signed, whose clients may show some of that one.
fn with_files(directory: &Path, pki: &Pki, clients: Option<&Pki>) -> Config {
    let files = pki.files("localhost");
    let client_ca = clients.map(|clients| clients.path("ca.pem"));
    Config { api: Api::Tls { own: Some((files.certificate, files.key)), client_ca }, ..secured(directory) }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// What a program that speaks HTTP is told.
fn plain(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut told = Vec::new();
    // A connection that is reset has told what it had to.
    let _ = stream.read_to_end(&mut told);
    String::from_utf8_lossy(&told).into_owned()
}

#[tokio::test]
async fn its_own_certificate_names_this_machine_wherever_it_listens() {
    for listen in ["127.0.0.1:0", "127.0.0.7:0", "0.0.0.0:0", "[::]:0", "[::1]:0"] {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { listen: listen.parse().unwrap(), ..secured(directory.path()) };
        let daemon = start(&config, Fabric::default()).await.unwrap();
        let ca = config.data_dir.join("tls/ca.pem");
        let security = Security { ca: Some(fs::read_to_string(ca).unwrap()), ..Security::default() };
        let (port, token) = (daemon.listen.port(), local_token(&config));
        let told = fs::read_to_string(config.data_dir.join("admin.yaml")).unwrap();
        let own =
            told.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap().trim_matches('"').to_owned();
        ask(move || {
            Client::secure(&own, &security)
                .unwrap()
                .with_token(&token)
                .status()
                .unwrap_or_else(|e| panic!("{own} {e}"));
            let mut others = match listen {
                "0.0.0.0:0" => vec!["127.0.0.1", "localhost"],
                "[::]:0" => vec!["127.0.0.1", "[::1]", "localhost"],
                "127.0.0.1:0" => vec!["localhost"],
                _ => Vec::new(),
            };
            others.retain(|host| *host != "localhost" || listen.starts_with("127") || listen.starts_with('0'));
            for host in others {
                let url = format!("https://{host}:{port}");
                let answer = Client::secure(&url, &security).unwrap().with_token(&token).status();
                answer.unwrap_or_else(|error| panic!("{listen} {url} {error}"));
            }
        })
        .await;
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_believe_the_authority_is_told_what_to_do() {
    let (directory, other) = (tempfile::tempdir().unwrap(), Pki::new());
    let config = secured(directory.path());
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let wrong = client(&daemon, &shows(&other.path("ca.pem"), None));
    let none = client(&daemon, &Security::default());
    let mut other_name = shows(&config.data_dir.join("tls/ca.pem"), None);
    other_name.certificate = None;
    ask(move || {
        for client in [wrong, none] {
            let error = client.status().unwrap_err().to_string();
            assert!(error.contains("--ca"), "{error}");
        }
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn who_speaks_http_is_told_so_and_nothing_else_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let config = secured(directory.path());
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let address = daemon.listen;
    let (root, _) = admin(&config, &daemon);
    ask(move || {
        let told = plain(address, b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("https://") && told.contains("--ca"), "{told}");
        let told = plain(
            address,
            &[b"POST /v1/apply HTTP/1.1\r\ncontent-length: 200000\r\n\r\n", &[b'x'; 200_000][..]].concat(),
        );
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 400 "), "{told}");
        for garbage in [&b"\0\0\0"[..], b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01", b"{}"] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(garbage).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut told = Vec::new();
            let _ = stream.read_to_end(&mut told);
            assert!(!String::from_utf8_lossy(&told).contains("HTTP"), "{garbage:?}");
        }
        // Who says nothing is let go, and nobody waits for him.
        let mut silent = TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(PATIENCE)).unwrap();
        let crowd: Vec<_> = (0..600).map(|_| TcpStream::connect(address).unwrap()).collect();
        root.status().unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
        drop(crowd);
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn certificates_have_the_access_that_their_common_names_were_given() {
    let (directory, pki, clients, others) = (tempfile::tempdir().unwrap(), Pki::new(), Pki::new(), Pki::new());
    let config = with_files(directory.path(), &pki, Some(&clients));
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let ca = pki.path("ca.pem");
    let of = |files: bulkhead_tls::Files| client(&daemon, &shows(&ca, Some(&files)));
    let root = client(&daemon, &shows(&ca, None)).with_token(&local_token(&config));
    let (shop, stranger) = (of(clients.files("shop-ci")), of(clients.files("nobody")));
    let refused = [
        of(others.files("shop-ci")),
        of(clients.files_of("shop-ci-past", Time::Past)),
        of(clients.files_of("shop-ci-future", Time::Future)),
    ];
    // The certificate of one, and the key of another.
    let (one, two) = (clients.files("one"), clients.files("two"));
    let swapped = shows(&ca, Some(&bulkhead_tls::Files { key: two.key, ..one }));
    assert!(Client::secure("https://localhost:1", &swapped).unwrap_err().to_string().contains("--key"));
    ask(move || {
        let grant = |name: &str| {
            let question = TokenQuestion { certificate: true, ..question(name, "editor@app=shop") };
            root.create_token(&question).unwrap()
        };
        for name in ["shop-ci", "shop-ci-past", "shop-ci-future"] {
            assert!(grant(name).token.is_empty());
        }
        assert_eq!(shop.apply(&policy("shop"), false).unwrap().revision, 1);
        assert_eq!(status(&shop.apply(&policy("pay"), false).unwrap_err()), 403);
        assert_eq!(root.history(None, 1).unwrap().items[0].author, "shop-ci");
        assert_eq!(status(&stranger.status().unwrap_err()), 401);
        for refused in &refused {
            let error = refused.status().unwrap_err();
            assert_eq!(status(&error), 0, "{error}");
        }
        // A token is what he is known by who shows both, and a wrong one is not made up for.
        assert_eq!(status(&shop.clone().with_token("bulkhead_a_b").status().unwrap_err()), 401);
        let viewer = shop.clone().with_token(&root.create_token(&question("v", "viewer")).unwrap().token);
        assert_eq!(status(&viewer.apply(&policy("shop"), false).unwrap_err()), 403);
        root.revoke_token("shop-ci").unwrap();
        // On the connection that is there, too.
        assert_eq!(status(&shop.status().unwrap_err()), 401);
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_its_authority_took_back_is_refused_once_the_list_is_there() {
    let (directory, pki, clients) = (tempfile::tempdir().unwrap(), Pki::new(), Pki::new());
    let config = with_files(directory.path(), &pki, Some(&clients));
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let ca = pki.path("ca.pem");
    let root = client(&daemon, &shows(&ca, None)).with_token(&local_token(&config));
    let files = [clients.files("lost"), clients.files("kept")];
    // A client of its own each time: a new connection.
    let of = {
        let (port, ca) = (daemon.listen.port(), ca.clone());
        move |at: usize| {
            let security = shows(&ca, Some(&files[at]));
            Client::secure(&format!("https://localhost:{port}"), &security).unwrap().status()
        }
    };
    ask(move || {
        for name in ["lost", "kept"] {
            root.create_token(&TokenQuestion { certificate: true, ..question(name, "viewer") }).unwrap();
        }
        assert!(of(0).is_ok() && of(1).is_ok());
        clients.revoke("lost");
        until("taken back", || of(0).is_err());
        assert!(of(1).is_ok());
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn new_files_are_taken_over_and_connections_that_are_there_go_on() {
    let (directory, pki, next) = (tempfile::tempdir().unwrap(), Pki::new(), Pki::new());
    let config = with_files(directory.path(), &pki, None);
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let old = client(&daemon, &shows(&pki.path("ca.pem"), None)).with_token(&local_token(&config));
    let new = client(&daemon, &shows(&next.path("ca.pem"), None)).with_token(&local_token(&config));
    let api = config.api.clone();
    ask(move || {
        old.status().unwrap();
        assert!(new.status().is_err());
        let Api::Tls { own: Some((certificate, key)), .. } = api else { panic!("no files") };
        // What cannot be used is not.
        fs::write(&certificate, "nonsense").unwrap();
        let told = |client: &Client| client.status().unwrap().api_tls.unwrap();
        until("it is told of", || told(&old).trouble.contains("localhost-cert.pem"));
        let files = next.files("localhost");
        fs::copy(&files.certificate, &certificate).unwrap();
        fs::copy(&files.key, &key).unwrap();
        until("taken over", || {
            // Each keeps its connection: the old one goes on with what it knew.
            old.status().unwrap();
            new.status().is_ok()
        });
        old.status().unwrap();
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn what_of_its_tls_ends_is_told_of() {
    const METRIC: &str = "bulkhead_api_certificate_expiry_timestamp_seconds";
    let (directory, pki, clients) = (tempfile::tempdir().unwrap(), Pki::new(), Pki::new());
    let config = with_files(directory.path(), &pki, Some(&clients));
    let soon = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 10 * 24 * 60 * 60;
    pki.files_of("localhost", Time::Until(soon));
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let root = client(&daemon, &shows(&pki.path("ca.pem"), None)).with_token(&local_token(&config));
    ask(move || {
        let told = root.status().unwrap().api_tls.unwrap();
        let [own, authority] = told.certificates.as_slice() else { panic!("{told:?}") };
        assert_eq!((own.role.as_str(), own.expires, own.expired), ("certificate", soon, false));
        assert!(own.warning.ends_with("from then on clients refuse this controller"), "{own:?}");
        assert!(authority.role == "authority" && authority.warning.is_empty() && told.trouble.is_empty(), "{told:?}");
        let metrics = root.metrics().unwrap();
        assert!(metrics.contains(&format!("{METRIC}{{role=\"certificate\"}} {soon}\n")), "{metrics}");
        pki.files("localhost");
        until("signed anew", || root.status().unwrap().api_tls.unwrap().certificates[0].warning.is_empty());
    })
    .await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_damaged_authority_is_named_and_what_is_half_made_is_made_whole() {
    let directory = tempfile::tempdir().unwrap();
    let config = secured(directory.path());
    let files = ["tls/ca.pem", "tls/ca.key"].map(|file| config.data_dir.join(file));
    let begin = async || match start(&config, Fabric::default()).await {
        Ok(daemon) => {
            daemon.stop().await.unwrap();
            Ok(())
        }
        Err(error) => Err(format!("{error:#}")),
    };
    begin().await.unwrap();
    let [certificate, key] = files.clone().map(|file| fs::read_to_string(file).unwrap());
    // As of a start that was interrupted between the two.
    fs::remove_file(&files[0]).unwrap();
    begin().await.unwrap();
    fs::write(&files[0], &certificate).unwrap();
    begin().await.unwrap();
    for wrong in ["", "nonsense", certificate.as_str()] {
        fs::write(&files[1], wrong).unwrap();
        let error = begin().await.unwrap_err();
        assert!(error.contains("is damaged") && error.contains("remove"), "{error}");
    }
    fs::remove_file(&files[1]).unwrap();
    assert!(begin().await.unwrap_err().contains("is damaged"));
    fs::write(&files[1], key).unwrap();
    begin().await.unwrap();
}
