//! Noticing that somebody changed the kernel, and putting it right.

use super::{NodeNet, several};
use crate::error::{During, HostError};
use crate::netlink::socket::Socket;
use crate::netlink::uapi::{
    NFNLGRP_NFTABLES, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_LINK,
};
use std::time::{Duration, Instant};

/// Wakes when links, addresses, routes, rules or nftables changed in the namespace in which it was opened. It says *that*,
/// not what: pods come and go all the time, so the caller waits a little before it has the difference looked at.
#[derive(Debug)]
pub struct Watch {
    route: Socket,
    filter: Socket,
}

impl Watch {
    /// Starts listening in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel gives no socket or no notifications.
    pub fn open() -> Result<Self, HostError> {
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE];
        let route = Socket::listen(&groups).during(|| "listen for routing changes".into())?;
        let filter =
            Socket::listen_netfilter(&[NFNLGRP_NFTABLES]).during(|| "listen for nftables changes".into())?;
        Ok(Self { route, filter })
    }

    /// Waits until something changed, or for `patience`; takes note of everything that has by then.
    ///
    /// # Errors
    /// The sockets fail.
    pub fn changed(&mut self, patience: Duration) -> Result<bool, HostError> {
        let action = || "wait for changes".to_owned();
        let woken =
            Socket::wait_any(&[&self.route, &self.filter], Instant::now() + patience).during(action)?;
        if woken {
            self.route.discard().during(action)?;
            self.filter.discard().during(action)?;
        }
        Ok(woken)
    }
}

impl NodeNet {
    /// Compares everything that has been applied with the kernel and puts right what differs; returns how many changes that
    /// took. Pod links are never made here, and never brought back.
    ///
    /// # Errors
    /// What could not be put right, such as an ENI whose device is gone; the rest has been.
    pub fn repair(&mut self) -> Result<u64, HostError> {
        let before = self.changes;
        let Some((node, _)) = self.node.clone() else { return Ok(0) };
        let mut failures: Vec<HostError> = self.apply_node(&node).err().into_iter().collect();
        let enis: Vec<_> = self.enis.values().map(|ready| ready.config.clone()).collect();
        for eni in enis {
            failures.extend(self.apply_eni(&eni, Duration::ZERO).err());
        }
        several(failures).map(|()| self.changes - before)
    }
}
