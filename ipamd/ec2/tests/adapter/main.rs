//! The adapter with the real SDK over real HTTP: whose credentials sign, where the requests go, what the clock does, how
//! metadata is read. EC2, STS, a credential agent and the metadata service are servers on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that finds what it did not expect has to stop; the SDK reads the environment, so each case is a process"
)]

mod asked;
mod clock;
mod credentials;
mod endpoints;
mod metadata;
mod process;
mod server;
