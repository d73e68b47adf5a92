//! Versions of the specification.

use super::error::{CniError, DECODE, INCOMPATIBLE_VERSION};
use serde_json::{Value, json};

/// What this plugin speaks, oldest first. Each version's verbs are really implemented (V-03).
pub const SUPPORTED: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest of them; the version of errors that come before the configuration has been read.
pub const NEWEST: &str = "1.1.0";
/// What a configuration without a version means (P-12).
const IMPLIED: &str = "0.1.0";

/// A version as numbers, to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

/// First version with CHECK.
pub const WITH_CHECK: Version = Version(0, 4, 0);
/// First version whose results do not say `"version": "4"` of each address.
pub const WITHOUT_IP_VERSION: Version = Version(1, 0, 0);
/// First version with GC, STATUS and the MTU of interfaces.
pub const WITH_GC: Version = Version(1, 1, 0);

/// Reads up to three numbers with dots between; missing ones are 0.
#[must_use]
pub fn parse(text: &str) -> Option<Version> {
    let mut parts = text.split('.');
    let mut next = |required: bool| match parts.next() {
        None if required => None,
        None => Some(0),
        Some(part) if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) => None,
        Some(part) => part.parse().ok(),
    };
    let version = Version(next(true)?, next(false)?, next(false)?);
    parts.next().is_none().then_some(version)
}

/// Checks the configuration's version (P-12, P-13).
///
/// # Errors
/// Not a version (6), or one that is not supported (1).
pub fn supported(text: Option<&str>) -> Result<(&'static str, Version), CniError> {
    let text = text.filter(|t| !t.is_empty()).unwrap_or(IMPLIED);
    let Some(version) = parse(text) else {
        return Err(CniError::new(DECODE, format!("cniVersion {text:?} is not a version")));
    };
    match SUPPORTED.into_iter().find(|s| parse(s) == Some(version)) {
        Some(known) => Ok((known, version)),
        None => Err(incompatible(&format!("cniVersion {text} is not supported"), text)),
    }
}

/// The error for a version that lacks something.
#[must_use]
pub fn incompatible(msg: &str, version: &str) -> CniError {
    let details = format!("config is {version:?}, plugin supports {SUPPORTED:?}");
    CniError::new(INCOMPATIBLE_VERSION, msg).details(details)
}

/// The reply to VERSION: our list, under the version that was asked in, where it is one of ours (V-01, V-02).
#[must_use]
pub fn reply(stdin: &[u8]) -> String {
    let asked = serde_json::from_slice::<Value>(stdin).ok();
    let text = asked.as_ref().and_then(|v| v.get("cniVersion")).and_then(Value::as_str);
    let version = SUPPORTED.into_iter().find(|s| Some(*s) == text).unwrap_or(NEWEST);
    json!({ "cniVersion": version, "supportedVersions": SUPPORTED }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_one_to_three_numbers() {
        assert_eq!(parse("1.1.0"), Some(Version(1, 1, 0)));
        assert_eq!(parse("1"), Some(Version(1, 0, 0)));
        for bad in ["", "1.2.3.4", "1.x", "v1", "1..2", "-1", "1.+2", "99999999999"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    /// P-12, P-13.
    #[test]
    fn supported_names_the_code() {
        assert_eq!(supported(Some("0.3.1")).map(|v| v.0), Ok("0.3.1"));
        for (text, code) in [
            (None, INCOMPATIBLE_VERSION),
            (Some(""), INCOMPATIBLE_VERSION),
            (Some("0.2.0"), INCOMPATIBLE_VERSION),
        ] {
            assert_eq!(supported(text).map_err(|e| e.code), Err(code), "{text:?}");
        }
        assert_eq!(supported(Some("2.0.0")).map_err(|e| e.code), Err(INCOMPATIBLE_VERSION));
        assert_eq!(supported(Some("1.0.0.0")).map_err(|e| e.code), Err(DECODE));
    }

    /// V-01, V-02.
    #[test]
    fn reply_works_with_anything_on_stdin() {
        for (stdin, version) in [
            ("", NEWEST),
            ("{", NEWEST),
            (r#"{"cniVersion":"x"}"#, NEWEST),
            (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        ] {
            let reply: Value = serde_json::from_str(&reply(stdin.as_bytes())).expect("JSON");
            assert_eq!(reply["cniVersion"], version, "{stdin:?}");
            assert_eq!(reply["supportedVersions"], json!(SUPPORTED));
        }
    }
}
