//! EC2 and instance metadata in the vocabulary of the pool.
//!
//! Each [`podwire_pool::Ec2Call`] becomes exactly one mutating request, or a few reading ones; each failure is classified
//! once, by code ([`classify`]). Two exceptions: a daemon's first Create may read the primary ENI before, and a request refused
//! for its clock is made once more with EC2's. Retries, back-off and budgets are the pool's business: the SDK's own retries are
//! off, because a repeated request that nobody decided on is a request nobody counted. Nothing here decides anything.

pub mod classify;
pub mod client;
mod credentials;
pub mod describe;
mod detached;
pub mod explain;
mod failure;
mod http;
pub mod imds;
mod subnets;
pub mod tags;
mod tracking;

pub use client::{Ec2Client, Ec2Options};
pub use imds::{Identity, Imds, ImdsError, Listing};
pub use tags::TagSet;
