//! Keeps the incumbent's checkpoint up to date, so that it can take the node back without giving an address twice
//! (design §4): within a second, and once more at the end. Only in layout compat does anything wait for it ([`UpToDate`]);
//! otherwise what it cannot write stops nobody.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podwire_ledger::ipam_json::{self, Allocation, IpamJsonError, Mirrored};
use podwire_pool::{Holding, Revision};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::driver::{Handle, Message};
use crate::takeover::NETWORK;

/// How long changes are gathered before the file is written. *Source*: our choice, a quarter of the second it may lag.
const GATHER: Duration = Duration::from_millis(250);
/// Pause before a failed write is tried again. *Source*: our choice.
const RETRY: Duration = Duration::from_secs(1);

/// How often the file is looked at, whether it is still the one that was written. *Source*: our choice; one stat(2).
const LOOK: Duration = Duration::from_secs(1);

/// How long somebody may take to put a file back from a copy. *Source*: our choice.
const PUT_THERE: Duration = Duration::from_millis(500);

/// Most callers that wait for a write to begin; further ones wait for room. *Source*: our choice, beyond any burst of pods.
const WAITING_MAX: usize = 1024;

/// What the pool holds, at a revision.
pub type Holdings = (Revision, Vec<Holding>);

/// Tells the mirror that something changed.
#[derive(Debug)]
pub struct MirrorExecutor {
    changed: Arc<Notify>,
    last: oneshot::Sender<Holdings>,
    up_to_date: UpToDate,
}

/// Has the checkpoint written before an answer is given.
#[derive(Debug, Clone)]
pub struct UpToDate(mpsc::Sender<oneshot::Sender<bool>>);

impl UpToDate {
    /// Returns true once the checkpoint holds all that is held now; false when it cannot be written. Callers at the same
    /// time share a write.
    pub async fn wait(&self) -> bool {
        let (done, written) = oneshot::channel();
        self.0.send(done).await.is_ok() && written.await.unwrap_or(false)
    }
}

/// Writes the file.
type Write = fn(&Path, &[Allocation], Mirrored<'_>) -> Result<Box<str>, IpamJsonError>;

/// What lies where this daemon wrote.
#[derive(Debug, PartialEq, Eq)]
enum Lies {
    /// What it wrote.
    Ours,
    /// Nothing, or an older one of its own.
    Nothing,
    /// What cannot be read: another program's, or one that is just being put there.
    Unreadable,
    /// Another program's.
    Anothers,
}

/// The task behind it.
struct Mirror {
    path: PathBuf,
    to_disk: Write,
    driver: Handle,
    booted_unix_ns: i128,
    /// The ledger's name.
    lineage: Box<str>,
    changed: Arc<Notify>,
    asked: mpsc::Receiver<oneshot::Sender<bool>>,
    last: oneshot::Receiver<Holdings>,
    /// What the file holds, once it was written by this daemon; not known after a write that failed.
    written: Option<Vec<Allocation>>,
    /// Which file lies there: the one written last, or before that the one that was read at start.
    mark: Option<Box<str>>,
    failing: bool,
}

impl MirrorExecutor {
    /// Starts the task; it ends with [`Self::close`], or when this is dropped. The file is written for the first time at
    /// once, so that it says who serves this node. `mark`: of the file that was read at start. It ends with an error where
    /// another program, hence another writer of this node, has written the file since: that one's is never replaced.
    #[must_use]
    pub fn start(
        path: PathBuf,
        driver: Handle,
        booted_unix_ns: i128,
        lineage: Box<str>,
        mark: Option<Box<str>>,
    ) -> (Self, JoinHandle<anyhow::Result<()>>) {
        Self::start_with(ipam_json::write, path, driver, booted_unix_ns, lineage, mark)
    }

    fn start_with(
        to_disk: Write,
        path: PathBuf,
        driver: Handle,
        booted_unix_ns: i128,
        lineage: Box<str>,
        mark: Option<Box<str>>,
    ) -> (Self, JoinHandle<anyhow::Result<()>>) {
        let changed = Arc::new(Notify::new());
        changed.notify_one();
        let (sender, last) = oneshot::channel();
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        let mirror = Mirror {
            path,
            to_disk,
            driver,
            booted_unix_ns,
            lineage,
            changed: Arc::clone(&changed),
            asked,
            last,
            written: None,
            mark,
            failing: false,
        };
        (Self { changed, last: sender, up_to_date: UpToDate(ask) }, tokio::spawn(mirror.run()))
    }

    /// For those whose answer must not come before the file.
    #[must_use]
    pub fn up_to_date(&self) -> UpToDate {
        self.up_to_date.clone()
    }

    /// Something is held or released.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// Writes what is held at the end, and ends.
    pub fn close(self, holdings: Holdings) {
        if self.last.send(holdings).is_err() {
            tracing::error!("the mirror for the incumbent died before its last write");
        }
    }
}

impl Mirror {
    async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                last = &mut self.last => return self.end(last.ok()).await,
                Some(first) = self.asked.recv() => waiting.push(first),
                () = self.changed.notified() => {
                    let pause = if self.failing { RETRY } else { GATHER };
                    tokio::select! {
                        biased;
                        last = &mut self.last => return self.end(last.ok()).await,
                        Some(first) = self.asked.recv() => waiting.push(first),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                () = tokio::time::sleep(LOOK) => {
                    self.look().await?;
                    continue;
                }
            }
            while let Ok(next) = self.asked.try_recv() {
                waiting.push(next);
            }
            let (reply, answer) = oneshot::channel();
            if self.driver.send(Message::Holdings { reply }).await.is_err() {
                continue;
            }
            // A driver that ends sends the last holdings instead.
            if let Ok(holdings) = answer.await {
                self.look().await?;
                let written = self.write(holdings).await;
                for caller in waiting {
                    // One that went away is asked again by the runtime.
                    let _ = caller.send(written);
                }
            }
        }
    }

    /// `None`: the driver died; what is on disk stays, the next start reads the ledger.
    async fn end(&mut self, last: Option<Holdings>) -> anyhow::Result<()> {
        if let Some(holdings) = last {
            self.look().await?;
            let written = self.write(holdings).await;
            while let Ok(caller) = self.asked.try_recv() {
                let _ = caller.send(written);
            }
            if self.failing {
                tracing::error!(path = %self.path.display(), "the incumbent's checkpoint is not up to date; do not start aws-node here before podwire ran and stopped once more");
            }
        }
        Ok(())
    }

    /// Makes sure that what is written next replaces no other program's file.
    async fn look(&mut self) -> anyhow::Result<()> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let mut found = lies(&self.path, mark, &self.lineage);
        if found == Lies::Unreadable {
            tokio::time::sleep(PUT_THERE).await;
            found = lies(&self.path, mark, &self.lineage);
        }
        match found {
            Lies::Ours => Ok(()),
            Lies::Nothing => {
                // Otherwise it is about to be written anyway.
                if self.written.take().is_some() {
                    tracing::warn!(path = %self.path.display(), "the checkpoint for the incumbent is not there as it was written; it is written again");
                    self.changed.notify_one();
                }
                Ok(())
            }
            Lies::Unreadable | Lies::Anothers => anyhow::bail!(
                "another program wrote {}, as aws-node does when it starts; delete one of the two DaemonSets",
                self.path.display()
            ),
        }
    }

    /// Returns whether the file says so now.
    async fn write(&mut self, (revision, holdings): Holdings) -> bool {
        let allocations: Vec<Allocation> =
            holdings.iter().flat_map(|holding| entries(holding, self.booted_unix_ns)).collect();
        if self.written.as_ref() == Some(&allocations) {
            return true;
        }
        let (path, lineage, to_disk) = (self.path.clone(), self.lineage.clone(), self.to_disk);
        let outcome = tokio::task::spawn_blocking(move || {
            let of = Mirrored { lineage: &lineage, revision };
            to_disk(&path, &allocations, of).map(|mark| (allocations, mark))
        });
        self.written = match outcome.await {
            Ok(Ok((allocations, mark))) => {
                self.mark = Some(mark);
                Some(allocations)
            }
            Ok(Err(error)) => self.lags(&anyhow::Error::new(error)),
            Err(died) => self.lags(&anyhow::Error::new(died)),
        };
        if self.written.is_none() {
            self.changed.notify_one();
        } else if self.failing {
            tracing::info!(path = %self.path.display(), "the incumbent's checkpoint is up to date again");
        }
        self.failing = self.written.is_none();
        !self.failing
    }

    /// What the file holds now is not known: it is written anew, though what is held comes back to what it was.
    fn lags(&self, error: &anyhow::Error) -> Option<Vec<Allocation>> {
        if !self.failing {
            tracing::error!(
                error = format!("{error:#}"),
                "the incumbent's checkpoint lags; pods are served from the ledger"
            );
        }
        None
    }
}

