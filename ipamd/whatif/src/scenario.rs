//! What is asked: a node, its subnet, a workload, and what the pool is told of it.

use std::time::Duration;

use podwire_config::Limits;
use podwire_pool::settings::{
    GATHER, LEAK_PROOF, LeakPolicy, Limits as PoolLimits, Mode, Settings, Share, SubnetPolicy, Warm,
};
use podwire_pool::{BootId, InstanceId};

use crate::model::Model;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What the pool is told: instance limits, targets, cooldown.
    pub settings: Settings,
    /// The subnets; the primary ENI lies in the first.
    pub subnets: Vec<Subnet>,
    /// What the pods do, in any order.
    pub workload: Vec<Step>,
    /// When to stop looking.
    pub lasts: Duration,
    /// The pool learns of pods when they are bound to the node, not only by their ADD.
    pub binding_known: bool,
    /// How the world behaves.
    pub model: Model,
    /// Start of everything that looks like chance.
    pub seed: u64,
}

/// A subnet, as far as this node can draw on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Free addresses. A prefix takes sixteen.
    pub addresses: u32,
    /// Free and unbroken /28 blocks. Single addresses break none: EC2 is taken to fill broken blocks first.
    pub prefixes: u32,
}

/// Something that happens to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// When, from the node's first moment.
    pub at: Duration,
    /// To which pod; one number is one pod with one life.
    pub pod: u32,
    /// What.
    pub change: Change,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It is bound to the node; its ADD follows when kubelet has come so far.
    Start,
    /// Its sandbox is torn down.
    Stop,
}

/// A kind of node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// EC2's name of the instance type.
    pub instance_type: String,
    /// /28 prefixes instead of single addresses.
    pub prefixes: bool,
    /// The warm settings.
    pub warm: Warm,
    /// Most pods, where it is not the type's usual number.
    pub max_pods: Option<u32>,
}

/// A node that cannot be asked about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The table of instance limits does not have it.
    #[error("instance type {0} is not in the table of limits; give its limits as settings instead")]
    UnknownType(String),
    /// Not a Nitro instance.
    #[error("instance type {0} takes no prefixes; ask for single addresses")]
    NoPrefixes(String),
}

impl Node {
    /// The pool's settings for it, everything else at its default.
    ///
    /// # Errors
    /// The type is not known, or cannot do what is asked.
    pub fn settings(&self) -> Result<Settings, NodeError> {
        let Some(known) = Limits::of(&self.instance_type) else {
            return Err(NodeError::UnknownType(self.instance_type.clone()));
        };
        if self.prefixes && !known.prefix_ok {
            return Err(NodeError::NoPrefixes(self.instance_type.clone()));
        }
        Ok(Settings {
            instance: InstanceId::new("i-whatif"),
            boot: BootId::new("boot-1"),
            mode: if self.prefixes { Mode::Prefix } else { Mode::SecondaryIp },
            warm: self.warm,
            limits: PoolLimits { enis: known.enis_default_card, ipv4_per_eni: known.ipv4_per_eni },
            max_eni: None,
            max_pods: self.max_pods.unwrap_or_else(|| known.max_pods(self.prefixes, None)),
            primary_excluded: false,
            manage_untagged: false,
            cooldown: COOLDOWN,
            cluster: None,
            subnets: SubnetPolicy::default(),
            leaks: LeakPolicy::default(),
            leak_proof: LEAK_PROOF,
            share: Share::default(),
            gather: GATHER,
            seed: 1,
        })
    }
}

/// Default of `IP_COOLDOWN_PERIOD`. *Source*: design §7 (cooling).
const COOLDOWN: Duration = Duration::from_secs(30);

impl Scenario {
    /// A node with a subnet that is large enough for everything.
    ///
    /// # Errors
    /// As [`Node::settings`].
    pub fn on(node: &Node, workload: Vec<Step>, lasts: Duration) -> Result<Self, NodeError> {
        Ok(Self {
            settings: node.settings()?,
            subnets: vec![Subnet { addresses: 8_000, prefixes: 500 }],
            workload,
            lasts,
            binding_known: false,
            model: Model::default(),
            seed: 1,
        })
    }
}
