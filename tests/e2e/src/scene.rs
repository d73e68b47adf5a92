//! A scene: a VPC, nodes with their daemons, pods.

use std::time::Duration;

use vpcsim::cloud::InstanceId;
use vpcsim::lab::{Lab, NodeSpec};
use vpcsim::node::Node;

use crate::binaries::Binaries;
use crate::daemon::{Daemon, Setting};
use crate::pod::{self, Pod};

/// How long a daemon may take to be ready. *Source*: our choice; vpcsim's EC2 takes seconds for an attachment.
pub const READY: Duration = Duration::from_secs(30);

/// What a node gives its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Single secondary addresses.
    Secondary,
    /// /28 prefixes.
    Prefix,
}

impl Mode {
    /// The setting that asks for it.
    #[must_use]
    pub const fn setting(self) -> Setting<'static> {
        match self {
            Self::Secondary => ("ENABLE_PREFIX_DELEGATION", "false"),
            Self::Prefix => ("ENABLE_PREFIX_DELEGATION", "true"),
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secondary => "secondary addresses",
            Self::Prefix => "prefixes",
        }
    }
}

/// A node that runs `ipamd`.
#[derive(Debug)]
pub struct Worker {
    /// The node.
    pub node: Node,
    /// Its daemon.
    pub daemon: Daemon,
    /// What it gives its pods.
    pub mode: Mode,
    /// How long the daemon took to be ready.
    pub ready_after: Duration,
}

impl Worker {
    /// Boots a node and starts its daemon; returns when the node takes pods.
    ///
    /// # Errors
    /// The node cannot be made, or the daemon is not ready in time.
    pub fn start(
        lab: &Lab,
        binaries: &Binaries,
        spec: NodeSpec,
        mode: Mode,
        settings: &[Setting<'_>],
    ) -> anyhow::Result<Self> {
        let node = lab.add_node(spec)?;
        let all: Vec<Setting<'_>> = [mode.setting()].into_iter().chain(settings.iter().copied()).collect();
        let mut daemon = Daemon::start(&node, binaries, &all)?;
        let ready_after = daemon.wait_ready(READY)?;
        Ok(Self { node, daemon, mode, ready_after })
    }

    /// Its instance.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        InstanceId::from(self.node.instance_id())
    }

    /// Adds `count` pods at once, as kubelet does with a burst.
    ///
    /// # Errors
    /// One ADD fails.
    pub fn add_pods(&self, prefix: &str, count: usize) -> anyhow::Result<Vec<Pod>> {
        let names: Vec<String> = (0..count).map(|i| format!("{prefix}-{i}")).collect();
        std::thread::scope(|scope| {
            let adds: Vec<_> = names.iter().map(|name| scope.spawn(|| pod::add(&self.node, name))).collect();
            adds.into_iter()
                .map(|add| add.join().map_err(|_| anyhow::anyhow!("a thread that adds pods died"))?)
                .collect()
        })
    }
}

/// Deletes pods, all at once.
///
/// # Errors
/// One DEL fails.
pub fn delete(pods: &[Pod]) -> anyhow::Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let dels: Vec<_> = pods.iter().map(|pod| scope.spawn(|| pod.del())).collect();
        dels.into_iter()
            .map(|del| del.join().map_err(|_| anyhow::anyhow!("a thread that deletes pods died"))?)
            .collect()
    })
}

/// What EC2 has given an instance: its ENIs, each with its addresses for pods.
#[must_use]
pub fn holdings(lab: &Lab, instance: &InstanceId) -> Vec<Holding> {
    lab.with_cloud(|cloud| {
        let enis = cloud.interfaces_of(instance);
        enis.iter()
            .map(|eni| Holding {
                eni: eni.id.to_string(),
                device: eni.attachment.as_ref().map_or(0, |a| a.device),
                subnet: eni.subnet.to_string(),
                primary: eni.primary.to_string(),
                addresses: eni.secondaries.len(),
                prefixes: eni.prefixes.len(),
            })
            .collect()
    })
}

/// One ENI in EC2's truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Its id.
    pub eni: String,
    /// Its device index.
    pub device: u32,
    /// Its subnet.
    pub subnet: String,
    /// Its own address.
    pub primary: String,
    /// Secondary addresses.
    pub addresses: usize,
    /// Prefixes.
    pub prefixes: usize,
}
