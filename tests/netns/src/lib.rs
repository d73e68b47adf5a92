//! Stages for kernel tests: throw-away network and mount namespaces, a node with fake ENIs in them, a fake daemon that
//! behaves, and the real plugin executed as a runtime executes it.
//!
//! Needs root. Leaves nothing behind: every namespace dies with the thread or process that holds it.

pub mod node;
pub mod stage;

pub use stage::{Stage, on_stage};
