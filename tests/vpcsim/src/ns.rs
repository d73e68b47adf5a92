//! A network, mount and UTS namespace as one handle: run a closure or a program inside.
//!
//! Nothing here is bound to a name under the machine's `/run/netns`: namespaces are kept alive by a [`Keeper`] process
//! and by open descriptors, so that the machine's own list stays as it was.

mod keeper;
mod loopback;
mod syscalls;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use keeper::{Keeper, KeeperProcess, end_strays, keepers};

pub(crate) use keeper::LABEL;

/// The three namespaces that make a host of ours. Clones share one fate: when the [`Keeper`] that made them ends, all
/// of them close, so a forgotten handle cannot keep a namespace (and its devices) alive.
#[derive(Debug, Clone)]
pub struct Namespaces(Arc<Mutex<Option<Open>>>);

#[derive(Debug, Clone)]
struct Open {
    network: Arc<OwnedFd>,
    mount: Arc<OwnedFd>,
    uts: Arc<OwnedFd>,
}

impl Namespaces {
    /// Those of a process.
    ///
    /// # Errors
    /// The process is gone or may not be inspected.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::under(&format!("/proc/{pid}/ns"))
    }

    /// Those of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn of_this_thread() -> io::Result<Self> {
        Self::under("/proc/thread-self/ns")
    }

    fn under(directory: &str) -> io::Result<Self> {
        let open = |kind: &str| -> io::Result<Arc<OwnedFd>> {
            Ok(Arc::new(File::open(format!("{directory}/{kind}"))?.into()))
        };
        Ok(Self::of(Open { network: open("net")?, mount: open("mnt")?, uts: open("uts")? }))
    }

    fn of(open: Open) -> Self {
        Self(Arc::new(Mutex::new(Some(open))))
    }

    fn open(&self) -> io::Result<Open> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "this host of the lab was shut down"))
    }

    fn become_same(&self, other: &Self) {
        let open = other.open().ok();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The same machine seen from another network namespace: how a container runtime's shim stands in a pod.
    ///
    /// # Errors
    /// `path` is not there, or the machine was shut down.
    pub fn with_network(&self, path: &Path) -> io::Result<Self> {
        let network = Arc::new(OwnedFd::from(File::open(path)?));
        Ok(Self::of(Open { network, ..self.open()? }))
    }

    /// Runs `inside` on a thread of its own that stands in these namespaces. Sockets opened there stay there for ever,
    /// and programs it spawns are born there (the way to measure a program without anything in between).
    ///
    /// # Errors
    /// The thread may not enter (not root), or the host was shut down.
    ///
    /// # Panics
    /// When `inside` does: its panic is passed on.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        let open = self.open()?;
        thread::scope(|scope| {
            let worker = thread::Builder::new().name("inside".to_owned()).spawn_scoped(scope, || {
                // A thread that shares its working directory with others may not change mount namespace.
                syscalls::unshare_filesystem_state()?;
                open.join_current_task()?;
                Ok(inside())
            })?;
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// A command that will run in here. The program is looked up inside; the working directory is `/` (entering a
    /// mount namespace resets it, so `current_dir` has no effect).
    /// When the host was shut down, starting the command fails.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let target = self.open().ok();
        syscalls::before_exec(&mut command, move || match &target {
            Some(open) => open.join_current_task(),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        command
    }

    /// The network namespace's identity: its inode number, as `ls -l /proc/*/ns/net` shows it.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn network_inode(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(self.open()?.network.as_fd())?.st_ino)
    }
}

impl Open {
    /// System calls only: it also runs between fork and exec.
    fn join_current_task(&self) -> io::Result<()> {
        move_into_link_name_space(self.mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
        move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(self.uts.as_fd(), Some(LinkNameSpaceType::HostNameAndNISDomainName))?;
        Ok(())
    }
}

/// Gives the calling thread a network namespace of its own, with `lo` up.
///
/// # Errors
/// Not root.
pub(crate) fn unshare_network() -> io::Result<()> {
    syscalls::unshare_network()?;
    loopback::up()
}

/// Brings `lo` up in the calling thread's network namespace.
///
/// # Errors
/// Not root.
pub(crate) fn loopback_up() -> io::Result<()> {
    loopback::up()
}
