//! Why something waits, fails or is worth telling: a closed list. From EC2's error to the pod's event, one name.

use std::fmt;

use crate::backoff::Action;
use crate::ids::{EniId, InstanceId, SandboxKey, SubnetId};

/// What an ADD waits for while the disk is slow.
pub(crate) const THE_LEDGER: &str = "the ledger to be written";
/// What an ADD waits for while growth is slow.
pub(crate) const GROWTH: &str = "EC2 and the host to make another address usable";

/// The word itself, where it is one that causes are made of: actions, and what is waited for.
pub(crate) fn word(text: &str) -> Option<&'static str> {
    let actions = Action::ALL.iter().map(|action| action.name());
    actions.chain([THE_LEDGER, GROWTH]).find(|word| *word == text)
}

/// One reason, with what it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nothing has been observed yet: the daemon is starting.
    Starting,
    /// The ADD began before the DEL of its sandbox.
    SandboxDeleted {
        /// Which.
        sandbox: SandboxKey,
    },
    /// All ENIs the instance type (or `MAX_ENI`) allows are full.
    NodeFull {
        /// Addresses in use or cooling.
        held: u32,
        /// Addresses the node can hold for pods.
        capacity: u32,
    },
    /// The subnet has no free address.
    SubnetExhausted {
        /// Which.
        subnet: SubnetId,
    },
    /// The subnet has no free /28.
    SubnetFragmented {
        /// Which.
        subnet: SubnetId,
    },
    /// The subnet has fewer free addresses than are left for others.
    SubnetFloor {
        /// Which.
        subnet: SubnetId,
        /// What EC2 said it has.
        free: u32,
        /// What is left for others.
        floor: u32,
    },
    /// No subnet may be used for new ENIs.
    NoSubnet,
    /// Custom networking is on and no ENIConfig is known.
    NoEniConfig,
    /// A detached ENI of a dead node.
    LeakedEni {
        /// Which.
        eni: EniId,
        /// The node that is gone.
        owner: InstanceId,
        /// Whether it is deleted; otherwise this is a dry run.
        deleted: bool,
    },
    /// EC2 is throttling the account.
    Throttled {
        /// The action.
        action: &'static str,
    },
    /// Calls are spread so that the account's budget lasts for all nodes.
    Paced {
        /// The action.
        action: &'static str,
    },
    /// The role may not make this call.
    Denied {
        /// The action.
        action: &'static str,
        /// To whom, why and what to do, for people.
        message: Box<str>,
    },
    /// EC2 did not do it, for another reason.
    Ec2 {
        /// The action.
        action: &'static str,
        /// EC2's code.
        code: Box<str>,
        /// What EC2 said and what to do about it, for people.
        message: Box<str>,
    },
    /// The host could not be configured for an ENI.
    Host {
        /// Which.
        eni: EniId,
        /// What went wrong.
        reason: Box<str>,
    },
    /// The ledger cannot be written.
    LedgerUnwritable {
        /// What the disk said.
        reason: Box<str>,
    },
    /// Growth was in flight but did not end before the deadline.
    TooSlow {
        /// What was waited for.
        waiting_for: &'static str,
    },
    /// Too many requests wait already.
    QueueFull,
    /// The daemon is stopping.
    Stopping,
    /// Observations contradict the ledger; what they concern is kept out of use.
    Quarantined {
        /// What is kept out, for people.
        what: Box<str>,
    },
}

crate::text::variants!(Cause { Starting, SandboxDeleted { sandbox }, NodeFull { held, capacity }, SubnetExhausted { subnet }, SubnetFragmented { subnet }, SubnetFloor { subnet, free, floor }, NoSubnet, NoEniConfig, LeakedEni { eni, owner, deleted }, Throttled { action }, Paced { action }, Denied { action, message }, Ec2 { action, code, message }, Host { eni, reason }, LedgerUnwritable { reason }, TooSlow { waiting_for }, QueueFull, Stopping, Quarantined { what } });

