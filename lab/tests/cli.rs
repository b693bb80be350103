//! `bulkhead-lab up`, `down`, `status` and `exec`, as a user types them. Passes over itself where there is no root or no
//! Open vSwitch, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// False, loudly, where a lab cannot be.
fn able() -> bool {
    let missing = bulkhead_lab::missing();
    if let Some(why) = &missing {
        eprintln!("NOT TESTED: {why}");
    }
    missing.is_none()
}

/// A scenario that no other test and no user has up; taken down however the test ends.
struct Ours {
    name: String,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Ours {
    fn new(test: &str) -> Ours {
        let name = format!("{test}{}", std::process::id() % 100_000);
        let text =
            include_str!("../scenarios/two-host-geneve.yaml").replace("lab: two-host-geneve", &format!("lab: {name}"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.yaml");
        std::fs::write(&file, text).unwrap();
        Ours { name, file, _dir: dir }
    }

    fn up(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-lab"));
        command.arg("up").arg(&self.file);
        command
    }

    /// Starts `up`, and returns when it has said this many lines: that many parts are there.
    fn half_up(&self, lines: usize) -> Child {
        let mut child = self.up().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let told = BufReader::new(child.stdout.as_mut().unwrap()).lines().take(lines).count();
        assert_eq!(told, lines);
        child
    }

    fn left(&self) -> Vec<String> {
        let names = std::fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let mut left: Vec<_> = names.filter(|name| name.starts_with(&self.name)).collect();
        let named = |path: &Path| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        let processes = std::fs::read_dir("/proc").unwrap().map(|entry| named(&entry.unwrap().path()));
        left.extend(processes.filter(|line| line.contains(&format!("/{}-", self.name))));
        let labs = std::env::temp_dir().join(format!("bulkhead-lab-{}", nix::unistd::getuid()));
        let labs =
            std::fs::read_dir(labs).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        left.extend(labs.filter(|name| name.starts_with(&self.name)));
        left
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        lab(&["down", &self.name]);
    }
}

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead-lab")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn up_is_done_once_and_down_leaves_nothing() {
    if !able() {
        return;
    }
    let ours = Ours::new("once");
    assert!(ours.up().output().unwrap().status.success());
    let again = ours.up().output().unwrap();
    assert!(again.status.success() && text(&again).contains("is up already"), "{}", text(&again));

    let status = lab(&["status", &ours.name]);
    assert!(status.status.success(), "{}", text(&status));
    for part in ["hv1", "hv2", "web-1", "172.31.0.254", "resources.yaml"] {
        assert!(text(&status).contains(part), "{part}: {}", text(&status));
    }
    let exec = |place: &str, program: &[&str]| lab(&[&["exec", "--lab", &ours.name, place], program].concat());
    let switch = exec("hv2", &["ovs-vsctl", "list-ports", "br-int"]);
    assert!(text(&switch).contains("web-2") && !text(&switch).contains("web-1"), "{}", text(&switch));
    let workload = exec("web-1", &["cat", "/proc/net/fib_trie"]);
    assert!(text(&workload).contains("10.0.0.11") && !text(&workload).contains("10.0.0.12"), "{}", text(&workload));
    assert_eq!(exec("rogue", &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(exec("nobody", &["true"]).status.code(), Some(1));

    // The same name with other contents is not taken for the same.
    let other = std::fs::read_to_string(&ours.file).unwrap().replace("172.31.0.2", "172.31.0.3");
    std::fs::write(&ours.file, other).unwrap();
    let other = ours.up().output().unwrap();
    assert!(!other.status.success() && text(&other).contains("down"), "{}", text(&other));

    assert!(!ours.left().is_empty());
    let down = lab(&["down", &ours.name]);
    assert!(down.status.success() && text(&down).contains("is gone"), "{}", text(&down));
    assert_eq!(ours.left(), Vec::<String>::new());
    let down = lab(&["down", &ours.name]);
    assert!(down.status.success(), "down twice: {}", text(&down));
}

#[test]
fn what_dies_half_way_up_is_taken_down() {
    if !able() {
        return;
    }
    // After the underlay, after the first hypervisor, after the first workload.
    for lines in [1, 2, 4] {
        let ours = Ours::new("half");
        let mut child = ours.half_up(lines);
        child.kill().unwrap();
        child.wait().unwrap();
        let down = lab(&["down", &ours.name]);
        assert!(down.status.success(), "{}", text(&down));
        assert_eq!(ours.left(), Vec::<String>::new(), "killed after {lines}");
    }
}

#[test]
fn an_interrupt_takes_down_what_is_there() {
    if !able() {
        return;
    }
    let ours = Ours::new("ctrlc");
    let mut child = ours.half_up(2);
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert_eq!(ours.left(), Vec::<String>::new());
}

#[test]
fn a_scenario_that_is_wrong_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "lab: bad\nservices: []\nhypervisors: []\nworkloads: []\n").unwrap();
    let refused = lab(&["up", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("bad.yaml") && text(&refused).contains("no hypervisor"), "{}", text(&refused));
}

#[test]
fn a_reader_that_has_gone_is_no_crash() {
    for verb in ["status", "check"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let told = Command::new(env!("CARGO_BIN_EXE_bulkhead-lab")).arg(verb).stdout(writer).output().unwrap();
        let (code, said) = (told.status.code(), String::from_utf8_lossy(&told.stderr).into_owned());
        assert!(matches!(code, Some(0 | 3)) && !said.contains("panicked"), "{verb}: {code:?} {said}");
    }
}
