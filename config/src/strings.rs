//! Where settings come from: named texts.

use std::collections::{BTreeMap, HashMap};

/// A source of named texts.
pub trait Strings {
    /// The text of this name; `None` when it is not set. Set-but-empty is `Some("")`.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process environment. *Invariant*: this is the only place of ours in the daemon that reads it; the AWS SDK reads its own
/// variables.
#[derive(Debug, Clone, Copy, Default)]
pub struct Environment;

#[allow(clippy::disallowed_methods, reason = "the one door to the environment")]
impl Strings for Environment {
    /// Bytes that are no UTF-8 become U+FFFD, so that a broken value is reported instead of being taken for unset.
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }
}

#[allow(clippy::disallowed_methods, reason = "the one door to the environment")]
impl Environment {
    /// Names of all variables that are set, sorted; to find misspelled ones (`settings::unknown_names`).
    #[must_use]
    pub fn names() -> Vec<String> {
        let mut names: Vec<String> =
            std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Strings for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).cloned()
    }
}

impl Strings for BTreeMap<&str, &str> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).map(|&value| value.to_owned())
    }
}
