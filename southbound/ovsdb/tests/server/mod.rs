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
        let child = serve(dir.path());
        Some(Self { dir, child, tables })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir().join("db.sock")
    }

    /// A client with a complete replica.
    pub async fn connect(&self) -> Connection {
        let endpoint = Endpoint::Unix(self.socket());
        let connected = timeout(PATIENCE, async {
            loop {
                match Connection::open(&endpoint, Config::new("Open_vSwitch", self.tables)).await {
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
        self.child = serve(self.dir.path());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(dir: &Path) -> Child {
    let remote = format!("--remote=punix:{}", dir.join("db.sock").display());
    let control = format!("--unixctl={}", dir.join("ctl").display());
    let mut server = Command::new("ovsdb-server");
    server.arg(dir.join("conf.db")).args([remote, control, "-vconsole:off".into()]).env("OVS_RUNDIR", dir);
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
