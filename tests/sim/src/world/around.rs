//! Time, EC2, the host and the disk around the pool.

use podwire_pool::{
    DeviceIndex, Ec2Answer, Ec2Call, Ec2Failure, FailureClass, HostChange, Input, OpId, Revision,
};

use super::{Fate, Open, Tampering, World, Written};
use crate::oracle::{Violation, broken};
use crate::runtime::Ask;

/// After this a call counts as lost. *Unit*: ms. *Source*: design §7 (10 s for each try).
const CALL_TAKES: u64 = 10_000;

impl World {
    pub(super) fn wait(&mut self, to: u64) -> Result<(), Violation> {
        let deadline = self.pool_deadline();
        let stop = deadline.map_or(to, |at| at.min(to));
        self.now = self.now.max(stop);
        if deadline.is_some_and(|at| at <= self.now) {
            self.input(Input::Timer)?;
        }
        self.judge_answered()
    }

    /// Nothing is done for a while; what was due meanwhile is done late.
    pub(super) fn pause(&mut self, span: u64) -> Result<(), Violation> {
        self.marks.reach("the daemon stood still");
        // What is on its way to EC2 is done there meanwhile.
        let sent = self.open.iter().filter(|(_, open)| matches!(open, Open::Ec2(_, None)));
        for op in sent.map(|(op, _)| *op).collect::<Vec<_>>() {
            self.exec(op, Fate::Plain, 0)?;
        }
        // So is what an earlier life had sent: EC2 does not put it off until the pause is over (testing.md A5).
        for op in self.late.keys().copied().collect::<Vec<_>>() {
            self.do_late(op)?;
        }
        if span >= CALL_TAKES {
            for open in self.open.values_mut() {
                if let Open::Ec2(_, outcome) = open {
                    *outcome = Some(Err(failure(FailureClass::Unknown)));
                }
            }
        }
        self.now += span;
        self.input(Input::Timer)?;
        self.judge_answered()
    }

    /// L2: every ADD is answered by its deadline.
    fn judge_answered(&self) -> Result<(), Violation> {
        let late = self.runtime.messages.values().find(|m| {
            m.arrived && !m.dead && matches!(m.ask, Ask::Add | Ask::Repeat) && m.deadline <= self.now
        });
        match late {
            Some(m) => {
                broken("L2", format!("the ADD of {} was not answered by its deadline", m.key.container_id))
            }
            None => Ok(()),
        }
    }

    pub(super) fn exec(&mut self, op: OpId, fate: Fate, age: u64) -> Result<(), Violation> {
        let Some(Open::Ec2(call, None)) = self.open.get(&op) else { return Ok(()) };
        let call = call.clone();
        let unknown = || failure(FailureClass::Unknown);
        let outcome = match fate {
            Fate::Plain => self.execute(op, &call, age, false)?,
            Fate::Partial => self.execute(op, &call, age, true)?,
            Fate::Refused(class) => Err(failure(class)),
            Fate::LostDone => {
                let done = self.execute(op, &call, age, false)?.is_ok();
                self.marks.sometimes("answer lost, call done", done);
                Err(unknown())
            }
            Fate::LostNot => Err(unknown()),
            Fate::Late => {
                self.late.insert(op, call.clone());
                Err(unknown())
            }
        };
        self.open.insert(op, Open::Ec2(call, Some(outcome)));
        Ok(())
    }

    pub(super) fn execute(
        &mut self,
        op: OpId,
        call: &Ec2Call,
        age: u64,
        partial: bool,
    ) -> Result<Result<Ec2Answer, Ec2Failure>, Violation> {
        let allowed = self.oracle.judge_call(self.scene(false), call);
        self.verdict(allowed)?;
        self.ec2.remember(self.now);
        let at = self.now.saturating_sub(age);
        Ok(self.ec2.execute(op, call, at, partial).map_err(failure))
    }

    pub(super) fn tamper(&mut self, which: usize, how: Tampering) {
        self.ec2.remember(self.now);
        let Some(taken) = self.ec2.tamper(which, how) else { return };
        self.marks.reach(match how {
            Tampering::Detach => "ENI detached by others",
            Tampering::Unassign => "address unassigned by others",
            Tampering::Assign => "address assigned by others",
            Tampering::Move => "address moved by others",
        });
        // The device vanishes; what the host was told of it stays until it is told otherwise.
        self.oracle.tampered.extend(taken);
    }

