//! Proofs: the kernel's packets and EC2's truth are the judges.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Stdio};

use anyhow::{Context, bail, ensure};
use vpcsim::lab::Lab;
use vpcsim::node::Node;
use vpcsim::probe;

use crate::pod::Pod;
use crate::scene::Worker;

/// EC2 has assigned every pod's address to an ENI of the pod's node, and no address is held twice.
///
/// # Errors
/// Which pod breaks it.
pub fn addresses_are_true(lab: &Lab, pods: &[Pod]) -> anyhow::Result<String> {
    let mut holders: BTreeMap<Ipv4Addr, &Pod> = BTreeMap::new();
    for pod in pods {
        if let Some(other) = holders.insert(pod.address, pod) {
            bail!("{} is held by {} and {}", pod.address, other.name(), pod.name());
        }
        let holder = lab.with_cloud(|cloud| cloud.whose(IpAddr::V4(pod.address)));
        let holder =
            holder.with_context(|| format!("{} of {} is not assigned in EC2", pod.address, pod.name()))?;
        let at = holder.instance.map(|i| i.to_string()).unwrap_or_default();
        ensure!(
            at == pod.node.instance_id(),
            "{} of {} is assigned to instance {at:?}",
            pod.address,
            pod.name()
        );
    }
    Ok(format!("{} pods", pods.len()))
}

/// The device index of the ENI that carries a pod's address, in EC2's truth.
///
/// # Errors
/// EC2 knows no such address.
pub fn device_of(lab: &Lab, pod: &Pod) -> anyhow::Result<(String, u32)> {
    lab.with_cloud(|cloud| {
        let holder = cloud.whose(IpAddr::V4(pod.address)).context("the pod's address is not assigned")?;
        let eni = cloud.interface(&holder.eni).context("the ENI is gone")?;
        let device = eni.attachment.as_ref().context("the ENI is not attached")?.device;
        Ok((eni.id.to_string(), device))
    })
}

/// One pod on each ENI of a node, by device index.
#[must_use]
pub fn one_per_eni<'a>(lab: &Lab, pods: &'a [Pod], node: &Node) -> BTreeMap<u32, &'a Pod> {
    let here = pods.iter().filter(|p| p.node.name() == node.name());
    here.filter_map(|pod| device_of(lab, pod).ok().map(|(_, device)| (device, pod))).collect()
}

/// A pod reaches another.
///
/// # Errors
/// It does not.
pub fn reaches(from: &Pod, to: Ipv4Addr, what: &str) -> anyhow::Result<String> {
    from.ping(to)?;
    Ok(format!("{} → {what} {to}", from.address))
}

/// What a pod sends within the VPC leaves by the ENI that carries its address.
///
/// # Errors
/// No answer, or the packets were seen elsewhere.
pub fn leaves_by_its_eni(lab: &Lab, from: &Pod, to: &Pod) -> anyhow::Result<String> {
    let (eni, device) = device_of(lab, from)?;
    let before = lab.fabric().received_from(&eni)?;
    from.ping(to.address)?;
    let sent = lab.fabric().received_from(&eni)? - before;
    ensure!(sent >= 1, "nothing of {} ({}) arrived by {eni}", from.name(), from.address);
    Ok(format!("{} left by {eni} (device {device}), {sent} packets", from.address))
}

/// The internet sees a pod as its node's primary address.
///
/// # Errors
/// It sees something else, or nothing.
pub fn leaves_by_snat(lab: &Lab, from: &Pod) -> anyhow::Result<String> {
    let outside = lab.internet().address();
    let seen = probe::seen_as(&from.netns.namespaces()?, outside)?;
    let node = from.node.primary().context("the node has no primary address")?.address;
    ensure!(seen.ip() == IpAddr::V4(node), "{} is seen as {}, not as {node}", from.address, seen.ip());
    Ok(format!("{} is seen as {node}", from.address))
}

/// Not an address of any node or pod of the scenes.
const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 0, 200, 77);

/// A pod cannot speak under an address that is not its own: the packets leave the pod and are answered by nobody.
///
/// # Errors
/// It was answered, or nothing was sent.
pub fn pod_cannot_spoof(from: &Pod, to: Ipv4Addr) -> anyhow::Result<String> {
    let pod = |program: &str, args: &[&str]| anyhow::Ok(from.netns.command(program)?.args(args).output()?);
    let sent = || {
        let text = stdout(&pod("ip", &["-j", "-s", "link", "show", "eth0"])?)?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        links[0]["stats64"]["tx"]["packets"].as_u64().context("ip shows no counter")
    };
    let address = format!("{FOREIGN}/32");
    run(&pod("ip", &["addr", "add", &address, "dev", "eth0"])?)?;
    let before = sent()?;
    let answered = from.ping_from(to, Some(FOREIGN)).is_ok();
    let packets = sent()? - before;
    run(&pod("ip", &["addr", "del", &address, "dev", "eth0"])?)?;
    ensure!(packets >= 1, "nothing left the pod, so nothing is proven");
    ensure!(!answered, "a packet from {FOREIGN} was answered");
    Ok(format!("{packets} packets from {FOREIGN} unanswered"))
}

