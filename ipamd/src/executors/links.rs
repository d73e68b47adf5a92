//! Deletes host veths in batches: one group deletion shares the kernel's barriers, so a hundred cost little more than
//! one (design D18).
//!
//! *Why several threads*: what a deletion waits for it waits for without any lock, so batches that begin a little apart wait
//! side by side, and nobody waits for the batch before.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use podwire_hostnet::{Attachment, Doomed, NodeNet, chain};
use podwire_pool::{SandboxKey, Time};
use tokio::sync::oneshot;

use crate::driver::{Handle, Inspection, Message};
use crate::vital;

/// Most links in one batch. *Source*: design D18. With 16, a hundred DELs at once took as long or a tenth longer; of the ADDs
/// among 250 DELs the slowest hundredth, which waits for a processor, was no faster.
const BATCH: usize = 64;
/// Batches that may wait side by side. *Source*: our choice; with [`GATHER`] they cover a wait of 40 ms.
pub const THREADS: usize = 5;
/// How far apart batches begin at least; what comes meanwhile goes along. *Source*: our choice; a deletion waits 16 to 35 ms
/// without the lock (rust-stack §3c), one that comes alone is not held up, and between two batches the lock is free.
const GATHER: Duration = Duration::from_millis(8);
/// Most deletions that wait, those included that nobody waits for any more while the kernel holds up every thread.
/// *Source*: our choice, more than the largest node has pods.
const QUEUE: usize = 1024;
/// How long the driver may take to say what lives. *Source*: our choice; it takes microseconds, and the DELs wait.
const DRIVER_PATIENCE: Duration = Duration::from_secs(5);

