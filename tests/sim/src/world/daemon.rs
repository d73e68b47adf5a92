//! The daemon's lives: it dies, comes back, and sees what metadata says; or the node reboots.

use podwire_pool::{Input, OpId, Pool, Record, Settings, Snapshot, SnapshotSource};

use super::{Blur, Disk, Open, World, is_read};
use crate::host::Host;
use crate::oracle::{Violation, broken};
use crate::runtime::{Ask, Life, key};

/// What a boot takes until the daemon starts, at least. *Unit*: ms. *Source*: our choice.
const BOOT_TAKES: u64 = 10_000;

impl World {
    /// The daemon dies and comes back: a prefix of what it wrote is on disk; calls in flight were made or not.
    pub(super) fn crash(&mut self, keep: usize) -> Result<(), Violation> {
        self.tally.crashes += 1;
        self.dying = None;
        let keep = self.medium.map_or(keep, |medium| medium(&self.disk, keep));
        self.marks.sometimes("crash during recovery", self.wants_metadata && self.tally.crashes > 1);
        for (revision, written) in std::mem::take(&mut self.disk.unsynced).into_iter().take(keep) {
            self.store(revision, written);
        }
        self.disk.failing = false;
        self.oracle.crashed(&self.disk.durable);
        self.die(keep);
        self.boot(true)
    }

    /// Calls and changes in flight were made or not; whoever waited for an answer asks again.
    fn die(&mut self, keep: usize) {
        for (op, open) in std::mem::take(&mut self.open) {
            match open {
                Open::Ec2(call, None) if keep.is_multiple_of(2) && !is_read(&call) => {
                    self.late.insert(op, call);
                }
                Open::Host(change) if keep.is_multiple_of(2) => {
                    let _: Result<(), Box<str>> = self.host.execute(&change, &self.ec2);
                }
                Open::Ec2(..) | Open::Host(_) => {}
            }
        }
        self.runtime.messages.retain(|_, m| !m.dead && !matches!(m.ask, Ask::Gc(_) | Ask::Leaks(_)));
        for message in self.runtime.messages.values_mut() {
            message.arrived = false;
        }
    }

    /// The daemon ends as it is told to, and starts anew with these settings.
    pub(super) fn restart(&mut self, settings: Option<&Settings>) -> Result<(), Violation> {
        self.input(Input::Stop)?;
        if let Some(settings) = settings {
            self.marks.reach("restarted with other settings");
            let (instance, boot) = (self.settings.instance.clone(), self.settings.boot.clone());
            let manage_untagged = self.settings.manage_untagged;
            self.settings = Settings { instance, boot, manage_untagged, ..settings.clone() };
        }
        self.crash(usize::MAX)
    }

    /// The daemon dies, and what is in the ledger's place is none (torn, foreign, garbage; testing.md R3): the kernel
    /// says which pods live and on what. What else was promised, and how long addresses have rested, is forgotten.
    pub(super) fn lose_ledger(&mut self) -> Result<(), Violation> {
        self.marks.reach("ledger lost");
        self.tally.crashes += 1;
        self.dying = None;
        self.disk = Disk::default();
        self.forget_rest();
        let at = self.clock();
        let held = self.runtime.pods.iter().filter_map(|pod| match pod.life {
            Life::Live(ip) => Some(Record::Allocated {
                sandbox: pod.key.clone(),
                pod: podwire_pool::PodRef::default(),
                addresses: vec![ip],
                at,
            }),
            Life::Idle | Life::Adding(_) | Life::Failed | Life::Deleting(_) | Life::Deleted => None,
        });
        self.disk.durable = held.collect();
        self.oracle.crashed(&self.disk.durable);
        self.die(0);
        self.boot(true)?;
        Ok(())
    }

    pub(super) fn boot(&mut self, same_boot: bool) -> Result<(), Violation> {
        let records = self.disk.durable.clone();
        self.marks.sometimes("recovered with an open intent", open_intent(&records));
        self.keep_recording();
        self.pool = Pool::recover(self.settings.clone(), same_boot, records, self.clock());
        self.judge_recovered()?;
        #[cfg(feature = "planted")]
        if let Some(bug) = self.bug {
            self.pool.plant(bug);
        }
        self.last_op = OpId(0);
        self.wants_metadata = true;
        self.pool.check().map_err(|v| Violation { id: v.id, what: format!("after recovery: {}", v.what) })?;
        if !same_boot {
            // The daemon binds the ledger to the new boot before anything else happens.
            self.disk.durable = self.pool.snapshot();
        }
        self.told.forget();
        self.introduce()?;
        self.input(Input::Timer)
    }