impl Cause {
    /// Stable name, for metrics, events and programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::SandboxDeleted { .. } => "sandbox-deleted",
            Self::NodeFull { .. } => "node-full",
            Self::SubnetExhausted { .. } => "subnet-exhausted",
            Self::SubnetFragmented { .. } => "subnet-fragmented",
            Self::SubnetFloor { .. } => "subnet-floor",
            Self::NoSubnet => "no-subnet",
            Self::NoEniConfig => "no-eniconfig",
            Self::LeakedEni { .. } => "leaked-eni",
            Self::Throttled { .. } => "ec2-throttled",
            Self::Paced { .. } => "ec2-paced",
            Self::Denied { .. } => "ec2-denied",
            Self::Ec2 { .. } => "ec2-error",
            Self::Host { .. } => "host-not-ready",
            Self::LedgerUnwritable { .. } => "ledger-unwritable",
            Self::TooSlow { .. } => "growth-too-slow",
            Self::QueueFull => "queue-full",
            Self::Stopping => "stopping",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    /// Whether the same request may succeed later without anybody doing anything.
    #[must_use]
    pub const fn retry(&self) -> bool {
        !matches!(self, Self::SandboxDeleted { .. })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("ipamd is starting and has not seen this instance's ENIs yet"),
            Self::SandboxDeleted { sandbox } => {
                write!(
                    f,
                    "sandbox {} was deleted after this ADD began; the runtime will make a new one",
                    sandbox.container_id
                )
            }
            Self::NodeFull { held, capacity } => write!(
                f,
                "all {capacity} pod addresses of this node are taken ({held} in use or cooling); lower max-pods, enable prefix delegation or use a larger instance type"
            ),
            Self::SubnetExhausted { subnet } => {
                write!(
                    f,
                    "subnet {subnet} has no free address; add a subnet tagged kubernetes.io/role/cni=1 or a larger CIDR"
                )
            }
            Self::SubnetFragmented { subnet } => write!(
                f,
                "subnet {subnet} has no free /28 (fragmented); add a prefix CIDR reservation or use a new subnet"
            ),
            Self::SubnetFloor { subnet, free, floor } => write!(
                f,
                "subnet {subnet} has {free} free addresses and {floor} are left for others; only waiting pods may draw more; add a subnet tagged kubernetes.io/role/cni=1 or lower PODWIRE_SUBNET_FLOOR"
            ),
            Self::NoSubnet => f.write_str(
                "no subnet of this zone may be used for pods; tag one with kubernetes.io/role/cni=1 (0 forbids it) and, where cluster tags are used, with cni.networking.k8s.aws/cluster/<name>",
            ),
            Self::NoEniConfig => f.write_str(
                "custom networking is on and no ENIConfig is known for this node; create it, or correct the node's k8s.amazonaws.com/eniConfig label",
            ),
            Self::LeakedEni { eni, owner, deleted } => {
                let what = if *deleted { "and is deleted" } else { "and would be deleted (dry run)" };
                write!(f, "{eni} was left behind by {owner}, which is gone, {what}")
            }
            Self::Throttled { action } => {
                write!(f, "EC2 throttles {action} for this account; it is tried again with back-off")
            }
            Self::Paced { action } => write!(
                f,
                "calls of {action} are spread over time so that the account's EC2 budget lasts for all nodes; it is made soon"
            ),
            Self::Denied { action, message } => write!(f, "action ec2:{action} is denied: {message}"),
            Self::Ec2 { action, code, message } => write!(f, "ec2:{action} failed with {code}: {message}"),
            Self::Host { eni, reason } => write!(f, "host networking for {eni} is not ready: {reason}"),
            Self::LedgerUnwritable { reason } => {
                write!(f, "the ledger cannot be written ({reason}); free space in /var/run/aws-node")
            }
            Self::TooSlow { waiting_for } => {
                write!(f, "no address became free in time; waiting for {waiting_for}")
            }
            Self::QueueFull => f.write_str("too many requests wait for an address already"),
            Self::Stopping => f.write_str("ipamd is stopping; its successor will answer"),
            Self::Quarantined { what } => {
                write!(f, "{what} is kept out of use until EC2 and the ledger agree")
            }
        }
    }
}
