//! Pod sandboxes of a node: network namespaces under the node's own `/run/netns`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::Node;
use crate::ns::{self, Namespaces};

/// A pod's network namespace. The handle holds no descriptor: it is the name that counts, as for a runtime.
#[derive(Debug, Clone)]
pub struct PodNetns {
    node: Node,
    name: String,
}

impl PodNetns {
    pub(super) fn new(node: Node, name: &str) -> Self {
        Self { node, name: name.to_owned() }
    }

    /// The node it is on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its name under `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As the node sees it: what goes into `CNI_NETNS`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// The namespaces of a process in the pod that uses the node's files.
    ///
    /// # Errors
    /// The namespace or the node is gone.
    pub fn namespaces(&self) -> io::Result<Namespaces> {
        self.node.namespaces().with_network(&self.node.path(self.path()))
    }

    /// A command that will run in the pod; see [`Namespaces::command`].
    ///
    /// # Errors
    /// The namespace or the node is gone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> io::Result<Command> {
        Ok(self.namespaces()?.command(program))
    }

    /// Runs a closure in the pod; see [`Namespaces::enter`].
    ///
    /// # Errors
    /// The namespace or the node is gone.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.namespaces()?.enter(inside)
    }
}

pub(super) fn add(node: &Node, name: &str) -> anyhow::Result<PodNetns> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        bail!("{name:?} cannot name a namespace");
    }
    let pod = PodNetns::new(node.clone(), name);
    let path = pod.path();
    // The thread stands in the node's mount namespace and steps into the new network namespace, then binds it.
    node.enter(|| {
        fs::File::create_new(&path)?;
        let bound = ns::unshare_network().and_then(|()| Ok(mount_bind("/proc/thread-self/ns/net", &path)?));
        if bound.is_err() {
            fs::remove_file(&path)?;
        }
        bound
    })?
    .with_context(|| format!("cannot make namespace {name} on {}", node.name()))?;
    Ok(pod)
}

pub(super) fn remove(node: &Node, name: &str) -> anyhow::Result<()> {
    let path = PodNetns::new(node.clone(), name).path();
    node.enter(|| -> io::Result<()> {
        unmount(&path, UnmountFlags::DETACH)?;
        fs::remove_file(&path)
    })?
    .with_context(|| format!("cannot remove namespace {name} of {}", node.name()))
}
