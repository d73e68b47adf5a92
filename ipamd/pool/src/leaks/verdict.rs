//! Whether a detached ENI was left behind. Pure: what EC2 says of it in, a verdict out.

use std::fmt;

use crate::eni::{TAG_INSTANCE, TAG_NO_MANAGE, tag};
use crate::ids::InstanceId;
use crate::input::ObservedEni;

/// Tag with the cluster's name. *Source*: incumbent-behaviour §5.6.
const TAG_CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
/// Who made an ENI, on EKS. *Source*: incumbent-behaviour §5.6.
const TAG_OWNER: &str = "eks:eni:owner";
/// That tag's value on ENIs of this kind. *Source*: incumbent-behaviour §5.6.
const OWNER: &str = "amazon-vpc-cni";

/// What is to be said of a detached ENI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeakVerdict {
    /// It was left behind by this instance, which is gone.
    Leaked(InstanceId),
    /// Its owner exists.
    OwnerAlive(InstanceId),
    /// It is attached, or on its way.
    InUse,
    /// It is no plain ENI, somebody else's, or marked as not to be managed.
    NotOurs,
    /// It is another cluster's, or the cluster's name is not known: then nobody can tell.
    OtherCluster,
}

crate::text::variants!(LeakVerdict { Leaked(a), OwnerAlive(a), InUse, NotOurs, OtherCluster });

impl LeakVerdict {
    /// Stable name, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Leaked(_) => "leaked",
            Self::OwnerAlive(_) => "owner-exists",
            Self::InUse => "in-use",
            Self::NotOurs => "not-ours",
            Self::OtherCluster => "other-cluster",
        }
    }

    /// The instance it was made for, where that matters.
    #[must_use]
    pub const fn owner(&self) -> Option<&InstanceId> {
        match self {
            Self::Leaked(owner) | Self::OwnerAlive(owner) => Some(owner),
            Self::InUse | Self::NotOurs | Self::OtherCluster => None,
        }
    }
}

impl fmt::Display for LeakVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaked(owner) => write!(f, "its owner {owner} does not exist any more"),
            Self::OwnerAlive(owner) => write!(f, "its owner {owner} exists"),
            Self::InUse => f.write_str("it is attached, or about to be"),
            Self::NotOurs => {
                f.write_str("it was not made by a node of this kind, or is marked as not to be managed")
            }
            Self::OtherCluster => f.write_str("it does not carry this cluster's tag"),
        }
    }
}

/// Judges a detached ENI as EC2 describes it; `alive` are the instances that exist among the owners asked for.
#[must_use]
pub(crate) fn leak_verdict(seen: &ObservedEni, cluster: Option<&str>, alive: &[InstanceId]) -> LeakVerdict {
    if seen.attached || seen.attachment.is_some() || seen.instance.is_some() {
        return LeakVerdict::InUse;
    }
    let plain = seen.kind.as_deref().is_some_and(|kind| kind == "interface");
    let theirs = tag(seen, TAG_OWNER).is_some_and(|owner| owner != OWNER);
    if !plain || theirs || tag(seen, TAG_NO_MANAGE).is_some() {
        return LeakVerdict::NotOurs;
    }
    let Some(owner) = tag(seen, TAG_INSTANCE).filter(|id| id.starts_with("i-")).map(InstanceId::new) else {
        return LeakVerdict::NotOurs;
    };
    if cluster.is_none_or(|name| tag(seen, TAG_CLUSTER) != Some(name)) {
        return LeakVerdict::OtherCluster;
    }
    if alive.contains(&owner) { LeakVerdict::OwnerAlive(owner) } else { LeakVerdict::Leaked(owner) }
}
