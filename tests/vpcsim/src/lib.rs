//! A VPC of real Linux parts, for tests of programs that speak to EC2 and to the kernel.
//!
//! [`lab`] is the whole: start there. [`cloud`] is EC2's state and rules (pure), [`api`] the EC2 Query API in front of
//! it, [`imds`] the metadata service, [`trouble`] what makes them as hard as the real ones. [`fabric`] and [`node`] are
//! kernel devices and namespaces; [`wires`] is the seam between them and the cloud. [`probe`] asks packets.

pub mod api;
pub mod cloud;
pub mod control;
pub mod fabric;
pub mod imds;
pub mod internet;
pub mod lab;
pub mod node;
pub mod ns;
pub mod probe;
pub mod servers;
mod tools;
pub mod trouble;
pub mod wires;
