//! Executors: each carries one kind of effect out and reports back as an input.

pub mod device;
pub mod ec2;
pub mod host;
pub mod links;
pub mod mirror;
pub mod persist;

use std::cell::Cell;

use podwire_pool::{Ec2Call, HostChange, Input, OpId, Record, Revision};

/// What the driver needs of its executors: none of these calls waits for anybody.
pub trait CarryOut {
    /// Appends records to the ledger. What this returns has happened already; otherwise it comes as a message.
    fn persist(&mut self, revision: Revision, records: Vec<Record>) -> Option<Input>;
    /// Rewrites the ledger from the present state.
    fn compact(&mut self, snapshot: Vec<Record>);
    /// Calls EC2.
    fn ec2(&self, op: OpId, call: Ec2Call);
    /// Changes the host.
    fn host(&self, op: OpId, change: HostChange);
    /// The newest operation that was started.
    fn last_op(&self) -> OpId;
    /// No more effects will come; this is what is held at the end.
    fn close(self, holdings: mirror::Holdings);
}

/// The executors of the daemon.
#[derive(Debug)]
pub struct Executors {
    ec2: ec2::Ec2Executor,
    host: host::HostExecutor,
    persist: persist::PersistExecutor,
    mirror: mirror::MirrorExecutor,
    last_op: Cell<OpId>,
}

impl Executors {
    /// Puts the executors together.
    #[must_use]
    pub fn new(
        ec2: ec2::Ec2Executor,
        host: host::HostExecutor,
        persist: persist::PersistExecutor,
        mirror: mirror::MirrorExecutor,
    ) -> Self {
        Self { ec2, host, persist, mirror, last_op: Cell::new(OpId(0)) }
    }
}

impl CarryOut for Executors {
    fn persist(&mut self, revision: Revision, records: Vec<Record>) -> Option<Input> {
        self.mirror.changed();
        self.persist.append(revision, records)
    }

    fn compact(&mut self, snapshot: Vec<Record>) {
        self.persist.compact(snapshot);
    }

    fn ec2(&self, op: OpId, call: Ec2Call) {
        self.last_op.set(self.last_op.get().max(op));
        self.ec2.call(op, call);
    }

    fn host(&self, op: OpId, change: HostChange) {
        self.last_op.set(self.last_op.get().max(op));
        self.host.change(op, change);
    }

    fn last_op(&self) -> OpId {
        self.last_op.get()
    }

    fn close(self, holdings: mirror::Holdings) {
        self.persist.close();
        self.mirror.close(holdings);
    }
}
