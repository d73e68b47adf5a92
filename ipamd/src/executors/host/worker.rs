//! The thread that owns host networking: carries out what the pool wants, and puts right what others change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use podwire_hostnet::{Attachment, Change, HostError, NodeNet, Part, Watch, chain};
use podwire_pool::{Answer, HostChange, Input, OpId, SandboxKey};
use tokio::sync::oneshot;

use super::counters::HostCounters;
use super::schedule::{Quarrel, Schedule};
use super::{Job, slot};
use crate::driver::{Handle, Message};
use crate::memory;

/// Time for what is left to do once the device is there. *Source*: our choice; it takes milliseconds.
const APPLY_PATIENCE: Duration = Duration::from_secs(2);
/// Everything is looked at this often, for what the kernel does not tell. *Source*: our choice; a look takes milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long notifications are left to gather, so that a burst of pods wakes this thread a few times only.
/// *Source*: our choice, small beside the second in which drift is repaired (design D19).
const GATHER: Duration = Duration::from_millis(20);
/// How long addresses that start to cool gather, so that a drain makes a few looks through all connections instead of one
/// for each pod: a look costs some 9 ms even when there are none. *Source*: our choice, small beside the least cooldown of
/// 5 s (design §7).
const FLUSH_GATHER: Duration = Duration::from_millis(250);
/// Addresses flushed together that tell of a drain. *Source*: our choice, above what ordinary turnover brings in
/// [`FLUSH_GATHER`].
const DRAIN: usize = 32;
/// Pause after a failure of the sockets. *Source*: our choice.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// Most changes of one part told in words. *Source*: our choice.
const TOLD: usize = 8;

/// The thread's state.
pub(super) struct Worker {
    pub(super) net: NodeNet,
    pub(super) watch: Watch,
    pub(super) inbox: Receiver<Job>,
    pub(super) driver: Handle,
    pub(super) counters: Arc<HostCounters>,
    schedule: Schedule,
    next_look: Instant,
    /// What is to be flushed, and when.
    cooling: Vec<(OpId, IpAddr)>,
    flush_at: Option<Instant>,
    /// Whether nothing of an unknown ENI is left.
    pruned: bool,
    /// Whether what the incumbent made for the whole node is still to go.
    inherited: bool,
    /// What failed last time: told once.
    told: Vec<String>,
}

impl Worker {
    pub(super) fn new(
        net: NodeNet,
        watch: Watch,
        inbox: Receiver<Job>,
        driver: Handle,
        counters: Arc<HostCounters>,
    ) -> Self {
        let (schedule, next_look) = (Schedule::default(), Instant::now() + LOOK_EVERY);
        Self {
            net,
            watch,
            inbox,
            driver,
            counters,
            schedule,
            next_look,
            cooling: Vec::new(),
            flush_at: None,
            pruned: false,
            inherited: true,
            told: Vec::new(),
        }
    }

    /// Works until nobody can send jobs any more.
    pub(super) fn run(mut self) {
        while self.work() {
            self.notice();
            self.repair();
            let next = [self.schedule.next(), self.flush_at]
                .into_iter()
                .flatten()
                .fold(self.next_look, Instant::min);
            if let Err(error) = self.watch.wait(next, GATHER) {
                tracing::error!(reason = chain(&error), "changes of the kernel cannot be waited for");
                std::thread::sleep(FAILURE_PAUSE);
            }
        }
    }

