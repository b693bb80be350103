//! Named network namespaces, and threads that live in one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::Error;
use crate::link::LinkChange;
use crate::socket::Netlink;

/// Where named namespaces are, for every program (ip-netns(8)).
const NAMES: &str = "/run/netns";

/// The calling thread's own namespace (proc(5)).
const MINE: &str = "/proc/thread-self/ns/net";

/// A named network namespace. The handle is only the name: dropping it removes nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The handle for a namespace of this name, which need not exist yet.
    #[must_use]
    pub fn named(name: &str) -> Namespace {
        Namespace { name: name.to_owned() }
    }

    /// The handle for the namespace of a process, which need not have a name.
    #[must_use]
    pub fn of_process(process: u32) -> Namespace {
        Namespace { name: format!("/proc/{process}/ns/net") }
    }

    /// Its name, as `ip netns exec` takes it; of [`Self::of_process`], the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        // What is a whole path stays one.
        Path::new(NAMES).join(&self.name)
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    fn error(&self, what: &'static str) -> impl Fn(io::Error) -> Error {
        move |cause| Error::Namespace { name: self.name.clone(), what, cause }
    }

    pub(crate) fn open(&self) -> Result<File, Error> {
        File::open(self.path()).map_err(self.error("there is none of this name"))
    }

    /// Makes it, with its loopback switched on. It outlives this program; `ip netns` knows it.
    ///
    /// # Errors
    /// When there is one of this name, or this process may not (it needs root).
    pub fn create(&self) -> Result<(), Error> {
        share_names().map_err(self.error("cannot prepare /run/netns"))?;
        let path = self.path();
        OpenOptions::new().write(true).create_new(true).open(&path).map_err(self.error("cannot be named"))?;
        let made = std::thread::scope(|scope| {
            let work = || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                // The mount keeps it when the thread, its only inhabitant, ends.
                mount(Some(MINE), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            };
            scope.spawn(work).join().map_err(|_| Error::Panicked(self.name.clone()))
        })?;
        if let Err(errno) = made {
            let _ = fs::remove_file(&path);
            return Err(self.error("cannot be made")(errno.into()));
        }
        self.netlink()?.set("lo", &[LinkChange::Up])
    }

    /// Takes its name away. With it goes the namespace, unless a process or a socket is still in it.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self) -> Result<(), Error> {
        // One that died between naming and mounting has a name and no mount.
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("cannot be removed")(error)),
            _ => Ok(()),
        }
    }

    /// The numbers of the processes whose first thread is in it.
    ///
    /// # Errors
    /// When it is not there, or /proc is not mounted.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        let wanted = fs::metadata(self.path()).map_err(self.error("there is none of this name"))?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").map_err(self.error("cannot read /proc"))?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that ended in between is in no namespace.
            let inside = fs::metadata(entry.path().join("ns/net"));
            if inside.is_ok_and(|inside| (inside.dev(), inside.ino()) == (wanted.dev(), wanted.ino())) {
                found.push(pid);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Runs `work` in a thread of its own inside the namespace and waits for it. The thread ends afterwards, so no
    /// other work is ever done in the wrong namespace. Sockets opened there stay there, whoever uses them later.
    ///
    /// # Errors
    /// When the namespace is gone or may not be entered (that needs root), or `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().map_err(|_| Error::Panicked(self.name.clone()))?
        })
    }

    /// Moves the calling thread into the namespace, for good. Only for threads that end before anything else runs.
    ///
    /// # Errors
    /// When the namespace is gone or may not be entered.
    pub fn enter(&self) -> Result<(), Error> {
        setns(self.open()?, CloneFlags::CLONE_NEWNET).map_err(|errno| self.error("it cannot be entered")(errno.into()))
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, Error> {
        self.run(|| command.spawn())?.map_err(self.error("a program in it cannot be started"))
    }

    /// Its links, addresses, routes and neighbours.
    ///
    /// # Errors
    /// When it is gone or may not be entered.
    pub fn netlink(&self) -> Result<Netlink, Error> {
        self.run(Netlink::here)?
    }

    /// Sets kernel parameters of the namespace; the keys are paths below /proc/sys/net, such as
    /// `ipv4/conf/eth0/arp_ignore`.
    ///
    /// # Errors
    /// When there is no such parameter, or it does not take the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        self.run(|| {
            for (key, value) in settings {
                // /proc/sys/net shows the namespace of the thread that opens it (proc(5)).
                fs::write(format!("/proc/sys/net/{key}"), value)
                    .map_err(|cause| Error::Refused { what: format!("{}: {key}={value}", self.name), cause })?;
            }
            Ok(())
        })?
    }
}

/// Makes the directory of names, as a mount of its own that other mount namespaces see changes of: a name that is
/// removed here is then removed for programs that `ip netns exec` started, too.
fn share_names() -> io::Result<()> {
    fs::create_dir_all(NAMES)?;
    let share = || mount(None::<&str>, NAMES, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_err() {
        // It is no mount yet.
        mount(Some(NAMES), NAMES, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        share()?;
    }
    Ok(())
}
