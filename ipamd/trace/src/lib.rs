//! Traces: what happened to the pool, kept so that it can be played again.
//!
//! The daemon's driver notes every input in a [`Ring`], bounded in bytes and entries, together with a digest of the
//! effects that followed. The ring begins with the **whole state** of the pool, not with what the ledger would rebuild: a
//! pool recovered from its records has no operations in flight, no waiting callers and no back-offs, and would do other
//! things. So a trace of any length, begun at any moment, replays with equal effects on the build that recorded it.
//!
//! A trace is text, one line for each thing, readable by people:
//!
//! ```text
//! podwire-trace 1
//! pool {settings:{instance:"i-1" …} …}
//! at 20000 Allocate{request:1 sandbox:{container_id:"c1" ifname:"eth0"} …}
//! did 1 5d0c7a2e90b1f344
//! end 91b4c6e5021d7f80
//! ```
//!
//! `at` is an input with its time; `did` tells how many effects it had and their digest; it is missing after an input
//! that ended in a panic. `end` is the digest of the state that was left. The version changes when a line means something
//! else; what the pool itself is made of changes with podwire's version, so that a trace is read by the release that wrote
//! it. Another one refuses it with the line and place of the first thing it does not know.
//!
//! Nothing here touches a file, a clock or the network, and nothing decides anything.

mod digest;
mod parse;
mod replay;
mod ring;

pub use digest::digest;
pub use parse::{Event, Trace, TraceError};
pub use replay::{Outcome, Replay};
pub use ring::{Bounds, Recording, Ring};

/// Version of the lines.
pub const VERSION: u32 = 1;

/// First word of every trace.
const MAGIC: &str = "podwire-trace";
