//! Writes the ledger on a thread of its own: whatever waits goes into one append and one fdatasync (group commit).

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use podwire_ledger::Ledger;
use podwire_pool::{Input, Record, Revision};

use crate::driver::{Handle, Message};

/// Pause before a failed write is tried again. *Source*: our choice; a full tmpfs is freed by people, in seconds at best.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Job {
    Append(Revision, Vec<Record>),
    Compact(Vec<Record>),
    Close,
}

/// The ledger's writer. The queue's bound is the pool's: one entry for each request and operation in flight.
#[derive(Debug)]
pub struct PersistExecutor {
    jobs: Sender<Job>,
}

impl PersistExecutor {
    /// Starts the writer.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(ledger: Ledger, driver: Handle) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || Writer { ledger, driver, inbox }.run())?;
        Ok((Self { jobs }, thread))
    }

    /// Queues records.
    pub fn append(&self, revision: Revision, records: Vec<Record>) {
        self.queue(Job::Append(revision, records));
    }

    /// Queues a rewrite; `snapshot` contains everything queued before.
    pub fn compact(&self, snapshot: Vec<Record>) {
        self.queue(Job::Compact(snapshot));
    }

    /// Lets the writer end after what is queued.
    pub fn close(&self) {
        self.queue(Job::Close);
    }

    fn queue(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!("the ledger's writer is gone; nothing more becomes durable");
        }
    }
}

struct Writer {
    ledger: Ledger,
    driver: Handle,
    inbox: Receiver<Job>,
}

impl Writer {
    fn run(mut self) {
        let mut compaction_asked = false;
        while let Ok(first) = self.inbox.recv() {
            let mut records = Vec::new();
            let mut newest = None;
            let mut snapshot = None;
            let mut closing = false;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Append(revision, more) => {
                        newest = Some(revision);
                        records.extend(more);
                    }
                    Job::Compact(all) => {
                        // Everything queued so far is in the snapshot.
                        records.clear();
                        snapshot = Some(all);
                    }
                    Job::Close => closing = true,
                }
                next = match self.inbox.try_recv() {
                    Ok(job) if !closing => Some(job),
                    Ok(_) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
                };
            }
            if let Some(all) = snapshot {
                compaction_asked = false;
                self.rewrite(&all, newest);
            }
            self.write(&records, newest);
            if self.ledger.needs_compaction() && !compaction_asked {
                compaction_asked = self.driver.send_blocking(Message::Compact).is_ok();
            }
            if closing {
                break;
            }
        }
    }

    fn rewrite(&mut self, all: &[Record], newest: Option<Revision>) {
        self.until_written(newest, |ledger| ledger.compact(all).map_err(|e| e.to_string()));
    }

    fn write(&mut self, records: &[Record], newest: Option<Revision>) {
        if !records.is_empty() {
            self.until_written(newest, |ledger| ledger.append(records).map_err(|e| e.to_string()));
        }
        if let Some(revision) = newest {
            self.report(Input::Persisted { revision });
        }
    }

    /// Tries until the disk takes it: records are never dropped, and nothing that depends on them becomes visible.
    fn until_written(
        &mut self,
        newest: Option<Revision>,
        mut attempt: impl FnMut(&mut Ledger) -> Result<(), String>,
    ) {
        let mut told = false;
        while let Err(reason) = attempt(&mut self.ledger) {
            if !told {
                tracing::error!(%reason, "the ledger cannot be written; ADDs are refused until it can");
                if let Some(revision) = newest {
                    self.report(Input::PersistFailed { revision, reason: reason.into() });
                }
                told = true;
            }
            std::thread::sleep(RETRY);
        }
    }

    fn report(&self, input: Input) {
        if self.driver.send_blocking(Message::Happened(input)).is_err() {
            tracing::debug!("the driver stopped before the ledger's writer");
        }
    }
}
