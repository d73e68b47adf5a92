//! The EC2 API over real HTTP: raw requests, and boto3 as a client that shares no code with us.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions only, not what they call"
)]

#[path = "api_server/boto3.rs"]
mod boto3;
#[path = "api_server/raw.rs"]
mod raw;
#[path = "api_server/served.rs"]
mod served;
#[path = "api_server/trouble.rs"]
mod trouble;