/// A packet of a node with a source that EC2 has not assigned to the ENI is dropped by the VPC, and counted there.
///
/// # Errors
/// It was answered, or never seen.
pub fn vpc_drops_spoofed(lab: &Lab, node: &Node, to: Ipv4Addr) -> anyhow::Result<String> {
    let address = format!("{FOREIGN}/32");
    run(&node.command("ip").args(["addr", "add", &address, "dev", "lo"]).output()?)?;
    let before = lab.fabric().drops()?.spoofed;
    let source = FOREIGN.to_string();
    let ping = ["-n", "-q", "-c", "3", "-i", "0.2", "-W", "1", "-I", &source, &to.to_string()];
    let output = node.command("ping").args(ping).output()?;
    run(&node.command("ip").args(["addr", "del", &address, "dev", "lo"]).output()?)?;
    let dropped = lab.fabric().drops()?.spoofed - before;
    ensure!(output.status.code() == Some(1), "ping ended with {}, not unanswered", output.status);
    ensure!(dropped >= 1, "nothing from {FOREIGN} reached the VPC, so nothing is proven");
    Ok(format!("{dropped} packets from {FOREIGN} dropped by the VPC"))
}

/// A pod gets no token from instance metadata: the answer's hop limit is 1.
///
/// # Errors
/// It got one.
pub fn metadata_is_closed(from: &Pod) -> anyhow::Result<String> {
    let output = from
        .netns
        .command("curl")?
        .args(["-s", "-m", "2", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"])
        .arg("http://169.254.169.254/latest/api/token")
        .output()
        .context("cannot execute curl")?;
    // 28: timed out; 7: refused (curl(1), EXIT CODES). Anything else proves nothing.
    match output.status.code() {
        Some(7 | 28) => Ok("no token".to_owned()),
        Some(0) => bail!("the pod got a token"),
        code => bail!("curl could not try ({code:?})"),
    }
}

/// Nothing of any pod is left in a node's kernel: no host link, no route.
///
/// # Errors
/// What is left.
pub fn nothing_left(worker: &Worker) -> anyhow::Result<String> {
    let links = stdout(&worker.node.command("ip").args(["-o", "link", "show", "type", "veth"]).output()?)?;
    let left: Vec<&str> = links.lines().filter(|l| l.contains(": eni")).collect();
    ensure!(left.is_empty(), "{} host links are left: {}", left.len(), left.join("; "));
    let routes = stdout(&worker.node.command("ip").args(["route", "show", "table", "all"]).output()?)?;
    let left: Vec<&str> = routes.lines().filter(|l| l.contains("dev eni")).collect();
    ensure!(left.is_empty(), "{} routes are left: {}", left.len(), left.join("; "));
    Ok(format!("{}: no link, no route", worker.node.name()))
}

/// Watches a node's links with its own `ip monitor`, to see an ENI being plugged.
#[derive(Debug)]
pub struct LinkWatch {
    child: Child,
    log: std::path::PathBuf,
}

impl LinkWatch {
    /// Starts watching.
    ///
    /// # Errors
    /// `ip` cannot be executed.
    pub fn start(node: &Node) -> anyhow::Result<Self> {
        let log = node.path("/run/link-watch.log");
        let output = std::fs::File::create(&log)?;
        let mut command = node.command("ip");
        let child = command.args(["-o", "monitor", "link"]).stdin(Stdio::null()).stdout(output).spawn()?;
        Ok(Self { child, log })
    }

    /// Stops, and tells which devices of ENIs appeared.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn appeared(mut self) -> anyhow::Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        let log = std::fs::read_to_string(&self.log)?;
        let names = log.lines().filter(|l| !l.starts_with("Deleted")).filter_map(|l| l.split(": ").nth(1));
        let mut names: Vec<String> = names
            .filter_map(|n| n.split('@').next())
            .filter(|n| n.starts_with("eth"))
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(|_| ()))
        {
            eprintln!("ip monitor {} cannot be ended: {error}", self.child.id());
        }
    }
}

fn run(output: &std::process::Output) -> anyhow::Result<()> {
    stdout(output).map(|_| ())
}

fn stdout(output: &std::process::Output) -> anyhow::Result<String> {
    ensure!(output.status.success(), "a command failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