    pub(super) fn do_late(&mut self, op: OpId) -> Result<(), Violation> {
        let Some(call) = self.late.remove(&op) else { return Ok(()) };
        let done = self.execute(op, &call, 0, false)?.is_ok();
        self.marks.sometimes("call done after it was given up", done);
        Ok(())
    }

    pub(super) fn reply(&mut self, op: OpId) -> Result<(), Violation> {
        if !matches!(self.open.get(&op), Some(Open::Ec2(_, Some(_)))) {
            return Ok(());
        }
        let Some(Open::Ec2(call, Some(outcome))) = self.open.remove(&op) else { return Ok(()) };
        self.told.heard(self.now, &self.ec2, &call, &outcome);
        self.input(Input::Ec2 { op, outcome })
    }

    /// Host changes of one ENI end in the order they were asked for: the executor is one thread, and what it prepares
    /// beforehand takes at most a minute, half of what the pool waits before it gives an operation up.
    pub(super) fn host_ends(&mut self, op: OpId, works: bool) -> Result<(), Violation> {
        let Some(Open::Host(change)) = self.open.get(&op) else { return Ok(()) };
        let place = place_of(change);
        let before = self.open.range(..=op).filter(|(asked, open)| {
            **asked == op || matches!(open, Open::Host(other) if place.is_some() && place_of(other) == place)
        });
        for op in before.map(|(asked, _)| *asked).collect::<Vec<_>>() {
            let Some(Open::Host(change)) = self.open.remove(&op) else { continue };
            let outcome =
                if works { self.host.execute(&change, &self.ec2) } else { Err("the kernel said no".into()) };
            self.input(Input::Host { op, outcome })?;
        }
        Ok(())
    }

    pub(super) fn fsync(&mut self) -> Result<(), Violation> {
        let Some((revision, written)) = self.disk.unsynced.pop_front() else { return Ok(()) };
        self.disk.failing = false;
        self.store(revision, written);
        self.input(Input::Persisted { revision })
    }

    /// It is on disk.
    pub(super) fn store(&mut self, revision: Revision, written: Written) {
        match written {
            Written::Append(records) => {
                self.oracle.synced(revision, &records, self.booted);
                self.disk.durable.extend(records);
            }
            Written::Rewrite(snapshot, waited) => {
                for (revision, records) in waited {
                    self.oracle.synced(revision, &records, self.booted);
                }
                self.disk.durable = snapshot;
            }
        }
    }

    pub(super) fn fsync_fails(&mut self) -> Result<(), Violation> {
        let Some((revision, _)) = self.disk.unsynced.front() else { return Ok(()) };
        self.disk.failing = true;
        let revision = *revision;
        self.input(Input::PersistFailed { revision, reason: "no space left on device".into() })
    }

    /// The writer takes a snapshot in the place of all that waits to be written: it is all in there.
    pub(super) fn compact(&mut self) {
        let mut waited = Vec::new();
        for (revision, written) in std::mem::take(&mut self.disk.unsynced) {
            match written {
                Written::Append(records) => waited.push((revision, records)),
                Written::Rewrite(_, earlier) => waited.extend(earlier),
            }
        }
        let snapshot = self.pool.snapshot();
        match waited.last().map(|(revision, _)| *revision) {
            None => self.disk.durable = snapshot,
            Some(newest) => {
                self.marks.reach("compacted under load");
                self.disk.unsynced.push_back((newest, Written::Rewrite(snapshot, waited)));
            }
        }
        self.marks.reach("compacted");
    }
}

fn failure(class: FailureClass) -> Ec2Failure {
    Ec2Failure { class, code: format!("{class:?}").into(), message: "simulated".into() }
}

/// Which ENI's place a host change concerns; none for what concerns an address.
const fn place_of(change: &HostChange) -> Option<DeviceIndex> {
    match change {
        HostChange::ConfigureEni { device, .. }
        | HostChange::AddSources { device, .. }
        | HostChange::RemoveSources { device, .. }
        | HostChange::RemoveEni { device, .. } => Some(*device),
        HostChange::Flush { .. } => None,
    }
}
