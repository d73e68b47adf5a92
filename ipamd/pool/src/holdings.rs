//! Who holds what now, for the mirror the incumbent reads and for people.

use std::net::IpAddr;

use crate::ids::{PodRef, Revision, SandboxKey};
use crate::machine::Pool;
use crate::time::Time;

/// What one sandbox holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which.
    pub sandbox: SandboxKey,
    /// Whose.
    pub pod: PodRef,
    /// What.
    pub addresses: Vec<IpAddr>,
    /// When its ADD began.
    pub started: Time,
}

impl Pool {
    /// Everything that must not be given to anybody else: held, about to be, or given back but not durably so. With the
    /// newest revision handed out.
    #[must_use]
    pub fn holdings(&self) -> (Revision, Vec<Holding>) {
        let holdings = self.ledger.sandboxes().map(|(key, sandbox)| Holding {
            sandbox: key.clone(),
            pod: sandbox.pod.clone(),
            addresses: sandbox.addresses.clone(),
            started: sandbox.started,
        });
        (self.journal.made(), holdings.collect())
    }
}
