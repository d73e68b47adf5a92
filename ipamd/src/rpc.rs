//! The door on `/var/run/aws-node/ipamd.sock`: gRPC for root only.

pub mod answer;
pub mod explain;
pub mod leaks;
pub mod listen;
pub mod server;
