//! The kernel side of the simulated VPC, judged by packets.

mod bench;
mod devices;
mod groups;
mod metadata;
mod packets;
mod program;
mod whole;
