//! The whole main job on a simulated VPC: nodes that run `ipamd`, pods made by executing `aws-cni` as a container
//! runtime does, and proofs made of packets. The demo, the end-to-end tests and the benchmarks stand on this.

pub mod binaries;
pub mod boot;
pub mod daemon;
pub mod incumbent;
pub mod pod;
pub mod proof;
pub mod report;
pub mod runtime;
pub mod scene;
