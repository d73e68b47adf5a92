//! A simulated VPC for runtimes: nodes with the real daemon, and what must hold when all pods are gone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, Setting, status_of, wait_for};
use serde_json::Value;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

use crate::sweep::Sweep;

/// How long anything may take that is waited for. *Source*: our choice; seconds are usual, loaded machines need more.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian keeps the CNI plugins that runtimes and the conflist's chain need.
const PLUGINS: &str = "/usr/lib/cni";

/// A simulated VPC and the control groups of what runs in it. The VPC goes first, then the groups are empty.
#[derive(Debug)]
pub struct Stage {
    /// The VPC.
    pub lab: Lab,
    /// The control groups.
    pub groups: Sweep,
}

impl Stage {
    /// Brings up a VPC for this test.
    ///
    /// # Errors
    /// Not root, or the kernel refuses.
    pub fn start(test: &str) -> anyhow::Result<Self> {
        let name = format!("rt-{test}-{}", std::process::id());
        let groups = Sweep::promise(&format!("podwire-{name}"))?;
        Ok(Self { lab: Lab::start(LabSpec::instant(&name))?, groups })
    }

    /// Boots a node with the CNI plugins of the distribution and no daemon yet.
    ///
    /// # Errors
    /// The node cannot be made, or a plugin is missing.
    pub fn node(&self, spec: NodeSpec) -> anyhow::Result<Node> {
        let node = self.lab.add_node(spec)?;
        for plugin in ["loopback", "portmap"] {
            let from = Path::new(PLUGINS).join(plugin);
            std::fs::copy(&from, node.path(format!("/opt/cni/bin/{plugin}"))).with_context(|| {
                format!(
                    "no {}: install containernetworking-plugins (need_runtimes in scripts/lib.sh)",
                    from.display()
                )
            })?;
        }
        Ok(node)
    }

    /// Every address is assigned in EC2 to an ENI of the node, and none is held twice.
    ///
    /// # Errors
    /// Which is not.
    pub fn addresses_are_true(&self, node: &Node, addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
        let distinct: BTreeSet<&Ipv4Addr> = addresses.iter().collect();
        ensure!(distinct.len() == addresses.len(), "an address is held twice: {addresses:?}");
        for address in addresses {
            let holder = self.lab.with_cloud(|cloud| cloud.whose(IpAddr::V4(*address)));
            let holder = holder.with_context(|| format!("{address} is not assigned in EC2"))?;
            let at = holder.instance.map(|i| i.to_string()).unwrap_or_default();
            ensure!(
                at == node.instance_id(),
                "{address} is assigned to {at:?}, not to {}",
                node.instance_id()
            );
        }
        Ok(())
    }
}

/// Starts the daemon and waits until the node takes pods.
///
/// # Errors
/// It is not ready in time.
pub fn ready_daemon(node: &Node, settings: &[Setting<'_>]) -> anyhow::Result<Daemon> {
    let mut daemon = Daemon::start(node, &Binaries::find()?, settings)?;
    daemon.wait_ready(PATIENCE)?;
    Ok(daemon)
}

/// How many addresses are allocated on the node.
///
/// # Errors
/// The daemon does not answer.
pub fn allocated(node: &Node) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(status_of(node))?.allocated.into())
}

/// Waits until nothing of any pod is left on the node: ledger, links, routes, namespaces, pending releases, results.
///
/// # Errors
/// What is left.
pub fn nothing_left(node: &Node) -> anyhow::Result<()> {
    let mut left = String::new();
    let gone = wait_for(PATIENCE, "every trace of the pods to go", || {
        left = leftovers(node)?;
        Ok(left.is_empty().then_some(()))
    });
    gone.with_context(|| format!("left on {}: {left}", node.name()))
}

fn leftovers(node: &Node) -> anyhow::Result<String> {
    let mut left = Vec::new();
    // A daemon that is just being started again does not answer yet.
    match allocated(node) {
        Ok(0) => {}
        Ok(count) => left.push(format!("{count} allocations")),
        Err(error) => left.push(format!("an answer of the daemon ({error:#})")),
    }
    for (what, command) in [
        ("link", &["-o", "link", "show", "type", "veth"][..]),
        ("route", &["-o", "route", "show", "table", "5120"]),
        ("route in main", &["-o", "route", "show", "table", "main"]),
    ] {
        let output = node.command("ip").args(command).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        left.extend(
            text.lines()
                .filter(|line| line.contains(" eni") || line.starts_with("eni"))
                .map(|l| format!("{what} {l}")),
        );
    }
    for directory in ["/run/netns", "/var/run/aws-node/podwire/released", "/var/lib/cni/results"] {
        let Ok(entries) = std::fs::read_dir(node.path(directory)) else { continue };
        for entry in entries {
            let name = entry?.file_name();
            left.push(format!("{directory}/{}", name.to_string_lossy()));
        }
    }
    Ok(left.join("; "))
}

/// What the plugin logged on the node, one JSON object for each line.
///
/// # Errors
/// There is no log.
pub fn plugin_log(node: &Node) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(node.path("/var/log/aws-routed-eni/plugin.log"))?;
    text.lines().map(|line| serde_json::from_str(line).context("a log line is not JSON")).collect()
}
