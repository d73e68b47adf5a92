//! The node daemon as a library: one driver that owns the pool, executors that carry its effects out, and the doors.
//!
//! Nothing here decides about addresses; that is the pool's business. What is here touches the world, thinly.

pub mod adopted;
mod bootstrap;
pub mod clock;
pub mod complaints;
pub mod daemon;
pub mod driver;
pub mod ending;
pub mod executors;
pub mod install;
pub mod logging;
pub mod look;
mod memory;
pub mod node;
mod opening;
pub mod past;
pub mod pending;
pub mod recheck;
pub mod recorder;
pub mod rpc;
pub mod single;
pub mod start;
pub mod takeover;
pub mod translate;
pub mod vital;