    /// R2: recovering from what a recovery would write changes nothing.
    fn judge_recovered(&mut self) -> Result<(), Violation> {
        let once = self.pool.snapshot();
        let again = Pool::recover(self.settings.clone(), true, once.clone(), self.clock());
        let twice = again.snapshot();
        if once == twice {
            return Ok(());
        }
        let differs = once.iter().zip(&twice).find(|(a, b)| a != b);
        let what = format!("recovered once {} records, twice {}: {differs:?}", once.len(), twice.len());
        self.verdict(broken("R2", what))
    }

    /// Every sandbox dies with the node; the kernel forgets everything; the clock starts again; the ledger stays, or
    /// goes with /run.
    pub(super) fn reboot(&mut self, keep: bool) -> Result<(), Violation> {
        self.marks.reach(if keep { "reboot" } else { "reboot without ledger" });
        self.dying = None;
        self.tally.crashes += 1;
        self.disk.unsynced.clear();
        self.open.clear();
        // Whatever was asked of EC2 is done, and seen by everybody, before the node is up again.
        for op in self.late.keys().copied().collect::<Vec<_>>() {
            self.do_late(op)?;
        }
        self.now += BOOT_TAKES;
        self.host = Host::default();
        self.runtime.messages.clear();
        for n in 0..self.runtime.pods.len() {
            if let Some(Life::Live(ip)) = self.runtime.pods.get(n).map(|p| p.life.clone()) {
                self.oracle.rests.insert(ip, self.now);
            }
            self.renew(n);
        }
        for ip in std::mem::take(&mut self.oracle.durable).into_keys() {
            self.oracle.rests.insert(ip, self.now);
        }
        self.oracle.promised.clear();
        self.oracle.releasing.clear();
        self.settings.boot = podwire_pool::BootId::new(format!("boot-{}", self.tally.crashes));
        self.booted = self.now - BOOT_TAKES;
        if keep {
            return self.boot(false);
        }
        self.disk.durable.clear();
        self.forget_rest();
        self.boot(true)
    }

    /// Without its ledger nobody knows which addresses were given back a moment ago: should EC2 assign one of them to us at
    /// once, it is used at once. Not judged: EC2 gives those freed last out last.
    const fn forget_rest(&mut self) {
        self.ec2.recycle = false;
    }

    pub(super) fn renew(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        slot.lives += 1;
        slot.key = key(pod, slot.lives);
        slot.life = Life::Idle;
    }

    pub(super) fn metadata(&mut self, age: u64, blur: Blur) -> Result<(), Violation> {
        let mut enis = self.ec2.metadata(self.now.saturating_sub(age));
        match blur {
            Blur::Clear => {}
            Blur::Enis(omit) => {
                let keep = enis.len().saturating_sub(omit);
                enis.truncate(keep);
                self.marks.sometimes("metadata left an ENI out", omit > 0 && keep > 0);
            }
            Blur::Blocks(omit) => {
                for eni in &mut enis {
                    let all = eni.addresses.len() + eni.prefixes.len();
                    eni.prefixes.truncate(eni.prefixes.len().saturating_sub(omit));
                    eni.addresses.truncate(eni.addresses.len().saturating_sub(omit));
                    let less = eni.addresses.len() + eni.prefixes.len() < all;
                    self.marks.sometimes("metadata left addresses out", less);
                }
            }
            Blur::Leaves => {
                for eni in &mut enis {
                    eni.addresses.clear();
                    eni.prefixes.clear();
                    eni.subnet_cidr = None;
                }
                self.marks.reach("metadata without leaves");
            }
        }
        self.wants_metadata = false;
        let as_of = if age == 0 { self.last_op } else { OpId(0) };
        self.input(Input::Observed(Snapshot { source: SnapshotSource::Metadata, as_of, enis }))
    }
}

fn open_intent(records: &[Record]) -> bool {
    let open =
        records.iter().filter_map(|r| if let Record::Intent { op, .. } = r { Some(*op) } else { None });
    let settled = |op: &OpId| records.iter().any(|r| matches!(r, Record::Settled { op: s } if s == op));
    open.into_iter().any(|op| !settled(&op))
}
