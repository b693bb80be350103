//! What a lab has made on this machine, written down *before* it is made, so that whoever comes later can take it away.
//!
//! One directory per lab below `<temporary directory>/bulkhead-lab-<uid>`, with `state.json` in it beside logs and
//! sockets. A lab whose owner no longer runs, and that nobody asked to keep, is removed by the next one.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_netlink::{Namespace, Netlink};
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// The name of the file in a lab's directory.
const FILE: &str = "state.json";

/// Control networks: /30s of 169.254.64.0/18 (link-local, RFC 3927: never routed), as many as that holds.
const CONTROL_NETWORKS: u16 = 4096;

/// Whether this process is on its way out and must create nothing more.
static CLOSING: RwLock<bool> = RwLock::new(false);

/// A lab's belongings.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Belongings {
    /// Who made it.
    owner: Process,
    /// Whether it stays when the owner ends.
    kept: bool,
    /// Namespaces by name.
    namespaces: BTreeSet<String>,
    /// Interfaces in the host's namespace.
    links: BTreeSet<String>,
    /// Numbers of control networks.
    control: BTreeSet<u16>,
    /// Programs that were started.
    processes: Vec<Process>,
}

/// One lab's record; a handle that is shared.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    tag: String,
    dir: PathBuf,
    belongings: Arc<Mutex<Belongings>>,
}

/// What [`sweep`] and [`take_down`] did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Labs that were removed, by tag.
    pub removed: Vec<String>,
    /// Labs that belong to a process that still runs, by tag, and that process.
    pub busy: Vec<(String, i32)>,
    /// Labs that could not be removed wholly, by tag, and why. They are tried again next time.
    pub failed: Vec<(String, String)>,
}

impl Swept {
    /// Both together.
    pub fn add(&mut self, other: Swept) {
        self.removed.extend(other.removed);
        self.busy.extend(other.busy);
        self.failed.extend(other.failed);
    }
}

/// Which labs a removal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which<'a> {
    /// Those that nobody wants: the owner is gone and they were not to be kept.
    Orphans,
    /// Those, and the ones that were kept.
    OrphansAndKept,
    /// The kept one of this tag.
    Kept(&'a str),
    /// Those of this process that were not to be kept.
    Mine,
}

fn base() -> PathBuf {
    std::env::temp_dir().join(format!("bulkhead-lab-{}", nix::unistd::getuid()))
}

/// The base directory, ours alone: whoever can write in it decides what root kills and deletes.
fn open_base() -> Result<PathBuf> {
    let base = base();
    match DirBuilder::new().mode(0o700).create(&base) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot create {}", base.display()));
        }
        _ => {}
    }
    let seen = fs::symlink_metadata(&base)?;
    ensure!(
        seen.is_dir() && seen.uid() == nix::unistd::getuid().as_raw() && seen.mode() & 0o022 == 0,
        "{} is not a directory of this user's own; remove it",
        base.display()
    );
    Ok(base)
}

/// Holds off every other lab of this user while names and numbers are given out and leftovers removed.
fn lock(base: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(base.join("lock"))?;
    file.lock().context("cannot lock the labs' directory")?;
    Ok(file)
}

fn labs(base: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut labs = Vec::new();
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            labs.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    labs.sort();
    Ok(labs)
}

fn load(dir: &Path) -> Option<Belongings> {
    serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
}

/// Removes what labs left behind whose owners are gone.
///
/// # Errors
/// When the labs' directory cannot be used.
pub fn sweep() -> Result<Swept> {
    remove(Which::Orphans)
}

/// Removes every lab that was kept, and what others left behind. Labs of running processes stay.
///
/// # Errors
/// When the labs' directory cannot be used.
pub fn take_down() -> Result<Swept> {
    remove(Which::OrphansAndKept)
}

/// The labs that were left up on purpose, by tag.
///
/// # Errors
/// When the labs' directory cannot be used.
pub fn kept() -> Result<Vec<String>> {
    let labs = labs(&open_base()?)?.into_iter();
    Ok(labs.filter(|(_, dir)| load(dir).is_some_and(|belongings| belongings.kept)).map(|(tag, _)| tag).collect())
}

/// The directory of a lab.
pub(crate) fn directory(tag: &str) -> Result<PathBuf> {
    Ok(open_base()?.join(tag))
}

/// Removes one lab that was kept.
///
/// # Errors
/// When the labs' directory cannot be used.
pub fn remove_kept(tag: &str) -> Result<Swept> {
    remove(Which::Kept(tag))
}