/// What lies at this path, where a file with this mark was written.
fn lies(path: &Path, written: &str, lineage: &str) -> Lies {
    match ipam_json::mark(path) {
        Ok(there) if *there == *written => Lies::Ours,
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Lies::Ours,
        Ok(_) | Err(_) => match ipam_json::read(path) {
            Ok(Some(file)) if file.lineage.as_deref() == Some(lineage) => Lies::Nothing,
            Ok(Some(_)) | Err(IpamJsonError::Version { .. }) => Lies::Anothers,
            Err(IpamJsonError::Unreadable { .. }) => Lies::Unreadable,
            Ok(None) => Lies::Nothing,
            // Asked again.
            Err(IpamJsonError::Io { .. }) => Lies::Ours,
        },
    }
}

/// The entries the incumbent would have for this.
fn entries(holding: &Holding, booted_unix_ns: i128) -> Vec<Allocation> {
    let Holding { sandbox, pod, addresses, started } = holding;
    // The incumbent drops an entry that names a pod unless a link is named by that pod's hash. Ours is so only then.
    let by_pod = &*sandbox.ifname == "eth0" && !pod.namespace.is_empty() && !pod.name.is_empty();
    let (pod_namespace, pod_name) =
        if by_pod { (pod.namespace.clone(), pod.name.clone()) } else { Default::default() };
    let network = if pod.network.is_empty() { NETWORK.into() } else { pod.network.clone() };
    let at = booted_unix_ns.saturating_add(i128::from(started.as_ms()) * 1_000_000);
    let entry = |address: &std::net::IpAddr| Allocation {
        network: network.clone(),
        sandbox: sandbox.clone(),
        ipv4: if let std::net::IpAddr::V4(v4) = address { Some(*v4) } else { None },
        ipv6: if let std::net::IpAddr::V6(v6) = address { Some(*v6) } else { None },
        allocated_unix_ns: i64::try_from(at).unwrap_or(i64::MAX),
        pod_namespace: pod_namespace.clone(),
        pod_name: pod_name.clone(),
        interfaces: u32::from(by_pod),
    };
    addresses.iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
