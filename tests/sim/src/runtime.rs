//! The container runtime and its plugins, as testing.md A1 and A2 promise them: one operation at a time for each
//! sandbox, DEL after every ADD, DEL may repeat, a key may come back after its DEL, a killed plugin may leave an ADD in
//! the daemon when its DEL comes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use podwire_pool::{PodRef, RequestId, SandboxKey};

/// What a message to the daemon asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// ADD of a pod.
    Add,
    /// ADD of a pod that has its address already.
    Repeat,
    /// DEL of a pod.
    Del,
    /// GC with this list.
    Gc(Vec<SandboxKey>),
    /// An operator asks what dead nodes left behind, and may order its collection.
    Leaks(bool),
}

/// A message on its way or waiting in the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// Which pod; meaningless for GC.
    pub pod: usize,
    /// Which sandbox.
    pub key: SandboxKey,
    /// What.
    pub ask: Ask,
    /// When its plugin started.
    pub started: u64,
    /// Its plugin is dead: nobody reads the answer.
    pub dead: bool,
    /// It comes again: the daemon could not take it before.
    pub again: bool,
    /// It has reached the daemon.
    pub arrived: bool,
    /// When the answer to an ADD is due.
    pub deadline: u64,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Life {
    /// No sandbox.
    Idle,
    /// Its ADD runs.
    Adding(RequestId),
    /// It has an address.
    Live(IpAddr),
    /// Its ADD failed; the runtime will DEL.
    Failed,
    /// Its DEL runs.
    Deleting(RequestId),
    /// Its first DEL is done; the runtime may send another one.
    Deleted,
}

/// One pod slot: lives come and go in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The sandbox of this life.
    pub key: SandboxKey,
    /// How many lives it had.
    pub lives: u32,
    /// Where it is in this one.
    pub life: Life,
    /// When the DEL of this life started, for its repetition.
    pub ended: u64,
}

/// All pods and messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Runtime {
    /// The pod slots.
    pub pods: Vec<Pod>,
    /// Messages without an answer.
    pub messages: BTreeMap<RequestId, Message>,
    next_request: u64,
}

impl Runtime {
    /// So many pod slots, all idle.
    #[must_use]
    pub fn new(pods: usize) -> Self {
        let pods = (0..pods).map(|n| Pod { key: key(n, 0), lives: 0, life: Life::Idle, ended: 0 }).collect();
        Self { pods, messages: BTreeMap::new(), next_request: 1 }
    }

    /// Sends a message.
    pub fn send(&mut self, message: Message) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.messages.insert(request, message);
        request
    }

    /// Whether the ADD of a pod that lives is repeated just now.
    #[must_use]
    pub fn asked_again(&self, pod: usize) -> bool {
        self.messages.values().any(|m| m.pod == pod && m.ask == Ask::Repeat)
    }

    /// Pods that hold or await an address: what the API server would call bound.
    #[must_use]
    pub fn bound(&self) -> u32 {
        let bound = self.pods.iter().filter(|p| matches!(p.life, Life::Adding(_) | Life::Live(_)));
        u32::try_from(bound.count()).unwrap_or(u32::MAX)
    }

    /// Live sandboxes and those whose ADD runs, as a runtime lists them for GC.
    #[must_use]
    pub fn valid(&self) -> Vec<SandboxKey> {
        let valid = self.pods.iter().filter(|p| !matches!(p.life, Life::Idle | Life::Deleted));
        valid.map(|p| p.key.clone()).collect()
    }
}

/// The sandbox of a pod slot's n-th life.
#[must_use]
pub fn key(pod: usize, life: u32) -> SandboxKey {
    SandboxKey::new(format!("pod{pod}-{life}"), "eth0")
}

/// The pod behind a slot.
#[must_use]
pub fn pod_ref(pod: usize) -> PodRef {
    PodRef {
        namespace: "default".into(),
        name: format!("pod{pod}").into(),
        uid: "".into(),
        network: "aws-cni".into(),
    }
}
