//! Killed at any moment, and again while it recovers: what was acknowledged is there, nothing is half there, and the
//! store opens. `BULKHEAD_KILLS` says how often; `make crashes` does it 300 times.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_store::{Event, Loaded, RedbStore, Retention, Revision, Store};
use bulkhead_types::Chain;
use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Clients that edit at once.
const CLIENTS: u64 = 8;
#[cfg(feature = "store-sled")]
/// A file of this name says that a directory is for sled.
const SLED: &str = "BULKHEAD_CRASH_SLED";
/// Set for the program that is killed: its data directory.
const VICTIM: &str = "BULKHEAD_CRASH_VICTIM";

fn open(directory: &Path) -> Box<dyn Store> {
    #[cfg(feature = "store-sled")]
    if directory.join(SLED).exists() {
        return Box::new(bulkhead_store::SledStore::open(directory).unwrap());
    }
    // Little history, so that forgetting it is killed too.
    let retention = Retention { revisions: 50, ..Retention::default() };
    Box::new(RedbStore::open_keeping(directory, retention).unwrap())
}

/// A client's edit: two documents and a number, all of which say the same.
fn edit(number: u64, client: u64, value: u64) -> Revision {
    let text: Arc<str> = format!("{value} {}", "x".repeat((value % 97 * 31) as usize)).into();
    Revision {
        number,
        author: format!("client {client}"),
        time: number,
        changes: ["left", "right"].map(|side| (format!("{client}/{side}"), Some(text.clone()))).into(),
        numbers: vec![(format!("{client}").into(), Some(value as u32))],
        event: None,
    }
}

/// What each client's documents say; all that belongs together has to agree.
fn values(loaded: &Loaded) -> Vec<u64> {
    let value = |client: u64, side: &str| {
        let document = loaded.documents.get(&format!("{client}/{side}"))?;
        document.text.split(' ').next()?.parse::<u64>().ok()
    };
    let of = |client: u64| {
        let (left, right) = (value(client, "left").unwrap_or(0), value(client, "right").unwrap_or(0));
        let number = loaded.numbers.get(format!("{client}").as_str()).copied().unwrap_or(0);
        assert_eq!((left, left), (right, u64::from(number)), "client {client}'s edit is half there");
        left
    };
    let values: Vec<u64> = (0..CLIENTS).map(of).collect();
    assert_eq!(values.iter().sum::<u64>(), loaded.revision, "revisions and edits do not agree");
    values
}

/// The program that is killed. Not a test: it does nothing unless it is told where.
#[test]
fn victim() {
    let Some(directory) = env::var_os(VICTIM) else { return };
    let mut store = open(Path::new(&directory));
    let loaded = store.load().unwrap();
    let (asks, asked) = mpsc::channel::<(u64, mpsc::Sender<u64>)>();
    let out = Arc::new(Mutex::new(std::io::stderr()));
    for (client, last) in values(&loaded).into_iter().enumerate() {
        let (asks, out) = (asks.clone(), out.clone());
        thread::spawn(move || {
            let (reply, replies) = mpsc::channel();
            for value in last + 1.. {
                asks.send((client as u64, reply.clone())).unwrap();
                assert_eq!(replies.recv().unwrap(), value);
                // What is on the pipe is out of reach of the kill.
                writeln!(out.lock().unwrap(), "ack {client} {value}").unwrap();
            }
        });
    }
    let mut next = values(&loaded);
    let mut revision = loaded.revision;
    while let Ok(first) = asked.recv() {
        let group: Vec<_> = std::iter::once(first).chain(asked.try_iter().take(CLIENTS as usize)).collect();
        let before = revision;
        let mut replies = Vec::new();
        let mut revisions = Vec::new();
        for (client, reply) in group {
            revision += 1;
            next[client as usize] += 1;
            revisions.push(edit(revision, client, next[client as usize]));
            replies.push((reply, next[client as usize]));
        }
        store.append(before, &revisions).unwrap();
        if revision.is_multiple_of(5) {
            store.note(&[Event { outcome: "refused".into(), ..Event::default() }]).unwrap();
        }
        replies.into_iter().for_each(|(reply, value)| reply.send(value).unwrap());
    }
}

