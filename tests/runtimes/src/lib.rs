//! Real container runtimes on the nodes of a simulated VPC: containerd driven over its gRPC interface as kubelet does, and
//! podman by its command line. They run real containers on the real plugin, with the conflist that the real daemon wrote.
//!
//! Needs root, and `containerd`, `runc`, `podman`, `busybox` (static) and Debian's CNI plugins on the machine
//! (`need_runtimes` in scripts/lib.sh). Nothing of theirs runs or stays outside the nodes: their directories are in the
//! nodes' own file systems, their processes end with the nodes, and their control groups are swept ([`sweep`]).

pub mod containerd;
pub mod cri;
pub mod image;
pub mod podman;
pub mod stage;
pub mod sweep;
