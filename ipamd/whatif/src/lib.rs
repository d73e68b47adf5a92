//! What-if: what would the pool hold, ask of EC2 and let pods wait for, if this node ran that workload?
//!
//! [`run`] plays pod starts and stops through the product's own pool against a modelled EC2, host and disk, in virtual
//! time. The same [`Scenario`] gives the same [`Report`], byte for byte: no clock, no randomness but the scenario's seed,
//! no file, no network. What is modelled is written down in [`model::Model`]; how the pool decides is not modelled at all.
//!
//! It must not decide anything about addresses, and must not be used to judge safety: the model obeys, it does not lie
//! or lose answers. `podwire-sim` is for that.

mod chance;
mod ec2;
mod engine;
mod meter;
pub mod model;
mod report;
mod scenario;
mod summary;
pub mod workloads;

pub use chance::Chance;
pub use engine::run;
pub use model::Model;
pub use report::{Ec2Calls, Held, Report, Sample, Waits};
pub use scenario::{Change, Node, NodeError, Scenario, Step, Subnet};
pub use summary::Summary;
