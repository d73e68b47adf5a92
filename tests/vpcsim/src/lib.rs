//! A VPC of real Linux parts, for tests of programs that speak to EC2 and to the kernel.
//!
//! [`wires`] is the seam between the cloud's state (pure, `cloud`) and the kernel ([`fabric`]).

pub mod fabric;
pub mod internet;
pub mod node;
pub mod ns;
pub mod probe;
pub mod servers;
mod tools;
pub mod wires;
