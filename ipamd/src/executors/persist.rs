//! Writes the ledger: at once where its directory lies in memory, else on a thread of its own.
//!
//! *Why at once*: /run is a tmpfs on stock nodes, where an append is durable in microseconds; handing it to a thread and
//! being told costs two wake-ups of a processor, many times as much. A real disk may take long, so there whatever waits
//! goes into one append and one fdatasync (group commit) while the driver goes on.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use podwire_ledger::Ledger;
use podwire_pool::{Input, Record, Revision};

use crate::driver::{Handle, Message};
use crate::vital;

/// Pause before a failed write is tried again. *Source*: our choice; a full tmpfs is freed by people, in seconds at best.
const RETRY: Duration = Duration::from_millis(500);
/// What statfs(2) says of a file system in memory. *Source*: linux/magic.h, `TMPFS_MAGIC`.
const TMPFS: u64 = 0x0102_1994;

#[derive(Debug)]
enum Job {
    Own(Ledger),
    Append(Revision, Vec<Record>),
    Compact(Vec<Record>),
    Close,
}

/// The ledger's writer. The queue's bound is the pool's: one entry for each request and operation in flight.
#[derive(Debug)]
pub struct PersistExecutor {
    /// The ledger, while it is written here; from the first failure on the thread has it, with its patience.
    here: Option<Ledger>,
    jobs: Sender<Job>,
    driver: Handle,
    /// The driver has been asked for a snapshot.
    asked: bool,
}

impl PersistExecutor {
    /// Starts the writer of the ledger in `dir`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(ledger: Ledger, dir: &Path, driver: Handle) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = channel();
        let reports = driver.clone();
        let thread = std::thread::Builder::new().name(vital::LEDGER.into()).spawn(move || {
            if let Ok(Job::Own(ledger)) = inbox.recv() {
                Writer { ledger, driver: reports, inbox, late: VecDeque::new() }.run();
            }
        })?;
        let mut executor = Self { here: Some(ledger), jobs, driver, asked: false };
        if !is_in_memory(dir) {
            executor.hand_over();
        }
        Ok((executor, thread))
    }

    /// Makes records durable. What this returns has happened already; otherwise the driver is told when it has.
    pub fn append(&mut self, revision: Revision, records: Vec<Record>) -> Option<Input> {
        if let Some(ledger) = &mut self.here {
            match ledger.append(&records) {
                Ok(()) => {
                    if ledger.needs_compaction() && !self.asked {
                        self.asked = self.driver.try_send(Message::Compact);
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
        if let Some(ledger) = &mut self.here {
            match ledger.compact(&snapshot) {
                Ok(()) => {
                    self.asked = false;
                    return;
                }
                Err(error) => tracing::warn!(%error, "the ledger cannot be rewritten at once"),
            }
        }
        self.hand_over();
        self.queue(Job::Compact(snapshot));
    }

    /// Lets the writer end after what is queued.
    pub fn close(&self) {
        self.queue(Job::Close);
    }

    fn hand_over(&mut self) {
        if let Some(ledger) = self.here.take() {
            self.queue(Job::Own(ledger));
        }
    }

    fn queue(&self, job: Job) {
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

struct Writer {
    ledger: Ledger,
    driver: Handle,
    inbox: Receiver<Job>,
    /// What came while the disk took nothing.
    late: VecDeque<Job>,
}

impl Writer {
    fn run(mut self) {
        let mut compaction_asked = false;
        while let Some(first) = self.late.pop_front().or_else(|| self.inbox.recv().ok()) {
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
                    // There is one ledger, and it is here.
                    Job::Own(_) => {}
                    Job::Close => closing = true,
                }
                next =
                    if closing { None } else { self.late.pop_front().or_else(|| self.inbox.try_recv().ok()) };
            }
            if let Some(all) = snapshot {
                compaction_asked = false;
                if !self.rewrite(&all, newest) {
                    break;
                }
            }
            if !self.write(&records, newest) {
                break;
            }
            if self.ledger.needs_compaction() && !compaction_asked {
                compaction_asked = self.driver.send_blocking(Message::Compact).is_ok();
            }
            if closing {
                break;
            }
        }
    }

    fn rewrite(&mut self, all: &[Record], newest: Option<Revision>) -> bool {
        self.until_written(newest, |ledger| ledger.compact(all).map_err(|e| e.to_string()))
    }

    fn write(&mut self, records: &[Record], newest: Option<Revision>) -> bool {
        let append = |ledger: &mut Ledger| ledger.append(records).map_err(|e| e.to_string());
        if !records.is_empty() && !self.until_written(newest, append) {
            return false;
        }
        if let Some(revision) = newest {
            self.report(Input::Persisted { revision });
        }
        true
    }

    /// Tries until the disk takes it: records are never dropped, and nothing that depends on them becomes visible. False when
    /// the daemon ends before that. Whoever waits for a revision is told, be it that of a record that came meanwhile: where
    /// it is a snapshot that does not fit, nothing else would tell.
    fn until_written(
        &mut self,
        newest: Option<Revision>,
        mut attempt: impl FnMut(&mut Ledger) -> Result<(), String>,
    ) -> bool {
        let (mut logged, mut untold) = (false, newest);
        while let Err(reason) = attempt(&mut self.ledger) {
            if !logged {
                tracing::error!(%reason, "the ledger cannot be written; ADDs are refused until it can");
                logged = true;
            }
            if let Some(revision) = untold.take() {
                self.report(Input::PersistFailed { revision, reason: reason.into() });
            }
            match self.inbox.recv_timeout(RETRY) {
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(job) => {
                    if let Job::Append(revision, _) = &job {
                        untold = Some(*revision);
                    }
                    self.late.push_back(job);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        true
    }

    fn report(&self, input: Input) {
        if self.driver.send_blocking(Message::Happened(input)).is_err() {
            tracing::debug!("the driver stopped before the ledger's writer");
        }
    }
}
