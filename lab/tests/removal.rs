//! What a lab leaves when its owner is interrupted, killed, or told to keep it. Passes over itself where there is no
//! root or no Open vSwitch, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_lab::process::Process;
use bulkhead_lab::{Lab, interrupt, state};

/// False, loudly, where a lab cannot be.
fn able() -> bool {
    let missing = bulkhead_lab::missing();
    if let Some(why) = &missing {
        eprintln!("NOT TESTED: {why}");
    }
    missing.is_none()
}

/// Not a test: the process that the tests below interrupt and kill.
#[test]
#[ignore = "started by other tests"]
fn owner() {
    interrupt::install().unwrap();
    let mut lab = Lab::new("owner").unwrap();
    lab.hypervisor("hv1", 0xb1).unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("300");
    lab.program("sleep", sleep).unwrap();
    println!("UP {} {}", lab.tag(), lab.dir().display());
    std::thread::sleep(Duration::from_secs(60));
}

/// Starts an owner, and waits until its lab is up.
fn start() -> (Child, String, PathBuf) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["owner", "--exact", "--ignored", "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // The test harness writes its own words on the same line.
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let up = lines.filter_map(|line| line.split_once("UP ").map(|(_, rest)| rest.to_owned())).next().unwrap();
    let (tag, dir) = up.split_once(' ').unwrap();
    (child, tag.to_owned(), PathBuf::from(dir))
}

fn namespaces(tag: &str) -> usize {
    let names = std::fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(tag)).count()
}

/// Processes of a lab: its daemons name its directory, the others write their log there.
fn processes(dir: &Path) -> usize {
    let dir = dir.to_string_lossy().into_owned();
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let belongs = |process: &PathBuf| {
        let line = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        let log = std::fs::read_link(process.join("fd/1")).unwrap_or_default();
        line.contains(&dir) || log.to_string_lossy().starts_with(&dir)
    };
    all.filter(belongs).count()
}

#[test]
fn an_interrupted_owner_takes_its_lab_down() {
    if !able() {
        return;
    }
    let (mut child, tag, dir) = start();
    assert_eq!((namespaces(&tag), processes(&dir)), (1, 3));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!((namespaces(&tag), processes(&dir), dir.exists()), (0, 0, false));
}

#[test]
fn what_a_killed_owner_leaves_is_removed_by_the_next_lab() {
    if !able() {
        return;
    }
    let (mut child, tag, dir) = start();
    child.kill().unwrap();
    child.wait().unwrap();
    // Another test's lab may have swept it away already; that is as good.
    let next = Lab::new("next").unwrap();
    assert!(next.dir().exists());
    let deadline = Instant::now() + Duration::from_secs(10);
    while dir.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((namespaces(&tag), processes(&dir), dir.exists()), (0, 0, false));
}

#[test]
fn a_kept_lab_outlives_its_handle_until_it_is_taken_down() {
    if !able() {
        return;
    }
    let mut lab = Lab::new("kept").unwrap();
    lab.hypervisor("hv1", 0xb1).unwrap();
    let (tag, dir) = (lab.tag().to_owned(), lab.dir().to_owned());
    lab.keep().unwrap();
    drop(lab);
    state::sweep().unwrap();
    assert_eq!((namespaces(&tag), processes(&dir)), (1, 2));
    assert!(state::kept().unwrap().contains(&tag));
    let removed = state::remove_kept(&tag).unwrap();
    assert_eq!(removed.removed, vec![tag.clone()]);
    assert_eq!((namespaces(&tag), processes(&dir), dir.exists()), (0, 0, false));
}

#[test]
fn a_running_owner_keeps_its_lab() {
    if !able() {
        return;
    }
    let lab = Lab::new("mine").unwrap();
    let swept = state::sweep().unwrap();
    assert!(!swept.removed.contains(&lab.tag().to_owned()));
    assert!(lab.dir().exists() && Process::myself().unwrap().runs());
}
