//! The plugin as a runtime executes it, timed from process start to exit. Everything here runs in the node's namespaces.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// The plugin in the node.
pub(crate) const PLUGIN: &str = "/opt/cni/bin/aws-cni";

/// One attachment of the benchmark.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Namespace path in the node.
    pub(crate) netns: String,
    /// Container id.
    pub(crate) id: String,
}

impl Subject {
    /// The subject of this number; each round makes a new sandbox of it.
    pub(crate) fn new(number: usize, round: usize) -> Self {
        Self { netns: format!("/run/netns/bench-{number}"), id: format!("bench-{number}-{round}") }
    }
}

/// Executes one verb and waits. Returns the time from just before the process is made to its end.
///
/// # Errors
/// It cannot be executed, or fails.
pub(crate) fn run(verb: &str, subject: &Subject, conf: &[u8]) -> anyhow::Result<Duration> {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={}", subject.id);
    let mut command = Command::new(PLUGIN);
    command.env_clear();
    command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &subject.id).env("CNI_NETNS", &subject.netns);
    command.env("CNI_IFNAME", "eth0").env("CNI_ARGS", args).env("CNI_PATH", "/opt/cni/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().context("cannot execute the plugin")?;
    child.stdin.take().context("no standard input")?.write_all(conf)?;
    let output = child.wait_with_output()?;
    let took = began.elapsed();
    if !output.status.success() {
        bail!("{verb} of {} failed: {}", subject.id, String::from_utf8_lossy(&output.stdout));
    }
    Ok(took)
}

/// Executes a verb for all at once; returns when the last one is done.
///
/// # Errors
/// One fails.
pub(crate) fn all_at_once(verb: &str, subjects: &[Subject], conf: &[u8]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    each_at_once(verb, subjects, conf)?;
    Ok(began.elapsed())
}

/// Executes a verb for all at once; returns how long each took.
///
/// # Errors
/// One fails.
pub(crate) fn each_at_once(verb: &str, subjects: &[Subject], conf: &[u8]) -> anyhow::Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            subjects.iter().map(|subject| scope.spawn(move || run(verb, subject, conf))).collect();
        runs.into_iter().map(|run| run.join().map_err(|_| anyhow::anyhow!("a thread died"))?).collect()
    })
}

/// Executes a program that does nothing; the cost of a process as such.
///
/// # Errors
/// It cannot be executed.
pub(crate) fn empty(program: &Path) -> anyhow::Result<Duration> {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    command.status().context("cannot execute the empty program")?;
    Ok(began.elapsed())
}

/// Executes so many of them at once; returns when the last one is done.
///
/// # Errors
/// One cannot be executed.
pub(crate) fn empty_at_once(program: &Path, count: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..count).map(|_| scope.spawn(|| empty(program))).collect();
        runs.into_iter()
            .try_for_each(|run| run.join().map_err(|_| anyhow::anyhow!("a thread died"))?.map(drop))
    })?;
    Ok(began.elapsed())
}

/// Peak resident memory of one ADD, as time(1) reports it. *Unit* KiB.
///
/// # Errors
/// time(1) is missing, or the plugin fails.
pub(crate) fn peak_rss_kib(subject: &Subject, conf: &[u8]) -> anyhow::Result<f64> {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={}", subject.id);
    let mut command = Command::new("/usr/bin/time");
    command.args(["-f", "%M", PLUGIN]).env_clear();
    command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", &subject.id).env("CNI_NETNS", &subject.netns);
    command.env("CNI_IFNAME", "eth0").env("CNI_ARGS", args).env("CNI_PATH", "/opt/cni/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("time(1) is missing; apt-get install time")?;
    child.stdin.take().context("no standard input")?.write_all(conf)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.trim().lines().last().unwrap_or_default().parse().with_context(|| format!("time(1) said {text:?}"))
}
