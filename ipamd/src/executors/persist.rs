//! Writes the ledger: at once where its directory lies in memory, else on a thread of its own.
//!
//! *Why at once*: /run is a tmpfs on stock nodes, where an append is durable in microseconds; handing it to a thread and
//! being told costs two wake-ups of a processor, many times as much. A real disk may take long, so there whatever waits
//! goes into one append and one fdatasync (group commit) while the driver goes on.
//!
//! A ledger of this boot takes appends though it cannot be rewritten: its space is reserved. So a snapshot that does not
//! fit stops nobody, and another one is asked for after a pause. Only one that founds a ledger has to succeed first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use podwire_ledger::{Ledger, LedgerError};
use podwire_pool::{Input, Record, Revision, Time};

use crate::clock;
use crate::driver::{Handle, Message};
use crate::vital;

mod writer;

use writer::{Job, Writer};

/// Pause before a snapshot is asked for again after one that could not be written. *Source*: our choice; each is a whole
/// file, written in vain while the disk is full.
const REWRITE_AGAIN: Duration = Duration::from_secs(30);
/// What statfs(2) says of a file system in memory. *Source*: linux/magic.h, `TMPFS_MAGIC`.
const TMPFS: u64 = 0x0102_1994;

/// The ledger's writer. The queue's bound is the pool's: one entry for each request and operation in flight.
#[derive(Debug)]
pub struct PersistExecutor {
    /// The ledger, while it is written here; from a failure on the thread has it, with its patience.
    here: Option<Ledger>,
    /// It is written here again when the thread has done its work.
    in_memory: bool,
    jobs: Sender<Job>,
    /// Jobs the thread has not done yet.
    undone: Arc<AtomicUsize>,
    /// Where it gives the ledger back.
    back: Receiver<Ledger>,
    driver: Handle,
    asking: Asking,
}

impl PersistExecutor {
    /// Starts the writer of the ledger in `dir`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(ledger: Ledger, dir: &Path, driver: Handle) -> std::io::Result<(Self, JoinHandle<()>)> {
        Self::start_with(ledger, is_in_memory(dir), driver, REWRITE_AGAIN)
    }

    fn start_with(
        ledger: Ledger,
        in_memory: bool,
        driver: Handle,
        pause: Duration,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = channel();
        let (give_back, back) = channel();
        let undone = Arc::new(AtomicUsize::new(0));
        let (reports, done) = (driver.clone(), Arc::clone(&undone));
        let thread = std::thread::Builder::new().name(vital::LEDGER.into()).spawn(move || {
            while let Ok(Job::Own(ledger)) = inbox.recv() {
                let writer = Writer::new(ledger, reports.clone(), &inbox, &done, Asking::new(pause));
                let Some(ledger) = writer.run() else { return };
                if give_back.send(ledger).is_err() {
                    return;
                }
            }
        })?;
        let (here, asking) = (Some(ledger), Asking::new(pause));
        let mut executor = Self { here, in_memory, jobs, undone, back, driver, asking };
        if !in_memory {
            executor.hand_over();
        }
        Ok((executor, thread))
    }

    /// Makes records durable. What this returns has happened already; otherwise the driver is told when it has.
    pub fn append(&mut self, revision: Revision, records: Vec<Record>) -> Option<Input> {
        self.take_back();
        if let Some(ledger) = &mut self.here {
            match ledger.append(&records) {
                Ok(()) => {
                    if self.asking.is_due(ledger) {
                        self.asking.under_way = self.driver.try_send(Message::Compact);
                    }
                    return Some(Input::Persisted { revision });
                }
                Err(error) => tracing::warn!(%error, "the ledger cannot be written at once"),
            }
        }
        self.hand_over();
        self.queue(Job::Append(revision, records));
        None
    }

    /// Rewrites the ledger; `snapshot` contains everything given before.
    pub fn compact(&mut self, snapshot: Vec<Record>) {
        self.take_back();
        if let Some(ledger) = &mut self.here {
            let founded = ledger.is_founded();
            match ledger.compact(&snapshot) {
                Ok(()) => {
                    self.asking.written();
                    return;
                }
                // Everything given before was appended.
                Err(error) if founded => return self.asking.refused(error),
                Err(error) => tracing::warn!(%error, "the ledger cannot be founded at once"),
            }
        }
        self.asking.under_way = false;
        self.hand_over();
        self.queue(Job::Compact(snapshot));
    }

    /// Lets the writer end after what is queued.
    pub fn close(&self) {
        self.send(Job::Close);
    }

    fn hand_over(&mut self) {
        if let Some(ledger) = self.here.take() {
            self.send(Job::Own(ledger));
        }
    }

    /// Waits for the thread only where it has nothing to do but to give the ledger back.
    fn take_back(&mut self) {
        if self.in_memory && self.here.is_none() && self.undone.load(Ordering::Acquire) == 0 {
            self.send(Job::GiveBack);
            self.here = self.back.recv().ok();
        }
    }

    fn queue(&self, job: Job) {
        self.undone.fetch_add(1, Ordering::AcqRel);
        self.send(job);
    }

    fn send(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!("the ledger's writer is gone; nothing more becomes durable");
        }
    }
}

/// Whether a directory lies in memory; when in doubt it does not.
#[must_use]
pub fn is_in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS))
}

/// When the driver is asked for a snapshot.
#[derive(Debug)]
struct Asking {
    /// It has been asked, and its answer has not come yet.
    under_way: bool,
    /// When a snapshot could not be written for the last time.
    refused: Option<Time>,
    pause: Duration,
}

impl Asking {
    const fn new(pause: Duration) -> Self {
        Self { under_way: false, refused: None, pause }
    }

    fn is_due(&self, ledger: &Ledger) -> bool {
        let due = |refused| clock::now().since(refused) >= self.pause;
        let due = !self.under_way && self.refused.map_or_else(|| ledger.needs_compaction(), due);
        if due && ledger.is_gone() {
            tracing::error!("somebody removed the ledger's file while it is in use; it is written anew");
        }
        due
    }

    const fn written(&mut self) {
        self.under_way = false;
        self.refused = None;
    }

    fn refused(&mut self, error: LedgerError) {
        if self.refused.is_none() {
            let error = anyhow::Error::new(error);
            tracing::warn!(
                error = format!("{error:#}"),
                "the ledger cannot be rewritten; it is appended to, and this is tried again"
            );
        }
        self.under_way = false;
        self.refused = Some(clock::now());
    }
}

#[cfg(test)]
mod tests;
