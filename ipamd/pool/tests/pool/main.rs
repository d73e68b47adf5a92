//! The pool through its public door, in a small world that obeys. The one that does not is `podwire-sim`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that finds what it did not expect has to stop"
)]

mod bench;
mod burst;
mod conformance;
mod edges;
mod exits;
mod first_boot;
mod floors;
mod found;
mod give_back;
mod incumbent;
mod incumbent_enis;
mod leaks;
mod metadata;
mod ownership;
mod recovery;
mod refusals;
mod requests;
mod restarts;
mod scarcity;
mod scenes;
mod shown;
mod sightings;
mod silence;
mod total;
mod vanished;
