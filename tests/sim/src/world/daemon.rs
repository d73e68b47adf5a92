//! The daemon's lives: it dies, comes back, and sees what metadata says; or the node reboots.

use podwire_pool::{Input, OpId, Pool, Record, Snapshot, SnapshotSource, Time};

use super::{Open, World, is_read};
use crate::host::Host;
use crate::oracle::Violation;
use crate::runtime::{Ask, Life, key};

impl World {
    /// The daemon dies and comes back: a prefix of what it wrote is on disk; calls in flight were made or not.
    pub(super) fn crash(&mut self, keep: usize) -> Result<(), Violation> {
        self.tally.crashes += 1;
        self.dying = None;
        for (at, (_, records)) in std::mem::take(&mut self.disk.unsynced).into_iter().enumerate() {
            if at < keep {
                self.disk.durable.extend(records);
            }
        }
        self.disk.failing = false;
        self.oracle.crashed(&self.disk.durable);
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
        self.runtime.messages.retain(|_, m| !m.dead && !matches!(m.ask, Ask::Gc(_)));
        for message in self.runtime.messages.values_mut() {
            message.arrived = false;
        }
        self.boot(true)
    }

    pub(super) fn boot(&mut self, same_boot: bool) -> Result<(), Violation> {
        let records = self.disk.durable.clone();
        self.marks.sometimes("recovered with an open intent", open_intent(&records));
        self.keep_recording();
        self.pool = Pool::recover(self.settings.clone(), same_boot, records, Time::from_ms(self.now));
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

    /// Every sandbox dies with the node; the kernel forgets everything; the clock starts again.
    pub(super) fn reboot(&mut self) -> Result<(), Violation> {
        self.marks.reach("reboot");
        self.tally.crashes += 1;
        self.disk.unsynced.clear();
        self.open.clear();
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
        self.boot(false)
    }

    pub(super) fn renew(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        slot.lives += 1;
        slot.key = key(pod, slot.lives);
        slot.life = Life::Idle;
    }

    pub(super) fn metadata(&mut self, age: u64, omit: usize) -> Result<(), Violation> {
        let mut enis = self.ec2.metadata(self.now.saturating_sub(age));
        let keep = enis.len().saturating_sub(omit);
        enis.truncate(keep);
        self.marks.sometimes("metadata left an ENI out", omit > 0 && keep > 0);
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