/// Whether [`close`] was called: what fails now fails because of that.
#[must_use]
pub fn closing() -> bool {
    // Somebody holds the lock for writing only in order to set it.
    CLOSING.try_read().map_or(true, |closing| *closing)
}

/// Removes what this process made and was not to keep, and lets it make nothing more. For the way out.
///
/// # Errors
/// When the labs' directory cannot be used.
pub fn close() -> Result<Swept> {
    // Waits for a creation that is under way; it is in the record already, so it is taken away below.
    *CLOSING.write().unwrap_or_else(PoisonError::into_inner) = true;
    remove(Which::Mine)
}

fn remove(which: Which<'_>) -> Result<Swept> {
    let base = open_base()?;
    let _lock = lock(&base)?;
    let myself = Process::myself()?;
    let mut swept = Swept::default();
    for (tag, dir) in labs(&base)? {
        // Without a readable record it died between two steps under the lock, and had nothing yet.
        let belongings = load(&dir);
        if let Some(belongings) = &belongings {
            let mine = belongings.owner == myself;
            let wanted = match which {
                Which::Kept(kept) => !belongings.kept || kept != tag,
                Which::Mine => !mine || belongings.kept,
                Which::Orphans => belongings.kept || belongings.owner.runs(),
                Which::OrphansAndKept => !belongings.kept && belongings.owner.runs(),
            };
            if wanted {
                if which == Which::OrphansAndKept && !mine {
                    swept.busy.push((tag, belongings.owner.pid));
                }
                continue;
            }
        }
        match belongings.as_ref().map_or(Ok(()), demolish).and_then(|()| erase(&dir)) {
            Ok(()) => swept.removed.push(tag),
            Err(error) => swept.failed.push((tag, format!("{error:#}"))),
        }
    }
    Ok(swept)
}

/// Removes a lab's directory, if it is still there.
fn erase(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Takes everything away that the record names and that is still there.
fn demolish(belongings: &Belongings) -> Result<()> {
    // An interrupt and the end of a lab may meet here: whoever comes second finds nothing left.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The controller first, so that it does not report switches that vanish; last started, first ended.
    for process in belongings.processes.iter().rev() {
        process.end();
    }
    let mut failed = Vec::new();
    for link in &belongings.links {
        match Netlink::here().and_then(|mut host| host.delete_link(link)) {
            Ok(()) | Err(bulkhead_netlink::Error::NoLink(_)) => {}
            Err(error) => failed.push(error.to_string()),
        }
    }
    for name in &belongings.namespaces {
        if let Err(error) = empty_and_remove(&Namespace::named(name)) {
            failed.push(error.to_string());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!(failed.join("; ")) }
}

/// Removes a namespace, if it is there, and whatever processes are in it: they could be nobody else's.
fn empty_and_remove(namespace: &Namespace) -> Result<(), bulkhead_netlink::Error> {
    if !namespace.exists() {
        return Ok(());
    }
    // Threads of this very process that sit in the namespace are not listed: its first one never does.
    for process in namespace.processes().unwrap_or_default().into_iter().filter_map(Process::find) {
        process.kill();
    }
    namespace.remove()
}

impl Record {
    /// Starts a record under a name that no other lab of this machine has.
    pub(crate) fn create(prefix: &str) -> Result<Record> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let base = open_base()?;
        let _lock = lock(&base)?;
        let owner = Process::myself()?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{prefix}-{}-{number}", base36(owner.pid.unsigned_abs()));
        let dir = base.join(&tag);
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let belongings = Belongings {
            owner,
            kept: false,
            namespaces: BTreeSet::new(),
            links: BTreeSet::new(),
            control: BTreeSet::new(),
            processes: Vec::new(),
        };
        let record = Record { tag, dir, belongings: Arc::new(Mutex::new(belongings)) };
        record.save(&record.belongings())?;
        Ok(record)
    }

    /// The lab's name on this machine.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn belongings(&self) -> MutexGuard<'_, Belongings> {
        self.belongings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, belongings: &Belongings) -> Result<()> {
        let fresh = self.dir.join("state.new");
        fs::write(&fresh, serde_json::to_vec_pretty(belongings)?)?;
        fs::rename(&fresh, self.dir.join(FILE)).context("cannot write the lab's record")
    }

    /// Notes a change, then makes it. Nothing is made once [`close`] was called.
    fn note<T, U>(&self, change: impl FnOnce(&mut Belongings) -> U, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let closing = CLOSING.read().unwrap_or_else(PoisonError::into_inner);
        ensure!(!*closing, "interrupted");
        {
            let mut belongings = self.belongings();
            change(&mut belongings);
            self.save(&belongings)?;
        }
        make()
    }

    /// Creates a namespace.
    pub(crate) fn namespace(&self, name: &str) -> Result<Namespace> {
        let namespace = Namespace::named(&format!("{}-{name}", self.tag));
        self.note(|all| all.namespaces.insert(namespace.name().to_owned()), || Ok(namespace.create()?))?;
        Ok(namespace)
    }

    /// Removes a namespace again.
    pub(crate) fn drop_namespace(&self, namespace: &Namespace) -> Result<()> {
        empty_and_remove(namespace)?;
        self.note(|all| all.namespaces.remove(namespace.name()), || Ok(()))
    }

    /// Makes an interface in the host's namespace.
    pub(crate) fn link(&self, name: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
        self.note(|all| all.links.insert(name.to_owned()), make)
    }

    /// Starts a program that belongs to the lab. It runs in a process group of its own, so that a Ctrl-C at the
    /// terminal reaches the lab only, which ends it in order.
    pub(crate) fn start(&self, start: impl FnOnce() -> Result<std::process::Child>) -> Result<Running> {
        let mut child = self.note(|_| {}, start)?;
        let Some(process) = Process::find(child.id().cast_signed()) else {
            let status = child.wait()?;
            bail!("the program ended at once: {status}");
        };
        self.note(|all| all.processes.push(process), || Ok(()))?;
        Ok(Running { child, process })
    }

    /// Forgets a program that has ended.
    pub(crate) fn ended(&self, process: Process) -> Result<()> {
        self.note(|all| all.processes.retain(|other| *other != process), || Ok(()))
    }

    /// Gives out a control network that no lab of this user has and whose addresses this machine does not have.
    pub(crate) fn control_network(&self) -> Result<ControlNetwork> {
        let base = open_base()?;
        let _lock = lock(&base)?;
        let mut taken = BTreeSet::new();
        for (_, dir) in labs(&base)? {
            taken.extend(load(&dir).map(|belongings| belongings.control).unwrap_or_default());
        }
        let present = Netlink::here()?.addresses()?;
        let free = |number: &u16| {
            let host = IpAddr::V4(ControlNetwork(*number).host());
            !taken.contains(number) && present.iter().all(|address| address.ip != host)
        };
        let number = (0..CONTROL_NETWORKS).find(free).context("every control network is taken")?;
        self.note(|all| all.control.insert(number), || Ok(ControlNetwork(number)))
    }

    /// Leaves the lab in place when its owner ends.
    pub(crate) fn keep(&self) -> Result<()> {
        self.note(|all| all.kept = true, || Ok(()))
    }

    /// Takes the whole lab away.
    pub(crate) fn demolish(&self) -> Result<()> {
        let belongings = self.belongings().clone();
        if belongings.kept {
            return Ok(());
        }
        demolish(&belongings)?;
        let base = open_base()?;
        let _lock = lock(&base)?;
        erase(&self.dir)
    }
}

