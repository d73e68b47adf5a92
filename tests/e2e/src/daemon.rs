//! `ipamd` on a simulated node: start, ask, stop, kill.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use podwire_proto::v1::ipam_client::IpamClient;
use podwire_proto::v1::{StatusRequest, StatusResponse};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use vpcsim::node::Node;

use crate::binaries::Binaries;

/// Where the daemon listens, in the node.
pub const SOCKET: &str = "/var/run/aws-node/ipamd.sock";
/// Where it logs, in the node.
pub const LOG: &str = "/var/log/aws-routed-eni/ipamd.log";
/// The trace of the daemon's pool, in the node.
pub const TRACE: &str = "/var/run/aws-node/podwire/trace.txt";
/// The conflist, in the node.
pub const CONFLIST: &str = "/etc/cni/net.d/10-aws.conflist";

/// A running `ipamd`. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    child: Child,
    started: Instant,
}

/// One setting of the daemon: a variable and its value.
pub type Setting<'a> = (&'a str, &'a str);

impl Daemon {
    /// Starts `ipamd` in the node with these variables beside what every simulated node needs.
    ///
    /// # Errors
    /// It cannot be executed.
    pub fn start(node: &Node, binaries: &Binaries, settings: &[Setting<'_>]) -> anyhow::Result<Self> {
        stand_in_for_portmap(node)?;
        let log = node.path(LOG);
        let output = File::options().create(true).append(true).open(log.with_extension("out"));
        let output = output.context("cannot write the node's logs")?;
        let mut command = node.command(binaries.ipamd());
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("ENABLE_IPv4", "true")
            .env("HOST_CNI_CONFDIR_PATH", "/etc/cni/net.d")
            .env("HOST_CNI_BIN_PATH", "/opt/cni/bin")
            .env("AWS_VPC_K8S_CNI_LOG_FILE", LOG)
            .env("AWS_ENDPOINT_URL_EC2", format!("http://{}", vpcsim::fabric::ENDPOINT))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let started = Instant::now();
        let child = command.spawn().context("cannot start ipamd")?;
        Ok(Self { node: node.clone(), child, started })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB (/proc/PID/status, `VmRSS`).
    ///
    /// # Errors
    /// The process is gone.
    pub fn rss_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches(" kB").parse().context("VmRSS is not a number")
    }

    /// Waits until the conflist is there and the socket answers: the node takes pods. Returns how long it took since the
    /// start.
    ///
    /// # Errors
    /// The daemon died, or it takes longer than `patience`.
    pub fn wait_ready(&mut self, patience: Duration) -> anyhow::Result<Duration> {
        let (conflist, socket) = (self.node.path(CONFLIST), self.node.path(SOCKET));
        wait_for(patience, "the conflist and the socket", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("ipamd ended with {status}; its log:\n{}", self.log_tail());
            }
            let answers = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
            Ok((conflist.exists() && answers()).then(|| self.started.elapsed()))
        })
        .with_context(|| format!("ipamd on {} is not ready; its log:\n{}", self.node.name(), self.log_tail()))
    }

    /// The newest lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.log_tail_of(25)
    }

    /// So many of the newest lines of its log.
    #[must_use]
    pub fn log_tail_of(&self, count: usize) -> String {
        let log = std::fs::read_to_string(self.node.path(LOG)).unwrap_or_default();
        let output = std::fs::read_to_string(self.node.path(LOG).with_extension("out")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().chain(output.lines()).collect();
        lines.iter().skip(lines.len().saturating_sub(count)).map(|l| format!("{l}\n")).collect()
    }

    /// Asks for the daemon's counts.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> anyhow::Result<StatusResponse> {
        status_of(&self.node).await
    }

    /// Sends SIGUSR1: the daemon writes its trace to [`TRACE`].
    ///
    /// # Errors
    /// The process is gone.
    pub fn ask_for_trace(&self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::USR1)
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It does not end within `patience`, or not with code 0.
    pub fn stop(mut self, patience: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.signal(rustix::process::Signal::TERM)?;
        let status = wait_for(patience, "the end of ipamd", || Ok(self.child.try_wait()?))?;
        if !status.success() {
            bail!("ipamd ended with {status}; its log:\n{}", self.log_tail());
        }
        Ok(began.elapsed())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It does not end within `patience`.
    pub fn wait_for_end(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        wait_for(patience, "the end of ipamd", || Ok(self.child.try_wait()?))
    }

    /// Sends SIGKILL: a crash.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("no process")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let killed = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = killed {
                eprintln!("ipamd {} cannot be killed: {error}", self.child.id());
            }
        }
    }
}

/// The daemon opens the node only where the conflist's whole chain is there. Nothing in this crate executes that chain, so a file
/// of the name will do; a node that has the real plugin keeps it.
fn stand_in_for_portmap(node: &Node) -> anyhow::Result<()> {
    let path = node.path("/opt/cni/bin/portmap");
    if !path.exists() {
        std::fs::write(&path, "#!/bin/false\n").context("cannot write the node's plugins")?;
    }
    Ok(())
}

/// Asks the daemon of a node for its counts.
///
/// # Errors
/// It does not answer.
pub async fn status_of(node: &Node) -> anyhow::Result<StatusResponse> {
    let mut client = client_of(node).await?;
    Ok(client.status(StatusRequest {}).await?.into_inner())
}

/// A client of the node's daemon.
///
/// # Errors
/// The socket does not answer.
pub async fn client_of(node: &Node) -> anyhow::Result<IpamClient<Channel>> {
    Ok(IpamClient::new(channel_of(node).await?))
}

/// A connection to the node's daemon, for whatever service it has.
///
/// # Errors
/// The socket does not answer.
pub async fn channel_of(node: &Node) -> anyhow::Result<Channel> {
    let path: PathBuf = node.path(SOCKET);
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://ipamd").connect_with_connector(connector).await?)
}

/// Looks every few milliseconds until there is something.
///
/// # Errors
/// The look fails, or nothing is there after `patience`.
pub fn wait_for<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}
