//! What can go wrong with host networking, and to what.

use crate::netlink::NetlinkError;
use crate::numbers::EniSlot;
use std::io;
use std::net::IpAddr;

/// A failed change or reading of host networking.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel refused, or could not be asked.
    #[error("cannot {action}")]
    Kernel {
        /// What was attempted, and to what.
        action: String,
        /// Why it failed.
        #[source]
        source: NetlinkError,
    },
    /// No network device with that address appeared in time.
    #[error("no network device with MAC {} appeared; check the ENI's attachment", mac_text(.mac))]
    NoDevice {
        /// The ENI's MAC.
        mac: [u8; 6],
    },
    /// The slot has no number in the packet mark.
    #[error("ENI at card {}, device {} cannot carry pods: no packet mark is kept for that slot", .0.card, .0.device)]
    Slot(EniSlot),
    /// The ENI has not been set up by this daemon.
    #[error("ENI at card {}, device {} is not set up", .0.card, .0.device)]
    UnknownEni(EniSlot),
    /// A link's name is taken by something that is not ours.
    #[error("interface {name} exists and is not podwire's ({owner}); remove or rename it")]
    Foreign {
        /// The interface's name.
        name: String,
        /// What is known about its owner.
        owner: String,
    },
    /// The pod's interface name is taken.
    #[error("interface {ifname} exists already in {netns}")]
    InterfaceTaken {
        /// The interface's name in the pod.
        ifname: String,
        /// The pod's namespace.
        netns: String,
    },
    /// What failed could not be undone, or it is not known whether there is anything to undo: the host end may still be there,
    /// and its address stays with it (design D4).
    #[error("interface {link} could not be removed again")]
    LinkStays {
        /// The host end's name.
        link: String,
        /// What failed, and why it was not undone.
        #[source]
        failure: Box<HostError>,
    },
    /// A network namespace cannot be used.
    #[error("network namespace {path} cannot be used: {reason}")]
    Netns {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
        /// The operating system's reason.
        #[source]
        source: Option<io::Error>,
    },
    /// A kernel setting cannot be read or written.
    #[error("cannot set {path} to {value}; set it in the node's image or mount /proc/sys writable")]
    Sysctl {
        /// The file under /proc/sys.
        path: String,
        /// The value that is wanted.
        value: &'static str,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// An address family that is not supported yet.
    #[error("address {0} has a family that is not supported yet")]
    Family(IpAddr),
    /// A setting cannot be written into the kernel.
    #[error("{0}")]
    Setting(String),
    /// Nobody could say whether a link is still to be deleted.
    #[error("it is not known whether the link is still to go: {0}")]
    Undecided(String),
    /// Several things failed while tearing down; everything that could be done was done.
    #[error("{} steps failed; first: {}", .0.len(), .0.first().map_or_else(String::new, |e| chain(e)))]
    Several(Vec<HostError>),
}

impl HostError {
    /// Whether trying again may help without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use rustix::io::Errno;
        match self {
            Self::Kernel { source, .. } => match source {
                NetlinkError::Interrupted => true,
                // Our own patience with the kernel has no error number.
                NetlinkError::Socket { source, .. } if source.kind() == io::ErrorKind::TimedOut => true,
                NetlinkError::Refused { .. } | NetlinkError::Socket { .. } => matches!(
                    source.errno(),
                    Some(
                        Errno::AGAIN
                            | Errno::BUSY
                            | Errno::NOBUFS
                            | Errno::NOMEM
                            | Errno::INTR
                            | Errno::MFILE
                    )
                ),
                NetlinkError::Unreadable(_) => false,
            },
            Self::NoDevice { .. } | Self::Undecided(_) => true,
            Self::LinkStays { failure, .. } => failure.is_transient(),
            Self::Several(errors) => errors.iter().all(Self::is_transient),
            Self::Slot(_)
            | Self::UnknownEni(_)
            | Self::Foreign { .. }
            | Self::InterfaceTaken { .. }
            | Self::Netns { .. }
            | Self::Sysctl { .. }
            | Self::Family(_)
            | Self::Setting(_) => false,
        }
    }
}

/// Names the step that an exchange with the kernel belonged to.
pub(crate) trait During<T> {
    /// Turns the netlink error into one that says what was attempted.
    fn during(self, action: impl FnOnce() -> String) -> Result<T, HostError>;
}

impl<T> During<T> for Result<T, NetlinkError> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T, HostError> {
        self.map_err(|source| HostError::Kernel { action: action(), source })
    }
}

/// The error and everything behind it in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// A MAC as people write it.
#[must_use]
pub fn mac_text(mac: &[u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(source: NetlinkError) -> HostError {
        HostError::Kernel { action: "ask".into(), source }
    }

    ///
    #[test]
    fn what_a_retry_helps_is_transient() {
        use rustix::io::Errno;
        let refused = |errno| kernel(NetlinkError::Refused { errno, message: String::new() });
        let slow = || kernel(NetlinkError::Socket { action: "wait", source: io::ErrorKind::TimedOut.into() });
        assert!(slow().is_transient() && refused(Errno::NOMEM).is_transient());
        assert!(!refused(Errno::PERM).is_transient());
        let stays = |failure| HostError::LinkStays { link: "eni1".into(), failure: Box::new(failure) };
        assert!(stays(slow()).is_transient() && !stays(refused(Errno::PERM)).is_transient());
    }
}
