//! The error object and its codes. *Source*: CNI SPEC 1.1.0, "Error", and cni-conformance §8 for 100 and up.

use serde_json::json;
use std::error::Error;
use std::fmt;

/// cniVersion not supported, or the verb not in that version.
pub const INCOMPATIBLE_VERSION: u32 = 1;
/// Environment variables missing or unusable.
pub const ENVIRONMENT: u32 = 4;
/// Reading or writing failed.
pub const IO: u32 = 5;
/// Something is not JSON, or has the wrong types.
pub const DECODE: u32 = 6;
/// The configuration is invalid.
pub const CONFIG: u32 = 7;
/// The network namespace cannot be used.
pub const NETNS: u32 = 8;
/// Transient: try again.
pub const TRY_AGAIN: u32 = 11;
/// STATUS: an ADD cannot be served.
pub const UNAVAILABLE: u32 = 50;
/// The subnet has no free address.
pub const SUBNET_FULL: u32 = 100;
/// The subnet has no free /28.
pub const SUBNET_FRAGMENTED: u32 = 101;
/// The instance cannot hold more addresses.
pub const NODE_FULL: u32 = 102;
/// EC2 throttles.
pub const THROTTLED: u32 = 103;
/// An IAM permission is missing.
pub const DENIED: u32 = 104;
/// Plugin and daemon do not understand each other.
pub const PROTOCOL: u32 = 105;
/// The pod's interface could not be made, or is not what it should be.
pub const DATAPATH: u32 = 107;
/// The daemon refuses for another reason.
pub const REFUSED: u32 = 110;

/// What a failed verb prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// The code.
    pub code: u32,
    /// Short: what happened.
    pub msg: String,
    /// Long: why, and what to do.
    pub details: String,
}

impl CniError {
    /// An error with a code and a short text.
    #[must_use]
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// Reading or writing failed.
    #[must_use]
    pub fn io(msg: &str) -> Self {
        Self::new(IO, msg)
    }

    /// Adds the long text.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds the reason, with everything behind it, as the long text.
    #[must_use]
    pub fn because(self, reason: &(dyn Error + 'static)) -> Self {
        self.details(podwire_hostnet::chain(reason))
    }

    /// The object for stdout. `cniVersion` is required by the specification.
    #[must_use]
    pub fn to_json(&self, version: &str) -> String {
        let mut object = json!({ "cniVersion": version, "code": self.code, "msg": self.msg });
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object.to_string()
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl Error for CniError {}
