//! Deletes host veths in batches: one group deletion shares the kernel's barriers, so a hundred cost little more than
//! one (design D18).

use std::sync::mpsc::{Receiver, Sender, channel};

use podwire_hostnet::NodeNet;
use tokio::sync::oneshot;

/// Most links in one batch. *Source*: design D18.
const BATCH: usize = 64;

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

impl LinkReaper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(net: NodeNet) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        std::thread::Builder::new().name("links".into()).spawn(move || reap(net, &inbox))?;
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

fn reap(mut net: NodeNet, inbox: &Receiver<Job>) {
    while let Ok(first) = inbox.recv() {
        let mut batch = vec![first];
        batch.extend(inbox.try_iter().take(BATCH - 1));
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
