//! podwire's own gRPC protocol between `aws-cni` and `ipamd`.
//!
//! The wire types are generated; [`convert`] turns them into checked values at the border. Nothing here does I/O.

/// Version 1 of the protocol, generated from `proto/podwire/v1/ipam.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("podwire.v1");
}

pub mod convert;

/// Where `ipamd` listens (incumbent-behaviour §0: same path as the incumbent since 1.23.0).
pub const SOCKET_PATH: &str = "/var/run/aws-node/ipamd.sock";
/// Where the plugin leaves the releases that no daemon takes, and the daemon finds them. *Why no setting*: the plugin is told
/// none of the daemon's.
pub const RELEASED_DIR: &str = "/var/run/aws-node/podwire/released";
/// The daemon's sign of life, which the plugin's STATUS reads.
pub const ALIVE_PATH: &str = "/var/run/aws-node/podwire/alive";
