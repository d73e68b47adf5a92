//! What must hold on every change: random seeds, the explorer, the tape, named scenarios, and (with the feature
//! `planted`) the bug zoo.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that finds what it did not expect has to stop")]

mod account;
mod calls;
mod disk;
mod ec2;
mod engines;
mod outages;
mod refused;
mod replay;
mod scenarios;
mod truth;
#[cfg(feature = "planted")]
mod zoo;
