//! Noticing that somebody changed the kernel.
//!
//! Pods come and go all the time, and what plugin and daemon do on their behalf is no drift. So each notification is
//! looked at ([`events`]) and most are dropped; nothing is asked of the kernel here, and nothing is put right.

mod events;

use super::{NodeNet, Part};
use crate::error::{During, HostError};
use crate::netlink::socket::{NetlinkError, Socket, wait_any};
use crate::netlink::uapi::{
    NFNLGRP_NFTABLES, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE,
    RTNLGRP_LINK,
};
use crate::plan::Layout;
use events::Seen;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Room for notifications that wait, in bytes. *Source*: our choice; a burst of 250 pods is some 2,000 of them at up to
/// 2.5 KiB each, and what does not fit costs a look at everything.
const BACKLOG: usize = 8 << 20;
/// Most culprits named at once. *Source*: our choice.
const CULPRITS: usize = 4;

/// What is about to be looked at, and on whose account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Parts that somebody else changed, or may have.
    pub parts: BTreeSet<Part>,
    /// Who: processes, as far as the kernel tells.
    pub by: BTreeSet<String>,
    /// Notifications were lost: anything may have changed.
    pub overrun: bool,
}

impl Noticed {
    /// Whether there is anything to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn blame(&mut self, who: String) {
        if self.by.len() < CULPRITS {
            self.by.insert(who);
        }
    }
}

/// Hears the kernel's notifications in the namespace in which it was opened.
#[derive(Debug)]
pub struct Watch {
    route: Socket,
    filter: Socket,
    waker: Waker,
    seen: Seen,
}

/// Ends a [`Watch::wait`] from another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    fn new() -> Result<Self, HostError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let opened = eventfd(0, flags)
            .map_err(|errno| NetlinkError::Socket { action: "make a waker for it", source: errno.into() });
        Ok(Self(Arc::new(opened.during(|| "listen for changes".into())?)))
    }

    /// Wakes the watch, now or when it next waits.
    pub fn wake(&self) {
        // It fails only where the counter is full, and then the watch is awake anyway.
        let _ = write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Returns whether anybody had called.
    fn clear(&self) -> bool {
        read(&*self.0, &mut [0; 8]).is_ok()
    }
}

impl Watch {
    /// Starts listening in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel gives no socket or no notifications.
    pub fn open() -> Result<Self, HostError> {
        let groups =
            [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV4_NETCONF];
        let route = Socket::listen(&groups).during(|| "listen for routing changes".into())?;
        let filter =
            Socket::listen_netfilter(&[NFNLGRP_NFTABLES]).during(|| "listen for nftables changes".into())?;
        route.make_room(BACKLOG);
        filter.make_room(BACKLOG);
        Ok(Self { route, filter, waker: Waker::new()?, seen: Seen::default() })
    }

    /// What ends a wait from elsewhere.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until the kernel says anything, somebody wakes it, or the deadline passes. What the kernel says of routing may
    /// `gather` for so long; a waker is heeded at once, and so is what it says of nftables: while the last NAT chain is
    /// gone, connections under SNAT are not translated, and each answer that arrives resets one.
    ///
    /// # Errors
    /// The sockets fail.
    pub fn wait(&self, deadline: Instant, gather: Duration) -> Result<(), HostError> {
        let action = || "wait for changes".to_owned();
        let fds = [self.waker.0.as_fd(), self.route.as_fd(), self.filter.as_fd()];
        if wait_any(&fds, deadline).during(action)? > 0 && !self.waker.clear() {
            wait_any(&[fds[0], fds[2]], Instant::now() + gather).during(action)?;
            self.waker.clear();
        }
        Ok(())
    }

    /// Takes note of everything that has been said so far, and tells what of it concerns `node`.
    ///
    /// # Errors
    /// The sockets fail.
    pub fn take(&mut self, node: &NodeNet) -> Result<Noticed, HostError> {
        let ours = node.interest();
        let mut noticed = Noticed::default();
        let action = || "read notifications".to_owned();
        let seen = &mut self.seen;
        let mut overrun = self.route.each_waiting(|m| seen.route(m, &ours, &mut noticed)).during(action)?;
        overrun |= self.filter.each_waiting(|m| seen.filter(m, &ours, &mut noticed)).during(action)?;
        if overrun {
            noticed.overrun = true;
            noticed.parts.extend(Part::ALL);
            self.seen = Seen::default();
        }
        if self.seen.has_suspects() {
            noticed.parts.insert(Part::PodRoute);
            self.seen.forget_suspects();
        }
        Ok(noticed)
    }
}

/// What of the kernel's talk concerns us.
#[derive(Debug, Default)]
struct Interest {
    /// Devices of all our ENIs.
    devices: BTreeSet<u32>,
    /// Those of secondary ENIs.
    secondary: BTreeSet<u32>,
    macs: BTreeSet<[u8; 6]>,
    /// Tables of secondary ENIs.
    tables: BTreeSet<u32>,
    /// Layout compat: pods have rules of their own.
    rules_of_pods: bool,
    /// Our own sockets: what they ask for is no drift.
    ports: [u32; 2],
}

impl NodeNet {
    fn interest(&self) -> Interest {
        let mut ours = Interest { ports: [self.route.port(), self.filter.port()], ..Interest::default() };
        if let Some((node, primary)) = &self.node {
            ours.rules_of_pods = node.layout == Layout::Compat;
            ours.devices.insert(*primary);
            ours.macs.insert(node.primary_mac);
        }
        for ready in self.enis.values().filter(|r| !r.config.slot.is_primary()) {
            ours.devices.insert(ready.device);
            ours.secondary.insert(ready.device);
            ours.macs.insert(ready.config.mac);
            ours.tables.insert(ready.config.slot.table());
        }
        ours
    }
}

/// A process by the netlink port of its socket, which for its first one is its process id.
///
/// *Why only outside a process namespace*: inside, the number means another process there.
fn by_port(port: u32) -> Option<String> {
    /// *Source*: linux/proc_ns.h, `PROC_PID_INIT_INO`.
    const OUTERMOST: &str = "pid:[4026531836]";
    if port == 0 {
        return None;
    }
    let own = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let name = std::fs::read_to_string(format!("/proc/{port}/comm")).ok();
    match name.filter(|_| own.as_os_str() == OUTERMOST) {
        Some(name) => Some(format!("{} (pid {port})", printable(name.trim()))),
        None => Some(format!("netlink port {port}")),
    }
}

/// A process may give itself any name.
fn printable(name: &str) -> String {
    name.escape_debug().take(64).collect()
}
