//! The incumbent's checkpoint at start, and what follows from it for the host.

use std::path::Path;

use anyhow::Context;
use podwire_hostnet::{HostError, NodeNet, chain, has_legacy_nat};
use podwire_ledger::ipam_json::{self, Checkpoint, IpamJsonError};

use crate::takeover::TakeOver;

/// The checkpoint beside our ledger: the incumbent's, or our mirror in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// There is none.
    Nothing,
    /// There is one that nobody understands.
    Unreadable,
    /// There is one.
    Checkpoint(Checkpoint),
}

impl Beside {
    /// What can be read.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        if let Self::Checkpoint(found) = self { Some(found) } else { None }
    }
}

/// Reads the checkpoint. One that nobody understands is set aside: the kernel speaks for its pods.
///
/// # Errors
/// It is there and cannot be read, or not be set aside: starting without it could give an address twice.
pub fn checkpoint(path: &Path) -> anyhow::Result<Beside> {
    match ipam_json::read(path) {
        Ok(None) => Ok(Beside::Nothing),
        Ok(Some(found)) => {
            for lost in &found.superseded {
                let (sandbox, addresses) = (&lost.sandbox.container_id, lost.addresses().collect::<Vec<_>>());
                tracing::error!(%sandbox, ?addresses, "the incumbent's checkpoint gives an address twice; the younger entry counts");
            }
            Ok(Beside::Checkpoint(found))
        }
        Err(error @ IpamJsonError::Io { .. }) => {
            Err(error).context("cannot start without the incumbent's checkpoint")
        }
        Err(error @ (IpamJsonError::Unreadable { .. } | IpamJsonError::Version { .. })) => {
            let aside = ipam_json::set_aside(path)?;
            let error = anyhow::Error::new(error);
            tracing::error!(
                error = format!("{error:#}"), aside = %aside.display(),
                "the incumbent's checkpoint is set aside; routes on this node say which addresses its pods hold"
            );
            Ok(Beside::Unreadable)
        }
    }
}

/// Enters a take-over on the host: the incumbent's pods become like ours, and what the kernel has of its dead pods goes.
/// Their plugin is replaced at once, so that a DEL in the meantime reaches us. Whatever fails here is told and costs no
/// pod its network: the incumbent's own routes and rules stay.
pub fn enter(take: &TakeOver, net: &mut NodeNet, install_plugin: &dyn Fn() -> anyhow::Result<()>) {
    let (pods, dead, orphans) = (take.records.len(), take.dead.len(), take.orphans);
    tracing::info!(pods, dead, orphans, "taking over pods that are not in the ledger");
    if orphans > 0 {
        tracing::error!(
            orphans,
            "addresses are routed to pods that nobody names; they stay reserved until the links are gone"
        );
    }
    for mark in &take.marks {
        if let Err(error) = net.mark_pod(&mark.link, &mark.attachment, &mark.addresses) {
            told(&error, "a pod's link is not taken over; its old rules go on working");
        }
    }
    if let Err(error) = net.flush_addresses(&take.dead) {
        told(&error, "what dead pods of the incumbent's left in the kernel is not removed");
    }
    if has_legacy_nat() {
        tracing::warn!(
            "iptables-legacy holds NAT rules on this node: if aws-node made some, they stay in force until a reboot, and what is \
             added to the VPC or exempted from SNAT later has no effect for pods here"
        );
    }
    if let Err(error) = install_plugin() {
        tracing::error!(
            error = format!("{error:#}"),
            "the plugin is not replaced yet; it is tried again when the node is ready"
        );
    }
}

fn told(error: &HostError, what: &'static str) {
    tracing::warn!(reason = chain(error), "{what}");
}
