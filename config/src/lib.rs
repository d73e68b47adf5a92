//! Every setting of podwire, once: name, default, range, unit and meaning.
//!
//! [`Settings::parse`] turns a source of named texts into plain data. The incumbent's variables (amazon-vpc-cni-k8s
//! v1.23.1) parse as theirs do: a bad value becomes the default with a loud [`Finding`], and only what makes the
//! incumbent exit makes podwire exit. `PODWIRE_*` variables are strict: every mistake is listed at once. What podwire
//! does not support yet and may not quietly ignore (security, address family, promises not to call EC2) is refused
//! before anything on the node is changed.
//!
//! This crate must **not** touch files, sockets, clocks or EC2. The process environment is read in `strings` alone.

pub mod finding;
pub mod knob;
pub mod limits;
pub mod lint;
pub mod settings;
pub mod strings;

mod reader;

pub use finding::{Finding, Mistake, MistakeKind, Mistakes, Severity};
pub use knob::{Kind, Knob, OnMistake};
pub use limits::Limits;
pub use settings::{Parsed, Settings};
pub use strings::{Environment, Strings};
