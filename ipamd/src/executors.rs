//! Executors: each carries one kind of effect out and reports back as an input.

pub mod device;
pub mod ec2;
pub mod host;
pub mod links;
pub mod persist;

use std::cell::Cell;

use podwire_pool::{Ec2Call, HostChange, Input, OpId, Record, Revision};

/// The executors as the driver sees them: none of these calls waits.
#[derive(Debug)]
pub struct Executors {
    ec2: ec2::Ec2Executor,
    host: host::HostExecutor,
    persist: persist::PersistExecutor,
    last_op: Cell<OpId>,
}

impl Executors {
    /// Puts the executors together.
    #[must_use]
    pub fn new(ec2: ec2::Ec2Executor, host: host::HostExecutor, persist: persist::PersistExecutor) -> Self {
        Self { ec2, host, persist, last_op: Cell::new(OpId(0)) }
    }

    /// Appends records to the ledger. What this returns has happened already; otherwise it comes as a message.
    pub fn persist(&mut self, revision: Revision, records: Vec<Record>) -> Option<Input> {
        self.persist.append(revision, records)
    }

    /// Rewrites the ledger from the present state.
    pub fn compact(&mut self, snapshot: Vec<Record>) {
        self.persist.compact(snapshot);
    }

    /// Calls EC2.
    pub fn ec2(&self, op: OpId, call: Ec2Call) {
        self.last_op.set(self.last_op.get().max(op));
        self.ec2.call(op, call);
    }

    /// Changes the host.
    pub fn host(&self, op: OpId, change: HostChange) {
        self.last_op.set(self.last_op.get().max(op));
        self.host.change(op, change);
    }

    /// The newest operation that was started.
    #[must_use]
    pub fn last_op(&self) -> OpId {
        self.last_op.get()
    }

    /// No more effects will come.
    pub fn close(&self) {
        self.persist.close();
    }
}
