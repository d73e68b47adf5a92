//! What the pool is told once, at its making. Parsing and defaults are `podwire-config`'s business.

use std::time::Duration;

use crate::ids::{BootId, InstanceId};

/// What [`Settings::gather`] is in the product. *Source*: our choice; a burst's plugins run within milliseconds of each
/// other, EC2 needs 300 ms for an assignment (design §7, EC2 model).
pub const GATHER: Duration = Duration::from_millis(20);

/// What [`Settings::leak_proof`] is in the product unless set otherwise. *Source*: our choice; the incumbent's age is
/// 5 min, and EC2's describes agree within seconds.
pub const LEAK_PROOF: Duration = Duration::from_secs(600);

/// Everything the pool is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// This instance: an ENI attached elsewhere is not ours.
    pub instance: InstanceId,
    /// This boot: allocations of another boot are void.
    pub boot: BootId,
    /// Single addresses or prefixes.
    pub mode: Mode,
    /// How many addresses to keep ready.
    pub warm: Warm,
    /// What the instance type allows on the default network card.
    pub limits: Limits,
    /// Most ENIs to use, primary included, when lower than the instance's limit (`MAX_ENI`).
    pub max_eni: Option<u32>,
    /// Most pods kubelet will run here; never hold more addresses than could be used.
    pub max_pods: u32,
    /// Custom networking: the primary ENI carries no pods, and new ENIs take subnet and groups from
    /// [`crate::Input::EniConfig`].
    pub primary_excluded: bool,
    /// Untagged secondary ENIs are ours too (`MANAGE_UNTAGGED_ENI`).
    pub manage_untagged: bool,
    /// How long a released address rests before its next use (`IP_COOLDOWN_PERIOD`).
    pub cooldown: Duration,
    /// The cluster's name as ENIs and subnets carry it in tags (`CLUSTER_NAME`).
    pub cluster: Option<Box<str>>,
    /// Which subnets new ENIs may use.
    pub subnets: SubnetPolicy,
    /// What happens to ENIs that dead nodes left behind.
    pub leaks: LeakPolicy,
    /// How long after a first look a second one proves that an ENI was left behind.
    pub leak_proof: Duration,
    /// This node's part of the account's EC2 budget.
    pub share: Share,
    /// How long no other pod must have come before EC2 is asked for more, so that pods that start together cost one
    /// call; five times as long at most after the first of them. Zero: each pod is a burst of its own. Pods for which
    /// an address is there never wait for it.
    pub gather: Duration,
    /// Start of the deterministic jitter.
    pub seed: u64,
}

crate::text::fields!(Settings {
    instance,
    boot,
    mode,
    warm,
    limits,
    max_eni,
    max_pods,
    primary_excluded,
    manage_untagged,
    cooldown,
    cluster,
    subnets,
    leaks,
    leak_proof,
    share,
    gather,
    seed
});

/// Which subnets new ENIs may use, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubnetPolicy {
    /// Other subnets of the zone that are tagged `kubernetes.io/role/cni` too (`ENABLE_SUBNET_DISCOVERY`). Custom
    /// networking switches it off.
    pub discovery: bool,
    /// Addresses of each subnet left for what is not ours; beyond it only waiting pods may draw. *Unit*: addresses.
    pub floor: u32,
}

crate::text::fields!(SubnetPolicy { discovery, floor });

impl Default for SubnetPolicy {
    fn default() -> Self {
        Self { discovery: true, floor: 16 }
    }
}

/// What happens to ENIs that dead nodes left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LeakPolicy {
    /// Nobody looks for them.
    Ignore,
    /// They are named, and stay.
    DryRun,
    /// They are deleted once proven (own cluster, dead owner, seen twice).
    #[default]
    Delete,
}

crate::text::variants!(LeakPolicy { Ignore, DryRun, Delete });

/// This node's part of the account's EC2 budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    /// Nodes that may call at the same moment (that start or restart together), where somebody knows.
    pub nodes: Option<u32>,
    /// Part of the account's buckets that belongs to all these nodes. *Unit*: percent.
    pub percent: u32,
}

crate::text::fields!(Share { nodes, percent });

impl Default for Share {
    fn default() -> Self {
        Self { nodes: None, percent: 100 }
    }
}

/// What is assigned to ENIs for pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Single secondary addresses.
    SecondaryIp,
    /// /28 prefixes.
    Prefix,
}

crate::text::variants!(Mode { SecondaryIp, Prefix });

/// How many addresses to keep ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Warm {
    /// Nothing is set: follow demand (design D7).
    DemandDriven,
    /// The incumbent's settings with their exact meaning (incumbent-behaviour §5.3). Zero means unset for `ip` and `minimum`.
    Targets {
        /// `WARM_IP_TARGET`.
        ip: u32,
        /// `MINIMUM_IP_TARGET`.
        minimum: u32,
        /// `WARM_ENI_TARGET`.
        eni: u32,
        /// `WARM_PREFIX_TARGET`.
        prefix: u32,
    },
}

crate::text::variants!(Warm { DemandDriven, Targets { ip, minimum, eni, prefix } });

/// Limits of the instance type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits {
    /// ENIs on the default network card, primary included.
    pub enis: u32,
    /// IPv4 addresses for each ENI, its primary address included; a prefix takes the place of one.
    pub ipv4_per_eni: u32,
}

crate::text::fields!(Limits { enis, ipv4_per_eni });
