//! Compiles the protocol without `protoc`.

use std::error::Error;

#[allow(clippy::disallowed_methods, reason = "cargo talks to build scripts by environment")]
fn main() -> Result<(), Box<dyn Error>> {
    let proto = "proto/podwire/v1/ipam.proto";
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .compile_fds(descriptors)?;
    Ok(())
}
