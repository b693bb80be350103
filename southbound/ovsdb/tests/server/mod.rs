//! A real ovsdb-server of a test's own, in a directory of its own. It needs neither root nor a switch.
#![allow(dead_code)]

use bulkhead_ovsdb::{Config, Connection, Done, Endpoint, Event, Operation};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::{sleep, timeout};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const PATIENCE: Duration = Duration::from_secs(20);

type Tables = &'static [(&'static str, &'static [&'static str])];

/// A server with one row in its root table. It ends with this value.
pub struct Server {
    dir: tempfile::TempDir,
    child: Child,
    tables: Tables,
    /// What it is started with besides.
    options: Vec<String>,
}

impl Server {
    /// `None` where there is none to be had. Its clients monitor these tables.
    pub async fn start(tables: Tables) -> Option<Self> {
        let server = Self::empty(tables)?;
        let root = Operation::Insert { table: "Open_vSwitch", row: vec![], name: None };
        act(&mut server.connect().await, &[root]).await;
        Some(server)
    }

    /// The same without any row.
    pub fn empty(tables: Tables) -> Option<Self> {
        if !Path::new(SCHEMA).exists() {
            eprintln!("NOT TESTED: a session with a real database: {SCHEMA} is missing (package openvswitch-switch)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("ovsdb-tool").arg("create").arg(dir.path().join("conf.db")).arg(SCHEMA).status();
        assert!(made.unwrap().success());
        let child = serve(dir.path(), &[]);
        Some(Self { dir, child, tables, options: Vec::new() })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir().join("db.sock")
    }

    /// Has it take connections by TLS too, with these files; the port. It begins anew for that.
    pub async fn secure(&mut self, files: &bulkhead_tls::Files) -> u16 {
        self.end();
        let log = self.dir().join("log");
        self.options = vec![
            format!("--private-key={}", files.key.display()),
            format!("--certificate={}", files.certificate.display()),
            format!("--ca-cert={}", files.ca.display()),
            format!("--log-file={}", log.display()),
            "--remote=pssl:0:127.0.0.1".into(),
        ];
        self.begin();
        // It tells its log alone which port it was given.
        let port = timeout(PATIENCE, async {
            loop {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let told = text.lines().find_map(|line| line.split_once("listening on port "));
                match told.and_then(|(_, port)| port.trim().parse().ok()) {
                    Some(port) => break port,
                    None => sleep(Duration::from_millis(2)).await,
                }
            }
        });
        port.await.expect("it does not listen")
    }

    /// A client with a complete replica.
    pub async fn connect(&self) -> Connection {
        let endpoint = Endpoint::Unix(self.socket());
        let connected = timeout(PATIENCE, async {
            loop {
                match Connection::open(&endpoint, Config::new("Open_vSwitch", self.tables), None).await {
                    Ok(connection) => break connection,
                    // It has not begun to listen.
                    Err(_) => sleep(Duration::from_millis(2)).await,
                }
            }
        });
        let mut connection = connected.await.unwrap();
        assert_eq!(event(&mut connection).await, Event::Ready);
        connection
    }

    /// Ends the server as a crash would.
    pub fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it had.
    pub fn begin(&mut self) {
        self.child = serve(self.dir.path(), &self.options);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(dir: &Path, options: &[String]) -> Child {
    let remote = format!("--remote=punix:{}", dir.join("db.sock").display());
    let control = format!("--unixctl={}", dir.join("ctl").display());
    let mut server = Command::new("ovsdb-server");
    server
        .arg(dir.join("conf.db"))
        .args([remote, control, "-vconsole:off".into()])
        .args(options)
        .env("OVS_RUNDIR", dir);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub async fn event(connection: &mut Connection) -> Event {
    timeout(PATIENCE, connection.event()).await.expect("nothing happened")
}

/// Carries a transaction out and returns when the replica has it.
pub async fn act(connection: &mut Connection, operations: &[Operation]) -> Vec<Done> {
    let number = connection.session().transact(operations).unwrap();
    loop {
        match event(connection).await {
            Event::Transacted(answered, done) if answered == number => return done.unwrap(),
            Event::Changed => {}
            other => panic!("{other:?}"),
        }
    }
}
