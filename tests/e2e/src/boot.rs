//! A node's first minute with its pods waiting already: how many EC2 calls it costs, how long the first pod waits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use vpcsim::cloud::InstanceId;
use vpcsim::lab::{Lab, NodeSpec};
use vpcsim::node::Node;

use crate::binaries::Binaries;
use crate::daemon::{Daemon, Setting, wait_for};
use crate::pod;
use crate::runtime;

/// How long plugins may take to reach the point where they wait. *Source*: our choice.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a boot cost.
#[derive(Debug)]
pub struct Boot {
    /// The node.
    pub node: Node,
    /// Its daemon.
    pub daemon: Daemon,
    /// Start of `ipamd` → first ADD done.
    pub first_add: Duration,
    /// Start of `ipamd` → last ADD done.
    pub last_add: Duration,
    /// Calls that change something, by action, until nothing was left to do.
    pub mutating: BTreeMap<String, u64>,
    /// All other calls.
    pub reading: u64,
}

impl Boot {
    /// Calls that change something.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.mutating.values().sum()
    }

    /// What the daemon says about its own start, line by line.
    #[must_use]
    pub fn critical_path(&self) -> Vec<String> {
        let log = fs::read_to_string(self.node.path(crate::daemon::LOG)).unwrap_or_default();
        log.lines().filter(|line| line.contains("start-up: ")).map(str::to_owned).collect()
    }
}

/// Boots a node whose pods wait before `ipamd` starts, and lets it come to rest.
///
/// # Errors
/// The node cannot be made, an ADD fails, or it does not come to rest.
pub fn boot(
    lab: &Lab,
    binaries: &Binaries,
    spec: NodeSpec,
    pods: usize,
    settings: &[Setting<'_>],
) -> anyhow::Result<Boot> {
    let node = lab.add_node(spec)?;
    let plugin = node.path("/opt/cni/bin/aws-cni");
    fs::create_dir_all(plugin.parent().context("a path")?)?;
    fs::copy(binaries.plugin(), &plugin).context("cannot lay the plugin out")?;
    let names: Vec<String> = (0..pods).map(|n| format!("boot-{n}")).collect();
    for name in &names {
        node.add_netns(name)?;
    }
    lab.with_cloud(|cloud| cloud.forget_calls());
    let (daemon, started, done) =
        std::thread::scope(|scope| {
            let adds: Vec<_> = names.iter().map(|name| scope.spawn(|| add(&node, name))).collect();
            let all = wait_for(PATIENCE, "the plugins to wait for ipamd", || {
                Ok((asleep(&node)? == pods).then_some(()))
            });
            let started = Instant::now();
            let daemon = all.and_then(|()| Daemon::start(&node, binaries, settings));
            // Joined whatever happened: a scope does not end before its threads.
            let done: anyhow::Result<Vec<Instant>> = adds
                .into_iter()
                .map(|add| add.join().map_err(|_| anyhow::anyhow!("a thread that adds pods died"))?)
                .collect();
            let daemon = daemon?;
            let done = done.with_context(|| format!("its log:\n{}", daemon.log_tail()))?;
            anyhow::Ok((daemon, started, done))
        })?;
    rest(lab, &node)?;
    let stats = lab.with_cloud(|cloud| cloud.stats());
    let mutating = stats.actions.iter().filter(|(_, count)| count.mutating);
    let after = |at: Option<&Instant>| at.map_or(Duration::ZERO, |at| at.duration_since(started));
    Ok(Boot {
        node,
        daemon,
        first_add: after(done.iter().min()),
        last_add: after(done.iter().max()),
        mutating: mutating.map(|(action, count)| (action.clone(), count.calls)).collect(),
        reading: stats.reading_calls,
    })
}

/// One ADD, without a conflist: on a booting node there is none yet.
fn add(node: &Node, name: &str) -> anyhow::Result<Instant> {
    let ran = runtime::execute(node, "ADD", &pod::attachment(node, name), &conf())?;
    ran.result().with_context(|| format!("ADD of {name}"))?;
    Ok(Instant::now())
}

fn conf() -> Value {
    json!({"cniVersion": "1.0.0", "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001"})
}

/// How many plugins of this node sleep: they found no daemon and wait for one.
fn asleep(node: &Node) -> anyhow::Result<usize> {
    let root = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt"));
    let here = root(&node.pid().to_string())?;
    let mut count = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let process = Path::new("/proc").join(&pid);
        // Processes come and go: one that is gone is none of ours.
        let Ok(stat) = fs::read_to_string(process.join("stat")) else { continue };
        let waiting = stat.contains("(aws-cni) S ");
        count += usize::from(waiting && root(&pid).is_ok_and(|ns| ns == here));
    }
    Ok(count)
}

/// Waits until EC2 deletes every ENI with the instance and no call has come for a while.
fn rest(lab: &Lab, node: &Node) -> anyhow::Result<()> {
    const QUIET: Duration = Duration::from_millis(700);
    let instance = InstanceId::from(node.instance_id());
    let mut last = (u64::MAX, Instant::now());
    wait_for(PATIENCE, "the node to come to rest", || {
        let (calls, settled) = lab.with_cloud(|cloud| {
            let enis = cloud.interfaces_of(&instance);
            let settled = enis
                .iter()
                .all(|eni| eni.attachment.as_ref().is_some_and(|a| a.device == 0 || a.delete_on_termination));
            (cloud.stats().mutating_calls + cloud.stats().reading_calls, settled)
        });
        if calls != last.0 {
            last = (calls, Instant::now());
        }
        Ok((settled && last.1.elapsed() > QUIET).then_some(()))
    })
}

/// A boot may cost at most so much.
///
/// # Errors
/// It cost more; the text says which calls.
pub fn cost_at_most(boot: &Boot, most: u64) -> anyhow::Result<()> {
    ensure!(boot.calls() <= most, "{} calls, at most {most} are allowed: {:?}", boot.calls(), boot.mutating);
    if boot.mutating.is_empty() && most > 0 {
        bail!("no call at all: this boot did not do what it should");
    }
    Ok(())
}
