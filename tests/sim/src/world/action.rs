//! What may happen in the world.

use podwire_pool::{FailureClass, OpId, RequestId, Settings};

use crate::zone::Event;

/// What becomes of an EC2 call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// EC2 does what its rules allow.
    Plain,
    /// EC2 grants less than was asked for.
    Partial,
    /// EC2 refuses, nothing is done.
    Refused(FailureClass),
    /// It is done, but the answer is lost.
    LostDone,
    /// It is not done, and the answer is lost.
    LostNot,
    /// The answer is given up on first; it is done afterwards.
    Late,
}

/// What others do to an ENI of ours (testing.md A8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tampering {
    /// They detach it.
    Detach,
    /// They unassign one of its addresses.
    Unassign,
    /// They assign one more address to it.
    Assign,
    /// They move one of its addresses to another ENI of ours.
    Move,
}

/// What metadata leaves out (testing.md A6: it may lag without bound and may omit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Blur {
    /// Nothing.
    #[default]
    Clear,
    /// So many of the last ENIs.
    Enis(usize),
    /// So many of the last addresses and prefixes of each ENI.
    Blocks(usize),
    /// Every leaf of every ENI but its own address.
    Leaves,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes to this moment, never past the pool's own deadline.
    Wait(u64),
    /// EC2 meets its fate with a call; its answer is on the way then. Describes look back so many ms.
    Exec(OpId, Fate, u64),
    /// EC2's answer arrives.
    Reply(OpId),
    /// A call the daemon gave up on is done now.
    Late(OpId),
    /// The host ends a change.
    Host(OpId, bool),
    /// The oldest unsynced revision is on disk.
    Fsync,
    /// The disk refuses it for now.
    FsyncFails,
    /// A plugin's message reaches the daemon.
    Arrive(RequestId),
    /// A pod's ADD begins; a new life under the same key or under a new one.
    Start(usize, bool),
    /// The plugin of a pod's ADD is killed.
    Kill(usize),
    /// A pod is torn down and its DEL begins.
    Stop(usize),
    /// The runtime's second DEL.
    Again(usize),
    /// The runtime forgets the pod.
    Forget(usize),
    /// GC with the runtime's list.
    Gc,
    /// Metadata is read; it looks back so many ms and leaves something out.
    Metadata(u64, Blur),
    /// The API server tells how many pods are bound, or nothing.
    Demand(bool),
    /// The daemon dies after carrying out so many more effects; so many unsynced revisions reach the disk.
    Crash(usize, usize),
    /// The node reboots; its ledger is still there, or went with /run.
    Reboot(bool),
    /// The daemon restarts and finds no ledger it can use: the kernel's pods are all that is known.
    LoseLedger,
    /// The daemon stands still, or the node sleeps, for so many ms.
    Pause(u64),
    /// The ADD of a pod that lives comes once more.
    Repeat(usize),
    /// The ledger is compacted.
    Compact,
    /// Somebody attaches an ENI of theirs.
    Foreign,
    /// Somebody does something to an ENI of ours.
    Tamper(usize, Tampering),
    /// The subnet has so many more addresses, or fewer.
    Subnet(i64, bool),
    /// Something happens in the zone around the node.
    Zone(Event),
    /// The daemon is told to stop, then starts anew; with other settings perhaps.
    Restart(Option<Box<Settings>>),
}
