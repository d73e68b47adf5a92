//! The pool: decides which address a pod gets, when to ask EC2 for more and when to give some back.
//!
//! What is **absent** is the point: no clock (time comes in as an argument), no randomness (a seed comes in with the
//! settings), no environment, file, socket, log, metric, task or lock. Everything that happens enters through
//! `Pool::handle` as an [`Input`]; everything that should happen leaves it as an [`Effect`]. The same inputs give the
//! same effects, byte for byte, in production, in the simulator and in a replay.

mod address;
mod adopt;
mod allocate;
mod backoff;
mod budget;
pub mod cause;
mod demand;
mod describe;

pub mod effect;
mod eni;
mod explain;
mod groups;
mod grow;
mod holdings;
mod host;
pub mod ids;
pub mod input;
mod invariants;
mod jitter;
mod journal;
mod leaks;
mod leaving;
mod ledger;
mod lives;
mod machine;
mod metadata;
mod observe;
mod ops;
mod outcome;
mod places;
mod planted;
pub mod record;
mod recover;
mod release;
mod requests;
pub mod settings;
mod shrink;
mod stats;
mod subnets;
mod tags;
mod targets;
pub mod text;
pub mod time;
mod tuning;

pub use cause::Cause;
pub use effect::{Answer, Ec2Call, Effect, GrowBy, HostChange};
pub use explain::{EniRow, GrowthNow, Waiting};
pub use holdings::Holding;
pub use ids::{
    AttachmentId, BootId, DeviceIndex, EniId, GroupId, InstanceId, Mac, NetworkCard, OpId, PodRef, RequestId,
    Revision, SandboxKey, SubnetId,
};
pub use input::{
    Ec2Answer, Ec2Failure, EniConfig, FailureClass, Input, ObservedEni, ObservedSubnet, Snapshot,
    SnapshotSource,
};
pub use invariants::Violation;
pub use leaks::{LeakReport, LeakRow, LeakVerdict};
pub use machine::Pool;
#[cfg(feature = "planted")]
pub use planted::Bug;
pub use record::Record;
pub use release::Collectable;
pub use settings::Settings;
pub use stats::{AddressRow, AddressState, Stats};
pub use time::Time;
