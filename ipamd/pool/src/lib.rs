//! The pool: decides which address a pod gets, when to ask EC2 for more and when to give some back.
//!
//! What is **absent** is the point: no clock (time comes in as an argument), no randomness (a seed comes in with the
//! settings), no environment, file, socket, log, metric, task or lock. Everything that happens enters through
//! `Pool::handle` as an [`Input`]; everything that should happen leaves it as an [`Effect`]. The same inputs give the
//! same effects, byte for byte, in production, in the simulator and in a replay.

pub mod cause;
pub mod effect;
pub mod ids;
pub mod input;
pub mod record;
pub mod settings;
pub mod time;

pub use cause::Cause;
pub use effect::{Answer, Ec2Call, Effect, GrowBy, HostChange};
pub use ids::{
    AttachmentId, BootId, DeviceIndex, EniId, GroupId, InstanceId, Mac, NetworkCard, OpId, PodRef, RequestId,
    Revision, SandboxKey, SubnetId,
};
pub use input::{Ec2Answer, Ec2Failure, FailureClass, Input, ObservedEni, Snapshot, SnapshotSource};
pub use record::Record;
pub use settings::Settings;
pub use time::Time;