/// Runs the victim and kills it after `after`, counted from its first acknowledgement if there is to be one; gives the
/// newest acknowledged value of each client.
fn kill(directory: &Path, after: Duration, working: bool) -> Vec<u64> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "victim", "--nocapture", "--test-threads=1"]).env(VICTIM, directory);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut acknowledged = vec![0; CLIENTS as usize];
    let mut said = String::new();
    if working {
        assert!(lines.read_line(&mut said).unwrap() > 0, "the victim ended by itself");
    }
    let end = Instant::now() + after;
    let reader = thread::spawn(move || {
        let mut rest = Vec::new();
        lines.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    });
    thread::sleep(end.saturating_duration_since(Instant::now()));
    child.kill().unwrap();
    child.wait().unwrap();
    said += &reader.join().unwrap();
    // The last line may have been cut off by the kill.
    for line in said.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["ack", client, value] => {
                let newest: &mut u64 = &mut acknowledged[client.parse::<usize>().unwrap()];
                *newest = (*newest).max(value.parse().unwrap());
            }
            _ => panic!("the victim says: {said}"),
        }
    }
    acknowledged
}

/// xorshift: moments that are the same in every run with the same seed.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    matrix(directory.path());
}

#[cfg(feature = "store-sled")]
#[test]
fn killed_at_any_moment_sled_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(SLED), "").unwrap();
    matrix(directory.path());
}

/// The audit log is whole, and has a record of every revision that there is.
fn audited(store: &dyn Store, newest: u64) {
    let mut chain = Chain::new(sha256);
    let (mut revisions, mut last) = (0, 0);
    loop {
        let page = store.reader().audit(chain.head.number, 1000).unwrap();
        if page.records.is_empty() {
            assert_eq!((page.head.number, page.head.digest), (chain.head.number, chain.head.digest));
            break;
        }
        for line in page.records {
            // That none is left out between two is the chain's to see.
            if let Some(revision) = chain.follow(&line).unwrap().revision {
                (revisions, last) = (revisions + 1, revision);
            }
        }
    }
    assert_eq!((revisions, last), (newest, newest));
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn matrix(directory: &Path) {
    let kills: u64 = env::var("BULKHEAD_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let (mut seed, mut acknowledged) = (0x5eed_u64, vec![0; CLIENTS as usize]);
    for round in 0..kills {
        // Every other kill falls into the recovery from the one before: soon after the start.
        let (working, after) = match round % 2 {
            0 => (true, Duration::from_micros(random(&mut seed) % 120_000)),
            _ => (false, Duration::from_micros(random(&mut seed) % 60_000)),
        };
        let now = kill(directory, after, working);
        acknowledged.iter_mut().zip(now).for_each(|(known, now)| *known = now.max(*known));
        if round % 2 == 1 || round + 1 == kills {
            let mut store = open(directory);
            let there = values(&store.load().unwrap());
            for (client, (there, known)) in there.iter().zip(&acknowledged).enumerate() {
                assert!(there >= known, "round {round}: client {client} was told {known}, {there} is there");
            }
            assert!(!store.found().cut_back || there >= acknowledged, "round {round}");
            // Its history agrees with it.
            let history = store.reader().history(u64::MAX, 1000).unwrap();
            let back = store.reader().between(history.newest, Some(history.oldest)).unwrap();
            assert_eq!(history.newest, there.iter().sum::<u64>());
            if !directory.join("bulkhead.sled").exists() {
                audited(&*store, history.newest);
            }
            assert!(back.differences.len() <= 2 * CLIENTS as usize);
            // Forgotten without being closed: the next one finds it as a kill leaves it.
            drop(store);
        }
    }
    assert!(acknowledged.iter().all(|value| *value > 0), "{acknowledged:?}");
}
