//! What the pool is told once, at its making. Parsing and defaults are `podwire-config`'s business.

use std::time::Duration;

use crate::ids::{BootId, InstanceId};

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
    /// Custom networking: the primary ENI carries no pods.
    pub primary_excluded: bool,
    /// Untagged secondary ENIs are ours too (`MANAGE_UNTAGGED_ENI`).
    pub manage_untagged: bool,
    /// How long a released address rests before its next use (`IP_COOLDOWN_PERIOD`).
    pub cooldown: Duration,
    /// Start of the deterministic jitter.
    pub seed: u64,
}

/// What is assigned to ENIs for pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Single secondary addresses.
    SecondaryIp,
    /// /28 prefixes.
    Prefix,
}

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

/// Limits of the instance type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits {
    /// ENIs on the default network card, primary included.
    pub enis: u32,
    /// IPv4 addresses for each ENI, its primary address included; a prefix takes the place of one.
    pub ipv4_per_eni: u32,
}
