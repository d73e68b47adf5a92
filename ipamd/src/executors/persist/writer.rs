//! The thread that writes the ledger where that may take long, or has failed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use podwire_ledger::{Ledger, LedgerError};
use podwire_pool::{Input, Record, Revision};

use super::Asking;
use crate::driver::{Handle, Message};

/// Pause before a failed write is tried again. *Source*: our choice; a full tmpfs is freed by people, in seconds at best.
const RETRY: Duration = Duration::from_millis(500);

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Job {
    Own(Ledger),
    Append(Revision, Vec<Record>),
    Compact(Vec<Record>),
    /// Give the ledger back; comes only when nothing is left to do.
    GiveBack,
    Close,
}

/// Owns the ledger until it is asked for.
pub(super) struct Writer<'a> {
    ledger: Ledger,
    driver: Handle,
    inbox: &'a Receiver<Job>,
    undone: &'a AtomicUsize,
    asking: Asking,
    /// What came while the disk took nothing.
    late: VecDeque<Job>,
}

/// Jobs that are done together.
#[derive(Debug, Default)]
struct Batch {
    jobs: usize,
    records: Vec<Record>,
    /// What the records make durable, oldest first, and where those of each end.
    revisions: Vec<(Revision, usize)>,
    /// The newest snapshot, and how many of the revisions it contains.
    snapshot: Option<(Vec<Record>, usize)>,
    then: Then,
}

/// What comes after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Then {
    #[default]
    Next,
    GiveBack,
    Close,
}

/// What became of an append.
enum Appended {
    Written,
    /// It has to be cut in pieces.
    TooMuch,
}

impl Batch {
    fn take(&mut self, job: Job) {
        match job {
            Job::Append(revision, records) => {
                self.jobs += 1;
                self.records.extend(records);
                self.revisions.push((revision, self.records.len()));
            }
            Job::Compact(snapshot) => {
                self.jobs += 1;
                self.snapshot = Some((snapshot, self.revisions.len()));
            }
            // There is one ledger, and it is here.
            Job::Own(_) => {}
            Job::GiveBack => self.then = Then::GiveBack,
            Job::Close => self.then = Then::Close,
        }
    }

    fn newest(&self) -> Option<Revision> {
        self.revisions.last().map(|(revision, _)| *revision)
    }

    /// The records of some of the revisions.
    fn records_of(&self, revisions: &Range<usize>) -> &[Record] {
        let end = |count: usize| count.checked_sub(1).map_or(0, |last| self.revisions[last].1);
        &self.records[end(revisions.start)..end(revisions.end)]
    }
}

impl<'a> Writer<'a> {
    pub(super) const fn new(
        ledger: Ledger,
        driver: Handle,
        inbox: &'a Receiver<Job>,
        undone: &'a AtomicUsize,
        asking: Asking,
    ) -> Self {
        Self { ledger, driver, inbox, undone, asking, late: VecDeque::new() }
    }

    /// Works until the ledger is to be given back; `None`: until the daemon ends.
    pub(super) fn run(mut self) -> Option<Ledger> {
        loop {
            let batch = self.next()?;
            let contained = match &batch.snapshot {
                Some((snapshot, contained)) if self.rewrite(snapshot, batch.newest())? => *contained,
                Some(_) | None => 0,
            };
            self.write(&batch, contained)?;
            if self.asking.is_due(&self.ledger) {
                self.asking.under_way = self.driver.send_blocking(Message::Compact).is_ok();
            }
            // Last: from here on the driver may wait for this thread.
            self.undone.fetch_sub(batch.jobs, Ordering::AcqRel);
            match batch.then {
                Then::Next => {}
                Then::GiveBack => return Some(self.ledger),
                Then::Close => return None,
            }
        }
    }

    /// All that waits.
    fn next(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut next = self.late.pop_front().or_else(|| self.inbox.recv().ok());
        next.as_ref()?;
        while let Some(job) = next {
            batch.take(job);
            next = match batch.then {
                Then::Next => self.late.pop_front().or_else(|| self.inbox.try_recv().ok()),
                Then::GiveBack | Then::Close => None,
            };
        }
        Some(batch)
    }

    /// Returns whether the snapshot is on disk; a ledger that is founded does without it for now. `None`: the daemon ends.
    fn rewrite(&mut self, snapshot: &[Record], newest: Option<Revision>) -> Option<bool> {
        if self.ledger.is_founded() {
            match self.ledger.compact(snapshot) {
                Ok(()) => {}
                // It is in place. What it contains must not be appended to it.
                Err(LedgerError::Unsynced { .. }) => self.until_done(newest, |ledger| ledger.append(&[]))?,
                Err(error) => {
                    self.asking.refused(error);
                    return Some(false);
                }
            }
        } else {
            self.until_done(newest, |ledger| ledger.compact(snapshot))?;
        }
        self.asking.written();
        Some(true)
    }

    /// Writes the revisions of a batch, beyond those that are on disk: all at once, or as many as the ledger takes.
    fn write(&mut self, batch: &Batch, on_disk: usize) -> Option<()> {
        let all = batch.revisions.len();
        let (mut from, mut most) = (on_disk, all);
        self.report_written(batch, from);
        while from < all {
            let piece = from..all.min(from + most);
            match self.append(batch, &piece)? {
                Appended::Written => {
                    from = piece.end;
                    self.report_written(batch, from);
                }
                Appended::TooMuch => most = piece.len() / 2,
            }
        }
        Some(())
    }

    fn append(&mut self, batch: &Batch, piece: &Range<usize>) -> Option<Appended> {
        let records = batch.records_of(piece);
        let newest = batch.revisions[..piece.end].last().map(|(revision, _)| *revision);
        self.until_done(newest, |ledger| match ledger.append(records) {
            Ok(()) => Ok(Appended::Written),
            // One revision is never cut: it is on disk entirely or not at all.
            Err(LedgerError::TooLarge { .. }) if piece.len() > 1 => Ok(Appended::TooMuch),
            Err(error) => Err(error),
        })
    }

    /// Tries until the disk takes it: records are never dropped, and nothing that depends on them becomes visible. `None`
    /// when the daemon ends before that. Whoever waits for a revision is told, be it that of a record that came meanwhile:
    /// where it is a snapshot that does not fit, nothing else would tell.
    fn until_done<T>(
        &mut self,
        newest: Option<Revision>,
        mut attempt: impl FnMut(&mut Ledger) -> Result<T, LedgerError>,
    ) -> Option<T> {
        let (mut logged, mut untold) = (false, newest);
        loop {
            let reason = match attempt(&mut self.ledger) {
                Ok(done) => return Some(done),
                Err(error) => error.to_string(),
            };
            if !logged {
                tracing::error!(%reason, "the ledger cannot be written; ADDs are refused until it can");
                logged = true;
            }
            if let Some(revision) = untold.take() {
                self.report(Input::PersistFailed { revision, reason: reason.into() });
            }
            match self.inbox.recv_timeout(RETRY) {
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(job) => {
                    if let Job::Append(revision, _) = &job {
                        untold = Some(*revision);
                    }
                    self.late.push_back(job);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// So many of a batch's revisions are on disk.
    fn report_written(&self, batch: &Batch, count: usize) {
        if let Some((revision, _)) = batch.revisions[..count].last() {
            self.report(Input::Persisted { revision: *revision });
        }
    }

    fn report(&self, input: Input) {
        if self.driver.send_blocking(Message::Happened(input)).is_err() {
            tracing::debug!("the driver stopped before the ledger's writer");
        }
    }
}
