//! A VPC of real Linux parts, for tests of programs that speak to EC2 and to the kernel.
//!
//! [`wires`] is the seam between the cloud's state (pure, [`cloud`]) and the kernel (`fabric`). [`api`] is the EC2
//! Query API in front of the cloud, [`trouble`] what makes it as hard as the real one.

pub mod api;
pub mod cloud;
pub mod trouble;
pub mod wires;
