//! A simulated node: its own network, mount and UTS namespace, furnished like a stock machine.

mod filesystem;
mod netns;
mod stock;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;

use crate::ns::{self, Keeper, Namespaces};

pub use netns::PodNetns;
pub use stock::PrimaryAddress;

pub(crate) use filesystem::fresh_sys;

/// Handle to a node; clones are the same node. The node ends when its lab removes it or shuts down.
#[derive(Debug, Clone)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lab: String,
    name: String,
    instance: String,
    pid: AtomicU32,
    namespaces: Namespaces,
    keeper: Mutex<Option<Keeper>>,
    primary: Mutex<Option<PrimaryAddress>>,
}

impl Node {
    /// Boots the machine: no ENI yet. `instance` is the EC2 instance it stands for.
    ///
    /// # Errors
    /// Not root, or the kernel lacks overlayfs.
    pub fn boot(lab: &str, name: &str, instance: &str) -> anyhow::Result<Self> {
        let keeper = start(lab, name, None).with_context(|| format!("cannot boot node {name}"))?;
        Ok(Self(Arc::new(Inner {
            lab: lab.to_owned(),
            name: name.to_owned(),
            instance: instance.to_owned(),
            pid: AtomicU32::new(keeper.pid()),
            namespaces: keeper.namespaces().clone(),
            keeper: Mutex::new(Some(keeper)),
            primary: Mutex::default(),
        })))
    }

    /// Ends everything on the node and boots it again: another boot id, an empty `/run`, the same disk, no devices.
    /// Handles stay good; [`Self::pid`] changes. The lab's [`reboot_node`](crate::lab::Lab::reboot_node) plugs its
    /// ENIs again as well.
    ///
    /// # Errors
    /// The node was shut down, or the kernel refuses.
    pub fn restart(&self) -> anyhow::Result<()> {
        let disk = self.enter(filesystem::disk)??;
        self.power_off();
        let mut keeper = start(&self.0.lab, self.name(), Some(disk))
            .with_context(|| format!("cannot boot node {} again", self.name()))?;
        keeper.rename(&self.0.namespaces);
        self.0.pid.store(keeper.pid(), Ordering::Relaxed);
        *self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        Ok(())
    }

    /// What DHCP and networkd do with the primary ENI: address, routes, link up.
    ///
    /// # Errors
    /// The device is not there, or `ip` refuses.
    pub fn configure_primary(&self, address: PrimaryAddress) -> anyhow::Result<()> {
        self.enter(|| address.configure())?
            .with_context(|| format!("cannot configure eth0 of {}", self.name()))?;
        *self.0.primary.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(())
    }

    /// Its name in the lab, and hostname.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The EC2 instance, `i-…`.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.0.instance
    }

    /// Address and subnet of the primary ENI, once configured.
    #[must_use]
    pub fn primary(&self) -> Option<PrimaryAddress> {
        *self.0.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that keeps the node alive: `/proc/<pid>/ns/net` and `/proc/<pid>/root` are the node's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid.load(Ordering::Relaxed)
    }

    /// Its namespaces.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.0.namespaces
    }

    /// A command that will run in the node; see [`Namespaces::command`]. The child's id is the program's own.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.0.namespaces.command(program)
    }

    /// Runs a closure in the node; see [`Namespaces::enter`]. Programs spawned there run in the node as well, without
    /// any hook between fork and exec: the way to time them.
    ///
    /// # Errors
    /// The node was shut down.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.0.namespaces.enter(inside)
    }

    /// Where a path of the node is seen from the machine, as long as the node lives. Links are followed as the node
    /// follows them (`/var/run` is its own `/run`), for as much of the path as is there.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let resolved = self.enter(|| resolve(inside)).unwrap_or_else(|_| inside.to_owned());
        Path::new(&format!("/proc/{}/root", self.pid())).join(resolved.strip_prefix("/").unwrap_or(&resolved))
    }

    /// Makes a network namespace bound to the node's `/run/netns/<name>`, as a container runtime does for a sandbox.
    ///
    /// # Errors
    /// The name is taken or not a file name.
    pub fn add_netns(&self, name: &str) -> anyhow::Result<PodNetns> {
        netns::add(self, name)
    }

    /// A handle to a namespace that is there already (nothing is checked).
    #[must_use]
    pub fn netns(&self, name: &str) -> PodNetns {
        PodNetns::new(self.clone(), name)
    }

    /// Removes the name; with its last process and descriptor the namespace and its devices vanish.
    ///
    /// # Errors
    /// It is not there.
    pub fn del_netns(&self, name: &str) -> anyhow::Result<()> {
        netns::remove(self, name)
    }

    /// Ends every process of the node and its namespaces. Later use of any handle fails.
    pub fn power_off(&self) {
        drop(self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A machine of this name: a new one, or one that has been running before and brings its disk.
fn start(lab: &str, name: &str, disk: Option<OwnedFd>) -> anyhow::Result<Keeper> {
    let label = format!("{lab}/{name}");
    Keeper::start(&label, None, || {
        filesystem::furnish(&label, name, disk)?;
        rustix::system::sethostname(name.as_bytes()).context("cannot set the hostname")?;
        ns::loopback_up().context("cannot bring lo up")?;
        stock::sysctls()
    })
}

/// Follows the links of the part of the path that is there, in the calling thread's mount namespace.
fn resolve(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}