/// A program of the lab that was started.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its handle; waiting for it clears the process table's entry.
    pub(crate) child: std::process::Child,
    /// Its number and start.
    pub(crate) process: Process,
}

/// A /30 between the host and one hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ControlNetwork(u16);

impl ControlNetwork {
    fn address(self, host: u16) -> std::net::Ipv4Addr {
        let [high, low] = (self.0 * 4 + host).to_be_bytes();
        std::net::Ipv4Addr::new(169, 254, 64 + high, low)
    }

    /// What all of them are in.
    pub(crate) const ALL: (std::net::Ipv4Addr, u8) = (std::net::Ipv4Addr::new(169, 254, 64, 0), 18);

    /// How many leading bits its two addresses share.
    pub(crate) const LENGTH: u8 = 30;

    /// The host's address.
    pub(crate) fn host(self) -> std::net::Ipv4Addr {
        self.address(1)
    }

    /// The hypervisor's address.
    pub(crate) fn hypervisor(self) -> std::net::Ipv4Addr {
        self.address(2)
    }
}

/// A number in as few letters as an interface name can spare.
pub(crate) fn base36(mut number: u32) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = Vec::new();
    loop {
        text.push(DIGITS[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    text.reverse();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_networks_stay_inside_their_range() {
        assert_eq!(ControlNetwork(0).host().to_string(), "169.254.64.1");
        assert_eq!(ControlNetwork(64).hypervisor().to_string(), "169.254.65.2");
        assert_eq!(ControlNetwork(CONTROL_NETWORKS - 1).hypervisor().to_string(), "169.254.127.254");
    }

    #[test]
    fn base36_is_positional() {
        assert_eq!(base36(0), "0");
        assert_eq!(base36(35), "z");
        assert_eq!(base36(36 * 36 + 1), "101");
    }
}