struct Job {
    doomed: Doomed,
    /// When its DEL started.
    started: Time,
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
    /// Starts a thread for each of `nets`; `driver` knows when a container's present life began.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(nets: Vec<NodeNet>, driver: &Handle) -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let inbox = Arc::new(Mutex::new(Inbox { jobs: inbox, began: None }));
        for net in nets {
            let (inbox, driver) = (Arc::clone(&inbox), driver.clone());
            std::thread::Builder::new()
                .name(vital::LINKS.into())
                .spawn(move || reap(net, &inbox, &driver))?;
        }
        Ok(Self { jobs })
    }

    /// Deletes a pod's link, for a DEL that started then, together with whatever else waits. Returns its name; `None` when
    /// there was none, or none but that of a life which began later.
    ///
    /// # Errors
    /// The kernel refused, took longer than `patience`, too many wait for it already, the driver does not answer, or the
    /// thread is gone. A deletion that has not begun by the time nobody waits for it is not made.
    pub async fn delete(
        &self,
        doomed: Doomed,
        started: Time,
        patience: Duration,
    ) -> Result<Option<String>, String> {
        let (done, outcome) = oneshot::channel();
        self.jobs.try_send(Job { doomed, started, done }).map_err(|error| match error {
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
/// What nobody waits for is left out: its DEL is over for the runtime.
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

fn reap(mut net: NodeNet, inbox: &Mutex<Inbox>, driver: &Handle) {
    while let Some(batch) = next_batch(inbox) {
        let doomed: Vec<Doomed> = batch.iter().map(|job| job.doomed.clone()).collect();
        let mut still = |found: &[usize]| {
            let jobs: Vec<&Job> = found.iter().filter_map(|position| batch.get(*position)).collect();
            still_to_go(driver, &jobs)
        };
        let outcomes = net.delete_pods_if(&doomed, &mut still);
        for (job, outcome) in batch.into_iter().zip(outcomes) {
            let outcome = outcome.map_err(|error| chain(&error));
            if job.done.send(outcome).is_err() {
                tracing::debug!("the caller of a link deletion went away");
            }
        }
    }
}

/// Which of these deletions are still to be made: not where nobody waits any more, and not where the container's next life
/// has begun, of which the link has the same name and alias.
///
/// All are asked before the first answer is waited for, so that the driver is woken once.
fn still_to_go(driver: &Handle, jobs: &[&Job]) -> Result<Vec<bool>, String> {
    let until = Instant::now() + DRIVER_PATIENCE;
    let asked: Result<Vec<_>, String> = jobs.iter().map(|job| ask(driver, &job.doomed.attachment)).collect();
    let still = |(job, answer): (&&Job, oneshot::Receiver<Inspection>)| {
        let began = wait(answer, until)?.began;
        Ok(is_waited_for(job) && began.is_none_or(|began| began <= job.started))
    };
    jobs.iter().zip(asked?).map(still).collect()
}

fn ask(driver: &Handle, attachment: &Attachment) -> Result<oneshot::Receiver<Inspection>, String> {
    let sandbox = SandboxKey::new(attachment.container_id.as_str(), attachment.ifname.as_str());
    let (reply, answer) = oneshot::channel();
    if !driver.try_send(Message::Inspect { sandbox, reply }) {
        return Err("ipamd has too much to do, or is stopping".to_owned());
    }
    Ok(answer)
}

/// Wakes a thread that has no runtime.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer on a thread that has no runtime.
fn wait<T>(mut answer: oneshot::Receiver<T>, until: Instant) -> Result<T, String> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match Pin::new(&mut answer).poll(&mut context) {
            Poll::Ready(answer) => return answer.map_err(|_| "ipamd is stopping".to_owned()),
            Poll::Pending => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("the driver took longer than {DRIVER_PATIENCE:?}"));
        }
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const NOW: Time = Time::from_ms(1000);

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
        let deleted = reaper.delete(doomed("pod-1"), NOW, PATIENCE).await;
        assert_eq!(deleted, Err("the kernel took longer than 20s".into()));
    }

    /// Else it would take the link of the container's next life, which has the same name and alias.
    #[tokio::test(start_paused = true)]
    async fn a_deletion_nobody_waits_for_is_not_made() {
        let (reaper, inbox) = queue();
        reaper.delete(doomed("late"), NOW, PATIENCE).await.expect_err("no thread is there");
        let caller = tokio::spawn({
            let reaper = reaper.clone();
            async move { reaper.delete(doomed("hung-up"), NOW, PATIENCE).await }
        });
        tokio::task::yield_now().await;
        caller.abort();
        caller.await.expect_err("aborted");
        let waiting = tokio::spawn(async move { reaper.delete(doomed("waited-for"), NOW, PATIENCE).await });
        tokio::task::yield_now().await;
        let batch = next_batch(&inbox).expect("more may come");
        assert_eq!(containers(&batch), ["waited-for"]);
        waiting.abort();
    }

    /// Asks about DELs that started at [`NOW`], of containers whose present life began then.
    fn asked(began: &'static [Option<u64>]) -> Result<Vec<bool>, String> {
        let (driver, mut inbox) = Handle::channel();
        let answering = std::thread::spawn(move || {
            for began in began {
                let Some(Message::Inspect { sandbox: _, reply }) = inbox.blocking_recv() else { return };
                let began = began.map(Time::from_ms);
                reply.send(Inspection { held: None, doubt: None, began }).expect("waited for");
            }
        });
        let (jobs, _outcomes): (Vec<Job>, Vec<_>) = began
            .iter()
            .map(|_| {
                let (done, outcome) = oneshot::channel();
                (Job { doomed: doomed("c1"), started: NOW, done }, outcome)
            })
            .unzip();
        let still = still_to_go(&driver, &jobs.iter().collect::<Vec<_>>());
        answering.join().expect("no panic");
        still
    }

    #[test]
    fn a_deletion_spares_a_life_that_began_after_its_del() {
        assert_eq!(asked(&[None, Some(999), Some(1000), Some(1001)]), Ok(vec![true, true, true, false]));
    }

    #[test]
    fn a_deletion_nobody_waits_for_any_more_is_not_to_be_made() {
        let (driver, mut inbox) = Handle::channel();
        let (done, outcome) = oneshot::channel();
        let job = Job { doomed: doomed("c1"), started: NOW, done };
        let answering = std::thread::spawn(move || {
            let Some(Message::Inspect { sandbox: _, reply }) = inbox.blocking_recv() else { return };
            drop(outcome);
            reply.send(Inspection { held: None, doubt: None, began: None }).expect("waited for");
        });
        assert_eq!(still_to_go(&driver, &[&job]), Ok(vec![false]));
        answering.join().expect("no panic");
    }

    #[test]
    fn a_deletion_without_the_drivers_word_is_not_made() {
        let (driver, inbox) = Handle::channel();
        drop(inbox);
        let (done, _outcome) = oneshot::channel();
        let job = Job { doomed: doomed("c1"), started: NOW, done };
        let failed = still_to_go(&driver, &[&job]).expect_err("nobody answers");
        assert!(failed.contains("stopping"), "{failed}");
        let (reply, never) = oneshot::channel::<Inspection>();
        let failed = wait(never, Instant::now()).expect_err("nobody answers");
        assert!(failed.contains("longer"), "{failed}");
        drop(reply);
    }

    #[tokio::test]
    async fn a_deletion_too_many_is_refused_at_once() {
        let (reaper, _inbox) = queue();
        for _ in 0..QUEUE {
            reaper.delete(doomed("given-up"), NOW, Duration::ZERO).await.expect_err("no thread is there");
        }
        let refused = reaper.delete(doomed("one-more"), NOW, PATIENCE).await;
        assert_eq!(refused, Err("1024 deletions wait for the kernel already".into()));
    }
}
