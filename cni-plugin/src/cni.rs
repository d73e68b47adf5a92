//! The CNI specification: what comes in by environment and stdin, what goes out by stdout.
//!
//! The only place that prints to stdout, and the only one that knows error codes. Requirement ids (P-04, R-06 …) are those
//! of `cni-conformance.md`. *Source*: CNI SPEC 1.1.0.

pub mod env;
pub mod error;
pub mod netconf;
pub mod output;
pub mod result;
pub mod version;
