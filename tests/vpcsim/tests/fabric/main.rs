//! The kernel side of the simulated VPC, judged by packets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a refusal is a failure")]

mod bench;
mod devices;
mod groups;
mod metadata;
mod packets;
mod program;
mod whole;
