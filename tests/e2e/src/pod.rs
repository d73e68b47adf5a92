//! A pod as far as the network is concerned: a namespace in a node, attached by the plugin.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use vpcsim::node::{Node, PodNetns};

use crate::runtime::{self, Attachment};

/// CNI version the pods speak. *Source*: what the conflist says.
const VERSION: &str = "1.0.0";

/// An attached pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Where it runs.
    pub node: Node,
    /// Its sandbox.
    pub netns: PodNetns,
    /// What the runtime knows of it.
    pub attachment: Attachment,
    /// Its address.
    pub address: Ipv4Addr,
    /// The result of ADD.
    pub result: Value,
    /// How long ADD took, process start to exit.
    pub took: Duration,
}

/// Names a pod's attachment; the namespace need not be there yet.
#[must_use]
pub fn attachment(node: &Node, name: &str) -> Attachment {
    Attachment {
        container_id: format!("{}-{name}-sandbox", node.name()),
        netns: format!("/run/netns/{name}"),
        ifname: "eth0".into(),
        pod: ("default".into(), name.into()),
    }
}

/// Makes the sandbox and attaches it.
///
/// # Errors
/// The namespace cannot be made, or ADD fails; nothing is left then.
pub fn add(node: &Node, name: &str) -> anyhow::Result<Pod> {
    let netns = node.add_netns(name)?;
    attach(node, netns, attachment(node, name)).inspect_err(|_| {
        if let Err(error) = node.del_netns(name) {
            eprintln!("namespace {name} stays behind: {error:#}");
        }
    })
}

/// Attaches an existing sandbox.
///
/// # Errors
/// ADD fails, or its result has no address.
pub fn attach(node: &Node, netns: PodNetns, attachment: Attachment) -> anyhow::Result<Pod> {
    let conf = runtime::netconf(node, VERSION, None)?;
    let ran = runtime::execute(node, "ADD", &attachment, &conf)?;
    let result =
        ran.result().with_context(|| format!("ADD of {} on {}", attachment.container_id, node.name()))?;
    let address = result["ips"][0]["address"].as_str().context("the result has no address")?;
    let address =
        address.split('/').next().unwrap_or_default().parse().context("the address makes no sense")?;
    Ok(Pod { node: node.clone(), netns, attachment, address, result, took: ran.took })
}

impl Pod {
    /// The pod's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.attachment.pod.1
    }

    /// Detaches the pod and removes its sandbox. Returns how long DEL took.
    ///
    /// # Errors
    /// DEL fails.
    pub fn del(&self) -> anyhow::Result<Duration> {
        let took = self.detach()?;
        self.node.del_netns(self.netns.name())?;
        Ok(took)
    }

    /// Detaches the pod; its sandbox stays.
    ///
    /// # Errors
    /// DEL fails.
    pub fn detach(&self) -> anyhow::Result<Duration> {
        let conf = runtime::netconf(&self.node, VERSION, Some(&self.result))?;
        let ran = runtime::execute(&self.node, "DEL", &self.attachment, &conf)?;
        ran.result().with_context(|| format!("DEL of {}", self.attachment.container_id))?;
        Ok(ran.took)
    }

    /// CHECK.
    ///
    /// # Errors
    /// Something differs from what ADD made.
    pub fn check(&self) -> anyhow::Result<()> {
        let conf = runtime::netconf(&self.node, VERSION, Some(&self.result))?;
        runtime::execute(&self.node, "CHECK", &self.attachment, &conf)?.result().map(|_| ())
    }

    /// Sends echo requests until one is answered, three at most.
    ///
    /// # Errors
    /// None is answered.
    pub fn ping(&self, to: Ipv4Addr) -> anyhow::Result<()> {
        self.ping_from(to, None)
    }

    /// Pings from a given source address, which need not be the pod's.
    ///
    /// # Errors
    /// No answer.
    pub fn ping_from(&self, to: Ipv4Addr, source: Option<Ipv4Addr>) -> anyhow::Result<()> {
        let mut command = self.netns.command("ping")?;
        command.args(["-n", "-q", "-c", "3", "-i", "0.2", "-W", "1"]);
        if let Some(source) = source {
            command.args(["-I", &source.to_string()]);
        }
        let output = command.arg(to.to_string()).output().context("cannot execute ping")?;
        match output.status.code() {
            Some(0) => Ok(()),
            // 1: no answer; anything else: it could not even try (ping(8)).
            Some(1) => bail!("{} ({}) gets no answer from {to}", self.name(), self.address),
            _ => bail!("ping could not run: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}