    /// Carries out every job that waits; false when no more will come.
    fn work(&mut self) -> bool {
        let more = loop {
            match self.inbox.try_recv() {
                Ok(Job::Change(op, HostChange::Flush { address })) => {
                    self.cooling.push((op, address));
                    self.flush_at = self.flush_at.or_else(|| Some(Instant::now() + FLUSH_GATHER));
                }
                Ok(Job::Node(node, done)) => {
                    let outcome = self.net.apply_node(&node);
                    // What was taken from pods while no daemon ran comes back now.
                    self.schedule.notice(Instant::now(), &BTreeSet::from([Part::PodRoute]), &BTreeSet::new());
                    if done.send(outcome).is_err() {
                        tracing::debug!("nobody waits for node networking any more");
                    }
                }
                Ok(Job::Eni(op, config)) => {
                    let outcome = self.net.apply_eni(&config, APPLY_PATIENCE);
                    if outcome.is_ok() {
                        // Not before: the incumbent's pods are ours by now, and known to our table.
                        self.disinherit();
                    }
                    self.prune();
                    self.report(op, outcome);
                }
                Ok(Job::Change(op, change)) => {
                    let outcome = make(&mut self.net, &change);
                    self.report(op, outcome);
                }
                Err(TryRecvError::Empty) => break true,
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        self.flush();
        for change in self.net.take_changes() {
            self.counters.add_applied(change.part);
            tracing::debug!(part = change.part.name(), %change, "host networking changed");
        }
        more
    }

    /// Flushes what has gathered, once it is time.
    fn flush(&mut self) {
        if self.flush_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.flush_at = None;
        let cooling = std::mem::take(&mut self.cooling);
        let addresses: Vec<IpAddr> = cooling.iter().map(|(_, address)| *address).collect();
        let reason = self.net.flush_addresses(&addresses).err().map(|error| chain(&error));
        for (op, _) in cooling {
            self.answer(op, reason.clone().map_or(Ok(()), Err));
        }
        if addresses.len() >= DRAIN {
            memory::give_back();
        }
    }

    fn report(&self, op: OpId, outcome: Result<(), HostError>) {
        self.answer(op, outcome.map_err(|error| chain(&error)));
    }

    fn answer(&self, op: OpId, outcome: Result<(), String>) {
        if let Err(reason) = &outcome {
            tracing::warn!(%op, reason, "host networking change failed");
        }
        let outcome = outcome.map_err(String::into_boxed_str);
        if self.driver.send_blocking(Message::Happened(Input::Host { op, outcome })).is_err() {
            tracing::debug!(%op, "host networking answered after the driver had stopped");
        }
    }

    fn prune(&mut self) {
        if self.pruned {
            return;
        }
        match self.net.prune() {
            Ok(all) => self.pruned = all,
            Err(error) => {
                tracing::warn!(reason = chain(&error), "what ENIs that are gone left cannot be removed")
            }
        }
    }

    /// Once only: an incumbent that is started beside us is the operator's affair.
    fn disinherit(&mut self) {
        if !self.inherited || !self.net.has_enis() {
            return;
        }
        match self.net.remove_incumbents() {
            Ok(parts) => {
                self.inherited = false;
                if parts > 0 {
                    tracing::info!(parts, "removed what aws-node had made for the whole node");
                }
            }
            Err(error) => {
                tracing::warn!(
                    reason = chain(&error),
                    "what aws-node made for the whole node stays in force; tried again"
                )
            }
        }
    }

    fn notice(&mut self) {
        match self.watch.take(&self.net) {
            Ok(noticed) => {
                if noticed.overrun {
                    self.counters.add_overrun();
                }
                self.schedule.notice(Instant::now(), &noticed.parts, &noticed.by);
            }
            Err(error) => {
                tracing::error!(reason = chain(&error), "changes of the kernel cannot be read");
                self.schedule.notice(Instant::now(), &Part::ALL.into(), &BTreeSet::new());
            }
        }
    }

    fn repair(&mut self) {
        let began = Instant::now();
        if began >= self.next_look {
            self.next_look = began + LOOK_EVERY;
            self.schedule.notice(began, &Part::ALL.into(), &BTreeSet::new());
            self.prune();
            self.disinherit();
        }
        let (parts, by) = self.schedule.take_due(began);
        if parts.is_empty() {
            return;
        }
        let driver = &self.driver;
        let repair = self.net.repair(&parts, &mut |attachment| held(driver, attachment));
        self.tell_made(&repair.made, &by, began.elapsed());
        self.tell_failures(&repair.failures);
        for quarrel in self.schedule.repaired(Instant::now(), &repair.parts()) {
            self.alarm(&quarrel, &repair.made, &by);
        }
        if let Some(at) = repair.again_at {
            self.schedule.notice(at, &BTreeSet::from([Part::PodRoute]), &by);
        }
        // These have been told, and are nobody's doing.
        self.schedule.failed(Instant::now(), &repair.failures.iter().map(|(part, _)| *part).collect());
    }

    fn tell_made(&self, made: &[Change], by: &BTreeSet<String>, took: Duration) {
        let mut by_part: BTreeMap<Part, Vec<&str>> = BTreeMap::new();
        for change in made {
            self.counters.add_repaired(change.part);
            by_part.entry(change.part).or_default().push(&change.what);
        }
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        for (part, what) in by_part {
            let changes = what.len();
            let what = what.iter().take(TOLD).copied().collect::<Vec<_>>().join("; ");
            let in_all = self.counters.repaired(part);
            tracing::warn!(
                part = part.name(),
                changes,
                in_all,
                what,
                by = who(by),
                duration_ms,
                "drift repaired"
            );
        }
    }

    fn tell_failures(&mut self, failures: &[(Part, HostError)]) {
        let texts: Vec<String> = failures.iter().map(|(_, error)| chain(error)).collect();
        for reason in texts.iter().filter(|text| !self.told.contains(text)) {
            self.counters.add_failure();
            tracing::error!(reason, "drift cannot be repaired yet; it is tried again");
        }
        self.told = texts;
    }

    fn alarm(&self, quarrel: &Quarrel, made: &[Change], by: &BTreeSet<String>) {
        self.counters.add_quarrel();
        let what = made.iter().find(|change| change.part == quarrel.part).map_or("", |change| &change.what);
        tracing::error!(
            part = quarrel.part.name(),
            repairs = quarrel.repairs,
            what,
            by = who(by),
            pause_ms = u64::try_from(quarrel.pause.as_millis()).unwrap_or(u64::MAX),
            "another program keeps undoing this; pods may lose packets until one of the two stops: \
             take the node's networking out of that program's hands"
        );
    }
}

fn who(by: &BTreeSet<String>) -> String {
    if by.is_empty() {
        return "not known".into();
    }
    by.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The addresses that the ledger says a running pod holds.
fn held(driver: &Handle, attachment: &Attachment) -> Vec<IpAddr> {
    let sandbox = SandboxKey::new(attachment.container_id.as_str(), attachment.ifname.as_str());
    let (reply, answer) = oneshot::channel();
    if driver.send_blocking(Message::Inspect { sandbox, reply }).is_err() {
        return Vec::new();
    }
    match answer.blocking_recv().ok().and_then(|inspection| inspection.held) {
        Some(Answer::Allocated { addresses, .. }) => addresses,
        Some(Answer::Refused(_) | Answer::Released(_) | Answer::Collected(_) | Answer::Leaks(_)) | None => {
            Vec::new()
        }
    }
}

fn make(net: &mut NodeNet, change: &HostChange) -> Result<(), HostError> {
    match change {
        HostChange::AddSources { card, device, nets } => net.add_sources(slot(*card, *device), nets),
        HostChange::RemoveSources { card, device, nets } => net.remove_sources(slot(*card, *device), nets),
        HostChange::RemoveEni { eni: _, card, device } => net.remove_eni(slot(*card, *device)),
        HostChange::Flush { address } => net.flush_addresses(&[*address]),
        // Comes as a job of its own; nothing is left to do here.
        HostChange::ConfigureEni { .. } => Ok(()),
    }
}
