//! Checked conversions from wire strings to values. Nonsense is refused here, so that nothing behind the border sees it.

use std::net::IpAddr;

/// Longest container id accepted. *Source*: our choice; runtimes send 64 hex digits.
pub const CONTAINER_ID_MAX: usize = 128;
/// Longest interface name: IFNAMSIZ − 1. *Source*: linux/if.h.
pub const IFNAME_MAX: usize = 15;

/// Why a wire value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A required message or field is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has a value that cannot be used.
    #[error("{field} {value:?} is not valid")]
    Invalid {
        /// The field's name.
        field: &'static str,
        /// The value as received, shortened.
        value: String,
    },
}

/// Parses a list of addresses.
///
/// # Errors
/// The first string that is not an address.
pub fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, WireError> {
    texts.iter().map(|t| t.parse().map_err(|_| invalid("address", t))).collect()
}

/// Checks a container id: first character alphanumeric, the rest alphanumeric, `_`, `.` or `-`.
/// *Source*: CNI 1.1 SPEC, "Parameters", CNI_CONTAINERID.
///
/// # Errors
/// Empty, longer than [`CONTAINER_ID_MAX`], or another character.
pub fn container_id(text: &str) -> Result<&str, WireError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = text.chars().next().ok_or(WireError::Missing("container id"))?;
    if !first.is_ascii_alphanumeric() || !text.chars().all(good) || text.len() > CONTAINER_ID_MAX {
        return Err(invalid("container id", text));
    }
    Ok(text)
}

/// Checks an interface name as CNI does: 1..=15 bytes, not `.` or `..`, no `/`, `:` or white space. Nor `%`: the kernel takes
/// `eth%d` for a pattern and makes an interface of another name.
/// *Source*: net/core/dev.c, `dev_prep_valid_name`; P-09.
///
/// # Errors
/// A name that breaks these rules.
pub fn ifname(text: &str) -> Result<&str, WireError> {
    if text.is_empty() {
        return Err(WireError::Missing("interface name"));
    }
    let bad = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    if text.len() > IFNAME_MAX || text == "." || text == ".." || text.chars().any(bad) {
        return Err(invalid("interface name", text));
    }
    Ok(text)
}

fn invalid(field: &'static str, value: &str) -> WireError {
    WireError::Invalid { field, value: value.chars().take(64).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_id_with_slash_refused() {
        assert!(container_id("../../etc").is_err());
        assert!(container_id("a/b").is_err());
        assert!(container_id("").is_err());
        assert_eq!(container_id("0f3a-b_c.d"), Ok("0f3a-b_c.d"));
    }

    #[test]
    fn ifname_grammar_as_cni_says() {
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "eth%d", "sixteen-bytes-xx"] {
            assert!(ifname(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ifname("eth0"), Ok("eth0"));
    }

    #[test]
    fn addresses_first_bad_one_named() {
        let texts = ["10.0.0.1".to_owned(), "nonsense".to_owned()];
        assert_eq!(addresses(&texts), Err(invalid("address", "nonsense")));
    }
}
