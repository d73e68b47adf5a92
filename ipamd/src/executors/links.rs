//! Deletes host veths in batches: one group deletion shares the kernel's barriers, so a hundred cost little more than
//! one (design D18).
//!
//! *Why several threads*: what a deletion waits for it waits for without any lock, so batches that begin a little apart wait
//! side by side, and nobody waits for the batch before.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use podwire_hostnet::NodeNet;
use tokio::sync::oneshot;

/// Most links in one batch. *Source*: design D18.
const BATCH: usize = 64;
/// Batches that may wait side by side. *Source*: our choice; with [`GATHER`] they cover a wait of 30 ms.
pub const THREADS: usize = 6;
/// How far apart batches begin at least; what comes meanwhile goes along. *Source*: our choice; a deletion waits 16 to 35 ms
/// (rust-stack §3c), and one that comes alone is not held up.
const GATHER: Duration = Duration::from_millis(5);

struct Job {
    name: String,
    done: oneshot::Sender<Result<(), String>>,
}

/// Deletes links.
#[derive(Debug, Clone)]
pub struct LinkReaper {
    jobs: Sender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("name", &self.name).finish_non_exhaustive()
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
        let (jobs, inbox) = channel();
        let inbox = Arc::new(Mutex::new(Inbox { jobs: inbox, began: None }));
        for net in nets {
            let inbox = Arc::clone(&inbox);
            std::thread::Builder::new().name("links".into()).spawn(move || reap(net, &inbox))?;
        }
        Ok(Self { jobs })
    }

    /// Deletes one link together with whatever else waits.
    ///
    /// # Errors
    /// The kernel refused, or the thread is gone.
    pub async fn delete(&self, name: String) -> Result<(), String> {
        let (done, outcome) = oneshot::channel();
        self.jobs.send(Job { name, done }).map_err(|_| "the link thread is gone".to_owned())?;
        outcome.await.map_err(|_| "the link thread is gone".to_owned())?
    }
}

/// Takes the next batch; `None` when no more will come. One thread at a time: the others have theirs, or wait for this one.
fn next_batch(inbox: &Mutex<Inbox>) -> Option<Vec<Job>> {
    let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
    let first = inbox.jobs.recv().ok()?;
    if let Some(early) = inbox.began.and_then(|began| GATHER.checked_sub(began.elapsed())) {
        std::thread::sleep(early);
    }
    inbox.began = Some(Instant::now());
    Some(std::iter::once(first).chain(inbox.jobs.try_iter().take(BATCH - 1)).collect())
}

fn reap(mut net: NodeNet, inbox: &Mutex<Inbox>) {
    while let Some(batch) = next_batch(inbox) {
        let names: Vec<String> = batch.iter().map(|job| job.name.clone()).collect();
        let mut outcomes = net.delete_links(&names);
        for job in batch {
            let found =
                outcomes.iter().position(|(name, _)| *name == job.name).map(|i| outcomes.swap_remove(i).1);
            let outcome = found.map_or(Ok(()), |o| o.map_err(|e| e.to_string()));
            if job.done.send(outcome).is_err() {
                tracing::debug!("the caller of a link deletion went away");
            }
        }
    }
}
