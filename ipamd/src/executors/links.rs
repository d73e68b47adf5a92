//! Deletes host veths in batches: one group deletion shares the kernel's barriers, so a hundred cost little more than
//! one (design D18).
//!
//! *Why several threads*: what a deletion waits for it waits for without any lock, so batches that begin a little apart wait
//! side by side, and nobody waits for the batch before.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use podwire_hostnet::{Doomed, NodeNet, chain};
use tokio::sync::oneshot;

use crate::vital;

/// Most links in one batch. *Source*: our choice, below D18's 64: a batch holds the kernel's rtnl lock for a third of a
/// millisecond for each link, and an ADD takes that lock three times.
const BATCH: usize = 16;
/// Batches that may wait side by side. *Source*: our choice; with [`GATHER`] they cover a wait of 40 ms.
pub const THREADS: usize = 5;
/// How far apart batches begin at least; what comes meanwhile goes along. *Source*: our choice; a deletion waits 16 to 35 ms
/// without the lock (rust-stack §3c), one that comes alone is not held up, and between two batches the lock is free.
const GATHER: Duration = Duration::from_millis(8);
/// Most deletions that wait, those included that nobody waits for any more while the kernel holds up every thread.
/// *Source*: our choice, more than the largest node has pods.
const QUEUE: usize = 1024;

struct Job {
    doomed: Doomed,
    done: oneshot::Sender<Outcome>,
}

/// The name of the link that was deleted, if there was one; or why it could not be.
type Outcome = Result<Option<String>, String>;

/// Deletes links.
#[derive(Debug, Clone)]
pub struct LinkReaper {
    jobs: SyncSender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("doomed", &self.doomed).finish_non_exhaustive()
    }
}

/// What waits to be deleted, and when the last batch began.
struct Inbox {
    jobs: Receiver<Job>,
    began: Option<Instant>,
}

impl LinkReaper {
    /// Starts a thread for each of `nets`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(nets: Vec<NodeNet>) -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let inbox = Arc::new(Mutex::new(Inbox { jobs: inbox, began: None }));
        for net in nets {
            let inbox = Arc::clone(&inbox);
            std::thread::Builder::new().name(vital::LINKS.into()).spawn(move || reap(net, &inbox))?;
        }
        Ok(Self { jobs })
    }

    /// Deletes a pod's link together with whatever else waits. Returns its name; `None` when there was none.
    ///
    /// # Errors
    /// The kernel refused, took longer than `patience`, too many wait for it already, or the thread is gone. A deletion that
    /// has not begun by the time nobody waits for it is not made.
    pub async fn delete(&self, doomed: Doomed, patience: Duration) -> Result<Option<String>, String> {
        let (done, outcome) = oneshot::channel();
        self.jobs.try_send(Job { doomed, done }).map_err(|error| match error {
            TrySendError::Full(_) => format!("{QUEUE} deletions wait for the kernel already"),
            TrySendError::Disconnected(_) => "the link thread is gone".to_owned(),
        })?;
        match tokio::time::timeout(patience, outcome).await {
            Ok(outcome) => outcome.map_err(|_| "the link thread is gone".to_owned())?,
            Err(_) => Err(format!("the kernel took longer than {patience:?}")),
        }
    }
}

/// Takes the next batch; `None` when no more will come. One thread at a time: the others have theirs, or wait for this one.
///
/// What nobody waits for is left out. Its DEL is over for the runtime, which may have begun the container's next life by
/// now: the same container id and interface name, and so the same name and alias of a link that must stay.
fn next_batch(inbox: &Mutex<Inbox>) -> Option<Vec<Job>> {
    let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
    let first = inbox.jobs.iter().find(is_waited_for)?;
    if let Some(early) = inbox.began.and_then(|began| GATHER.checked_sub(began.elapsed())) {
        std::thread::sleep(early);
    }
    inbox.began = Some(Instant::now());
    // The first one, too, may have been given up during the pause.
    let waiting = std::iter::once(first).chain(inbox.jobs.try_iter()).filter(is_waited_for);
    Some(waiting.take(BATCH).collect())
}

fn is_waited_for(job: &Job) -> bool {
    !job.done.is_closed()
}

fn reap(mut net: NodeNet, inbox: &Mutex<Inbox>) {
    while let Some(batch) = next_batch(inbox) {
        let doomed: Vec<Doomed> = batch.iter().map(|job| job.doomed.clone()).collect();
        for (job, outcome) in batch.into_iter().zip(net.delete_pods(&doomed)) {
            let outcome = outcome.map_err(|error| chain(&error));
            if job.done.send(outcome).is_err() {
                tracing::debug!("the caller of a link deletion went away");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwire_hostnet::Attachment;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn doomed(container_id: &str) -> Doomed {
        let attachment = Attachment { container_id: container_id.into(), ifname: "eth0".into() };
        Doomed { attachment, names: vec!["eni1".into()] }
    }

    fn queue() -> (LinkReaper, Mutex<Inbox>) {
        let (jobs, inbox) = sync_channel(QUEUE);
        (LinkReaper { jobs }, Mutex::new(Inbox { jobs: inbox, began: None }))
    }

    fn containers(batch: &[Job]) -> Vec<&str> {
        batch.iter().map(|job| job.doomed.attachment.container_id.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_kernel_that_never_answers_holds_up_no_del_for_ever() {
        let (reaper, _inbox) = queue();
        let deleted = reaper.delete(doomed("pod-1"), PATIENCE).await;
        assert_eq!(deleted, Err("the kernel took longer than 20s".into()));
    }

    /// Else it would take the link of the container's next life, which has the same name and alias.
    #[tokio::test(start_paused = true)]
    async fn a_deletion_nobody_waits_for_is_not_made() {
        let (reaper, inbox) = queue();
        reaper.delete(doomed("late"), PATIENCE).await.expect_err("no thread is there");
        let caller = tokio::spawn({
            let reaper = reaper.clone();
            async move { reaper.delete(doomed("hung-up"), PATIENCE).await }
        });
        tokio::task::yield_now().await;
        caller.abort();
        caller.await.expect_err("aborted");
        let waiting = tokio::spawn(async move { reaper.delete(doomed("waited-for"), PATIENCE).await });
        tokio::task::yield_now().await;
        let batch = next_batch(&inbox).expect("more may come");
        assert_eq!(containers(&batch), ["waited-for"]);
        waiting.abort();
    }

    #[tokio::test]
    async fn a_deletion_too_many_is_refused_at_once() {
        let (reaper, _inbox) = queue();
        for _ in 0..QUEUE {
            reaper.delete(doomed("given-up"), Duration::ZERO).await.expect_err("no thread is there");
        }
        let refused = reaper.delete(doomed("one-more"), PATIENCE).await;
        assert_eq!(refused, Err("1024 deletions wait for the kernel already".into()));
    }
}
